//! Everything of a state folder into a Redis, and back.

use std::sync::Arc;

use tokio::sync::watch;

use super::server::{self, Server};
use crate::share::Steady;
use crate::store::contract::whole::{DEVICE, fill, goes_on, told};
use crate::store::contract::{open_share, seconds};
use crate::store::migrate::{MoveError, Moved, into_redis, out_of_redis};
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::shared::{Basis, Introduction, SharedStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Save, Store, StoreError};

async fn move_in(folder: &std::path::Path, options: &RedisOptions) -> Result<(Moved, std::path::PathBuf), MoveError> {
    let redis = RedisStore::open_to_move(options).await.unwrap();
    into_redis(folder, &redis, DEVICE, watch::channel(0).0, async || Ok(())).await
}

async fn move_out(options: &RedisOptions, folder: &std::path::Path) -> Result<Moved, MoveError> {
    let redis = RedisStore::open_to_move(options).await.unwrap();
    out_of_redis(&redis, folder, DEVICE, watch::channel(0).0, Some("derived:…\n".to_owned())).await
}

fn reason(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_went_into_a_redis_and_back_answers_as_before_and_what_was_spent_stays_spent() {
    if !server::is_there() {
        return;
    }
    let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let (options, folder, other) = (server.options("p"), dir.path().join("a"), dir.path().join("b"));
    let store = Arc::new(SqliteStore::open(&folder).unwrap());
    fill(store.clone()).await;
    let before = told(&*store, DEVICE).await;
    drop(store);

    let (there, aside) = move_in(&folder, &options).await.unwrap();
    let expected = Moved {
        shares: 9,
        links: 10,
        events: there.events,
        audit_lines: 5,
        sessions: 2,
        api_tokens: 2,
        plans: 2,
        digests: 2,
        tallies: there.tallies,
        log_marks: 2,
    };
    assert!(there == expected && there.events > 20 && there.tallies > 20, "{there:?}");
    assert!(aside.exists() && !folder.join("portcullis.db").exists(), "no two stores serve the same links");
    let redis = RedisStore::open(&options).await.unwrap();
    assert_eq!(told(&redis, 0).await, before, "what one machine calls a device says nothing to another");
    // Nobody watches what came: whoever is there takes it.
    let me = redis.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    let living = redis.living().await.unwrap().len();
    assert_eq!(redis.take_over(me, crate::store::shared::LEASE, 100).await.unwrap().len(), living);
    redis.leave(me).await.unwrap();
    drop(redis);

    let back = move_out(&options, &other).await.unwrap();
    assert_eq!(back, there);
    assert_eq!(std::fs::read_to_string(other.join("transfer.key")).unwrap(), "derived:…\n");
    let store = SqliteStore::open(&other).unwrap();
    assert_eq!(told(&store, DEVICE).await, before);
    goes_on(&store).await;
    drop(store);
    // And once more into a Redis, where all goes on as well.
    let third = server.options("q");
    move_in(&other, &third).await.unwrap();
    let redis = RedisStore::open(&third).await.unwrap();
    assert_eq!(redis.verify_audit().await.unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spent_stays_spent_in_a_redis_that_was_filled() {
    if !server::is_there() {
        return;
    }
    let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let store = Arc::new(SqliteStore::open(dir.path()).unwrap());
    fill(store.clone()).await;
    drop(store);
    move_in(dir.path(), &server.options("p")).await.unwrap();
    goes_on(&RedisStore::open(&server.options("p")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_over_anything_nor_away_from_anybody() {
    if !server::is_there() {
        return;
    }
    let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let (options, folder) = (server.options("p"), dir.path().join("a"));
    let refused = reason(move_in(&folder, &options).await.unwrap_err());
    assert!(refused.contains("no store"), "{refused}");
    let store = SqliteStore::open(&folder).unwrap();
    let share = open_share(&store, 1, 1, seconds(1)).await;
    let refused = reason(move_in(&folder, &options).await.unwrap_err());
    assert!(refused.contains("server is running"), "{refused}");
    drop(store);

    // A Redis that has something, and one in which an attempt was cut short.
    let redis = RedisStore::open(&options).await.unwrap();
    let refused = reason(move_in(&folder, &options).await.unwrap_err());
    assert!(refused.contains("something in it already"), "{refused}");
    let cut = server.options("cut");
    RedisStore::open_to_move(&cut).await.unwrap().begin_filling().await.unwrap();
    for refused in [reason(move_in(&folder, &cut).await.unwrap_err()), reason(RedisStore::open(&cut).await.err().unwrap())] {
        assert!(refused.contains("redis-cli --scan --pattern '{cut}:*' | xargs redis-cli unlink"), "{refused}");
    }
    assert!(folder.join("portcullis.db").exists());

    // A controller that is there, one that has left, and one that wakes up behind it.
    let me = redis.join(Introduction { folder: [1; 16], name: "tower".to_owned() }).await.unwrap().number;
    let save = || Save { share: Arc::new(share.clone()), facts: vec![crate::share::Fact::Created], at: seconds(1) };
    redis.save_if(me, save(), Basis::default(), None).await.unwrap();
    let target = dir.path().join("b");
    let refused = reason(move_out(&options, &target).await.unwrap_err());
    assert!(refused.contains("a controller uses it (tower)") && !target.join("portcullis.db").exists(), "{refused}");
    let refused = reason(move_out(&options, &folder).await.unwrap_err());
    assert!(refused.contains("there is a store in"), "{refused}");
    redis.beat(me, Steady(1)).await.unwrap();
    redis.leave(me).await.unwrap();
    assert_eq!(move_out(&options, &target).await.unwrap().shares, 1);
    let late = Save { facts: vec![], ..save() };
    assert!(matches!(redis.save_if(me, late, Basis { version: 1, fence: None }, None).await, Err(StoreError::Overtaken)));
    let refused = reason(RedisStore::open(&options).await.err().unwrap());
    assert!(refused.contains("were moved into a state folder"), "{refused}");
    assert!(matches!(move_out(&options, &dir.path().join("c")).await, Err(MoveError::Store(StoreError::Unusable { .. }))));
    assert_eq!(SqliteStore::open(&target).unwrap().living().await.unwrap(), [share]);
}
