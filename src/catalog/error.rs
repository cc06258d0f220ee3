//! Why the catalog could not do it, and how the kernel's words become ours.

use std::io;

use rustix::io::Errno;

use crate::share::CatalogPath;

/// Says why a path of the catalog gave no file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is nothing of that name (or it is hidden, or behind a symbolic link, which is not followed).
    #[error("there is no file {}", shown(.path))]
    NotFound {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a folder.
    #[error("{} is a folder; share a file in it", shown(.path))]
    IsFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is neither a file nor a folder.
    #[error("{} is a device, a pipe or a socket, which cannot be shared", shown(.path))]
    NotRegular {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a file where a folder was asked for.
    #[error("{} is not a folder", shown(.path))]
    NotFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// The process may not read it.
    #[error("portcullis may not read {}; check its permissions on the NAS", shown(.path))]
    Denied {
        /// What was asked for.
        path: CatalogPath,
    },
    /// The cursor or the text of a search makes no sense.
    #[error("{reason}")]
    InvalidQuery {
        /// Why, as a sentence for the owner.
        reason: &'static str,
    },
    /// The NAS did not answer in time, or too many calls wait for it already.
    #[error("the NAS does not answer at the moment")]
    Busy,
    /// Anything else that the file system said.
    #[error("the NAS could not be read")]
    Io {
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl CatalogError {
    /// Says in our words why a call about `path` failed.
    pub(super) fn from_errno(errno: Errno, path: &CatalogPath) -> Self {
        let path = path.clone();
        match errno {
            // XDEV is openat2's word for a way that would leave the root. A path is parsed before it comes here and our flags
            // are probed at the start, so INVAL and ILSEQ can only mean a name that this file system cannot hold.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
                Self::NotFound { path }
            }
            Errno::ACCESS | Errno::PERM => Self::Denied { path },
            // What NFS (soft), SMB and FUSE say when the other end is gone, and what a lease of Samba's says until it is given up.
            Errno::TIMEDOUT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NOTCONN
            | Errno::CONNRESET
            | Errno::AGAIN => Self::Busy,
            other => Self::Io { source: other.into() },
        }
    }
}

/// Returns a path as a person reads it in a sentence; the root has no name of its own.
fn shown(path: &CatalogPath) -> String {
    if path.is_root() { "the shared folder".to_owned() } else { path.for_display() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_a_sentence_that_a_terminal_survives() {
        let path = CatalogPath::from_bytes(b"a\n\x1b[2J/\xFF").unwrap();
        let error = CatalogError::from_errno(Errno::LOOP, &path);
        assert_eq!(error.to_string(), "there is no file a\u{FFFD}\u{FFFD}[2J/\u{FFFD}");
        let error = CatalogError::from_errno(Errno::ACCESS, &CatalogPath::root());
        assert_eq!(error.to_string(), "portcullis may not read the shared folder; check its permissions on the NAS");
    }

    #[test]
    fn a_nas_that_is_gone_is_busy_and_a_broken_one_is_not() {
        assert!(matches!(CatalogError::from_errno(Errno::NOTCONN, &CatalogPath::root()), CatalogError::Busy));
        assert!(matches!(CatalogError::from_errno(Errno::IO, &CatalogPath::root()), CatalogError::Io { .. }));
    }
}
