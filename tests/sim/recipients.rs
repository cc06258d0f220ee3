//! Who downloads: what was really sent to them and what they really have, which is what the meter's word is held against.

use std::sync::Arc;

use portcullis::delivery::Pass;
use portcullis::meter::Request;
use portcullis::share::{ByteRange, ShareId, TransferId};
use portcullis::token::TransferSecret;

use crate::chance::Chance;

/// A file that is shared, in blocks: a set of them fits into one number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u64,
}

/// One whose parts are larger than what a crash may leave unsaved, a small one, an empty one.
pub(crate) const FILES: [File; 3] = [
    File { name: "film.mkv", blocks: 48, block_bytes: 1024 * 1024 },
    File { name: "notes.txt", blocks: 6, block_bytes: 100 },
    File { name: "empty", blocks: 0, block_bytes: 1 },
];

/// A set of blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Blocks(u64);

impl Blocks {
    pub(crate) fn add(&mut self, from: u64, to: u64) {
        (from..to).for_each(|block| self.0 |= 1 << block);
    }

    pub(crate) fn has(self, block: u64) -> bool {
        self.0 & (1 << block) != 0
    }

    /// Returns whether every byte of `range` lies in a block of the set.
    pub(crate) fn holds(self, range: ByteRange, block_bytes: u64) -> bool {
        (range.start / block_bytes..range.end.div_ceil(block_bytes)).all(|block| self.has(block))
    }
}

/// How a client asks for what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// From the first byte that it lacks to the end, one request at a time.
    Resuming,
    /// In parts of so many blocks, several at once; each part from the first byte of it that is lacking.
    Parts(u64),
}

/// Somebody who redeemed a link.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) share: ShareId,
    pub(crate) transfer: TransferId,
    pub(crate) secret: TransferSecret,
    pub(crate) file: File,
    pub(crate) style: Style,
    /// Whether a proxy takes the bytes first: what it acknowledged, the recipient may not have.
    pub(crate) is_proxied: bool,
    pub(crate) sent: Blocks,
    pub(crate) have: Blocks,
}

impl Recipient {
    /// Returns what they ask for next, in blocks; `None` where they have all that they would ask for.
    pub(crate) fn wish(&self, chance: &mut Chance) -> Option<(u64, u64)> {
        let lacking = |from: u64, to: u64| (from..to).find(|block| !self.have.has(*block)).map(|block| (block, to));
        match self.style {
            Style::Resuming if self.file.blocks == 0 => Some((0, 0)),
            Style::Resuming => lacking(0, self.file.blocks),
            Style::Parts(blocks) => {
                let parts: Vec<(u64, u64)> = (0..self.file.blocks.div_ceil(blocks))
                    .filter_map(|part| lacking(part * blocks, ((part + 1) * blocks).min(self.file.blocks)))
                    .collect();
                chance.pick(&parts).copied()
            }
        }
    }
}

/// A request for bytes that is being answered. All counts are blocks of the file.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) recipient: usize,
    pub(crate) request: Request,
    pub(crate) pass: Arc<Pass>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How far it was sent, how far it came, and how far we heard that it came: each at most the one before.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) heard: u64,
}

impl Running {
    /// Moves some blocks: sends a few more, of which some come, of which we hear of some.
    pub(crate) fn progress(&mut self, recipient: &mut Recipient, chance: &mut Chance) {
        self.sent = (self.sent + chance.below(12)).min(self.to);
        self.received = chance.between(self.received, self.sent);
        // A proxy hears for the recipient, and is ahead of them.
        self.heard = chance.between(self.heard, if recipient.is_proxied { self.sent } else { self.received });
        self.note(recipient);
    }

    /// Moves all the rest.
    pub(crate) fn finish(&mut self, recipient: &mut Recipient) {
        (self.sent, self.received, self.heard) = (self.to, self.to, self.to);
        self.note(recipient);
    }

    fn note(&self, recipient: &mut Recipient) {
        recipient.sent.add(self.from, self.sent);
        recipient.have.add(self.from, self.received);
    }

    /// Returns what we heard of, and what is in doubt, in bytes.
    pub(crate) fn heard_and_doubtful(&self, file: File) -> (Option<ByteRange>, Option<ByteRange>) {
        let range = |from: u64, to: u64| ByteRange::new(from * file.block_bytes, to * file.block_bytes);
        let heard = (self.heard > self.from || self.from == self.to).then(|| range(self.from, self.heard));
        let doubtful = Some(range(self.heard, self.sent)).filter(|range| !range.is_empty());
        (heard, doubtful)
    }
}
