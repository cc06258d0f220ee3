//! What every store promises, run on each of them.

mod access;
mod audit;
mod history;
pub(super) mod log_mark;
mod plans;
mod retention;
mod shared;
mod stats;
pub(super) mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{EventQuery, MAX_PAGE, Record, Save, ShareQuery, Store, StoreError, kind_of};
use crate::share::{
    ByteRange, CatalogPath, Event, Evidence, Fact, FileIdentity, Limits, Moment, OnStall, Outcome, Policy, PolicyRequest, Recipient,
    RequestId, Share, ShareId, SharedFile, Timestamp, TokenId, TransferId,
};

pub(super) use self::access::*;
pub(super) use self::audit::*;
pub(super) use self::history::*;
pub(super) use self::log_mark::*;
pub(super) use self::plans::*;
pub(super) use self::retention::*;
pub(super) use self::shared::*;
pub(super) use self::stats::*;

/// Makes a test of each promise. `$store` makes a store and whatever must live as long as it.
macro_rules! every_promise {
    ($store:expr) => {
        crate::store::contract::every_promise! { $store;
            a_share_comes_back_as_it_was_saved,
            of_64_redeems_at_once_of_one_link_exactly_one_is_kept,
            a_link_for_three_takes_three,
            numbers_have_no_gaps_and_none_comes_twice,
            a_refused_save_writes_nothing,
            a_use_that_was_given_back_can_be_taken_again,
            more_is_never_given_back_than_was_taken,
            a_closing_share_kills_its_link,
            a_share_that_is_reopened_has_one_live_link_and_that_is_the_other,
            a_close_that_is_taken_back_revives_the_link_with_the_uses_it_had_and_no_other_link,
            nothing_is_created_twice,
            an_unknown_link_cannot_be_redeemed,
            progress_alone_is_kept_and_writes_no_event,
            saves_of_one_share_take_effect_in_the_order_of_the_calls,
            shares_of_the_same_instant_are_paged_by_their_ids,
            shares_are_paged_by_state,
            the_living_are_listed_oldest_first,
            pages_have_a_bound,
            events_are_found_by_what_is_asked,
            the_latest_steady_instant_never_goes_back,
            shares_are_found_by_a_part_of_their_path,
            a_self_test_is_in_no_page_and_in_no_statistics,
            shares_are_found_by_how_they_closed,
            shares_are_found_by_when_they_were_made_whatever_the_wall_clock_did,
            events_are_found_by_time_whatever_the_wall_clock_did,
            its_size_is_known,
            stats_say_what_happened_on_which_days,
            stats_say_of_each_day_how_shares_closed_and_how_fast_transfers_were,
            a_day_begins_at_midnight_utc_also_before_1970,
            a_refused_save_is_not_counted,
            stats_are_the_fold_of_the_whole_log,
            a_share_that_closed_long_ago_is_forgotten_whole,
            what_lives_is_never_forgotten,
            more_than_a_call_may_forget_goes_in_several,
            a_share_can_be_opened_again_while_it_is_forgotten,
            statistics_of_days_that_are_over_are_forgotten,
            an_audit_log_stays_verifiable_when_its_beginning_is_forgotten,
            a_session_lives_until_its_end_and_can_be_prolonged,
            a_session_ends_when_told_and_takes_the_stale_with_it,
            sessions_have_a_bound,
            a_session_keeps_where_it_came_from_and_when_it_was_seen,
            sessions_are_listed_the_one_seen_last_first,
            an_api_token_comes_back_until_it_is_removed,
            api_tokens_have_a_bound,
            no_two_api_tokens_share_an_id_or_a_secret,
            each_audit_line_follows_the_one_before_it,
            audit_lines_are_paged_newest_first,
            audit_lines_of_many_at_once_make_one_chain,
            a_share_and_the_line_of_its_making_are_kept_together_or_not_at_all,
            a_plan_belongs_to_whoever_came_first,
            a_plan_that_was_not_done_can_be_dropped,
            plans_are_forgotten_by_age_and_number,
            a_digest_belongs_to_one_state_of_a_file,
            a_log_mark_replaces_the_one_before_it_whole,
            a_log_mark_is_of_one_instant_whoever_asks_while_it_is_replaced,
            of_many_logs_those_are_forgotten_that_were_marked_longest_ago,
        }
    };
    ($store:expr; $($promise:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            let (store, _alive) = $store;
            crate::store::contract::$promise(store).await;
        }
    )+};
}
pub(super) use every_promise;

pub(super) fn seconds(n: u64) -> Moment {
    Moment::default().plus(Duration::from_secs(n))
}

pub(super) fn id(n: u64) -> ShareId {
    ShareId::from_random(n)
}

fn link(n: u128) -> TokenId {
    format!("{n:032x}").parse().expect("32 hexadecimal digits are a link's id")
}

fn transfer(n: u8) -> TransferId {
    TransferId::from_bytes([n; 16])
}

fn file() -> SharedFile {
    let identity = FileIdentity { device: u64::MAX, inode: 2, size_bytes: 100, modified_ns: -3, changed_ns: i64::MAX };
    SharedFile { path: CatalogPath::from_bytes(b"film/\xff\n\x1b holiday.mp4").unwrap(), identity }
}

fn request(max_downloads: u64) -> PolicyRequest {
    PolicyRequest { max_downloads: Some(max_downloads), on_stall: Some(OnStall::Reopen), ..Default::default() }
}

pub(super) fn new_share(n: u64, max_downloads: u64, at: Moment) -> (Share, Vec<Fact>) {
    let limits =
        Limits { max_tunnel: Duration::from_secs(3600), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(60) };
    let policy = Policy::new(request(max_downloads), limits, at).unwrap();
    Share::new(id(n), link(n.into()), file(), policy, Some("for \u{1F600} & \"Ana\"".to_owned()), at)
}

pub(super) fn with_note(share: &Share, note: String) -> Share {
    let mut share = share.clone();
    share.note = Some(note);
    share
}

fn decide(share: &mut Share, event: Event, at: Moment) -> Save {
    let decided = share.on(event, at);
    assert_eq!(decided.answer, Ok(()));
    Save { share: Arc::new(share.clone()), facts: decided.facts, at }
}

fn redeemed(share: &Share, n: u8) -> Event {
    Event::Redeemed { link: share.link, transfer: transfer(n), recipient: Recipient::default() }
}

pub(super) fn redeem(share: &mut Share, n: u8, at: Moment) -> Save {
    let event = redeemed(share, n);
    decide(share, event, at)
}

/// Creates share `n` for so many downloads and opens it, both saved.
pub(super) async fn open_share(store: &dyn Store, n: u64, max_downloads: u64, at: Moment) -> Share {
    let (mut share, facts) = new_share(n, max_downloads, at);
    store.save(Save { share: Arc::new(share.clone()), facts, at }).await.unwrap();
    store.save(decide(&mut share, Event::TunnelOpened, at)).await.unwrap();
    share
}

async fn close(store: &dyn Store, share: &mut Share, at: Moment) {
    for event in [Event::Revoked, Event::TunnelClosed] {
        store.save(decide(share, event, at)).await.unwrap();
    }
}

async fn all_events(store: &dyn Store) -> Vec<Record> {
    store.events(EventQuery { limit: MAX_PAGE, ..Default::default() }).await.unwrap()
}

pub(super) async fn redeem_as_if_free(store: &dyn Store, share: &Share, n: u8) -> Result<Vec<u64>, StoreError> {
    // The caller's copy knows of no other transfer: only the ledger can tell.
    store.save(decide(&mut share.clone(), redeemed(share, n), share.created)).await
}

pub(super) async fn a_share_comes_back_as_it_was_saved(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 2, seconds(1)).await;
    for event in [
        redeemed(&share, 1),
        Event::RequestOpened { transfer: transfer(1), request: RequestId(1), range: ByteRange::new(0, 100), carrier: None },
        Event::Delivered { transfer: transfer(1), range: ByteRange::new(0, 60), evidence: Evidence::Acknowledged },
        Event::Delivered { transfer: transfer(1), range: ByteRange::new(10, 20), evidence: Evidence::Confirmed },
    ] {
        store.save(decide(&mut share, event, seconds(2))).await.unwrap();
    }
    assert_eq!(store.share(share.id).await.unwrap().as_ref(), Some(&share));
    assert_eq!(store.living().await.unwrap(), [share.clone()]);
    close(&*store, &mut share, seconds(3)).await;
    assert_eq!(store.share(share.id).await.unwrap(), Some(share));
    assert_eq!(store.share(id(99)).await.unwrap(), None);
}

pub(super) async fn of_64_redeems_at_once_of_one_link_exactly_one_is_kept(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 1, seconds(1)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (store, share) = (Arc::clone(&store), share.clone());
        tasks.spawn(async move { redeem_as_if_free(&*store, &share, n).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(StoreError::Spent))).count(), 63);
    let kept = store.share(share.id).await.unwrap().unwrap();
    assert_eq!(kept.transfers.len(), 1);
    let events = all_events(&*store).await;
    assert_eq!(events.last().unwrap().fact, Fact::Redeemed { transfer: kept.transfers[0].id });
    assert_eq!(events.len(), 3);
}

pub(super) async fn a_link_for_three_takes_three(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 3, seconds(1)).await;
    for n in 1..=3 {
        redeem_as_if_free(&*store, &share, n).await.unwrap();
    }
    assert!(matches!(redeem_as_if_free(&*store, &share, 4).await, Err(StoreError::Spent)));
}

pub(super) async fn numbers_have_no_gaps_and_none_comes_twice(store: Arc<dyn Store>) {
    assert_eq!(store.latest_seq().await.unwrap(), 0);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let (mut share, facts) = new_share(n, 1, seconds(1));
            let mut numbers = store.save(Save { share: Arc::new(share.clone()), facts, at: seconds(1) }).await.unwrap();
            numbers.extend(store.save(decide(&mut share, Event::TunnelOpened, seconds(1))).await.unwrap());
            numbers.extend(redeem_as_if_free(&*store, &share, 1).await.unwrap());
            // A refused one in the same transaction as others may not eat a number.
            redeem_as_if_free(&*store, &share, 2).await.unwrap_err();
            numbers
        });
    }
    let numbers: BTreeSet<u64> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(numbers, (1..=60).collect());
    assert_eq!(all_events(&*store).await.iter().map(|record| record.seq).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    assert_eq!(store.latest_seq().await.unwrap(), 60);
}

pub(super) async fn a_refused_save_writes_nothing(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    redeem_as_if_free(&*store, &share, 1).await.unwrap();
    let (kept, events) = (store.share(share.id).await.unwrap(), all_events(&*store).await);
    // Its first fact is fine and has taken effect when the second is refused.
    let mut save = redeem(&mut share, 2, seconds(50));
    save.facts.insert(0, Fact::Closing { outcome: Outcome::Failed });
    assert!(matches!(store.save(save).await, Err(StoreError::Spent)));
    assert_eq!((store.share(share.id).await.unwrap(), all_events(&*store).await), (kept, events));
    assert_eq!(store.latest_steady().await.unwrap(), Some(seconds(1).steady));
    // The link did not die of it: the use comes back and can be taken.
    store.save(given_back(&share, 1)).await.unwrap();
    redeem_as_if_free(&*store, &open_copy(1), 3).await.unwrap();
}

pub(super) fn open_copy(n: u64) -> Share {
    let (mut share, _) = new_share(n, 1, seconds(1));
    let _ = share.on(Event::TunnelOpened, seconds(1));
    share
}

fn given_back(share: &Share, n: u8) -> Save {
    let end = crate::share::TransferEnd::NeverBegan;
    let ended =
        Fact::Ended { transfer: transfer(n), end, delivered_bytes: 0, evidence: None, given_back: true, duration_ms: None, network: None };
    Save { share: Arc::new(share.clone()), facts: vec![ended], at: share.created }
}

pub(super) async fn a_use_that_was_given_back_can_be_taken_again(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    store.save(redeem(&mut share, 1, seconds(2))).await.unwrap();
    // Nothing is fetched for a minute: the transfer ends, and in the same save the link is redeemed again.
    let save = redeem(&mut share, 2, seconds(200));
    let kinds: Vec<String> = save.facts.iter().map(kind_of).collect();
    assert_eq!(kinds, ["transfer.ended", "transfer.redeemed"]);
    store.save(save).await.unwrap();
    assert!(matches!(redeem_as_if_free(&*store, &open_copy(1), 3).await, Err(StoreError::Spent)));
}

pub(super) async fn more_is_never_given_back_than_was_taken(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 1, seconds(1)).await;
    for _ in 0..3 {
        store.save(given_back(&share, 1)).await.unwrap();
    }
    redeem_as_if_free(&*store, &share, 1).await.unwrap();
    assert!(matches!(redeem_as_if_free(&*store, &share, 2).await, Err(StoreError::Spent)));
}

pub(super) async fn a_closing_share_kills_its_link(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 5, seconds(1)).await;
    store.save(decide(&mut share, Event::Revoked, seconds(2))).await.unwrap();
    assert!(matches!(redeem_as_if_free(&*store, &open_copy(1), 1).await, Err(StoreError::Spent)));
}

pub(super) async fn a_share_that_is_reopened_has_one_live_link_and_that_is_the_other(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    close(&*store, &mut share, seconds(2)).await;
    store.save(decide(&mut share, Event::Reopened { link: link(500), file: file() }, seconds(3))).await.unwrap();
    store.save(decide(&mut share, Event::TunnelOpened, seconds(3))).await.unwrap();
    assert!(matches!(redeem_as_if_free(&*store, &open_copy(1), 1).await, Err(StoreError::Spent)));
    store.save(decide(&mut share.clone(), redeemed(&share, 2), seconds(4))).await.unwrap();
    let again = store.save(decide(&mut share.clone(), redeemed(&share, 3), seconds(4))).await;
    assert!(matches!(again, Err(StoreError::Spent)));
}

pub(super) async fn a_close_that_is_taken_back_revives_the_link_with_the_uses_it_had_and_no_other_link(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    close(&*store, &mut share, seconds(2)).await;
    store.save(decide(&mut share, Event::Reopened { link: link(500), file: file() }, seconds(3))).await.unwrap();
    close(&*store, &mut share, seconds(4)).await;
    store.save(decide(&mut share, Event::Undone, seconds(5))).await.unwrap();
    assert_eq!(store.living().await.unwrap(), [share.clone()]);
    assert!(matches!(redeem_as_if_free(&*store, &open_copy(1), 1).await, Err(StoreError::Spent)), "the first link stays dead");
    store.save(decide(&mut share, Event::TunnelOpened, seconds(6))).await.unwrap();
    // Whoever redeemed and has no byte gives the use back when it closes.
    store.save(redeem(&mut share, 1, seconds(6))).await.unwrap();
    close(&*store, &mut share, seconds(7)).await;
    store.save(decide(&mut share, Event::Undone, seconds(8))).await.unwrap();
    // What lives already is not revived, whatever somebody believes.
    let outdated = Save { share: Arc::new(share.clone()), facts: vec![Fact::Undone], at: seconds(8) };
    assert!(matches!(store.save(outdated).await, Err(StoreError::Spent)));
    store.save(decide(&mut share, Event::TunnelOpened, seconds(8))).await.unwrap();
    let (before, mut spent) = (share.clone(), share);
    store.save(redeem(&mut spent, 2, seconds(9))).await.unwrap();
    // A link that is used up stays so, whoever's copy says otherwise.
    store
        .save(Save { share: Arc::new(spent.clone()), facts: vec![Fact::Closing { outcome: Outcome::Revoked }], at: seconds(9) })
        .await
        .unwrap();
    let outdated = Save { share: Arc::new(before), facts: vec![Fact::Undone], at: seconds(10) };
    assert!(matches!(store.save(outdated).await, Err(StoreError::Spent)));
    assert_eq!(store.share(spent.id).await.unwrap(), Some(spent));
}

pub(super) async fn nothing_is_created_twice(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 1, seconds(1)).await;
    redeem_as_if_free(&*store, &share, 1).await.unwrap();
    let kept = store.share(share.id).await.unwrap();
    // The same share, another share of the same id, another share with the same link.
    let (same, created) = new_share(1, 1, seconds(5));
    let (mut same_id, mut same_link) = (same.clone(), same.clone());
    (same_id.link, same_link.id) = (link(77), id(77));
    for share in [same, same_id, same_link] {
        let save = Save { share: Arc::new(share), facts: created.clone(), at: seconds(5) };
        assert!(matches!(store.save(save).await, Err(StoreError::Unavailable { .. })));
    }
    assert_eq!((store.share(share.id).await.unwrap(), store.share(id(77)).await.unwrap()), (kept, None));
    assert!(matches!(redeem_as_if_free(&*store, &share, 2).await, Err(StoreError::Spent)));
}

pub(super) async fn an_unknown_link_cannot_be_redeemed(store: Arc<dyn Store>) {
    assert!(matches!(redeem_as_if_free(&*store, &open_copy(1), 1).await, Err(StoreError::Spent)));
    assert_eq!((store.latest_seq().await.unwrap(), store.share(id(1)).await.unwrap()), (0, None));
}

pub(super) async fn progress_alone_is_kept_and_writes_no_event(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    store.save(redeem(&mut share, 1, seconds(2))).await.unwrap();
    let opened = Event::RequestOpened { transfer: transfer(1), request: RequestId(1), range: ByteRange::new(0, 100), carrier: None };
    store.save(decide(&mut share, opened, seconds(2))).await.unwrap();
    let before = store.latest_seq().await.unwrap();
    let arrived = Event::Delivered { transfer: transfer(1), range: ByteRange::new(0, 60), evidence: Evidence::Acknowledged };
    let save = decide(&mut share, arrived, seconds(9));
    assert!(save.facts.is_empty());
    assert_eq!(store.save(save).await.unwrap(), Vec::<u64>::new());
    assert_eq!(store.latest_seq().await.unwrap(), before);
    assert_eq!(store.share(share.id).await.unwrap().unwrap().percent(), 60);
    assert_eq!(store.latest_steady().await.unwrap(), Some(seconds(9).steady));
}

pub(super) async fn saves_of_one_share_take_effect_in_the_order_of_the_calls(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 1, seconds(1)).await;
    let noted = |n: u64| with_note(&share, n.to_string());
    let saves: Vec<_> = (0..200).map(|n| store.save(Save { share: Arc::new(noted(n)), facts: Vec::new(), at: seconds(1) })).collect();
    // Awaited in the other order.
    for save in saves.into_iter().rev() {
        save.await.unwrap();
    }
    assert_eq!(store.share(share.id).await.unwrap().unwrap().note.as_deref(), Some("199"));
}

pub(super) async fn shares_of_the_same_instant_are_paged_by_their_ids(store: Arc<dyn Store>) {
    for n in [4, 2, 9, 7] {
        open_share(&*store, n, 1, seconds(5)).await;
    }
    open_share(&*store, 8, 1, seconds(4)).await;
    open_share(&*store, 1, 1, seconds(6)).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.shares(ShareQuery { before, limit: 2, ..Default::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        assert_eq!(page.len(), 2);
        before = Some(last.id);
        seen.extend(page.into_iter().map(|share| share.id));
    }
    assert_eq!(seen, [1, 9, 7, 4, 2, 8].map(id));
    let unknown = ShareQuery { before: Some(id(31)), limit: 9, ..Default::default() };
    assert_eq!(store.shares(unknown).await.unwrap(), []);
}

pub(super) async fn shares_are_paged_by_state(store: Arc<dyn Store>) {
    for n in 1..=6 {
        let mut share = open_share(&*store, n, 1, seconds(n)).await;
        if n % 2 == 0 {
            close(&*store, &mut share, seconds(n)).await;
        }
    }
    for (closed, expected) in [(Some(true), vec![6, 4, 2]), (Some(false), vec![5, 3, 1]), (None, vec![6, 5, 4, 3, 2, 1])] {
        let ids = |page: Vec<Share>| page.into_iter().map(|share| share.id).collect::<Vec<_>>();
        let expected: Vec<ShareId> = expected.into_iter().map(id).collect();
        let page = store.shares(ShareQuery { closed, limit: 10, ..Default::default() }).await.unwrap();
        assert_eq!(ids(page), expected);
        let page = store.shares(ShareQuery { closed, before: Some(expected[0]), limit: 1, ..Default::default() }).await.unwrap();
        assert_eq!(ids(page), expected[1..2]);
    }
}

pub(super) async fn the_living_are_listed_oldest_first(store: Arc<dyn Store>) {
    for n in [3, 1, 2] {
        open_share(&*store, n, 1, seconds(n)).await;
    }
    let mut closed = open_share(&*store, 4, 1, seconds(4)).await;
    // One that is closing still wants its tunnel closed.
    store.save(decide(&mut closed, Event::Revoked, seconds(5))).await.unwrap();
    let living = |shares: Vec<Share>| shares.into_iter().map(|share| share.id).collect::<Vec<_>>();
    assert_eq!(living(store.living().await.unwrap()), [1, 2, 3, 4].map(id));
    store.save(decide(&mut closed, Event::TunnelClosed, seconds(5))).await.unwrap();
    assert_eq!(living(store.living().await.unwrap()), [1, 2, 3].map(id));
}

pub(super) async fn pages_have_a_bound(store: Arc<dyn Store>) {
    let share = open_share(&*store, 1, 1, seconds(1)).await;
    let facts = vec![Fact::TunnelLost; MAX_PAGE + 5];
    store.save(Save { share: Arc::new(share), facts, at: seconds(1) }).await.unwrap();
    let page = store.events(EventQuery { limit: usize::MAX, ..Default::default() }).await.unwrap();
    assert_eq!(page.len(), MAX_PAGE);
    let after = page.last().unwrap().seq;
    let rest = store.events(EventQuery { after, limit: usize::MAX, ..Default::default() }).await.unwrap();
    assert_eq!(rest.len(), 7);
    let one = store.events(EventQuery::default()).await.unwrap();
    assert_eq!(one.len(), 1);
    let none = store.events(EventQuery { after: u64::MAX, limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(none, []);
}

pub(super) async fn events_are_found_by_what_is_asked(store: Arc<dyn Store>) {
    let mut first = open_share(&*store, 1, 1, seconds(10)).await;
    open_share(&*store, 2, 1, seconds(20)).await;
    store.save(redeem(&mut first, 1, seconds(30))).await.unwrap();
    close(&*store, &mut first, seconds(40)).await;
    let all = all_events(&*store).await;
    let kinds: Vec<String> = all.iter().map(|record| kind_of(&record.fact)).collect();
    let expected = [
        "share.created",
        "share.opened",
        "share.created",
        "share.opened",
        "transfer.redeemed",
        "transfer.ended",
        "share.closing",
        "share.closed",
    ];
    assert_eq!(kinds, expected);
    let found = async |query: EventQuery| {
        let page = store.events(EventQuery { limit: 100, ..query }).await.unwrap();
        page.iter().for_each(|record| assert_eq!(record, &all[record.seq as usize - 1]));
        page.iter().map(|record| record.seq).collect::<Vec<_>>()
    };
    let kind = |kind: &str| Some(kind.to_owned());
    const NONE: [u64; 0] = [];
    assert_eq!(found(EventQuery { share: Some(id(2)), ..Default::default() }).await, [3, 4]);
    assert_eq!(found(EventQuery { kind: kind("share.created"), ..Default::default() }).await, [1, 3]);
    assert_eq!(found(EventQuery { kind: kind("transfer."), ..Default::default() }).await, [5, 6]);
    assert_eq!(found(EventQuery { kind: kind("share."), after: 3, ..Default::default() }).await, [4, 7, 8]);
    assert_eq!(found(EventQuery { kind: kind("share"), ..Default::default() }).await, NONE);
    assert_eq!(found(EventQuery { kind: kind("share.c"), ..Default::default() }).await, NONE);
    assert_eq!(found(EventQuery { kind: kind("' OR 1=1 --"), ..Default::default() }).await, NONE);
    assert_eq!(found(EventQuery { since: Some(seconds(30).wall), ..Default::default() }).await, [5, 6, 7, 8]);
    let narrow = EventQuery { share: Some(id(1)), kind: kind("share."), since: Some(Timestamp(10_001)), ..Default::default() };
    assert_eq!(found(narrow.clone()).await, [7, 8]);
    assert_eq!(found(EventQuery { newest_first: true, ..narrow }).await, [8, 7]);
    let newest = EventQuery { newest_first: true, ..Default::default() };
    assert_eq!(found(newest.clone()).await, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(found(EventQuery { before: Some(4), ..newest.clone() }).await, [3, 2, 1]);
    assert_eq!(found(EventQuery { kind: kind("share."), before: Some(7), ..newest.clone() }).await, [4, 3, 2, 1]);
    let one = store.events(EventQuery { kind: kind("share.created"), limit: 1, ..newest.clone() }).await.unwrap();
    assert_eq!(one, [all[2].clone()]);
    assert_eq!(found(EventQuery { after: 6, before: Some(8), ..Default::default() }).await, [7]);
    assert_eq!(found(EventQuery { before: Some(u64::MAX), ..newest }).await.len(), 8);
    assert_eq!(all[4].at, seconds(30).wall);
}

pub(super) async fn the_latest_steady_instant_never_goes_back(store: Arc<dyn Store>) {
    assert_eq!(store.latest_steady().await.unwrap(), None);
    let share = Arc::new(open_share(&*store, 1, 1, seconds(10)).await);
    for (at, latest) in [(30, 30), (20, 30), (31, 31)] {
        store.save(Save { share: Arc::clone(&share), facts: Vec::new(), at: seconds(at) }).await.unwrap();
        assert_eq!(store.latest_steady().await.unwrap(), Some(seconds(latest).steady));
    }
}

pub(super) async fn a_digest_belongs_to_one_state_of_a_file(store: Arc<dyn Store>) {
    let before = file().identity;
    store.put_digest(before, [7; 32]).await.unwrap();
    assert_eq!(store.digest(before).await.unwrap(), Some([7; 32]));
    let others = [
        FileIdentity { device: 0, ..before },
        FileIdentity { inode: 3, ..before },
        FileIdentity { size_bytes: 101, ..before },
        FileIdentity { modified_ns: 0, ..before },
        FileIdentity { changed_ns: 0, ..before },
    ];
    for other in others {
        assert_eq!(store.digest(other).await.unwrap(), None);
    }
    let after = FileIdentity { changed_ns: 0, ..before };
    store.put_digest(after, [8; 32]).await.unwrap();
    assert_eq!((store.digest(after).await.unwrap(), store.digest(before).await.unwrap()), (Some([8; 32]), None));
}
