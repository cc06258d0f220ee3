//! How many files and sockets the process may have open, and who gets how many.
//!
//! Where recipients could take every descriptor, the owner could not even close a share. So each side's connections are
//! bounded by what there is, and some are left for the store, the catalog and the program itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::causes::Causes;

/// How many the program itself needs: the store's five connections with three files each, 32 calls to the NAS with two folders
/// and a file each, nine files that are hashed, the walk of the index, the listeners, the runtime, the log.
const OWN: usize = 160;
/// One in so many is for owners' connections, of each of their two listeners.
const PART_OF_OWNERS: usize = 8;
/// What a recipient's connection may hold: its socket, and a file.
const OF_A_RECIPIENT: usize = 2;

/// Takes as many descriptors as the system lets us have: 500 live streams and some thousand recipients need more than the
/// 1024 that a process is given where nobody asks.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(error = %Causes(&error), "The limit of open files stays as it is");
    }
}

/// Returns how many connections one of the owners' listeners may hold.
pub fn for_owners() -> usize {
    owners_of(limit())
}

/// Returns how many connections recipients may hold.
pub fn for_recipients() -> usize {
    recipients_of(limit())
}

fn limit() -> usize {
    // No limit at all is told as none.
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn owners_of(limit: usize) -> usize {
    (limit / PART_OF_OWNERS).max(1)
}

fn recipients_of(limit: usize) -> usize {
    (limit.saturating_sub(OWN + 2 * owners_of(limit)) / OF_A_RECIPIENT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_never_have_more_than_there_are() {
        for limit in [256, 1024, 4096, 20_000, 1 << 20] {
            let all = OWN + 2 * owners_of(limit) + OF_A_RECIPIENT * recipients_of(limit);
            assert!(all <= limit, "{all} of {limit}");
        }
        assert!(recipients_of(1024) > 250 && recipients_of(20_000) > 4096);
        assert!(owners_of(0) > 0 && recipients_of(0) > 0);
        assert!(recipients_of(usize::MAX) > 1 << 40);
    }
}
