use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A log, and who follows it.
struct Site {
    folder: TempDir,
    tail: Tail,
    lines: Vec<String>,
    now: Steady,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tail = Tail::new(folder.path().join("access.log"), None);
        Self { folder, tail, lines: Vec::new(), now: Steady(0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn writer(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// Reads until nothing more comes.
    fn read(&mut self) {
        for _ in 0..3 {
            let lines = &mut self.lines;
            while self.tail.read(self.now, 1000, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap().left > 0 {}
        }
    }

    /// Stops, and begins anew from what was saved.
    fn restart(&mut self, from: &Option<Checkpoint>) {
        let saved = serde_json::to_string(from).unwrap();
        self.tail = Tail::new(self.path("access.log"), serde_json::from_str(&saved).unwrap());
    }

    fn take(&mut self) -> Vec<String> {
        self.read();
        std::mem::take(&mut self.lines)
    }
}

#[test]
fn a_log_that_is_not_there_yet_is_followed_from_its_first_line() {
    let mut site = Site::new();
    let path = site.path("later/access.log");
    site.tail = Tail::new(path.clone(), None);
    site.read();
    fs::create_dir(path.parent().unwrap()).unwrap();
    site.read();
    fs::write(&path, "one\ntwo\n").unwrap();
    assert_eq!(site.take(), ["one", "two"]);
}

#[test]
fn a_line_in_two_writes_is_one_line_and_is_read_when_it_ends() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"half").unwrap();
    assert!(site.take().is_empty());
    writer.write_all(b" and half\nnext").unwrap();
    assert_eq!(site.take(), ["half and half"]);
    let saved = site.tail.checkpoint();
    site.restart(&saved);
    writer.write_all(b"\n").unwrap();
    assert_eq!(site.take(), ["next"]);
}

/// What `linemux` 0.3 was measured to lose and to tear.
#[test]
fn late_lines_of_a_renamed_log_are_read_and_so_is_the_line_right_before_a_rotation() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"first\n").unwrap();
    site.read();
    writer.write_all(b"right before\n").unwrap();
    fs::rename(site.path("access.log"), site.path("access.log.1")).unwrap();
    site.read();
    writer.write_all(b"late\n").unwrap();
    let mut next = site.writer("access.log");
    next.write_all(b"in the new one\n").unwrap();
    site.read();
    writer.write_all(b"very late\n").unwrap();
    next.write_all(b"last \xff\n").unwrap();
    assert_eq!(site.take(), ["first", "right before", "late", "in the new one", "very late", "last \u{fffd}"]);
    assert_eq!(site.tail.mishaps(), Mishaps::default());
}

#[test]
fn what_is_rotated_twice_while_nobody_reads_is_read_whole() {
    let mut site = Site::new();
    site.writer("access.log").write_all(b"one\n").unwrap();
    assert_eq!(site.take(), ["one"]);
    let saved = site.tail.checkpoint();
    site.writer("access.log").write_all(b"two\n").unwrap();
    fs::rename(site.path("access.log"), site.path("access.log.1")).unwrap();
    site.writer("access.log").write_all(b"three\n").unwrap();
    fs::rename(site.path("access.log.1"), site.path("access.log.2")).unwrap();
    fs::rename(site.path("access.log"), site.path("access.log.1")).unwrap();
    site.writer("access.log").write_all(b"four\n").unwrap();
    site.writer("other.log").write_all(b"of somebody else\n").unwrap();
    site.writer("access.log.3.gz").write_all(b"packed\n").unwrap();
    site.restart(&saved);
    let mut lines = site.take();
    lines.sort();
    assert_eq!(lines, ["four", "three", "two"]);
    assert_eq!(site.tail.mishaps(), Mishaps::default());
}

#[test]
fn a_log_that_is_gone_is_told_and_one_with_its_number_is_not_taken_for_it() {
    let mut site = Site::new();
    site.writer("access.log").write_all(b"one\ntwo\n").unwrap();
    site.read();
    let saved = site.tail.checkpoint();
    site.restart(&saved);
    fs::remove_file(site.path("access.log")).unwrap();
    // Most file systems give the number away again.
    fs::write(site.path("access.log"), "three\nfour\nfive\n").unwrap();
    site.lines.clear();
    assert_eq!(site.take(), ["three", "four", "five"]);
    let mishaps = site.tail.mishaps();
    assert_eq!(mishaps.truncations + mishaps.lost_files, 1, "{mishaps:?}");
}

#[test]
fn a_truncated_log_is_read_from_its_beginning_also_where_it_is_longer_by_then() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"one\nparted").unwrap();
    assert_eq!(site.take(), ["one"]);
    writer.set_len(0).unwrap();
    writer.write_all(b"a new line that is longer than what was there\n").unwrap();
    assert_eq!(site.take(), ["a new line that is longer than what was there"]);
    writer.set_len(0).unwrap();
    writer.write_all(b"short\n").unwrap();
    assert_eq!(site.take(), ["short"]);
    assert_eq!(site.tail.mishaps(), Mishaps { truncations: 2, ..Mishaps::default() });
}

#[test]
fn a_copy_of_a_log_that_was_truncated_is_read_on_from_where_the_log_was_read_to() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"one\ntwo\n").unwrap();
    assert_eq!(site.take(), ["one", "two"]);
    let saved = site.tail.checkpoint();
    writer.write_all(b"three\n").unwrap();
    fs::copy(site.path("access.log"), site.path("access.log.1")).unwrap();
    writer.set_len(0).unwrap();
    writer.write_all(b"four\n").unwrap();
    site.restart(&saved);
    let mut lines = site.take();
    lines.sort();
    assert_eq!(lines, ["four", "three"]);

    // The same while it is followed: the copy is met when the log is rotated.
    fs::copy(site.path("access.log"), site.path("access.log.2")).unwrap();
    writer.set_len(0).unwrap();
    assert!(site.take().is_empty());
    let saved = site.tail.checkpoint();
    site.restart(&saved);
    assert!(site.take().is_empty());
    fs::rename(site.path("access.log"), site.path("access.log.3")).unwrap();
    site.writer("access.log").write_all(b"five\n").unwrap();
    assert_eq!(site.take(), ["five"]);
}

#[test]
fn a_copy_that_got_the_inode_of_a_file_that_was_let_go_of_is_not_read_again() {
    let mut site = Site::new();
    for first in ["", "longer than the copy\n"] {
        site.writer("access.log").write_all(first.as_bytes()).unwrap();
        site.read();
        fs::remove_file(site.path("access.log")).unwrap();
        let mut writer = site.writer("access.log");
        writer.write_all(b"one\n").unwrap();
        assert_eq!(site.take().last().map(String::as_str), Some("one"));
        let saved = site.tail.checkpoint();
        // Nobody holds the first file any more; most file systems give its inode to the next one that is made.
        site.restart(&saved);
        fs::copy(site.path("access.log"), site.path("access.log.1")).unwrap();
        writer.set_len(0).unwrap();
        assert!(site.take().is_empty());
        fs::remove_file(site.path("access.log.1")).unwrap();
        fs::remove_file(site.path("access.log")).unwrap();
    }
}

#[test]
fn a_line_that_is_too_long_is_dropped_and_counted_and_takes_no_memory() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"before\n").unwrap();
    for _ in 0..64 {
        writer.write_all(&[b'x'; MAX_LINE_BYTES]).unwrap();
        site.read();
    }
    let saved = site.tail.checkpoint();
    writer.write_all(b"\nafter\n").unwrap();
    writer.write_all(&vec![b'y'; MAX_LINE_BYTES]).unwrap();
    writer.write_all(b"\n").unwrap();
    let lines = site.take();
    assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[2].len()), ("before", "after", MAX_LINE_BYTES));
    assert_eq!(site.tail.mishaps().oversized_lines, 1);
    site.restart(&saved);
    assert_eq!(site.take()[0], "after", "the rest of a line that was too long is no line of its own");
    assert_eq!(site.tail.mishaps().oversized_lines, 1);
}

#[test]
fn a_log_without_a_name_is_read_while_it_is_written_and_let_go_of_when_it_is_not() {
    let mut site = Site::new();
    let mut writer = site.writer("access.log");
    writer.write_all(b"one\n").unwrap();
    site.read();
    fs::remove_file(site.path("access.log")).unwrap();
    writer.write_all(b"two\n").unwrap();
    site.now = site.now.plus(2 * MAX_DELETED);
    site.read();
    site.now = site.now.plus(2 * MAX_DELETED);
    writer.write_all(b"three\n").unwrap();
    assert_eq!(site.take(), ["one", "two", "three"], "while there is no other");
    site.writer("access.log").write_all(b"four\n").unwrap();
    assert_eq!(site.take(), ["four"]);
    assert_eq!(site.tail.files.len(), 2);
    site.now = site.now.plus(MAX_DELETED);
    site.read();
    assert_eq!(site.tail.files.len(), 1);
}

#[test]
fn many_rotations_hold_few_files_and_what_is_no_file_is_an_error() {
    let mut site = Site::new();
    for n in 0..MAX_FILES + 5 {
        site.writer("access.log").write_all(format!("{n}\n").as_bytes()).unwrap();
        site.read();
        fs::rename(site.path("access.log"), site.path(&format!("access.log.{n}"))).unwrap();
    }
    assert_eq!(site.take().len(), MAX_FILES + 5);
    assert!(site.tail.files.len() <= MAX_FILES);
    fs::create_dir(site.path("access.log")).unwrap();
    let error = site.tail.read(site.now, 1000, &mut |_| panic!("no line")).unwrap_err();
    assert!(error.to_string().contains("is no file"), "{error}");
}

/// What may happen to a log, and to who reads it.
#[derive(Debug, Clone)]
enum Action {
    /// Whole lines, each so long.
    Write(Vec<usize>),
    /// The beginning of a line.
    Begin,
    /// A line that is none of ours.
    Garbage(Vec<u8>),
    TooLong,
    Rename,
    /// Whoever writes opens the name again.
    Reopen,
    Delete,
    Truncate,
    /// As logrotate's `copytruncate` does.
    CopyTruncate,
    /// Reads about so much.
    Read(u64),
    /// Saves what was counted, and how far was read, in one.
    Save,
    /// Dies, and begins anew from what was saved.
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => prop::collection::vec(prop_oneof![4 => 12..200_usize, 1 => 200..3000_usize], 1..6).prop_map(Action::Write),
        3 => Just(Action::Begin),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Action::Garbage),
        1 => Just(Action::TooLong),
        3 => Just(Action::Rename),
        3 => Just(Action::Reopen),
        1 => Just(Action::Delete),
        1 => Just(Action::Truncate),
        2 => Just(Action::CopyTruncate),
        8 => prop_oneof![1 => Just(1), 1 => 1..2000_u64, 2 => Just(u64::MAX)].prop_map(Action::Read),
        4 => Just(Action::Save),
        2 => Just(Action::Crash),
    ]
}

/// A log as it should be counted.
struct Model {
    site: Site,
    writer: File,
    /// Which file the writer has open, and how many there have been.
    open: usize,
    made: usize,
    copies: usize,
    /// Which file has the name, which have no name at all, and which of those nobody follows.
    named: Option<usize>,
    nameless: BTreeSet<usize>,
    unseen: BTreeSet<usize>,
    /// Which lines stand in each file.
    stand: BTreeMap<usize, Vec<u64>>,
    written: u64,
    /// A line whose end is not written, and in which file its beginning stands; `None` where that is gone.
    begun: Option<(u64, String, bool)>,
    counted: Vec<u64>,
    saved: (Vec<u64>, Option<Checkpoint>),
    /// Which lines nobody could have read.
    gone: BTreeSet<u64>,
}

impl Model {
    fn new() -> Self {
        let mut site = Site::new();
        site.read();
        let saved = (Vec::new(), site.tail.checkpoint());
        let writer = site.writer("access.log");
        Self {
            site,
            writer,
            open: 0,
            made: 1,
            copies: 0,
            named: Some(0),
            nameless: BTreeSet::new(),
            unseen: BTreeSet::new(),
            stand: BTreeMap::new(),
            written: 0,
            begun: None,
            counted: Vec::new(),
            saved,
            gone: BTreeSet::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// Ends the line that was begun: no other writes between its parts.
    fn end(&mut self) {
        let Some((id, rest, is_whole)) = self.begun.take() else { return };
        self.put(rest.as_bytes());
        if is_whole {
            self.stand.entry(self.open).or_default().push(id);
        }
    }

    /// What stands in a file, and is not counted for good, may never be read.
    fn lose(&mut self, file: usize) {
        let lines = self.stand.get(&file).cloned().unwrap_or_default();
        self.gone.extend(lines.into_iter().filter(|id| !self.saved.0.contains(id)));
    }

    fn read(&mut self, most: u64) {
        let counted = &mut self.counted;
        let mut each = |line: &[u8]| {
            let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_prefix("line "));
            if let Some((id, rest)) = text.and_then(|text| text.split_once(' '))
                && rest.ends_with('.')
            {
                counted.push(id.parse().unwrap());
            }
        };
        self.site.tail.read(Steady(0), most, &mut each).unwrap();
    }

    fn line(&mut self, length: usize) -> (u64, String) {
        self.written += 1;
        (self.written, format!("line {} {} {0}.\n", self.written, "x".repeat(length)))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write(lengths) => {
                self.end();
                for length in lengths {
                    let (id, line) = self.line(length);
                    self.put(line.as_bytes());
                    self.stand.entry(self.open).or_default().push(id);
                }
            }
            Action::Begin => {
                self.end();
                let (id, line) = self.line(30);
                let (begin, rest) = line.split_at(20);
                self.put(begin.as_bytes());
                self.begun = Some((id, rest.to_owned(), true));
            }
            Action::Garbage(bytes) => {
                self.end();
                self.put(&[b"garbage ", bytes.as_slice(), b"\n"].concat());
            }
            Action::TooLong => {
                self.end();
                self.put(&vec![b'z'; MAX_LINE_BYTES + 1]);
                // No two lines of a log end alike, or one written anew could not be told from what it was.
                self.written += 1;
                self.gone.insert(self.written);
                self.put(format!("{}\n", self.written).as_bytes());
            }
            Action::Rename => {
                if let Some(file) = self.named.take() {
                    fs::rename(self.site.path("access.log"), self.site.path(&format!("access.log.{file}"))).unwrap();
                }
            }
            Action::Reopen => {
                self.end();
                if self.named.is_none() {
                    self.named = Some(self.made);
                    self.made += 1;
                }
                self.open = self.named.unwrap();
                self.writer = self.site.writer("access.log");
            }
            Action::Delete => {
                if let Some(file) = self.named.take() {
                    let id = FileId::of(&fs::metadata(self.site.path("access.log")).unwrap());
                    if self.site.tail.files.iter().all(|entry| entry.followed.id != id) {
                        self.unseen.insert(file);
                    }
                    fs::remove_file(self.site.path("access.log")).unwrap();
                    self.nameless.insert(file);
                }
            }
            Action::CopyTruncate => {
                if self.named == Some(self.open) {
                    self.copies += 1;
                    let copy = self.site.path(&format!("access.log.copy{}", self.copies));
                    fs::copy(self.site.path("access.log"), copy).unwrap();
                    self.act(Action::Truncate);
                }
            }
            Action::Truncate => {
                self.writer.set_len(0).unwrap();
                self.lose(self.open);
                self.stand.remove(&self.open);
                if let Some((id, rest, is_whole)) = self.begun.take() {
                    self.gone.extend(is_whole.then_some(id));
                    self.begun = Some((id, rest, false));
                }
            }
            Action::Read(most) => self.read(most),
            Action::Save => self.saved = (self.counted.clone(), self.site.tail.checkpoint()),
            Action::Crash => self.crash(),
        }
    }

    fn crash(&mut self) {
        self.counted.clone_from(&self.saved.0);
        let saved = self.saved.1.clone();
        self.site.restart(&saved);
        self.unseen.extend(&self.nameless);
        for file in self.unseen.clone() {
            self.lose(file);
        }
    }

    /// Reads all there is, and compares.
    fn check(mut self) -> Result<(), TestCaseError> {
        // What was written and rotated between two looks is found when there is a log again.
        self.act(Action::Reopen);
        for _ in 0..4 {
            self.read(u64::MAX);
        }
        // Nobody finds what has lost its name before it was followed.
        for file in self.unseen.clone() {
            self.lose(file);
        }
        let times = |id: u64| self.counted.iter().filter(|counted| **counted == id).count();
        for id in 1..=self.written {
            let least = usize::from(!self.gone.contains(&id));
            prop_assert!((least..=1).contains(&times(id)), "line {id} of {} is counted {} times", self.written, times(id));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_log_each_line_is_counted_once(actions in prop::collection::vec(action(), 1..30)) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
        }
        model.check()?;
    }
}
