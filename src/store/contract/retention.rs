//! Forgetting.

use std::sync::Arc;

use super::{all_events, audit::entry, close, decide, file, id, link, open_share, redeem_as_if_free, seconds};
use crate::share::{Event, Fact, Timestamp};
use crate::store::{Day, EventQuery, Forgotten, Save, ShareQuery, Size, Store, StoreError};

/// Forgets until nothing is left to forget.
pub(in crate::store) async fn forget_all(store: &dyn Store, before: Timestamp) -> Forgotten {
    let mut all = Forgotten::default();
    loop {
        let forgotten = store.forget(before).await.unwrap();
        all.events += forgotten.events;
        all.shares += forgotten.shares;
        all.audit_lines += forgotten.audit_lines;
        if !forgotten.is_more {
            return all;
        }
    }
}

pub(in crate::store) async fn a_share_that_closed_long_ago_is_forgotten_whole(store: Arc<dyn Store>) {
    let mut old = open_share(&*store, 1, 1, seconds(1)).await;
    let mut late = open_share(&*store, 2, 1, seconds(1)).await;
    close(&*store, &mut old, seconds(10)).await;
    close(&*store, &mut late, seconds(20)).await;
    store.put_digest(file().identity, [7; 32]).await.unwrap();
    let kept: Vec<_> = all_events(&*store).await.into_iter().filter(|record| record.share == late.id).collect();

    let forgotten = forget_all(&*store, seconds(20).wall).await;
    assert_eq!(forgotten, Forgotten { events: 4, shares: 1, audit_lines: 0, is_more: false });
    assert_eq!((store.share(id(1)).await.unwrap(), store.share(id(2)).await.unwrap()), (None, Some(late.clone())));
    assert_eq!(all_events(&*store).await, kept);
    assert_eq!(forget_all(&*store, seconds(20).wall).await, Forgotten::default());
    let Size { events, shares, .. } = store.size().await.unwrap();
    assert_eq!((events, shares), (4, 1));
    // A link that is forgotten is no link, and no number comes again.
    assert!(matches!(redeem_as_if_free(&*store, &super::open_copy(1), 1).await, Err(StoreError::Spent)));
    assert_eq!(store.latest_seq().await.unwrap(), 8);
    assert_eq!(store.digest(file().identity).await.unwrap(), Some([7; 32]));

    forget_all(&*store, Timestamp(i64::MAX)).await;
    assert_eq!((all_events(&*store).await, store.latest_seq().await.unwrap()), (vec![], 8));
    open_share(&*store, 3, 1, seconds(30)).await;
    assert_eq!(all_events(&*store).await.iter().map(|record| record.seq).collect::<Vec<_>>(), [9, 10]);
}

pub(in crate::store) async fn what_lives_is_never_forgotten(store: Arc<dyn Store>) {
    let living = open_share(&*store, 1, 1, seconds(1)).await;
    let mut closing = open_share(&*store, 2, 1, seconds(2)).await;
    store.save(decide(&mut closing, Event::Revoked, seconds(3))).await.unwrap();
    let mut again = open_share(&*store, 3, 1, seconds(4)).await;
    close(&*store, &mut again, seconds(5)).await;
    store.save(decide(&mut again, Event::Reopened { link: link(500), file: file() }, seconds(6))).await.unwrap();
    let before = all_events(&*store).await;
    assert_eq!(forget_all(&*store, Timestamp(i64::MAX)).await, Forgotten::default());
    assert_eq!(all_events(&*store).await, before);
    assert_eq!(store.living().await.unwrap(), [living.clone(), closing, again]);
    redeem_as_if_free(&*store, &living, 1).await.unwrap();
}

pub(in crate::store) async fn more_than_a_call_may_forget_goes_in_several(store: Arc<dyn Store>) {
    for n in 1..=3 {
        let mut share = open_share(&*store, n, 1, seconds(n)).await;
        let lines = Save { share: Arc::new(share.clone()), facts: vec![Fact::TunnelLost; 1500], at: seconds(n) };
        store.save(lines).await.unwrap();
        close(&*store, &mut share, seconds(n)).await;
    }
    open_share(&*store, 9, 1, seconds(9)).await;
    let (mut events, mut calls) = (0, 0);
    loop {
        let forgotten = store.forget(seconds(4).wall).await.unwrap();
        (events, calls) = (events + forgotten.events, calls + 1);
        // A share that can be found has all of its lines.
        let found = store.shares(ShareQuery { limit: 9, ..Default::default() }).await.unwrap();
        for share in found {
            let first = store.events(EventQuery { share: Some(share.id), limit: 1, ..Default::default() }).await.unwrap();
            assert_eq!(first[0].fact, Fact::Created);
        }
        if !forgotten.is_more {
            break;
        }
    }
    assert_eq!(events, 3 * 1504);
    assert!(calls <= 4, "{calls}");
    assert_eq!(all_events(&*store).await.len(), 2);
}

pub(in crate::store) async fn a_share_can_be_opened_again_while_it_is_forgotten(store: Arc<dyn Store>) {
    let mut share = open_share(&*store, 1, 1, seconds(1)).await;
    store.save(Save { share: Arc::new(share.clone()), facts: vec![Fact::TunnelLost; 2500], at: seconds(1) }).await.unwrap();
    close(&*store, &mut share, seconds(2)).await;
    store.forget(seconds(9).wall).await.unwrap();
    // Whoever opens it again had read it just before.
    let numbers = store.save(decide(&mut share, Event::Reopened { link: link(500), file: file() }, seconds(3))).await.unwrap();
    forget_all(&*store, seconds(9).wall).await;
    assert_eq!(store.share(share.id).await.unwrap().as_ref(), Some(&share));
    let last = all_events(&*store).await.last().cloned().unwrap();
    assert_eq!((vec![last.seq], last.fact), (numbers, Fact::Reopened));
}

pub(in crate::store) async fn statistics_of_days_that_are_over_are_forgotten(store: Arc<dyn Store>) {
    let day = 24 * 3600;
    for n in 0..4 {
        open_share(&*store, n, 1, seconds(n * day + 100)).await;
    }
    forget_all(&*store, seconds(2 * day + 50).wall).await;
    let stats = store.stats(Day(0), Day(9)).await.unwrap();
    assert_eq!(stats.days.iter().map(|of_day| (of_day.day.0, of_day.made)).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
}

pub(in crate::store) async fn an_audit_log_stays_verifiable_when_its_beginning_is_forgotten(store: Arc<dyn Store>) {
    for n in 1..=10 {
        store.append_audit(entry(n)).await.unwrap();
    }
    store.append_audit(entry(50)).await.unwrap();
    let lines = store.audit_lines(None, 100).await.unwrap();
    assert_eq!(forget_all(&*store, Timestamp(1)).await.audit_lines, 0);
    assert_eq!(store.audit_lines(None, 100).await.unwrap(), lines);

    assert_eq!(forget_all(&*store, Timestamp(5)).await.audit_lines, 4);
    let left = store.audit_lines(None, 100).await.unwrap();
    assert_eq!(left.iter().map(|line| line.seq).collect::<Vec<_>>(), [12, 11, 10, 9, 8, 7, 6, 5]);
    assert_eq!(left[1..], lines[..7]);
    let told = &left[0].entry;
    assert_eq!((told.who.as_str(), told.action.as_str(), told.target.as_str()), ("portcullis", "audit.forgotten", "4"));
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.first_seq, verdict.head, verdict.broken), (8, Some(5), Some((12, left[0].hash)), None));

    // It goes on, and forgetting again what is forgotten leaves no line.
    assert_eq!(forget_all(&*store, Timestamp(5)).await.audit_lines, 0);
    assert_eq!(forget_all(&*store, Timestamp(11)).await.audit_lines, 6);
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.first_seq, verdict.head.map(|(seq, _)| seq), verdict.broken), (Some(11), Some(13), None));
}
