//! What happens when the Redis, or the way to it, breaks.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::super::save::{self, By};
use super::super::scripts::{Args, Script};
use super::super::writer::Line;
use super::super::{RedisStore, reply};
use super::server::{self, Server};
use crate::share::{Share, Timestamp};
use crate::store::audit::{AuditEntry, AuditLine};
use crate::store::contract::{id, new_share, open_copy, open_share, redeem_as_if_free, seconds};
use crate::store::shared::{Basis, Introduction, SharedStore};
use crate::store::{EventQuery, Save, Store, StoreError};

/// Longer than any call may take: what hangs is seen to hang.
const FOR_EVER: Duration = Duration::from_secs(60);

fn line(n: u64) -> AuditEntry {
    let [who, from, action, target, detail] = ["owner", "local socket", "share.create", "", ""].map(str::to_owned);
    AuditEntry { at: Timestamp(n as i64), who, from, action, target, detail }
}

fn made(n: u64) -> Save {
    let (share, facts) = new_share(n, 1, seconds(1));
    Save { share: Arc::new(share), facts, at: seconds(1) }
}

/// Repeats a call until it succeeds.
async fn soon<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let trying = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(FOR_EVER, trying).await.expect("it comes back by itself")
}

async fn fails<T>(call: impl Future<Output = Result<T, StoreError>>) {
    let answer = tokio::time::timeout(FOR_EVER, call).await.expect("nobody is kept waiting");
    assert!(matches!(answer.map(drop), Err(StoreError::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_forgets_nothing_that_was_acknowledged_and_is_found_again() {
    if !server::is_there() {
        return;
    }
    let mut server = Server::start(&[]);
    let store = RedisStore::open(&server.options("p")).await.unwrap();
    let share = open_share(&store, 1, 1, seconds(1)).await;
    redeem_as_if_free(&store, &share, 1).await.unwrap();
    let line = store.append_audit(line(1)).await.unwrap();
    let events = store.events(EventQuery { limit: 10, ..Default::default() }).await.unwrap();
    server.kill();
    fails(store.save(made(2))).await;
    fails(store.share(share.id)).await;
    fails(store.append_audit(line.entry.clone())).await;
    server.start_again(&[]);
    // It has forgotten the scripts, and nothing else.
    assert!(matches!(
        soon(async || Ok(redeem_as_if_free(&store, &share, 2).await)).await,
        Err(StoreError::Spent | StoreError::Unavailable { .. })
    ));
    soon(async || store.try_write().await).await;
    assert!(matches!(redeem_as_if_free(&store, &share, 2).await, Err(StoreError::Spent)));
    assert_eq!(store.events(EventQuery { limit: 10, ..Default::default() }).await.unwrap(), events);
    store.save_with_line(made(2), line.entry.clone()).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().lines, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_and_scripts_that_are_forgotten_are_noticed_by_nobody() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let store = RedisStore::open(&server.options("p")).await.unwrap();
    let me = store.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    for n in 0..20 {
        match n % 2 {
            0 => assert!(server.say("CLIENT KILL TYPE normal SKIPME yes\r\n").starts_with(':')),
            _ => assert_eq!(server.say("SCRIPT FLUSH\r\n"), "+OK\r\n"),
        }
        store.save_if(me, made(n), Basis::default(), Some(line(n))).await.unwrap();
        assert_eq!(store.living().await.unwrap().len() as u64, n + 1);
    }
    let lines = store.audit_lines(None, 100).await.unwrap();
    assert_eq!((lines.len(), store.verify_audit().await.unwrap().broken), (20, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_keeps_nobody_waiting_and_what_it_does_later_comes_as_news() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let store = Arc::new(RedisStore::open(&server.options("p")).await.unwrap());
    let me = store.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    store.save_if(me, made(1), Basis::default(), None).await.unwrap();
    let (_, cursor) = store.all_held().await.unwrap();
    let process = Pid::from_raw(server.id() as i32).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    fails(store.save_if(me, made(2), Basis::default(), Some(line(1)))).await;
    fails(store.share(id(1))).await;
    kill_process(process, Signal::CONT).unwrap();
    // It was answered that it failed, and was done: what lay in the buffers is read.
    let held = soon(async || store.held(id(2)).await?.ok_or_else(|| StoreError::unavailable("not yet"))).await;
    let news = soon(async || {
        let news = store.news(me, cursor.clone(), Duration::from_millis(100)).await?;
        // Whoever lost the connection meanwhile looks at everything.
        if news.is_incomplete || !news.changed.is_empty() { Ok(news) } else { Err(StoreError::unavailable("not yet")) }
    })
    .await;
    assert!(news.is_incomplete || news.changed.iter().any(|changed| changed.held.as_ref() == Some(&held)));
    let lines = soon(async || store.audit_lines(None, 10).await).await;
    assert_eq!((lines.len(), store.verify_audit().await.unwrap().broken), (1, None));
    assert_eq!(store.events(EventQuery { limit: 10, ..Default::default() }).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_as_failed_and_is_there_is_told_once_as_news_of_ones_own() {
    let Some((store, ())) = server::store().await else { return };
    let me = store.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    let (_, cursor) = store.all_held().await.unwrap();
    store.save_if(me, made(1), Basis::default(), None).await.unwrap();
    assert_eq!(store.news(me, cursor.clone(), Duration::ZERO).await.unwrap().changed, []);
    store.doubts.lock().unwrap().add(id(1));
    let news = store.news(me, cursor, FOR_EVER).await.unwrap();
    assert_eq!(news.changed.iter().map(|changed| changed.share).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(store.news(me, news.cursor.clone(), Duration::ZERO).await.unwrap().changed, []);
    // Nothing came of it so far; what comes of it later, when nobody waits any more, is told then.
    store.doubts.lock().unwrap().add(id(2));
    let news = store.news(me, news.cursor, FOR_EVER).await.unwrap();
    assert_eq!(news.changed.iter().map(|changed| changed.held.is_some()).collect::<Vec<_>>(), [false]);
    store.twin().save_if(me, made(2), Basis::default(), None).await.unwrap();
    let news = store.news(me, news.cursor, FOR_EVER).await.unwrap();
    assert_eq!(news.changed.iter().map(|changed| changed.share).collect::<Vec<_>>(), [id(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_sent_again_is_done_once() {
    let Some((store, ())) = server::store().await else { return };
    let share = open_share(&*store, 1, 2, seconds(1)).await;
    let mut redeemed = open_copy(1);
    redeemed.policy = share.policy.clone();
    let save = super::super::super::contract::redeem(&mut redeemed, 1, seconds(2));
    let args = save::args(&save, &By::Anybody, "one write".replace(' ', "-"));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let done = store.write(Script::Save, args.clone(), Line::None, Some(share.id)).await.unwrap();
        answers.push(save::written(&done, save.facts.len()).unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(store.latest_seq().await.unwrap(), 3);
    // One use of two was spent.
    redeem_as_if_free(&*store, &Share::clone(&share), 2).await.unwrap();
    // A line of the audit log likewise, also where others stand behind it by now.
    let line_args = |line: &AuditLine| reply::line_args(line);
    let first = store.append_audit(line(1)).await.unwrap();
    store.append_audit(line(2)).await.unwrap();
    let again: Args = line_args(&first);
    let values = store.write(Script::Append, again, Line::Unknown, None).await.unwrap().values;
    assert_eq!((reply::word(&values), store.audit_lines(None, 9).await.unwrap().len()), ("ok", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_became_a_replica_writes_nothing_until_it_is_the_first_again() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let store = RedisStore::open(&server.options("p")).await.unwrap();
    open_share(&store, 1, 1, seconds(1)).await;
    assert_eq!(server.say("REPLICAOF 127.0.0.1 1\r\n"), "+OK\r\n");
    fails(store.save(made(2))).await;
    assert_eq!(server.say("REPLICAOF NO ONE\r\n"), "+OK\r\n");
    soon(async || store.save(made(2)).await).await;
    assert_eq!(store.living().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_counts_once_as_many_replicas_have_it_as_are_wanted() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let options = super::super::RedisOptions { replicas: 1, ..server.options("p") };
    let store = RedisStore::open(&options).await.unwrap();
    fails(store.save(made(1))).await;
    let port = server::free_port();
    assert_eq!(server.say(&format!("CONFIG SET port {port}\r\n")), "+OK\r\n");
    let _replica = Server::start(&["--replicaof", "127.0.0.1", &port.to_string()]);
    soon(async || store.try_write().await).await;
    store.save(made(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_several_processes_and_refused_saves_among_them_make_one_chain() {
    let Some((one, ())) = server::store().await else { return };
    let other = Arc::new(one.twin());
    let me = one.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let store = if n % 2 == 0 { one.clone() } else { other.clone() };
        // Every third is made twice, so that one of both is refused with its line.
        tasks.spawn(async move { store.save_if(me, made(n - n % 3 % 2), Basis::default(), Some(line(n))).await });
    }
    let answers = tasks.join_all().await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Conflict))).count();
    assert_eq!((refused, answers.iter().filter(|answer| answer.is_ok()).count()), (100, 200));
    let verdict = one.verify_audit().await.unwrap();
    assert_eq!((verdict.lines, verdict.broken), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_about_a_share_is_written_in_its_order_and_once_while_connections_break() {
    const SHARES: u64 = 24;
    const WRITES: u64 = 10;
    // Breaks meet a write that was done and not answered by chance: in the most of these.
    const ROUNDS: u64 = 6;
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    for round in 0..ROUNDS {
        let store = RedisStore::open(&server.options(&format!("p{round}"))).await.unwrap();
        let mut saves = Vec::new();
        for nth in 1..=WRITES {
            for n in 1..=SHARES {
                let (share, mut facts) = new_share(n, 1, seconds(1));
                if nth > 1 {
                    facts = vec![crate::share::Fact::Opened];
                }
                // Queued at once, and awaited by nobody yet.
                saves.push(store.save_with_line(Save { share: Arc::new(share), facts, at: seconds(nth) }, line(n)));
            }
        }
        let breaks = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(4)).await;
                server.say("CLIENT KILL TYPE normal\r\n");
            }
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(saves), breaks);
        assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
        for n in 1..=SHARES {
            let query = EventQuery { share: Some(id(n)), limit: 100, ..Default::default() };
            let at: Vec<Timestamp> = soon(async || store.events(query.clone()).await).await.iter().map(|record| record.at).collect();
            assert_eq!(at, (1..=WRITES).map(|nth| seconds(nth).wall).collect::<Vec<_>>(), "share {n}");
        }
        let verdict = store.verify_audit().await.unwrap();
        assert_eq!((verdict.lines, verdict.broken), (SHARES * WRITES, None));
    }
}
