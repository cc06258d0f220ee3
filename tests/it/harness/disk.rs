//! What a disk may hold after the power went, by the log of [`super::faults`].
//!
//! The model promises less than any file system does: nothing that was not synced need be there, in no order. What a `fsync` of a
//! file keeps are its bytes and its length; what one of a folder keeps are the names in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::faults::Call;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// A generator of numbers that are the same for the same seed (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

/// A change of a file that was not synced.
#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Default)]
struct Kept {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
}

/// The names of one folder.
type Names = BTreeMap<OsString, Node>;
/// A folder and a name in it.
type Place = (usize, OsString);

/// A change of names that was not synced.
#[derive(Clone)]
enum Naming {
    Put(Place, Node),
    Remove(Place),
    /// In one step, as `rename` promises.
    Move(Place, Place, Node),
}

impl Naming {
    fn touches(&self, folder: usize) -> bool {
        match self {
            Self::Put(at, _) | Self::Remove(at) => at.0 == folder,
            Self::Move(from, to, _) => from.0 == folder || to.0 == folder,
        }
    }

    fn apply(&self, folders: &mut [Names]) {
        match self {
            Self::Put(at, node) => drop(folders[at.0].insert(at.1.clone(), *node)),
            Self::Remove(at) => drop(folders[at.0].remove(&at.1)),
            Self::Move(from, to, node) => {
                folders[from.0].remove(&from.1);
                folders[to.0].insert(to.1.clone(), *node);
            }
        }
    }
}

/// A disk with one folder on it.
#[derive(Clone)]
pub(crate) struct Disk {
    path: PathBuf,
    files: Vec<Kept>,
    by_inode: BTreeMap<u64, usize>,
    /// The folder itself first.
    folders: Vec<Names>,
    synced: Vec<Names>,
    pending: Vec<Naming>,
    /// Whether the folder's own name was synced.
    is_synced: bool,
    is_made: bool,
}

impl Disk {
    /// A disk on which there is nothing at `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.to_owned(),
            files: Vec::new(),
            by_inode: BTreeMap::new(),
            folders: vec![Names::new()],
            synced: vec![Names::new()],
            pending: Vec::new(),
            is_synced: false,
            is_made: false,
        }
    }

    /// A disk on which everything that is in `folder` now is safe.
    pub(crate) fn holding(folder: &Path) -> Self {
        let mut disk = Self::new(folder);
        (disk.is_synced, disk.is_made) = (true, true);
        for entry in fs::read_dir(folder).expect("the folder can be listed") {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("a file");
            if about.is_file() && !is_passing(&entry.file_name()) {
                let synced = fs::read(entry.path()).expect("a file can be read");
                disk.files.push(Kept { synced, pending: Vec::new() });
                disk.by_inode.insert(about.ino(), disk.files.len() - 1);
                disk.folders[0].insert(entry.file_name(), Node::File(disk.files.len() - 1));
            }
        }
        disk.synced = disk.folders.clone();
        disk
    }

    /// Does what a server did.
    pub(crate) fn apply(&mut self, call: &Call) {
        match call.op {
            '-' => {}
            'm' if call.path == self.path => self.is_made = true,
            'm' => {
                self.folders.push(Names::new());
                self.synced.push(Names::new());
                let place = self.place(&call.path);
                self.name(Naming::Put(place, Node::Folder(self.folders.len() - 1)));
            }
            'c' => {
                self.files.push(Kept::default());
                let file = self.files.len() - 1;
                self.by_inode.insert(call.inode, file);
                let place = self.place(&call.path);
                self.name(Naming::Put(place, Node::File(file)));
            }
            'w' => self.file(call).pending.push(Change::Write { offset: call.offset as usize, bytes: call.bytes.clone() }),
            't' => self.file(call).pending.push(Change::Truncate(call.offset as usize)),
            's' => {
                let file = self.file(call);
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.synced, &change);
                }
            }
            'd' if call.path.starts_with(&self.path) => self.sync_names(call),
            'd' => self.is_synced |= self.is_made,
            'r' => {
                let (from, to) = (self.place(&call.path), self.place(&call.second));
                let node = self.folders[from.0][&from.1];
                self.name(Naming::Move(from, to, node));
            }
            'l' => {
                let (from, to) = (self.place(&call.path), self.place(&call.second));
                let node = self.folders[from.0][&from.1];
                self.name(Naming::Put(to, node));
            }
            'u' | 'x' => {
                let place = self.place(&call.path);
                self.name(Naming::Remove(place));
            }
            _ => panic!("a disk that knows no {call:?}"),
        }
    }

    fn file(&mut self, call: &Call) -> &mut Kept {
        &mut self.files[self.by_inode[&call.inode]]
    }

    /// Returns which folder a path is in, and its name there.
    fn place(&self, path: &Path) -> Place {
        let parent = path.parent().expect("below the folder");
        (self.folder(parent), path.file_name().expect("a name").to_owned())
    }

    fn folder(&self, path: &Path) -> usize {
        path.strip_prefix(&self.path).expect("below the folder").iter().fold(0, |folder, name| match self.folders[folder].get(name) {
            Some(Node::Folder(inner)) => *inner,
            other => panic!("{} is {other:?}", path.display()),
        })
    }

    fn name(&mut self, change: Naming) {
        change.apply(&mut self.folders);
        self.pending.push(change);
    }

    fn sync_names(&mut self, call: &Call) {
        let folder = self.folder(&call.path);
        // What the folder really held then: nothing may have changed a name unseen.
        let held = call.bytes.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('\t'));
        let mut held: Vec<OsString> = held.map(|(_, name)| OsString::from(name)).filter(|name| !is_passing(name)).collect();
        held.sort();
        assert_eq!(held, self.folders[folder].keys().cloned().collect::<Vec<_>>(), "the log misses a change");
        // A journal keeps the order of what it keeps: a rename is there in both folders or in none.
        let (kept, rest) = std::mem::take(&mut self.pending).into_iter().partition(|change: &Naming| change.touches(folder));
        let kept: Vec<Naming> = kept;
        kept.iter().for_each(|change| change.apply(&mut self.synced));
        self.pending = rest;
    }

    /// Writes what may be left of it after a power cut into `image`.
    pub(crate) fn cut(&self, image: &Path, random: &mut Random) {
        if !self.is_synced && random.below(2) == 0 {
            return;
        }
        let mut folders = self.synced.clone();
        some_of(&self.pending, random).for_each(|change| change.apply(&mut folders));
        self.write(&folders, 0, image, random);
        // Shared memory is never synced: it is gone, or whatever was there.
        if folders[0].contains_key(OsStr::new("portcullis.db-wal")) && random.below(2) == 0 {
            fs::write(image.join("portcullis.db-shm"), super::noise(32 * 1024, random.next())).expect("a file of the image is written");
        }
    }

    fn write(&self, folders: &[Names], folder: usize, at: &Path, random: &mut Random) {
        fs::create_dir(at).expect("the image is made");
        for (name, node) in &folders[folder] {
            match node {
                Node::File(file) => fs::write(at.join(name), self.files[*file].after_cut(random)).expect("a file of the image is written"),
                Node::Folder(inner) => self.write(folders, *inner, &at.join(name), random),
            }
        }
    }
}

/// Returns whether a name is of something that never outlives a crash.
fn is_passing(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with("-shm") || name.ends_with(".sock")
}

impl Kept {
    fn after_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in some_of(&self.pending, random) {
            match change {
                Change::Write { offset, bytes: written } if random.below(3) == 0 => {
                    // Torn: of each sector it is there or not.
                    for (number, sector) in written.chunks(SECTOR).enumerate().filter(|_| random.below(2) == 0).collect::<Vec<_>>() {
                        let bytes_of_sector = sector.to_vec();
                        apply(&mut bytes, &Change::Write { offset: offset + number * SECTOR, bytes: bytes_of_sector });
                    }
                }
                change => apply(&mut bytes, change),
            }
        }
        bytes
    }
}

/// Chooses what of a row of changes is there: nothing, all, its beginning, or any of them.
fn some_of<'a, T>(changes: &'a [T], random: &mut Random) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let length = changes.len() as u64;
    let (way, end) = (random.below(4), random.below(length + 1));
    let chosen: Vec<&T> = match way {
        0 => Vec::new(),
        1 => changes.iter().collect(),
        2 => changes.iter().take(end as usize).collect(),
        _ => changes.iter().filter(|_| random.below(2) == 0).collect(),
    };
    chosen.into_iter()
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes: written } => {
            let end = offset + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(written);
        }
        Change::Truncate(size) => bytes.resize(*size, 0),
    }
}
