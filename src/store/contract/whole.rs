//! A store with something of everything in it, and everything that it answers.

use std::sync::Arc;

use super::audit::entry;
use super::retention::forget_all;
use super::{close, decide, file, given_back, id, link, log_mark, open_share, redeem_as_if_free, seconds};
use crate::share::{Event, FileIdentity, Outcome, Share, Steady, Timestamp};
use crate::store::{ApiToken, ApiTokenId, Day, EventQuery, MAX_PAGE, Plan, Save, Scope, Session, ShareQuery, Store, StoreError};

/// The device that files lie on where the store is of one machine.
pub(in crate::store) const DEVICE: u64 = 42;

/// The shares of [`fill`] whose link has no use left or is dead, and those whose link has exactly one left.
pub(in crate::store) const SPENT: [u64; 4] = [21, 22, 26, 27];
pub(in crate::store) const LEFT: [u64; 2] = [23, 24];

fn plan(key: &str) -> Plan {
    Plan { key: key.to_owned(), wish: [3; 32], ids: vec!["a".to_owned(), "b".to_owned()], is_done: false, since: Steady(7) }
}

/// Puts something of everything into an empty store.
pub(in crate::store) async fn fill(store: Arc<dyn Store>) {
    super::stats_say_what_happened_on_which_days(Arc::clone(&store)).await;
    let store = &*store;
    // A beginning that is forgotten, of either log.
    for n in 1..=5 {
        store.append_audit(entry(n)).await.unwrap();
    }
    let mut forgotten = open_share(store, 20, 1, seconds(1)).await;
    close(store, &mut forgotten, seconds(2)).await;
    let gone = forget_all(store, Timestamp(3000)).await;
    assert_eq!((gone.shares, gone.audit_lines), (1, 5));
    for n in 6..=9 {
        store.append_audit(entry(100_000 * n)).await.unwrap();
    }

    let mut closed = open_share(store, 21, 1, seconds(3)).await;
    close(store, &mut closed, seconds(90)).await;
    let spent = open_share(store, 22, 1, seconds(4)).await;
    redeem_as_if_free(store, &spent, 1).await.unwrap();
    let for_three = open_share(store, 23, 3, seconds(5)).await;
    for n in [1, 2] {
        redeem_as_if_free(store, &for_three, n).await.unwrap();
    }
    let free = open_share(store, 24, 1, seconds(6)).await;
    redeem_as_if_free(store, &free, 1).await.unwrap();
    store.save(given_back(&free, 1)).await.unwrap();
    let mut again = open_share(store, 25, 1, seconds(7)).await;
    close(store, &mut again, seconds(8)).await;
    let here = FileIdentity { device: DEVICE, ..file().identity };
    let reopened = Event::Reopened { link: link(500), file: crate::share::SharedFile { identity: here, ..file() } };
    store.save(decide(&mut again, reopened, seconds(9))).await.unwrap();
    let mut closing = open_share(store, 26, 1, seconds(10)).await;
    store.save(decide(&mut closing, Event::Revoked, seconds(11))).await.unwrap();
    let mut used_up = open_share(store, 27, 1, seconds(12)).await;
    redeem_as_if_free(store, &used_up, 1).await.unwrap();
    close(store, &mut used_up, seconds(700)).await;

    let session = |n: u8| Session {
        digest: [n; 32],
        expires: Steady(1000 * i64::from(n)),
        created: Timestamp(1),
        seen: Timestamp(2),
        address: (n > 1).then(|| "192.0.2.1".to_owned()),
        agent: "a browser".to_owned(),
    };
    let token = |n: u8| ApiToken {
        id: ApiTokenId::parse(&format!("token{n}")).unwrap(),
        name: "a \u{1F600} script".to_owned(),
        scope: Scope::Share,
        digest: [n; 32],
        created: Timestamp(5),
        expires: (n > 1).then(|| seconds(9)),
        last_used: None,
    };
    for n in [1, 2] {
        store.put_session(session(n)).await.unwrap();
        store.put_api_token(token(n)).await.unwrap();
        store.put_log_mark(format!("/var/log/{n}"), log_mark::mark(n.into())).await.unwrap();
    }
    store.api_token_used(token(1).id, Timestamp(77)).await.unwrap();
    for key in ["done", "begun"] {
        store.put_plan(plan(key), Steady(0)).await.unwrap();
    }
    store.plan_is_done("done".to_owned()).await.unwrap();
    store.put_digest(here, [7; 32]).await.unwrap();
    store.put_digest(FileIdentity { inode: 3, ..file().identity }, [8; 32]).await.unwrap();
}

/// Returns everything that a store answers that [`fill`] filled, where `device` is what files lie on.
pub(in crate::store) async fn told(store: &dyn Store, device: u64) -> Vec<String> {
    let mut told = vec![format!("{:?}", store.living().await.unwrap())];
    let mut shares: Vec<Share> = Vec::new();
    loop {
        let query = ShareQuery { before: shares.last().map(|share| share.id), limit: 3, ..Default::default() };
        let page = store.shares(query).await.unwrap();
        if page.is_empty() {
            break;
        }
        shares.extend(page);
    }
    assert_eq!(shares.len(), 9);
    told.extend(shares.iter().map(|share| format!("{share:?}")));
    let by = |query: ShareQuery| async move { format!("{:?}", store.shares(ShareQuery { limit: MAX_PAGE, ..query }).await.unwrap()) };
    told.push(by(ShareQuery { closed: Some(true), ..Default::default() }).await);
    told.push(by(ShareQuery { outcome: Some(Outcome::Revoked), ..Default::default() }).await);
    told.push(by(ShareQuery { path_contains: Some("HOLI".to_owned()), ..Default::default() }).await);
    told.push(by(ShareQuery { since: Some(seconds(5).wall), until: Some(seconds(8).wall), ..Default::default() }).await);

    let lines = |query: EventQuery| async move { format!("{:?}", store.events(EventQuery { limit: MAX_PAGE, ..query }).await.unwrap()) };
    told.push(lines(EventQuery::default()).await);
    told.push(lines(EventQuery { share: Some(id(23)), newest_first: true, ..Default::default() }).await);
    told.push(lines(EventQuery { kind: Some("transfer.".to_owned()), ..Default::default() }).await);
    told.push(lines(EventQuery { kind: Some("share.closed".to_owned()), ..Default::default() }).await);
    told.push(lines(EventQuery { since: Some(seconds(8).wall), ..Default::default() }).await);
    told.push(format!("{:?} {:?}", store.latest_seq().await.unwrap(), store.latest_steady().await.unwrap()));
    let size = store.size().await.unwrap();
    told.push(format!("{} {}", size.events, size.shares));

    told.push(format!("{:?}", store.sessions(Steady(0)).await.unwrap()));
    told.push(format!("{:?}", store.api_tokens().await.unwrap()));
    for key in ["done", "begun"] {
        let kept = store.put_plan(Plan { wish: [9; 32], ..plan(key) }, Steady(0)).await.unwrap();
        assert_eq!(kept, Plan { is_done: key == "done", ..plan(key) });
    }
    for (from, to) in [(0, 99), (0, 0), (11, 12)] {
        told.push(format!("{:?}", store.stats(Day(from), Day(to)).await.unwrap()));
    }
    told.push(format!("{:?}", store.audit_lines(None, MAX_PAGE).await.unwrap()));
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.broken.clone()), (5, None));
    told.push(format!("{verdict:?}"));
    assert_eq!(store.digest(FileIdentity { device, ..file().identity }).await.unwrap(), Some([7; 32]));
    assert_eq!(store.digest(FileIdentity { inode: 3, ..file().identity }).await.unwrap(), Some([8; 32]));
    for n in [1, 2] {
        assert_eq!(store.log_mark(format!("/var/log/{n}")).await.unwrap(), Some(log_mark::mark(n)));
    }
    told.into_iter().map(|text| text.replace(&format!("device: {device},"), "device: HERE,")).collect()
}

/// Says that no spent link can be used, and that each other has as many uses as it had; then both logs go on where they ended.
pub(in crate::store) async fn goes_on(store: &dyn Store) {
    let copy = |n: u64| {
        let (mut share, _) = super::new_share(n, 1, seconds(1));
        let _ = share.on(Event::TunnelOpened, seconds(1));
        share
    };
    for n in SPENT {
        assert!(matches!(redeem_as_if_free(store, &copy(n), 9).await, Err(StoreError::Spent)), "{n}");
    }
    // The first link of the one that was opened again is dead.
    assert!(matches!(redeem_as_if_free(store, &copy(25), 9).await, Err(StoreError::Spent)));
    let last = store.latest_seq().await.unwrap();
    for (n, seq) in LEFT.into_iter().zip(last + 1..) {
        assert_eq!(redeem_as_if_free(store, &copy(n), 9).await.unwrap(), [seq]);
        assert!(matches!(redeem_as_if_free(store, &copy(n), 10).await, Err(StoreError::Spent)), "{n}");
    }
    let outdated = Save { share: Arc::new(copy(27)), facts: vec![crate::share::Fact::Undone], at: seconds(701) };
    assert!(matches!(store.save(outdated).await, Err(StoreError::Spent)));
    store.append_audit(entry(1_000_000)).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
    // What is over goes whole, links and lines, and nothing that lives.
    let living = store.living().await.unwrap().len();
    let gone = forget_all(store, Timestamp(600_000)).await;
    assert_eq!((gone.shares, gone.events, store.living().await.unwrap().len()), (1, 4, living));
}
