//! The audit log.

use std::sync::Arc;

use crate::share::Timestamp;
use crate::store::audit::{AuditEntry, AuditLine};
use crate::store::{MAX_PAGE, Save, Store};

use super::{new_share, seconds};

pub(in crate::store) fn entry(n: u64) -> AuditEntry {
    AuditEntry {
        at: Timestamp(n as i64),
        who: "owner token".to_owned(),
        from: "192.0.2.7".to_owned(),
        action: "share.create".to_owned(),
        target: format!("target{n}"),
        detail: "film/\u{1b} é.mp4".to_owned(),
    }
}

pub(in crate::store) async fn each_audit_line_follows_the_one_before_it(store: Arc<dyn Store>) {
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.first_seq, verdict.head, verdict.broken), (0, None, None, None));
    let first = store.append_audit(entry(1)).await.unwrap();
    let second = store.append_audit(entry(2)).await.unwrap();
    assert_eq!(first, AuditLine::following(1, [0; 32], entry(1)));
    assert_eq!(second, AuditLine::following(2, first.hash, entry(2)));
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.first_seq, verdict.head, verdict.broken), (2, Some(1), Some((2, second.hash)), None));
}

pub(in crate::store) async fn audit_lines_are_paged_newest_first(store: Arc<dyn Store>) {
    for n in 1..=5 {
        store.append_audit(entry(n)).await.unwrap();
    }
    let page = async |before, limit| {
        let lines = store.audit_lines(before, limit).await.unwrap();
        lines.iter().for_each(|line| assert_eq!(line.entry, entry(line.seq)));
        lines.into_iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, [5, 4]);
    assert_eq!(page(Some(4), 2).await, [3, 2]);
    assert_eq!(page(Some(2), 2).await, [1]);
    assert_eq!(page(Some(1), 2).await, [0; 0]);
    assert_eq!(page(Some(u64::MAX), usize::MAX).await, [5, 4, 3, 2, 1]);
    assert_eq!(page(None, 0).await, [5]);
}

pub(in crate::store) async fn audit_lines_of_many_at_once_make_one_chain(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.append_audit(entry(n)).await.unwrap() });
    }
    let mut answered = tasks.join_all().await;
    answered.sort_by_key(|line| std::cmp::Reverse(line.seq));
    assert_eq!(store.audit_lines(None, MAX_PAGE).await.unwrap(), answered);
    let verdict = store.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.broken), (100, None));
}

pub(in crate::store) async fn a_share_and_the_line_of_its_making_are_kept_together_or_not_at_all(store: Arc<dyn Store>) {
    let save = |n| {
        let (share, facts) = new_share(n, 1, seconds(1));
        Save { share: Arc::new(share), facts, at: seconds(1) }
    };
    let seqs = store.save_with_line(save(1), entry(1)).await.unwrap();
    assert_eq!(seqs.len(), 1);
    // The share exists already, so nobody makes it, and no line says that somebody did.
    store.save_with_line(save(1), entry(2)).await.unwrap_err();
    store.save_with_line(save(2), entry(3)).await.unwrap();
    let lines: Vec<AuditEntry> = store.audit_lines(None, MAX_PAGE).await.unwrap().into_iter().map(|line| line.entry).collect();
    assert_eq!(lines, [entry(3), entry(1)]);
    assert_eq!(store.living().await.unwrap().len(), 2);
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}
