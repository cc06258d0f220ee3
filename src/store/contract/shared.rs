//! What every store promises that several controllers share.

use std::sync::Arc;
use std::time::Duration;

use super::{all_events, decide, id, new_share, redeem, redeemed, seconds};
use crate::share::{Event, Share, Steady};
use crate::store::audit::AuditEntry;
use crate::store::shared::{Basis, ControllerNumber, Cursor, Held, Hold, Introduction, LEASE, News, SharedStore, Written};
use crate::store::{Save, StoreError};

/// Makes a test of each promise. `$store` makes a shared store and whatever must live as long as it.
macro_rules! every_shared_promise {
    ($store:expr) => {
        crate::store::contract::every_promise! { $store;
            whoever_joins_has_a_number_of_their_own,
            whoever_joins_from_the_same_folder_takes_the_place,
            the_steady_clock_of_those_who_joined_goes_on,
            a_beat_tells_who_lives,
            whoever_makes_a_share_watches_it,
            a_save_upon_what_was_changed_meanwhile_is_refused_whole,
            of_64_redeems_at_once_by_three_controllers_exactly_one_is_kept,
            a_watcher_that_was_replaced_writes_nothing,
            what_a_silent_controller_watches_is_taken_over_once,
            what_a_controller_that_left_watches_is_taken_over_at_once,
            nobody_takes_over_from_the_living,
            a_closed_share_is_taken_over_by_nobody_and_watched_by_whoever_opens_it_again,
            everything_that_lives_is_listed_with_who_holds_it,
            news_tell_once_what_others_wrote_with_its_lines,
            news_wake_whoever_waits_for_them,
            more_news_than_are_kept_are_told_as_incomplete,
            a_line_is_written_only_where_its_save_is,
        }
    };
}
pub(in crate::store) use every_shared_promise;

/// How long news are waited for that are there, or come.
const SOON: Duration = Duration::from_secs(10);
/// How long is waited where nothing comes.
const A_MOMENT: Duration = Duration::from_millis(100);
/// After so long a silent controller counts as gone, in these tests.
const PATIENCE: Duration = Duration::from_millis(200);

fn who(n: u8) -> Introduction {
    Introduction { folder: [n; 16], name: format!("nas-{n}") }
}

async fn join(store: &dyn SharedStore, n: u8) -> ControllerNumber {
    store.join(who(n)).await.unwrap().number
}

fn on(hold: Hold) -> Basis {
    Basis { version: hold.version, fence: None }
}

/// Has `me` make share `n` and open it.
async fn open_by(store: &dyn SharedStore, me: ControllerNumber, n: u64, max_downloads: u64) -> Held {
    let (mut share, facts) = new_share(n, max_downloads, seconds(1));
    let save = Save { share: Arc::new(share.clone()), facts, at: seconds(1) };
    let made = store.save_if(me, save, Basis::default(), None).await.unwrap();
    let save = decide(&mut share, Event::TunnelOpened, seconds(1));
    let opened = store.save_if(me, save, Basis { version: made.hold.version, fence: Some(made.hold.fence) }, None).await.unwrap();
    Held { share: Arc::new(share), hold: opened.hold }
}

async fn redeem_by(store: &dyn SharedStore, me: ControllerNumber, held: &Held, n: u8) -> Result<Written, StoreError> {
    let mut share = Share::clone(&held.share);
    store.save_if(me, redeem(&mut share, n, seconds(2)), on(held.hold), None).await
}

async fn quick_news(store: &dyn SharedStore, me: ControllerNumber, cursor: &Cursor) -> News {
    store.news(me, cursor.clone(), Duration::ZERO).await.unwrap()
}

pub(in crate::store) async fn whoever_joins_has_a_number_of_their_own(store: Arc<dyn SharedStore>) {
    let joined = futures_util::future::try_join_all((0..20).map(|n| store.join(who(n)))).await.unwrap();
    let numbers: std::collections::BTreeSet<ControllerNumber> = joined.iter().map(|joined| joined.number).collect();
    assert_eq!(numbers.len(), 20);
    assert!(numbers.iter().all(|number| number.0 > 0), "zero is whoever shares with nobody");
    assert!(joined.iter().all(|joined| joined.former.is_none()));
}

pub(in crate::store) async fn whoever_joins_from_the_same_folder_takes_the_place(store: Arc<dyn SharedStore>) {
    let (first, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let again = store.join(who(1)).await.unwrap();
    assert_eq!(again.former, Some(first));
    assert!(again.number != first && again.number != other);
    assert!(matches!(store.beat(first, Steady(1)).await, Err(StoreError::Overtaken)));
    let mut known: Vec<ControllerNumber> = store.beat(other, Steady(1)).await.unwrap().peers.iter().map(|peer| peer.number).collect();
    known.sort_unstable();
    let mut expected = vec![other, again.number];
    expected.sort_unstable();
    assert_eq!(known, expected);
}

pub(in crate::store) async fn the_steady_clock_of_those_who_joined_goes_on(store: Arc<dyn SharedStore>) {
    let first = store.join(who(1)).await.unwrap();
    assert_eq!(first.steady, None);
    store.beat(first.number, Steady(5_000_000)).await.unwrap();
    store.beat(first.number, Steady(4_000_000)).await.unwrap();
    tokio::time::sleep(A_MOMENT).await;
    let steady = store.join(who(2)).await.unwrap().steady.unwrap();
    assert!(steady >= Steady(5_000_090) && steady < Steady(5_060_000), "{steady:?}");
}

pub(in crate::store) async fn a_beat_tells_who_lives(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    tokio::time::sleep(PATIENCE).await;
    let peers = store.beat(me, Steady(1)).await.unwrap().peers;
    let silence = |number| peers.iter().find(|peer| peer.number == number).unwrap().silence;
    assert!(silence(me) < PATIENCE && silence(other) >= PATIENCE && silence(other) < LEASE, "{peers:?}");
    assert_eq!(peers.iter().find(|peer| peer.number == other).unwrap().name, "nas-2");
    store.leave(other).await.unwrap();
    assert_eq!(store.beat(me, Steady(1)).await.unwrap().peers.len(), 1);
}

pub(in crate::store) async fn whoever_makes_a_share_watches_it(store: Arc<dyn SharedStore>) {
    let me = join(&*store, 1).await;
    let held = open_by(&*store, me, 1, 1).await;
    assert_eq!((held.hold.watcher, held.hold.fence), (me, 1));
    assert_eq!(store.held(id(1)).await.unwrap(), Some(held));
    assert_eq!(store.held(id(2)).await.unwrap(), None);
    assert_eq!(store.latest_seq().await.unwrap(), 2);
}

pub(in crate::store) async fn a_save_upon_what_was_changed_meanwhile_is_refused_whole(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let read = open_by(&*store, me, 1, 5).await;
    let after = redeem_by(&*store, other, &read, 1).await.unwrap();
    assert!(after.hold.version > read.hold.version);
    assert_eq!((after.hold.watcher, after.numbers.as_slice()), (me, &[3_u64][..]));
    let before = store.held(id(1)).await.unwrap();
    assert!(matches!(redeem_by(&*store, me, &read, 2).await, Err(StoreError::Conflict)));
    assert_eq!((store.held(id(1)).await.unwrap(), store.latest_seq().await.unwrap()), (before.clone(), 3));
    // Upon what stands, it is written.
    redeem_by(&*store, me, &before.unwrap(), 2).await.unwrap();
    // What exists cannot be made.
    let (share, facts) = new_share(1, 5, seconds(1));
    let again = store.save_if(other, Save { share: Arc::new(share), facts, at: seconds(1) }, Basis::default(), None).await;
    assert!(matches!(again, Err(StoreError::Conflict)));
}

pub(in crate::store) async fn of_64_redeems_at_once_by_three_controllers_exactly_one_is_kept(store: Arc<dyn SharedStore>) {
    let controllers = [join(&*store, 1).await, join(&*store, 2).await, join(&*store, 3).await];
    let held = open_by(&*store, controllers[0], 1, 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (store, held) = (Arc::clone(&store), held.clone());
        tasks.spawn(async move {
            // Each decides anew upon what stands, as long as it is allowed to.
            let me = controllers[usize::from(n) % 3];
            let mut held = held;
            loop {
                let mut share = Share::clone(&held.share);
                let event = redeemed(&share, n);
                let decided = share.on(event, seconds(2));
                if decided.answer.is_err() {
                    return 0;
                }
                let save = Save { share: Arc::new(share), facts: decided.facts, at: seconds(2) };
                match store.save_if(me, save, on(held.hold), None).await {
                    Ok(_) => return 1,
                    Err(StoreError::Conflict) => held = store.held(id(1)).await.unwrap().unwrap(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<i32>(), 1);
    assert_eq!(all_events(&*store.clone().as_store()).await.len(), 3);
}

pub(in crate::store) async fn a_watcher_that_was_replaced_writes_nothing(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let held = open_by(&*store, me, 1, 1).await;
    store.leave(me).await.unwrap();
    let taken = store.take_over(other, LEASE, 10).await.unwrap().remove(0);
    assert_eq!((taken.hold.watcher, taken.hold.fence), (other, held.hold.fence + 1));
    assert!(taken.hold.version > held.hold.version);
    let late = decide(&mut Share::clone(&held.share), Event::Revoked, seconds(9));
    for version in [held.hold.version, taken.hold.version] {
        let basis = Basis { version, fence: Some(held.hold.fence) };
        assert!(matches!(store.save_if(me, late.clone(), basis, None).await, Err(StoreError::Overtaken)));
    }
    assert_eq!(store.held(id(1)).await.unwrap(), Some(taken));
}

pub(in crate::store) async fn what_a_silent_controller_watches_is_taken_over_once(store: Arc<dyn SharedStore>) {
    let (silent, a, b) = (join(&*store, 1).await, join(&*store, 2).await, join(&*store, 3).await);
    for n in 0..10 {
        open_by(&*store, silent, n, 1).await;
    }
    tokio::time::sleep(PATIENCE).await;
    for alive in [a, b] {
        store.beat(alive, Steady(1)).await.unwrap();
    }
    let (by_a, by_b) = tokio::join!(store.take_over(a, PATIENCE, 7), store.take_over(b, PATIENCE, 7));
    let (by_a, by_b) = (by_a.unwrap(), by_b.unwrap());
    let mut taken: Vec<_> = by_a.iter().chain(&by_b).map(|held| held.share.id).collect();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((taken.len(), by_a.len() + by_b.len()), (10, 10));
    assert!(by_a.iter().all(|held| held.hold.watcher == a) && by_b.iter().all(|held| held.hold.watcher == b));
}

pub(in crate::store) async fn what_a_controller_that_left_watches_is_taken_over_at_once(store: Arc<dyn SharedStore>) {
    let (gone, me) = (join(&*store, 1).await, join(&*store, 2).await);
    open_by(&*store, gone, 1, 1).await;
    assert_eq!(store.take_over(me, LEASE, 10).await.unwrap(), []);
    store.leave(gone).await.unwrap();
    assert_eq!(store.take_over(me, LEASE, 10).await.unwrap().len(), 1);
    // Whoever joins from its folder again ends what it was.
    open_by(&*store, me, 2, 1).await;
    let again = join(&*store, 2).await;
    assert_eq!(store.take_over(again, LEASE, 10).await.unwrap().len(), 2);
}

pub(in crate::store) async fn nobody_takes_over_from_the_living(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let held = open_by(&*store, me, 1, 1).await;
    tokio::time::sleep(PATIENCE).await;
    store.beat(me, Steady(1)).await.unwrap();
    assert_eq!(store.take_over(other, PATIENCE, 10).await.unwrap(), []);
    assert_eq!(store.take_over(me, Duration::ZERO, 10).await.unwrap(), [], "nobody takes over from itself");
    assert_eq!(store.held(id(1)).await.unwrap(), Some(held));
}

pub(in crate::store) async fn a_closed_share_is_taken_over_by_nobody_and_watched_by_whoever_opens_it_again(store: Arc<dyn SharedStore>) {
    let (gone, me) = (join(&*store, 1).await, join(&*store, 2).await);
    let mut held = open_by(&*store, gone, 1, 1).await;
    let mut share = Share::clone(&held.share);
    for event in [Event::Revoked, Event::TunnelClosed] {
        let save = decide(&mut share, event, seconds(3));
        held.hold = store.save_if(gone, save, on(held.hold), None).await.unwrap().hold;
    }
    store.leave(gone).await.unwrap();
    assert_eq!(store.take_over(me, LEASE, 10).await.unwrap(), []);
    assert_eq!(store.all_held().await.unwrap().0, []);
    let undone = store.save_if(me, decide(&mut share, Event::Undone, seconds(4)), on(held.hold), None).await.unwrap();
    assert_eq!((undone.hold.watcher, undone.hold.fence), (me, held.hold.fence + 1));
    assert_eq!(store.all_held().await.unwrap().0, [Held { share: Arc::new(share), hold: undone.hold }]);
}

pub(in crate::store) async fn everything_that_lives_is_listed_with_who_holds_it(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let (first, second) = (open_by(&*store, me, 1, 1).await, open_by(&*store, other, 2, 1).await);
    let (mut all, cursor) = store.all_held().await.unwrap();
    all.sort_by_key(|held| held.share.id != first.share.id);
    assert_eq!(all, [first, second]);
    assert_eq!(quick_news(&*store, me, &cursor).await.changed, []);
}

pub(in crate::store) async fn news_tell_once_what_others_wrote_with_its_lines(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let (_, cursor) = store.all_held().await.unwrap();
    open_by(&*store, me, 1, 1).await;
    assert_eq!(quick_news(&*store, me, &cursor).await.changed, [], "its own it knows");
    let held = open_by(&*store, other, 2, 1).await;
    let news = quick_news(&*store, me, &cursor).await;
    assert!(!news.is_incomplete);
    assert_eq!(news.changed.len(), 1, "both writes of it come as one");
    assert_eq!(news.changed[0].held.as_ref(), Some(&held));
    assert_eq!(news.changed[0].records.iter().map(|record| record.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(quick_news(&*store, me, &news.cursor).await.changed, []);
    // Progress writes no line and is news all the same.
    let progress = Save { share: held.share.clone(), facts: Vec::new(), at: seconds(5) };
    let hold = store.save_if(other, progress, on(held.hold), None).await.unwrap().hold;
    let news = quick_news(&*store, me, &news.cursor).await;
    assert_eq!((news.changed[0].held.as_ref().unwrap().hold, news.changed[0].records.len()), (hold, 0));
    // So is who watches.
    store.leave(other).await.unwrap();
    let third = join(&*store, 3).await;
    let taken = store.take_over(third, LEASE, 10).await.unwrap();
    assert_eq!(quick_news(&*store, me, &news.cursor).await.changed[0].held, Some(taken[0].clone()));
}

pub(in crate::store) async fn news_wake_whoever_waits_for_them(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let (_, cursor) = store.all_held().await.unwrap();
    let nothing = store.news(me, cursor.clone(), A_MOMENT).await.unwrap();
    assert_eq!(nothing.changed, []);
    let waiting = tokio::time::timeout(SOON, store.news(me, nothing.cursor, SOON * 6));
    let writing = async {
        tokio::time::sleep(A_MOMENT).await;
        open_by(&*store, other, 1, 1).await
    };
    let (news, _) = tokio::join!(waiting, writing);
    let news = news.expect("they wake it").unwrap();
    assert_eq!(news.changed.len(), 1);
}

pub(in crate::store) async fn more_news_than_are_kept_are_told_as_incomplete(store: Arc<dyn SharedStore>) {
    let (me, other) = (join(&*store, 1).await, join(&*store, 2).await);
    let mut held = open_by(&*store, other, 1, 1).await;
    let (_, cursor) = store.all_held().await.unwrap();
    // More than any store keeps.
    for _ in 0..12_000 {
        let progress = Save { share: held.share.clone(), facts: Vec::new(), at: seconds(5) };
        held.hold = store.save_if(other, progress, on(held.hold), None).await.unwrap().hold;
    }
    let mut news = quick_news(&*store, me, &cursor).await;
    assert!(news.is_incomplete);
    // From there on they are told as ever.
    for _ in 0..100 {
        news = quick_news(&*store, me, &news.cursor).await;
        if news.changed.is_empty() && !news.is_incomplete {
            break;
        }
    }
    assert_eq!((news.changed.len(), news.is_incomplete), (0, false));
}

pub(in crate::store) async fn a_line_is_written_only_where_its_save_is(store: Arc<dyn SharedStore>) {
    let me = join(&*store, 1).await;
    let line = |target: &str| AuditEntry {
        at: seconds(1).wall,
        who: "owner".to_owned(),
        from: "10.0.0.1".to_owned(),
        action: "share.create".to_owned(),
        target: target.to_owned(),
        detail: String::new(),
    };
    let (share, facts) = new_share(1, 1, seconds(1));
    let save = Save { share: Arc::new(share), facts, at: seconds(1) };
    store.save_if(me, save.clone(), Basis::default(), Some(line("first"))).await.unwrap();
    assert!(matches!(store.save_if(me, save, Basis::default(), Some(line("second"))).await, Err(StoreError::Conflict)));
    let lines = store.audit_lines(None, 10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.entry.target.as_str()).collect::<Vec<_>>(), ["first"]);
    assert!(store.verify_audit().await.unwrap().broken.is_none());
}
