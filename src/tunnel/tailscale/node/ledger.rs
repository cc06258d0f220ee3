//! What Let's Encrypt gives within a time, counted before it is asked for: who asks for more waits a week, with every other node of
//! the tailnet.
//!
//! The limits are Tailscale's documentation's (`kb/1153`, and tailscale/tailscale#11119): each node makes an account of its own,
//! and each of its names wants a certificate. What other programs ask for is not known here, so these are the most there can be.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::share::{ShareId, Timestamp};

/// The longest ledger that is read: 50 names in a week, with room for a limit that is raised a hundredfold.
const MAX_BYTES: u64 = 1 << 20;

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Names of a tailnet that had no certificate before.
    Names,
    /// Certificates for one name.
    SameName,
    /// Accounts that are made from one address.
    Accounts,
}

impl Limit {
    const ALL: [Self; 3] = [Self::Names, Self::SameName, Self::Accounts];

    fn most(self) -> usize {
        match self {
            Self::Names => 50,
            Self::SameName => 5,
            Self::Accounts => 10,
        }
    }

    fn within(self) -> Duration {
        match self {
            Self::Names | Self::SameName => WEEK,
            Self::Accounts => 3 * HOUR,
        }
    }
}

/// Says that one more would be too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) limit: Limit,
    /// When the next one is free.
    pub(super) free: Timestamp,
    now: Timestamp,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.limit.most();
        match self.limit {
            Limit::Names => write!(f, "Let's Encrypt gives a tailnet {most} new names in a week, and this program has asked for as many")?,
            Limit::SameName => write!(f, "Let's Encrypt gives a name {most} certificates in a week, and this share's has had as many")?,
            Limit::Accounts => write!(f, "Let's Encrypt lets {most} new nodes in from one address in three hours, and there were as many")?,
        }
        let wait = Duration::from_millis(u64::try_from(self.free.0 - self.now.0).unwrap_or_default());
        write!(f, ": the next is free in {}", in_words(wait))?;
        // As above: in whole minutes, and not too early.
        match jiff::Timestamp::from_millisecond(self.free.0.saturating_add(59_999)) {
            Ok(at) => write!(f, ", at {}", at.strftime("%Y-%m-%d %H:%M UTC")),
            Err(_) => Ok(()),
        }
    }
}

/// Rounds up: nobody is told to come back too early.
fn in_words(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60).max(1);
    match minutes {
        1 => "a minute".to_owned(),
        2..=119 => format!("{minutes} minutes"),
        120..=2879 => format!("{} hours", minutes.div_ceil(60)),
        _ => format!("{} days", minutes.div_ceil(24 * 60)),
    }
}

/// One node that was made: a name, an account, and a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// In milliseconds since 1970.
    at: i64,
    share: ShareId,
}

/// What was asked for, as far as it still counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// Returns why `share` cannot have a node of its own yet.
    pub(super) fn refuses(&self, share: ShareId, now: Timestamp) -> Option<Refused> {
        let refused = Limit::ALL.into_iter().filter_map(|limit| {
            let counted = self.counted(limit, share, now);
            // It is free when one less than the most still counts.
            let free = counted.len().checked_sub(limit.most()).map(|spare| counted[spare] + millis(limit.within()))?;
            Some(Refused { limit, free: Timestamp(free), now })
        });
        refused.max_by_key(|refused| refused.free.0)
    }

    /// Returns when what counts towards a limit was asked for, the earliest first.
    fn counted(&self, limit: Limit, share: ShareId, now: Timestamp) -> Vec<i64> {
        // What seems to be yet to come was asked for before the clock was set back.
        let recent: Vec<&Entry> = self.entries.iter().filter(|entry| entry.at > now.0 - millis(limit.within())).collect();
        let mut counted: Vec<i64> = match limit {
            Limit::Accounts => recent.iter().map(|entry| entry.at).collect(),
            Limit::SameName => recent.iter().filter(|entry| entry.share == share).map(|entry| entry.at).collect(),
            // A name that had a certificate within the week is none that is new.
            Limit::Names if recent.iter().any(|entry| entry.share == share) => Vec::new(),
            Limit::Names => {
                let is_first = |at: usize| recent[..at].iter().all(|before| before.share != recent[at].share);
                (0..recent.len()).filter(|at| is_first(*at)).map(|at| recent[at].at).collect()
            }
        };
        counted.sort_unstable();
        counted
    }

    /// Notes that `share` gets a node, and forgets what no limit counts any more.
    pub(super) fn note(&mut self, share: ShareId, now: Timestamp) {
        self.entries.retain(|entry| entry.at > now.0 - millis(WEEK));
        self.entries.push(Entry { at: now.0, share });
    }
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).expect("a week fits")
}

/// The ledger's file.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
}

impl Book {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Notes on disk that `share` gets a node; `Some` where it cannot have one, and then nothing is noted. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written; what is in it is not known then, so no node may be made.
    pub(super) fn note(&self, share: ShareId, now: Timestamp) -> io::Result<Option<Refused>> {
        let mut ledger = self.read()?;
        if let Some(refused) = ledger.refuses(share, now) {
            return Ok(Some(refused));
        }
        ledger.note(share, now);
        self.write(&ledger)?;
        Ok(None)
    }

    /// Takes back what was noted of a node that then was not made. Blocks.
    ///
    /// # Errors
    /// As [`Book::note`].
    pub(super) fn take_back(&self, share: ShareId, at: Timestamp) -> io::Result<()> {
        let mut ledger = self.read()?;
        let noted = ledger.entries.iter().rposition(|entry| *entry == Entry { at: at.0, share });
        noted.map(|noted| ledger.entries.remove(noted));
        self.write(&ledger)
    }

    fn read(&self) -> io::Result<Ledger> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => drop(file.take(MAX_BYTES).read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
            Err(error) => return Err(error),
        }
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Replaces the file in one step: there is the old one or the new one, also after the power went.
    fn write(&self, ledger: &Ledger) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(ledger)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_000_000_000;

    fn id(n: u64) -> ShareId {
        ShareId::from_random(n)
    }

    fn after(of: Duration) -> Timestamp {
        Timestamp(START + millis(of))
    }

    /// Returns a ledger of nodes that were made so many minutes after the start.
    fn of(nodes: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        nodes.iter().for_each(|(share, minute)| ledger.note(id(*share), after(Duration::from_secs(minute * 60))));
        ledger
    }

    #[test]
    fn ten_accounts_in_three_hours_and_no_more() {
        let ledger = of(&(0..10).map(|n| (n, n)).collect::<Vec<_>>());
        let refused = ledger.refuses(id(99), after(HOUR)).unwrap();
        assert_eq!((refused.limit, refused.free), (Limit::Accounts, after(3 * HOUR)));
        assert_eq!(
            refused.to_string(),
            "Let's Encrypt lets 10 new nodes in from one address in three hours, and there were as many: the next is free in 2 hours, at 2026-11-18 14:07 UTC"
        );
        assert!(ledger.refuses(id(99), Timestamp(after(3 * HOUR).0 - 1)).is_some());
        assert_eq!(ledger.refuses(id(99), after(3 * HOUR)), None);
        assert_eq!(of(&(0..9).map(|n| (n, n)).collect::<Vec<_>>()).refuses(id(99), after(HOUR)), None);
    }

    #[test]
    fn fifty_names_in_a_week_and_a_name_that_is_there_is_not_new() {
        // One every four hours, so that accounts are never short.
        let ledger = of(&(0..50).map(|n| (n % 49, n * 200)).collect::<Vec<_>>());
        let now = after(50 * 200 * Duration::from_secs(60));
        assert_eq!(ledger.refuses(id(99), now), None, "one of them came twice");
        let mut full = ledger.clone();
        full.note(id(49), now);
        let refused = full.refuses(id(99), now).unwrap();
        assert_eq!((refused.limit, refused.free), (Limit::Names, after(WEEK)));
        assert_eq!(full.refuses(id(7), now), None);
    }

    #[test]
    fn five_certificates_for_a_name_in_a_week() {
        let ledger = of(&[(1, 0), (1, 200), (1, 400), (1, 600), (1, 800), (2, 900)]);
        let refused = ledger.refuses(id(1), after(24 * HOUR)).unwrap();
        assert_eq!((refused.limit, refused.free), (Limit::SameName, after(WEEK)));
        assert!(refused.to_string().contains("the next is free in 6 days"), "{refused}");
        assert_eq!(ledger.refuses(id(2), after(24 * HOUR)), None);
    }

    #[test]
    fn the_longest_wait_is_told() {
        let mut ledger = of(&[(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
        (2..7).for_each(|n| ledger.note(id(n), after(HOUR)));
        assert_eq!(ledger.refuses(id(1), after(HOUR)).unwrap().limit, Limit::SameName);
        assert_eq!(ledger.refuses(id(9), after(HOUR)).unwrap().limit, Limit::Accounts);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_room_for_nobody() {
        let ledger = of(&(0..10).map(|n| (n, 600)).collect::<Vec<_>>());
        assert!(ledger.refuses(id(99), after(Duration::ZERO)).is_some());
    }

    #[test]
    fn what_no_limit_counts_is_forgotten() {
        let mut ledger = of(&[(1, 0), (2, 1)]);
        ledger.note(id(3), after(WEEK + HOUR));
        assert_eq!(ledger.entries.len(), 1);
    }

    #[test]
    fn it_is_on_disk_before_a_node_is_made_and_what_cannot_be_read_allows_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.json");
        for n in 0..10 {
            assert_eq!(Book::new(path.clone()).note(id(n), after(Duration::ZERO)).unwrap(), None);
        }
        let before = fs::read(&path).unwrap();
        assert_eq!(Book::new(path.clone()).note(id(99), after(HOUR)).unwrap().map(|refused| refused.limit), Some(Limit::Accounts));
        assert_eq!(fs::read(&path).unwrap(), before, "who is refused is not counted");
        Book::new(path.clone()).take_back(id(3), after(Duration::ZERO)).unwrap();
        assert_eq!(Book::new(path.clone()).note(id(99), after(HOUR)).unwrap(), None, "what was not made does not count");
        fs::write(&path, &before[..before.len() / 2]).unwrap();
        assert!(Book::new(path.clone()).note(id(99), after(WEEK)).is_err());
        assert!(Book::new(folder.path().join("missing/nodes.json")).note(id(1), after(HOUR)).is_err());
    }

    #[test]
    fn waits_are_rounded_up() {
        for (seconds, words) in
            [(0, "a minute"), (60, "a minute"), (61, "2 minutes"), (7140, "119 minutes"), (7141, "2 hours"), (200_000, "3 days")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
