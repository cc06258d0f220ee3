//! The audit log.

use std::sync::Arc;

use crate::share::Timestamp;
use crate::store::audit::{AuditEntry, AuditLine};
use crate::store::{MAX_PAGE, Store};

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
