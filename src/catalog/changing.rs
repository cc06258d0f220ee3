//! Whether a file is still being written, as far as that can be told from outside: it has just changed, or its name is one
//! that programs give to what they have not finished.

use std::time::Duration;

use super::filter::ending;
use super::{Entry, EntryKind};
use crate::share::{CatalogPath, Timestamp};

/// How long after its last change a file counts as still being written. Copies write all the time, and clients of a file server
/// send what they hold back within seconds; a clock of a file server that is further off than that tells nothing.
const STILL_WRITTEN: Duration = Duration::from_secs(30);

/// How names end that programs give to what they have not finished, behind the last dot: browsers, file managers, torrents.
const UNFINISHED_ENDINGS: &[&[u8]] = &[b"part", b"partial", b"crdownload", b"filepart", b"!ut"];
/// How they begin: what Syncthing has not finished.
const UNFINISHED_BEGINNINGS: &[&[u8]] = &[b"~syncthing~", b".syncthing."];
/// The folder in which rsync keeps what it has not finished (`--delay-updates`).
const UNFINISHED_FOLDER: &[u8] = b".~tmp~";

impl Entry {
    /// Returns whether it is a file that is still being written; `now` is the wall clock.
    ///
    /// Times of files are the file server's. Whether its clock goes right cannot be told, so a time ahead of `now` counts as well,
    /// but not by more than half a minute: that file would seem to be written for as long as the clock is ahead.
    pub fn is_changing(&self, now: Timestamp) -> bool {
        let has_just_changed = || u128::from(self.modified.0.abs_diff(now.0)) <= STILL_WRITTEN.as_millis();
        self.kind == EntryKind::File && (is_unfinished(&self.path) || has_just_changed())
    }
}

fn is_unfinished(path: &CatalogPath) -> bool {
    let name = path.name_bytes();
    ending(name).is_some_and(|ending| UNFINISHED_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
        || UNFINISHED_BEGINNINGS.iter().any(|known| name.starts_with(known))
        || path.components().any(|name| name == UNFINISHED_FOLDER)
}

#[cfg(test)]
mod tests {
    use super::super::tests::path;
    use super::*;

    fn is_changing(name: &str, kind: EntryKind, modified: i64, now: i64) -> bool {
        Entry { path: path(name), kind, size_bytes: 0, modified: Timestamp(modified), below: None }.is_changing(Timestamp(now))
    }

    #[test]
    fn a_file_that_has_just_changed_is_being_written() {
        let now = 1_800_000_000_000;
        for (ago_ms, expected) in
            [(0, true), (30_000, true), (30_001, false), (-30_000, true), (-30_001, false), (now, false), (now - i64::MAX, false)]
        {
            assert_eq!(is_changing("film.mkv", EntryKind::File, now - ago_ms, now), expected, "{ago_ms}");
            assert!(!is_changing("films", EntryKind::Folder, now - ago_ms, now), "a folder is not written");
        }
    }

    #[test]
    fn so_is_one_whose_name_says_that_it_is_not_finished() {
        for (name, expected) in [
            ("film.mkv.part", true),
            ("film.PART", true),
            ("a/Unconfirmed 1.crdownload", true),
            ("film.partial", true),
            ("film.mkv.filepart", true),
            ("film.mkv.!ut", true),
            ("~syncthing~film.mkv.tmp", true),
            (".syncthing.film.mkv.tmp", true),
            ("films/.~tmp~/film.mkv", true),
            (".~tmp~", true),
            ("part", false),
            ("film.part.mkv", false),
            ("x.part/film.mkv", false),
            ("counterpart", false),
            ("film ~syncthing~", false),
        ] {
            assert_eq!(is_changing(name, EntryKind::File, 0, 1_800_000_000_000), expected, "{name}");
        }
    }
}
