//! What the catalog does not show.
//!
//! Two rules. **Hidden names** begin with a dot, or are what NAS systems and desktops keep for themselves; they are neither
//! listed nor found nor shared, and nor is anything beneath them, unless the owner asks for them. **Excluded folders** (where
//! this program keeps its own secrets) are recognised by device and inode, so that no bind mount, no rename and no other
//! spelling brings them back; no setting shows them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, Stat};

use super::CatalogOptions;
use crate::share::CatalogPath;

/// Names that systems keep for themselves. Compared without regard to case: SMB, exFAT and NTFS do not mind it either.
const SYSTEM_NAMES: [&[u8]; 10] = [
    b"@eaDir",
    b"#recycle",
    b"#snapshot",
    b"@Recycle",
    b"@Recently-Snapshot",
    b"lost+found",
    b"$RECYCLE.BIN",
    b"System Volume Information",
    b"Thumbs.db",
    b"desktop.ini",
];

/// What is not shown.
#[derive(Debug)]
pub(super) struct Rules {
    show_hidden: bool,
    excluded: Vec<Excluded>,
}

/// A folder that is never shown.
#[derive(Debug)]
struct Excluded {
    path: PathBuf,
    /// The folder itself, as soon as it exists. It is kept open, so its inode number cannot pass to another.
    found: OnceLock<Held>,
}

#[derive(Debug)]
struct Held {
    _folder: File,
    device: u64,
    inode: u64,
}

impl Rules {
    pub(super) fn new(options: CatalogOptions) -> Self {
        let excluded = options.excluded.into_iter().map(|path| Excluded { path, found: OnceLock::new() }).collect();
        let rules = Self { show_hidden: options.show_hidden, excluded };
        rules.look_again();
        rules
    }

    /// Looks for excluded folders that did not exist so far.
    pub(super) fn look_again(&self) {
        for excluded in self.excluded.iter().filter(|excluded| excluded.found.get().is_none()) {
            if let Some(held) = Held::open(&excluded.path) {
                // Somebody else may have been faster; it is the same folder.
                let _ = excluded.found.set(held);
            }
        }
    }

    /// Returns whether every excluded folder is known by itself, so that none has to be looked for.
    pub(super) fn are_found(&self) -> bool {
        self.excluded.iter().all(|excluded| excluded.found.get().is_some())
    }

    /// Returns whether folders on the way must be looked at one by one.
    pub(super) fn has_exclusions(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Returns whether what `stat` describes is an excluded folder.
    pub(super) fn excludes(&self, stat: &Stat) -> bool {
        self.excluded.iter().filter_map(|excluded| excluded.found.get()).any(|held| held.device == stat.st_dev && held.inode == stat.st_ino)
    }

    /// Returns whether a name may be shown.
    pub(super) fn shows_name(&self, name: &[u8]) -> bool {
        self.show_hidden || !is_hidden(name)
    }

    /// Returns whether every name on a path may be shown.
    pub(super) fn shows_path(&self, path: &CatalogPath) -> bool {
        path.components().all(|name| self.shows_name(name))
    }
}

impl Held {
    fn open(path: &PathBuf) -> Option<Self> {
        let folder = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(folder.as_fd()).ok()?;
        Some(Self { _folder: folder.into(), device: stat.st_dev, inode: stat.st_ino })
    }
}

fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'.') || SYSTEM_NAMES.iter().any(|system| name.eq_ignore_ascii_case(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_and_system_names_are_hidden_in_any_case() {
        for name in [&b".ssh"[..], b"...", b"@eaDir", b"@EADIR", b"thumbs.DB", b"$Recycle.Bin", b"lost+found", b".\xFF"] {
            assert!(is_hidden(name), "{:?}", name.escape_ascii().to_string());
        }
        for name in [&b"a.txt"[..], b"eaDir", b"#recycled", b"Thumbs.db.txt", b"\xFF", b"-rf", b" .a"] {
            assert!(!is_hidden(name), "{:?}", name.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_hidden_name_hides_all_beneath_it() {
        let rules = Rules::new(CatalogOptions::default());
        assert!(!rules.shows_path(&CatalogPath::parse("a/.git/config").unwrap()));
        assert!(rules.shows_path(&CatalogPath::parse("a/git/config").unwrap()));
        let open = Rules::new(CatalogOptions { show_hidden: true, ..Default::default() });
        assert!(open.shows_path(&CatalogPath::parse("a/.git/config").unwrap()));
    }

    #[test]
    fn an_excluded_folder_is_known_by_itself_also_when_it_appears_later() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        let rules = Rules::new(CatalogOptions { show_hidden: true, excluded: vec![state.clone()], ..Default::default() });
        std::fs::create_dir(&state).unwrap();
        rules.look_again();
        std::fs::rename(&state, place.path().join("moved")).unwrap();
        assert!(rules.excludes(&rustix::fs::stat(place.path().join("moved")).unwrap()));
        assert!(!rules.excludes(&rustix::fs::stat(place.path()).unwrap()));
    }
}
