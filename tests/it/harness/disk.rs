//! What a disk may hold after the power went, by the log of [`super::faults`].
//!
//! The model promises less than any file system does: nothing that was not synced need be there, in no order. What a `fsync` of a
//! file keeps are its bytes and its length; what one of a folder keeps are the names in it.

use std::collections::BTreeMap;
use std::fs;
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
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Default)]
struct Kept {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

/// A change of a name that was not synced.
#[derive(Clone)]
enum Naming {
    Put(PathBuf, usize),
    Remove(PathBuf),
    /// In one step, as `rename` promises.
    Move(PathBuf, PathBuf, usize),
}

type Names = BTreeMap<PathBuf, usize>;

/// A disk with one folder on it.
pub(crate) struct Disk {
    folder: PathBuf,
    files: Vec<Kept>,
    by_inode: BTreeMap<u64, usize>,
    names: Names,
    synced_names: Names,
    pending_names: Vec<Naming>,
    /// Whether the folder's own name was synced.
    is_folder_synced: bool,
    is_folder_made: bool,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            by_inode: BTreeMap::new(),
            names: Names::new(),
            synced_names: Names::new(),
            pending_names: Vec::new(),
            is_folder_synced: false,
            is_folder_made: false,
        }
    }

    /// Does what a server did.
    pub(crate) fn apply(&mut self, call: &Call) {
        match call.op {
            'm' if call.path == self.folder => self.is_folder_made = true,
            'c' => {
                self.files.push(Kept::default());
                let file = self.files.len() - 1;
                self.by_inode.insert(call.inode, file);
                self.name(Naming::Put(call.path.clone(), file));
            }
            'w' => self.file(call).pending.push(Change::Write { offset: call.offset as usize, bytes: call.bytes.clone() }),
            't' => self.file(call).pending.push(Change::Truncate(call.offset as usize)),
            's' => {
                let file = self.file(call);
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.synced, &change);
                }
            }
            'd' if call.path == self.folder => self.sync_names(call),
            'd' => self.is_folder_synced |= self.is_folder_made,
            'r' => {
                let file = self.names[&call.path];
                self.name(Naming::Move(call.path.clone(), call.second.clone(), file));
            }
            'l' => self.name(Naming::Put(call.second.clone(), self.names[&call.path])),
            'u' => self.name(Naming::Remove(call.path.clone())),
            '-' => {}
            _ => panic!("a disk that knows no {call:?}"),
        }
    }

    fn file(&mut self, call: &Call) -> &mut Kept {
        &mut self.files[self.by_inode[&call.inode]]
    }

    fn name(&mut self, change: Naming) {
        rename(&mut self.names, &change);
        self.pending_names.push(change);
    }

    fn sync_names(&mut self, call: &Call) {
        // What the folder really held then: nothing may have changed a name unseen.
        let held = call.bytes.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('\t'));
        let mut held: Vec<PathBuf> = held.map(|(_, name)| self.folder.join(name)).collect();
        held.retain(|path| !["-shm", ".sock"].iter().any(|end| path.to_string_lossy().ends_with(end)));
        held.sort();
        assert_eq!(held, self.names.keys().cloned().collect::<Vec<_>>(), "the log misses a change");
        self.synced_names = self.names.clone();
        self.pending_names.clear();
    }

    /// Writes what may be left of it after a power cut into `image`.
    pub(crate) fn cut(&self, image: &Path, random: &mut Random) {
        if !self.is_folder_synced && random.below(2) == 0 {
            return;
        }
        fs::create_dir(image).expect("the image is made");
        let mut names = self.synced_names.clone();
        some_of(&self.pending_names, random).for_each(|change| rename(&mut names, change));
        for (path, file) in &names {
            let place = image.join(path.strip_prefix(&self.folder).expect("below the folder"));
            fs::write(place, self.files[*file].after_cut(random)).expect("a file of the image is written");
        }
        // Shared memory is never synced: it is gone, or whatever was there.
        if names.keys().any(|path| path.ends_with("portcullis.db-wal")) && random.below(2) == 0 {
            fs::write(image.join("portcullis.db-shm"), super::noise(32 * 1024, random.next())).expect("a file of the image is written");
        }
    }
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

fn rename(names: &mut Names, change: &Naming) {
    match change {
        Naming::Put(path, file) => drop(names.insert(path.clone(), *file)),
        Naming::Remove(path) => drop(names.remove(path)),
        Naming::Move(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
    }
}
