//! One file that is followed: whole lines only, from where it was read to.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest line that is read. nginx was seen to write 16 KiB for a request full of quotes; its own bounds end below 64.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// How much of what stands before a position is remembered, to know the file again: a whole line of ours, with what no other has.
const SEEN_BYTES: usize = 512;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// How far a file was read: behind the last line that was whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of which file.
    pub(super) file: FileId,
    /// In bytes from its beginning.
    offset: u64,
    /// A digest of what stands before it: an inode that was given away, or a file that was written anew, has something else there.
    before: u64,
}

impl Position {
    /// Returns whether any other file would be seen to be another: nothing stands before the beginning.
    pub(super) fn tells_files_apart(&self) -> bool {
        self.offset > 0
    }
}

/// What one look at a file gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// How much was read.
    pub(super) bytes: u64,
    /// How much is still to be read.
    pub(super) left: u64,
    /// How many lines were too long.
    pub(super) oversized: u64,
    /// Where it was read to, where that is no longer there, so that it was read from its beginning.
    pub(super) truncated_at: Option<Position>,
    /// Whether no name leads to it.
    pub(super) is_deleted: bool,
    /// When it was written last, in nanoseconds since 1970.
    pub(super) modified_ns: i64,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    file: File,
    pub(super) id: FileId,
    /// Behind the last line that was whole.
    offset: u64,
    /// Behind what was read.
    read_to: u64,
    /// The beginning of a line whose end was not written yet.
    part: Vec<u8>,
    /// Whether the rest of a line that is too long passes.
    is_skipping: bool,
    /// The last bytes before `offset`.
    seen: Vec<u8>,
    /// The last bytes before `read_to`.
    recent: Vec<u8>,
}

impl Followed {
    /// Follows a file from its beginning.
    pub(super) fn begin(file: File) -> io::Result<Self> {
        let id = FileId::of(&file.metadata()?);
        Ok(Self { file, id, offset: 0, read_to: 0, part: Vec::new(), is_skipping: false, seen: Vec::new(), recent: Vec::new() })
    }

    /// Follows a file from its beginning, or, where it is a copy of one that was read, from where that was read to: it was copied before it
    /// was truncated.
    pub(super) fn begin_or_resume<'p>(file: File, positions: impl Iterator<Item = &'p Position>) -> io::Result<Self> {
        let mut positions: Vec<&Position> = positions.filter(|position| position.tells_files_apart()).collect();
        // Lines that say the same may stand before several: the last is how far it was read.
        positions.sort_by_key(|position| std::cmp::Reverse(position.offset));
        for position in positions {
            let (this, is_there) = Self::resume(file.try_clone()?, position)?;
            if is_there {
                return Ok(this);
            }
        }
        Self::begin(file)
    }

    /// Follows a file from a position on, and says whether that is still there: else it is followed from its beginning.
    pub(super) fn resume(file: File, position: &Position) -> io::Result<(Self, bool)> {
        let mut this = Self::begin(file)?;
        let mut seen = vec![0; SEEN_BYTES.min(usize::try_from(position.offset).unwrap_or(SEEN_BYTES))];
        let at = position.offset - seen.len() as u64;
        let is_there = match this.file.read_exact_at(&mut seen, at) {
            Ok(()) => digest(&seen) == position.before,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        if is_there {
            (this.offset, this.read_to, this.recent, this.seen) = (position.offset, position.offset, seen.clone(), seen);
        }
        Ok((this, is_there))
    }

    pub(super) fn position(&self) -> Position {
        Position { file: self.id, offset: self.offset, before: digest(&self.seen) }
    }

    /// Reads what has come, about `most` bytes of it, and hands on each whole line without its end.
    pub(super) fn read(&mut self, buffer: &mut [u8], most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<Look> {
        let metadata = self.file.metadata()?;
        let mut look = Look { is_deleted: metadata.nlink() == 0, modified_ns: modified_ns(&metadata), ..Look::default() };
        if metadata.len() < self.read_to || !self.is_as_seen()? {
            look.truncated_at = Some(self.position());
            self.begin_again();
        }
        while look.bytes < most {
            let n = match self.file.read_at(buffer, self.read_to) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            look.bytes += n as u64;
            look.oversized += self.take(&buffer[..n], each);
        }
        look.left = metadata.len().saturating_sub(self.read_to);
        Ok(look)
    }

    /// Returns whether what was read last still stands there. A file that was cut and written anew may be longer than it was.
    fn is_as_seen(&self) -> io::Result<bool> {
        let mut bytes = [0; SEEN_BYTES];
        let bytes = &mut bytes[..self.recent.len()];
        match self.file.read_exact_at(bytes, self.read_to - self.recent.len() as u64) {
            Ok(()) => Ok(*bytes == *self.recent),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn begin_again(&mut self) {
        (self.offset, self.read_to, self.is_skipping) = (0, 0, false);
        (self.part, self.seen, self.recent) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// Takes what was read; returns how many lines were too long.
    fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> u64 {
        let (mut rest, mut oversized) = (bytes, 0);
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if std::mem::take(&mut self.is_skipping) || self.part.len() + line.len() > MAX_LINE_BYTES {
                oversized += 1;
            } else if self.part.is_empty() {
                each(line);
            } else {
                self.part.extend_from_slice(line);
                each(&self.part);
            }
            self.part.clear();
        }
        if self.is_skipping || self.part.len() + rest.len() > MAX_LINE_BYTES {
            (self.is_skipping, self.part) = (true, Vec::new());
        } else {
            self.part.extend_from_slice(rest);
        }
        if let Some(end) = memrchr(b'\n', bytes) {
            self.seen = last_of(&self.recent, &bytes[..=end]);
            self.offset = self.read_to + end as u64 + 1;
        }
        self.recent = last_of(&self.recent, bytes);
        self.read_to += bytes.len() as u64;
        oversized
    }
}

/// Returns when a file was written last, in nanoseconds since 1970.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Returns the last bytes of both, of which `before` are the last that came before.
fn last_of(before: &[u8], bytes: &[u8]) -> Vec<u8> {
    if bytes.len() >= SEEN_BYTES {
        return bytes[bytes.len() - SEEN_BYTES..].to_vec();
    }
    let kept = before.len().min(SEEN_BYTES - bytes.len());
    [&before[before.len() - kept..], bytes].concat()
}

fn digest(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}
