//! A file of an earlier version is brought to this one's tables with everything in it.

use super::super::schema::{APPLICATION_ID, MIGRATIONS};
use super::*;
use crate::share::{Outcome, Recipient, TransferId};
use crate::store::contract::{entry, token};
use crate::store::{Day, DayStats, Size, Tally};

/// The day on which everything in the file happened.
const DAY: Day = Day(20405);

/// Makes a file of version 1 with rows that it wrote.
pub(super) fn of_version_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = from_outside(folder.path());
    file.execute_batch(MIGRATIONS[0]).unwrap();
    file.execute_batch(include_str!("version_1.sql")).unwrap();
    file.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;")).unwrap();
    folder
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_shares_and_its_log() {
    let folder = of_version_1();
    let store = open(folder.path());
    let (closed, living) = (ShareId::from_random(1), ShareId::from_random(2));
    let ids = async |query: ShareQuery| {
        let page = store.shares(ShareQuery { limit: 9, ..query }).await.unwrap();
        page.into_iter().map(|share| share.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(ShareQuery::default()).await, [living, closed]);
    assert_eq!(ids(ShareQuery { outcome: Some(Outcome::Revoked), ..Default::default() }).await, [closed]);
    assert_eq!(ids(ShareQuery { path_contains: Some("é".to_owned()), ..Default::default() }).await, [closed]);
    assert_eq!(ids(ShareQuery { path_contains: Some("SONG".to_owned()), ..Default::default() }).await, [living]);
    let made = Timestamp(1_763_000_002_500);
    assert_eq!(ids(ShareQuery { since: Some(made), ..Default::default() }).await, [living]);
    assert_eq!(ids(ShareQuery { until: Some(made), ..Default::default() }).await, [closed]);
    let share = store.share(living).await.unwrap().unwrap();
    assert_eq!((share.percent(), share.note.as_deref(), share.is_closed()), (100, Some("for Ana"), false));

    let log = store.events(EventQuery { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(log.len(), 12);
    let since = EventQuery { since: Some(Timestamp(1_763_000_042_500)), limit: 100, ..Default::default() };
    assert_eq!(store.events(since).await.unwrap().iter().map(|record| record.seq).collect::<Vec<_>>(), [6, 7, 12]);
    let Size { events, shares, .. } = store.size().await.unwrap();
    assert_eq!((events, shares), (12, 2));
    // What is appended goes on behind it.
    assert_eq!(store.save(progress(&share, 1)).await.unwrap(), [13]);
    assert_eq!(store.latest_steady().await.unwrap(), Some(Steady(1_763_000_061_000)));
}

#[tokio::test]
async fn a_file_of_version_1_gets_statistics_of_its_log() {
    let folder = of_version_1();
    let store = open(folder.path());
    let stats = store.stats(DAY, DAY).await.unwrap();
    assert_eq!((stats.made, stats.redeemed, stats.completed, stats.given_back, stats.delivered_bytes), (2, 2, 2, 0, 200));
    assert_eq!(stats.outcomes, [("revoked".to_owned(), 1)]);
    let of_day =
        DayStats { made: 2, completed: 2, delivered_bytes: 200, outcomes: vec![("revoked".to_owned(), 1)], ..DayStats::nothing(DAY) };
    assert_eq!(stats.days, [of_day]);
    let tally = |name: &str| Tally { name: name.to_owned(), downloads: 1, delivered_bytes: 100 };
    assert_eq!(stats.top_files, [tally("film/Été.mkv"), tally("song.flac")]);
    // Its lines do not say how long transfers took, nor where they went.
    assert_eq!((stats.median_bytes_per_second, stats.networks), (None, vec![]));
}

#[tokio::test]
async fn a_file_of_version_1_keeps_its_links_sessions_and_digests() {
    let folder = of_version_1();
    let store = open(folder.path());
    let session = store.session([5; 32], Steady(0)).await.unwrap().unwrap();
    assert_eq!((session.expires, session.created, session.agent.as_str()), (Steady(1_900_000_000_000), Timestamp(0), ""));
    assert_eq!(store.sessions(Steady(0)).await.unwrap(), [session]);
    let identity = FileIdentity { device: 1, inode: 1, size_bytes: 1, modified_ns: 1, changed_ns: 1 };
    assert_eq!(store.digest(identity).await.unwrap(), Some([6; 32]));
    // Two uses, of which one is spent.
    let share = store.share(ShareId::from_random(2)).await.unwrap().unwrap();
    let redeem = |n| {
        let (mut share, at) = (share.clone(), Moment { steady: Steady(1_763_000_070_000), wall: Timestamp(1_763_000_070_500) });
        let event = Event::Redeemed { link: share.link, transfer: TransferId::from_bytes([n; 16]), recipient: Recipient::default() };
        let facts = share.on(event, at).facts;
        store.save(Save { share: Arc::new(share), facts, at })
    };
    assert_eq!(redeem(8).await.unwrap(), [13]);
    assert!(matches!(redeem(9).await, Err(StoreError::Spent)));
}

/// Makes of a file of version 2 what that version left of one with these rows.
async fn of_version_2() -> tempfile::TempDir {
    let folder = of_version_1();
    let store = open(folder.path());
    store.append_audit(entry(1)).await.unwrap();
    store.put_api_token(token(1)).await.unwrap();
    drop(store);
    let file = from_outside(folder.path());
    file.execute_batch("DROP TABLE log_mark; PRAGMA user_version = 2;").unwrap();
    folder
}

#[tokio::test]
async fn a_file_of_version_2_keeps_everything_and_marks_logs() {
    let folder = of_version_2().await;
    for is_upgraded in [false, true] {
        let store = open(folder.path());
        let Size { events, shares, .. } = store.size().await.unwrap();
        assert_eq!((events, shares), (12, 2));
        let stats = store.stats(DAY, DAY).await.unwrap();
        assert_eq!((stats.made, stats.completed, stats.delivered_bytes), (2, 2, 200), "nothing is folded twice");
        assert_eq!(store.audit_lines(None, 9).await.unwrap().len(), 1);
        assert_eq!(store.api_tokens().await.unwrap(), [token(1)]);
        assert_eq!(store.log_mark("log".to_owned()).await.unwrap(), is_upgraded.then(|| mark(1)));
        store.put_log_mark("log".to_owned(), mark(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_version_3_tells_outcomes_and_speeds_by_day_and_keeps_no_blocks_of_them() {
    let folder = of_version_1();
    drop(open(folder.path()));
    // What that version counted besides, each day with its block.
    let file = from_outside(folder.path());
    let block = DAY.0 - DAY.0.rem_euclid(32);
    file.execute_batch(&format!(
        "INSERT INTO tally (kind, day, name, times, bytes) VALUES ('outcome of 32', {block}, 'revoked', 1, 0), ('speed of 32', {block}, '94', 1, 0),
             ('speed', {}, '94', 1, 0);
         PRAGMA user_version = 3;",
        DAY.0
    ))
    .unwrap();
    drop(file);

    let store = open(folder.path());
    // Its block lies whole within what is asked for.
    let stats = store.stats(Day(block), Day(block + 31)).await.unwrap();
    assert_eq!(stats.outcomes, [("revoked".to_owned(), 1)]);
    let [of_day] = &stats.days[..] else { panic!("{stats:?}") };
    assert_eq!((of_day.day, &of_day.outcomes), (DAY, &stats.outcomes));
    assert_eq!((of_day.median_bytes_per_second, stats.median_bytes_per_second), (Some(101), Some(101)));
    assert_eq!(stats.top_files.len(), 2);
    drop(store);
    let kinds = "SELECT group_concat(DISTINCT kind) FROM tally WHERE kind LIKE '% of 32'";
    let kinds: String = from_outside(folder.path()).query_row(kinds, [], |row| row.get(0)).unwrap();
    assert_eq!(kinds, "file of 32");
}

#[tokio::test]
async fn a_migration_that_cannot_be_finished_leaves_the_file_as_it_was() {
    let folder = of_version_1();
    from_outside(folder.path()).execute_batch("INSERT INTO event (at_ms, share, type, body) VALUES (1, 'x', 'y', 'no JSON')").unwrap();
    assert!(why_unusable(folder.path()).contains("event log cannot be read"));
    let file = from_outside(folder.path());
    let version: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let tables: i64 = file.query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('tally', 'audit')", [], |row| row.get(0)).unwrap();
    assert_eq!((version, tables), (1, 0));
}
