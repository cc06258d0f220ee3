//! What requests set out to do.

use std::sync::Arc;

use crate::share::Steady;
use crate::store::{MAX_PLANS, Plan, Store};

pub(in crate::store) async fn a_plan_belongs_to_whoever_came_first(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.put_plan(plan("key", n), Steady(0)).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "all get the same plan");
    store.plan_is_done("key".to_owned()).await.unwrap();
    let done = Plan { is_done: true, ..answers[0].clone() };
    assert_eq!(store.put_plan(plan("key", 77), Steady(0)).await.unwrap(), done);
    assert_eq!(store.put_plan(plan("other", 77), Steady(0)).await.unwrap(), plan("other", 77));
}

pub(in crate::store) async fn a_plan_that_was_not_done_can_be_dropped(store: Arc<dyn Store>) {
    store.put_plan(plan("a", 1), Steady(0)).await.unwrap();
    store.put_plan(plan("b", 1), Steady(0)).await.unwrap();
    store.plan_is_done("b".to_owned()).await.unwrap();
    for key in ["a", "b", "no such"] {
        store.drop_plan(key.to_owned()).await.unwrap();
    }
    assert_eq!(store.put_plan(plan("a", 2), Steady(0)).await.unwrap(), plan("a", 2));
    assert_eq!(store.put_plan(plan("b", 2), Steady(0)).await.unwrap(), Plan { is_done: true, ..plan("b", 1) });
}

pub(in crate::store) async fn plans_are_forgotten_by_age_and_number(store: Arc<dyn Store>) {
    store.put_plan(Plan { since: Steady(10), ..plan("old", 1) }, Steady(0)).await.unwrap();
    assert_eq!(store.put_plan(plan("old", 2), Steady(10)).await.unwrap().wish, [1; 32], "it is not older than that");
    assert_eq!(store.put_plan(plan("old", 2), Steady(11)).await.unwrap().wish, [2; 32]);
    let puts = (1..MAX_PLANS).map(|n| store.put_plan(plan(&n.to_string(), 3), Steady(0)));
    futures_util::future::try_join_all(puts).await.unwrap();
    assert_eq!(store.put_plan(plan("old", 4), Steady(0)).await.unwrap().wish, [2; 32], "there is room for it yet");
    store.put_plan(plan("one too many", 3), Steady(0)).await.unwrap();
    assert_eq!(store.put_plan(plan("2", 4), Steady(0)).await.unwrap().wish, [3; 32]);
    assert_eq!(store.put_plan(plan("old", 4), Steady(0)).await.unwrap().wish, [4; 32]);
}

fn plan(key: &str, n: u8) -> Plan {
    Plan { key: key.to_owned(), wish: [n; 32], ids: vec![n.to_string(), "x".to_owned()], is_done: false, since: Steady(1000) }
}
