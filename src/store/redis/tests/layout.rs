//! What a Redis is like before it is used, and what of it all who share it have.

use super::super::{RedisStore, Risk, look_at};
use super::server::{self, Server};
use crate::store::contract::log_mark;
use crate::store::{Store, StoreError};
use crate::token::Key;

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_of_a_later_version_is_refused_and_left_alone() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let options = server.options("p");
    assert_eq!(look_at(&options).await.unwrap().format, None, "looking writes nothing");
    drop(RedisStore::open(&options).await.unwrap());
    assert_eq!(look_at(&options).await.unwrap().later_format(), None);
    server.say("HSET {p}:meta format 2\r\n");
    let refused = RedisStore::open(&options).await.err().unwrap();
    assert!(matches!(&refused, StoreError::Unusable { reason } if reason.contains("later version")), "{refused}");
    assert!(look_at(&options).await.unwrap().later_format().is_some());
    // Another prefix is another store.
    drop(RedisStore::open(&server.options("q")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_a_redis_could_forget_is_found() {
    if !server::is_there() {
        return;
    }
    let server = Server::start(&[]);
    let options = server.options("p");
    let risks = async || look_at(&options).await.unwrap().risks;
    assert_eq!(risks().await, []);
    server.say("CONFIG SET appendfsync everysec\r\n");
    assert_eq!(risks().await, [Risk::LateFlush("everysec".to_owned())]);
    server.say("CONFIG SET appendfsync always maxmemory 100mb maxmemory-policy allkeys-lru\r\n");
    assert_eq!(risks().await, [Risk::Evicts("allkeys-lru".to_owned())]);
    server.say("CONFIG SET maxmemory-policy noeviction\r\n");
    assert_eq!(risks().await, []);
    server.say("CONFIG SET appendonly no\r\n");
    assert_eq!(risks().await, [Risk::NoLog]);
    server.say("ACL SETUSER portcullis -config\r\n");
    assert_eq!(risks().await, [Risk::Unknown]);
    let look = look_at(&options).await.unwrap();
    assert!(!look.version.is_empty() && look.clock.0 > 1_700_000_000_000 && look.replicas == 0, "{look:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_share_a_store_have_one_key_of_transfers_by_whichever_secret_they_know() {
    let Some((store, ())) = server::store().await else { return };
    let [old, new, foreign] = [b'a', b'k', b'u'].map(|first| {
        let letters: String = (0..10).map(|n| char::from(first.wrapping_add(n))).collect();
        Key::new(&letters.repeat(4)).unwrap()
    });
    assert_eq!(store.transfer_key(std::slice::from_ref(&old), [1; 32]).await.unwrap(), [1; 32]);
    assert_eq!(store.transfer_key(&[new.clone(), old.clone()], [2; 32]).await.unwrap(), [1; 32]);
    assert_eq!(store.transfer_key(std::slice::from_ref(&new), [3; 32]).await.unwrap(), [1; 32], "it was wrapped for the new one, too");
    let refused = store.transfer_key(&[foreign], [4; 32]).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unusable { reason } if reason.contains("JWT_SECRET here is not that")), "{refused}");
    // Many who start at the same instant agree.
    let Some((store, ())) = server::store().await else { return };
    let secrets = [new];
    let keys = futures_util::future::try_join_all((0..20).map(|n| store.transfer_key(&secrets, [n; 32]))).await.unwrap();
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_logs_were_followed_is_of_each_controller() {
    let Some((store, ())) = server::store().await else { return };
    let other = store.twin();
    store.put_log_mark("/var/log/a".to_owned(), log_mark::mark(1)).await.unwrap();
    assert_eq!(other.log_mark("/var/log/a".to_owned()).await.unwrap(), None);
    other.put_log_mark("/var/log/a".to_owned(), log_mark::mark(2)).await.unwrap();
    assert_eq!(store.log_mark("/var/log/a".to_owned()).await.unwrap(), Some(log_mark::mark(1)));
}
