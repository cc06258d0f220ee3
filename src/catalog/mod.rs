//! The NAS, read-only: list, search, and open a file below the root.
//!
//! A path is never trusted twice. [`Catalog::open`] is the only way to bytes: one `openat2` below the root, and what it
//! opened is what is compared, measured and sent.

use std::fs::File;
use std::io;

use crate::share::{CatalogPath, FileIdentity};

/// An open regular file below the root: the descriptor that is compared with what was pinned, and that is sent.
#[derive(Debug)]
pub struct OpenFile {
    /// The descriptor, read-only.
    pub file: File,
    /// What it was when it was opened.
    pub identity: FileIdentity,
    /// Whether asking it about itself and reading what is in memory cannot block: a local file system, not NFS, SMB or FUSE.
    pub is_local: bool,
}

impl OpenFile {
    /// Returns what the open file is at this instant. May block where `is_local` is false.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn identity_now(&self) -> io::Result<FileIdentity> {
        unimplemented!()
    }
}

/// Says why a path of the catalog gave no file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is nothing of that name (or it is hidden, or behind a symbolic link, which is not followed).
    #[error("there is no file {}", .path.for_display())]
    NotFound {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a folder.
    #[error("{} is a folder; share a file in it", .path.for_display())]
    IsFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is neither a file nor a folder.
    #[error("{} is a device, a pipe or a socket, which cannot be shared", .path.for_display())]
    NotRegular {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a file where a folder was asked for.
    #[error("{} is not a folder", .path.for_display())]
    NotFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// The process may not read it.
    #[error("portcullis may not read {}; check its permissions on the NAS", .path.for_display())]
    Denied {
        /// What was asked for.
        path: CatalogPath,
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
