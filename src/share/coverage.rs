//! Which bytes of a file have arrived, and how sure we are of each.
//!
//! A transfer is complete when the union of its ranges is the whole file, and not before: not at 95 %, not because a
//! request ended well, not because the same half was sent twice.

use serde::{Deserialize, Serialize};

/// How many separate ranges one transfer may leave. A client that asks for every second byte would otherwise grow our
/// memory; `aria2c -x16` leaves a few dozen.
pub const MAX_RANGES: usize = 1024;

/// How sure we are that the recipient has a byte; the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A proxy took it.
    HandedOver,
    /// The recipient's kernel acknowledged it (TCP_INFO `bytes_acked`), with nothing between us.
    Acknowledged,
    /// The recipient's own HTTP/2 stack answered a PING sent behind it.
    Confirmed,
}

/// The bytes `start..end` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// The first byte's offset.
    pub start: u64,
    /// The offset behind the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Makes the range `start..end`; one that ends before it starts is empty.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Returns how many bytes it has.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Returns whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// The union of the byte ranges that have arrived, each with its evidence.
///
/// Sorted, disjoint, and two neighbours that touch differ in their evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(Vec<Covered>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Covered {
    #[serde(flatten)]
    range: ByteRange,
    evidence: Evidence,
}

impl Coverage {
    /// Adds `range`. Where bytes were already covered the stronger evidence stays.
    ///
    /// Returns how many bytes are covered that were not before. A range that would leave more than [`MAX_RANGES`]
    /// pieces is not counted, and nothing else changes.
    pub fn add(&mut self, range: ByteRange, evidence: Evidence) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // A download that runs grows its last piece: no need to build the list anew.
        if let Some(last) = self.0.last_mut()
            && last.evidence == evidence
            && last.range.start <= range.start
            && range.start <= last.range.end
        {
            let added = range.end.saturating_sub(last.range.end);
            last.range.end = last.range.end.max(range.end);
            return added;
        }
        let before = self.covered_bytes();
        let merged = self.merged_with(Covered { range, evidence });
        if merged.len() > MAX_RANGES {
            return 0;
        }
        self.0 = merged;
        self.covered_bytes() - before
    }

    /// Adds all of another. Returns how many bytes are covered that were not before.
    pub(super) fn add_all(&mut self, other: &Self) -> u64 {
        other.0.iter().map(|piece| self.add(piece.range, piece.evidence)).sum()
    }

    /// Returns how many bytes are covered.
    pub fn covered_bytes(&self) -> u64 {
        self.0.iter().map(|piece| piece.range.len()).sum()
    }

    /// Returns how many bytes are covered by exactly this evidence.
    pub fn bytes_with(&self, evidence: Evidence) -> u64 {
        self.0.iter().filter(|piece| piece.evidence == evidence).map(|piece| piece.range.len()).sum()
    }

    /// Returns whether all of `0..size_bytes` is covered.
    pub fn is_whole(&self, size_bytes: u64) -> bool {
        self.covered_bytes() >= size_bytes
    }

    /// Returns whether all of `range` is covered.
    pub fn has(&self, range: ByteRange) -> bool {
        range.is_empty() || self.ranges().iter().any(|covered| covered.start <= range.start && range.end <= covered.end)
    }

    /// Returns the weakest evidence that any covered byte rests on, `None` where nothing is covered.
    pub fn weakest_evidence(&self) -> Option<Evidence> {
        self.0.iter().map(|piece| piece.evidence).min()
    }

    /// Returns the covered ranges in order, whatever their evidence, neighbours joined.
    pub fn ranges(&self) -> Vec<ByteRange> {
        let mut ranges: Vec<ByteRange> = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match ranges.last_mut() {
                Some(last) if last.end == piece.range.start => last.end = piece.range.end,
                _ => ranges.push(piece.range),
            }
        }
        ranges
    }

    fn merged_with(&self, new: Covered) -> Vec<Covered> {
        let mut merged: Vec<Covered> = Vec::with_capacity(self.0.len() + 2);
        let mut push = |start: u64, end: u64, evidence: Evidence| {
            if start >= end {
                return;
            }
            match merged.last_mut() {
                Some(last) if last.range.end == start && last.evidence == evidence => last.range.end = end,
                _ => merged.push(Covered { range: ByteRange { start, end }, evidence }),
            }
        };
        // `rest` is how much of the new range still has to be placed.
        let mut rest = new.range;
        for piece in &self.0 {
            let old = piece.range;
            // What of the new range lies before this piece is new ground.
            let gap_end = rest.end.min(old.start);
            if rest.start < gap_end {
                push(rest.start, gap_end, new.evidence);
                rest.start = gap_end;
            }
            let (from, to) = (rest.start.max(old.start), rest.end.min(old.end));
            if from < to {
                push(old.start, from, piece.evidence);
                push(from, to, piece.evidence.max(new.evidence));
                push(to, old.end, piece.evidence);
                rest.start = to;
            } else {
                push(old.start, old.end, piece.evidence);
            }
        }
        push(rest.start, rest.end, new.evidence);
        merged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![Just(Evidence::HandedOver), Just(Evidence::Acknowledged), Just(Evidence::Confirmed)]
    }

    #[test]
    fn the_same_half_twice_is_half() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.add(ByteRange::new(0, 50), Evidence::Acknowledged), 50);
        assert_eq!(coverage.add(ByteRange::new(0, 50), Evidence::Acknowledged), 0);
        assert!(!coverage.is_whole(100));
        assert_eq!(coverage.add(ByteRange::new(50, 100), Evidence::Acknowledged), 50);
        assert!(coverage.is_whole(100));
    }

    #[test]
    fn a_file_is_whole_with_its_last_byte_and_not_before() {
        let mut coverage = Coverage::default();
        for size in [1, 100, 1000, u64::MAX] {
            coverage.add(ByteRange::new(0, size - 1), Evidence::Acknowledged);
            assert!(!coverage.is_whole(size), "{size}");
            coverage.add(ByteRange::new(size - 1, size), Evidence::Acknowledged);
            assert!(coverage.is_whole(size), "{size}");
        }
    }

    #[test]
    fn an_empty_file_is_whole() {
        assert!(Coverage::default().is_whole(0));
    }

    #[test]
    fn every_second_byte_stays_bounded() {
        let mut coverage = Coverage::default();
        for byte in 0..4 * MAX_RANGES as u64 {
            coverage.add(ByteRange::new(2 * byte, 2 * byte + 1), Evidence::Acknowledged);
        }
        assert_eq!(coverage.0.len(), MAX_RANGES);
        assert_eq!(coverage.add(ByteRange::new(0, 10_000), Evidence::Acknowledged), 10_000 - MAX_RANGES as u64);
    }

    proptest! {
        /// A bitmap is the model: what it says of each byte, the coverage says.
        #[test]
        fn a_coverage_is_the_union_of_its_ranges(ranges in proptest::collection::vec((0u64..64, 0u64..64, evidence()), 0..24)) {
            let mut model = [None::<Evidence>; 64];
            let mut coverage = Coverage::default();
            for (a, b, evidence) in ranges {
                let range = ByteRange::new(a.min(b), a.max(b));
                let before = model.iter().flatten().count() as u64;
                for byte in range.start..range.end {
                    let cell = &mut model[byte as usize];
                    *cell = (*cell).max(Some(evidence));
                }
                let after = model.iter().flatten().count() as u64;
                prop_assert_eq!(coverage.add(range, evidence), after - before);
                prop_assert_eq!(coverage.covered_bytes(), after);
                prop_assert_eq!(coverage.weakest_evidence(), model.iter().flatten().min().copied());
                for pair in coverage.0.windows(2) {
                    let (a, b) = (pair[0], pair[1]);
                    prop_assert!(a.range.end < b.range.start || (a.range.end == b.range.start && a.evidence != b.evidence));
                }
                for piece in &coverage.0 {
                    for byte in piece.range.start..piece.range.end {
                        prop_assert_eq!(model[byte as usize], Some(piece.evidence));
                    }
                }
                for gaps in coverage.ranges().windows(2) {
                    prop_assert!(gaps[0].end < gaps[1].start);
                }
            }
        }
    }
}
