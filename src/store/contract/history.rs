//! What is found when an owner looks back, and how much is kept.

use std::sync::Arc;

use super::{close, decide, file, id, new_share, open_share, seconds};
use crate::share::{CatalogPath, Event, Moment, Outcome, Share, SharedFile, Steady, Timestamp};
use crate::store::{Day, EventQuery, Save, ShareQuery, Size, Store};

/// Saves a share of a file, made at two times by the two clocks.
async fn made(store: &dyn Store, n: u64, path: &[u8], steady: i64, wall: i64) -> Share {
    let at = Moment { steady: Steady(steady), wall: Timestamp(wall) };
    let (mut share, facts) = new_share(n, 1, at);
    share.file = SharedFile { path: CatalogPath::from_bytes(path).unwrap(), ..file() };
    store.save(Save { share: Arc::new(share.clone()), facts, at }).await.unwrap();
    share
}

async fn found(store: &dyn Store, query: ShareQuery) -> Vec<u64> {
    let page = store.shares(ShareQuery { limit: 100, ..query }).await.unwrap();
    page.iter().map(|share| (0..100).find(|n| id(*n) == share.id).unwrap()).collect()
}

pub(in crate::store) async fn shares_are_found_by_a_part_of_their_path(store: Arc<dyn Store>) {
    for (n, path) in [(1, &b"Film/\xff\n\x1b holiday.mp4"[..]), (2, "film/ÉTÉ 100%.mkv".as_bytes()), (3, b"song_1.flac"), (4, b"FILM.txt")]
    {
        made(&*store, n, path, n as i64, n as i64).await;
    }
    let by = async |text: &str| found(&*store, ShareQuery { path_contains: Some(text.to_owned()), ..Default::default() }).await;
    const NONE: [u64; 0] = [];
    assert_eq!(by("film").await, [4, 2, 1]);
    assert_eq!(by("FiLm/").await, [2, 1]);
    assert_eq!(by("été").await, [2]);
    assert_eq!(by("").await, [4, 3, 2, 1]);
    assert_eq!(by("100%").await, [2]);
    // What stands for anything in other query languages stands for itself.
    assert_eq!(by("g_1.").await, [3]);
    assert_eq!(by("_").await, [3]);
    assert_eq!(by("%").await, [2]);
    assert_eq!(by("*").await, NONE);
    assert_eq!(by("' OR 1=1 --").await, NONE);
    assert_eq!(by(&CatalogPath::from_bytes(b"\xff\n\x1b H").unwrap().to_text()).await, [1]);
}

pub(in crate::store) async fn a_self_test_is_in_no_page_and_in_no_statistics(store: Arc<dyn Store>) {
    let mut test = made(&*store, 1, CatalogPath::self_test().as_bytes(), 1, 1).await;
    made(&*store, 2, b"film.mkv", 2, 2).await;
    assert_eq!(found(&*store, ShareQuery::default()).await, [2]);
    assert_eq!(found(&*store, ShareQuery { path_contains: Some("self-test".to_owned()), ..Default::default() }).await, [0; 0]);
    // It is taken up again by a restart, and known by its id.
    let living: Vec<_> = store.living().await.unwrap().iter().map(|share| share.id).collect();
    assert_eq!(living, [id(1), id(2)]);
    store.save(decide(&mut test, Event::TunnelOpened, seconds(3))).await.unwrap();
    close(&*store, &mut test, seconds(4)).await;
    for query in [
        ShareQuery { closed: Some(true), ..Default::default() },
        ShareQuery { outcome: Some(Outcome::Revoked), ..Default::default() },
        ShareQuery { since: Some(Timestamp(0)), until: Some(Timestamp(1)), ..Default::default() },
    ] {
        assert_eq!(found(&*store, query.clone()).await, [0; 0], "{query:?}");
    }
    assert!(store.share(id(1)).await.unwrap().is_some_and(|share| share.is_closed()));
    let stats = store.stats(Day(-1), Day(1)).await.unwrap();
    assert_eq!((stats.made, stats.outcomes), (1, Vec::new()));
    // A file of the NAS that is called like it but for the case is a file as any.
    made(&*store, 3, b".Portcullis/Self-Test.TXT", 5, 5).await;
    assert_eq!(found(&*store, ShareQuery::default()).await, [3, 2]);
    assert_eq!(found(&*store, ShareQuery { path_contains: Some("self-test".to_owned()), ..Default::default() }).await, [3]);
}

pub(in crate::store) async fn shares_are_found_by_how_they_closed(store: Arc<dyn Store>) {
    for n in 1..=6 {
        let mut share = open_share(&*store, n, 1, seconds(n)).await;
        match n {
            1 | 4 => close(&*store, &mut share, seconds(n)).await,
            2 => {
                store.save(decide(&mut share, Event::TimePassed, seconds(9999))).await.unwrap();
                store.save(decide(&mut share, Event::TunnelClosed, seconds(9999))).await.unwrap();
            }
            // Closing, and not closed.
            3 => drop(store.save(decide(&mut share, Event::Revoked, seconds(n))).await.unwrap()),
            _ => {}
        }
    }
    let by = async |outcome, closed| found(&*store, ShareQuery { outcome: Some(outcome), closed, ..Default::default() }).await;
    assert_eq!(by(Outcome::Revoked, None).await, [4, 1]);
    assert_eq!(by(Outcome::Revoked, Some(true)).await, [4, 1]);
    assert_eq!(by(Outcome::Revoked, Some(false)).await, [0; 0]);
    assert_eq!(by(Outcome::Expired, None).await, [2]);
    assert_eq!(by(Outcome::Failed, None).await, [0; 0]);
    let page =
        ShareQuery { outcome: Some(Outcome::Revoked), before: Some(id(4)), path_contains: Some("HOLI".to_owned()), ..Default::default() };
    assert_eq!(found(&*store, page).await, [1]);
    // Opened again it is closed no more.
    let mut share = store.share(id(4)).await.unwrap().unwrap();
    store.save(decide(&mut share, Event::Reopened { link: super::link(500), file: file() }, seconds(20))).await.unwrap();
    assert_eq!(by(Outcome::Revoked, None).await, [1]);
    assert_eq!(found(&*store, ShareQuery { closed: Some(true), ..Default::default() }).await, [2, 1]);
}

pub(in crate::store) async fn shares_are_found_by_when_they_were_made_whatever_the_wall_clock_did(store: Arc<dyn Store>) {
    // In the order of the steady clock: the wall clock began in 1970, was put right, jumped ahead and back again.
    for (n, steady, wall) in [(1, 1000, 5), (2, 2000, 2000), (3, 3000, 9_000_000), (4, 4000, 4000), (5, 5000, 4000)] {
        made(&*store, n, b"a", steady, wall).await;
    }
    let by = async |since: Option<i64>, until: Option<i64>| {
        found(&*store, ShareQuery { since: since.map(Timestamp), until: until.map(Timestamp), ..Default::default() }).await
    };
    assert_eq!(by(None, None).await, [5, 4, 3, 2, 1]);
    assert_eq!(by(Some(2000), None).await, [5, 4, 3, 2]);
    assert_eq!(by(Some(2001), None).await, [5, 4, 3]);
    assert_eq!(by(Some(4001), None).await, [3]);
    assert_eq!(by(None, Some(4000)).await, [2, 1]);
    assert_eq!(by(None, Some(4001)).await, [5, 4, 2, 1]);
    assert_eq!(by(Some(5), Some(6)).await, [1]);
    assert_eq!(by(Some(i64::MAX), None).await, [0; 0]);
    assert_eq!(by(Some(i64::MIN), Some(i64::MIN)).await, [0; 0]);
    let rest = ShareQuery { since: Some(Timestamp(2000)), until: Some(Timestamp(5000)), before: Some(id(5)), ..Default::default() };
    assert_eq!(found(&*store, rest).await, [4, 2]);
}

pub(in crate::store) async fn events_are_found_by_time_whatever_the_wall_clock_did(store: Arc<dyn Store>) {
    let hour = 3_600_000;
    // Each share writes a line.
    for (n, wall) in [(1, 0), (2, 10), (3, 2), (4, 1), (5, 3), (6, 3), (7, 11), (8, 4)] {
        made(&*store, n, b"a", n as i64, wall * hour).await;
    }
    for since in -1..=12 {
        let query = EventQuery { since: Some(Timestamp(since * hour)), limit: 100, ..Default::default() };
        for query in [query.clone(), EventQuery { kind: Some("share.".to_owned()), ..query.clone() }, EventQuery { after: 2, ..query }] {
            let seen: Vec<u64> = store.events(query.clone()).await.unwrap().iter().map(|record| record.seq).collect();
            let walls = [0, 10, 2, 1, 3, 3, 11, 4];
            let expected: Vec<u64> = (1..=8).filter(|seq| *seq > query.after && walls[*seq as usize - 1] >= since).collect();
            assert_eq!(seen, expected, "{query:?}");
        }
    }
}

pub(in crate::store) async fn its_size_is_known(store: Arc<dyn Store>) {
    let Size { events, shares, .. } = store.size().await.unwrap();
    assert_eq!((events, shares), (0, 0));
    for n in 1..=3 {
        let mut share = open_share(&*store, n, 1, seconds(n)).await;
        close(&*store, &mut share, seconds(n)).await;
    }
    store.try_write().await.unwrap();
    store.try_write().await.unwrap();
    let Size { events, shares, .. } = store.size().await.unwrap();
    assert_eq!((events, shares), (12, 3));
}
