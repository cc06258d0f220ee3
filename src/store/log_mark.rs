//! How far a log was followed, and what was counted up to there.

use serde::{Deserialize, Serialize};

use crate::meter::log_tail::{Checkpoint, Mishaps};
use crate::metrics::NginxLog;

/// The most logs of which the mark is kept; past it the ones go that were marked longest ago. A controller follows one, whoever
/// moves it a few times has not forgotten the others; a mark is a few hundred bytes, 5 KiB at the most.
pub const MAX_LOGS: usize = 16;

/// How far a log was read, and what was counted up to there. Both are kept and replaced together: after a crash at any instant they are
/// of one, so that each line counts once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogMark {
    /// Where it is read on.
    pub checkpoint: Checkpoint,
    /// What was counted before.
    pub counts: LogCounts,
}

/// What was counted in a log since it is followed. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogCounts {
    /// How many lines were ours.
    pub lines: u64,
    /// How many were not: they counted nothing.
    pub foreign: u64,
    /// How many bytes of bodies our lines tell of, as nginx says: what it handed to the kernel.
    pub bytes: u64,
    /// What went wrong.
    pub mishaps: Mishaps,
}

impl From<LogCounts> for NginxLog {
    fn from(counts: LogCounts) -> Self {
        let LogCounts { lines, foreign, bytes, mishaps } = counts;
        let Mishaps { oversized_lines, truncations, lost_files } = mishaps;
        Self { lines, foreign, bytes, oversized_lines, truncations, lost_files }
    }
}
