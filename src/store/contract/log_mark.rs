//! How far logs were followed.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use super::{Save, new_share, seconds};
use crate::meter::log_tail::Mishaps;
use crate::store::{LogCounts, LogMark, MAX_LOGS, Store};

/// Makes a mark of which every number follows from `n`, in as many files as a follower has at most.
pub(in crate::store) fn mark(n: u64) -> LogMark {
    let position = |of: u64| json!({ "file": { "device": u64::MAX, "inode": of }, "offset": n, "before": u64::MAX - n });
    let positions = || (0..16).map(position).collect::<Vec<_>>();
    let checkpoint = json!({ "files": positions(), "modified_ns": -1, "truncated": positions() });
    let mishaps = Mishaps { oversized_lines: n, truncations: 2 * n, lost_files: 3 * n };
    LogMark {
        checkpoint: serde_json::from_value(checkpoint).unwrap(),
        counts: LogCounts { lines: 100 * n, foreign: u64::MAX - n, bytes: n << 40, mishaps },
    }
}

async fn put(store: &dyn Store, log: &str, n: u64) {
    store.put_log_mark(log.to_owned(), mark(n)).await.unwrap();
}

async fn mark_of(store: &dyn Store, log: &str) -> Option<LogMark> {
    store.log_mark(log.to_owned()).await.unwrap()
}

pub(in crate::store) async fn a_log_mark_replaces_the_one_before_it_whole(store: Arc<dyn Store>) {
    assert_eq!(mark_of(&*store, "/var/log/a").await, None);
    put(&*store, "/var/log/a", 1).await;
    put(&*store, "/var/log/'b' \u{1f4c1}", 2).await;
    put(&*store, "/var/log/a", 3).await;
    assert_eq!(mark_of(&*store, "/var/log/a").await, Some(mark(3)));
    assert_eq!(mark_of(&*store, "/var/log/'b' \u{1f4c1}").await, Some(mark(2)));
    assert_eq!(mark_of(&*store, "/var/log/").await, None);
    // A file that is empty yet has a mark, too.
    store.put_log_mark("/var/log/a".to_owned(), LogMark::default()).await.unwrap();
    assert_eq!(mark_of(&*store, "/var/log/a").await, Some(LogMark::default()));
}

pub(in crate::store) async fn a_log_mark_is_of_one_instant_whoever_asks_while_it_is_replaced(store: Arc<dyn Store>) {
    const MARKS: u64 = 300;
    let mut writing = JoinSet::new();
    writing.spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 1..=MARKS {
                // Others write beside it.
                let (share, facts) = new_share(n, 1, seconds(n));
                let saved = store.save(Save { share: Arc::new(share), facts, at: seconds(n) });
                put(&*store, "log", n).await;
                saved.await.unwrap();
            }
        }
    });
    let (mut latest, mut is_over) = (0, false);
    while !is_over {
        is_over = writing.try_join_next().transpose().unwrap().is_some();
        if let Some(seen) = mark_of(&*store, "log").await {
            let n = seen.counts.mishaps.oversized_lines;
            assert!(n >= latest, "{n} came behind {latest}");
            assert_eq!(seen, mark(n));
            latest = n;
        }
    }
    assert_eq!(latest, MARKS);
}

pub(in crate::store) async fn of_many_logs_those_are_forgotten_that_were_marked_longest_ago(store: Arc<dyn Store>) {
    let name = |n: usize| format!("/var/log/{n}");
    for n in 0..MAX_LOGS {
        put(&*store, &name(n), 1).await;
    }
    // However often one is marked, that alone makes nobody forget another.
    for n in 2..100 {
        put(&*store, &name(0), n).await;
    }
    for n in 0..MAX_LOGS {
        assert!(mark_of(&*store, &name(n)).await.is_some(), "{n}");
    }
    put(&*store, "one more", 5).await;
    assert_eq!(mark_of(&*store, &name(1)).await, None, "it was marked longest ago");
    assert_eq!(mark_of(&*store, &name(0)).await, Some(mark(99)));
    assert_eq!(mark_of(&*store, "one more").await, Some(mark(5)));
    assert_eq!(mark_of(&*store, &name(2)).await, Some(mark(1)));
}
