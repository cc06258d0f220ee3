//! A Redis that is several: a Cluster, and one that Sentinels watch over.

use std::sync::Arc;
use std::time::Duration;

use super::super::{RedisAddress, RedisOptions, RedisStore, Risk, look_at};
use super::server::{self, Server, free_port};
use crate::share::Steady;
use crate::store::contract::{self, open_share, redeem_as_if_free, seconds};
use crate::store::shared::{Introduction, LEASE, SharedStore};
use crate::store::{Store, StoreError};

/// Longer than any of them takes to find itself.
const FOR_EVER: Duration = Duration::from_secs(120);

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, waiting).await.expect("it becomes so");
}

fn options(url: &str, prefix: &str, replicas: u64) -> RedisOptions {
    RedisOptions { address: RedisAddress::parse(url).unwrap(), prefix: prefix.to_owned(), replicas, folder: [1; 16] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_all_of_a_store_on_one_of_its_nodes() {
    if !server::is_there() {
        return;
    }
    let nodes: Vec<(Server, u16)> = (0..2)
        .map(|_| {
            let [port, bus] = [free_port(), free_port()];
            let args = ["--cluster-enabled", "yes", "--port", &port.to_string(), "--cluster-port", &bus.to_string()];
            (Server::start(&args), port)
        })
        .collect();
    let [(one, port), (other, _)] = &nodes[..] else { unreachable!() };
    assert_eq!(one.say("CLUSTER ADDSLOTSRANGE 0 8191\r\n"), "+OK\r\n");
    assert_eq!(other.say("CLUSTER ADDSLOTSRANGE 8192 16383\r\n"), "+OK\r\n");
    let bus = one.say("CLUSTER NODES\r\n").split('@').nth(1).and_then(|rest| rest.split([' ', ',']).next()).unwrap().to_owned();
    assert_eq!(other.say(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}\r\n")), "+OK\r\n");
    for (node, _) in &nodes {
        until(async || node.say("CLUSTER INFO\r\n").contains("cluster_state:ok")).await;
        // What the manual says that the account needs in a Cluster.
        assert_eq!(node.say("ACL SETUSER portcullis +cluster|slots\r\n"), "+OK\r\n");
    }
    // Prefixes that lie on either node, whichever is asked first.
    for prefix in ["a", "b", "c", "d"] {
        let url = format!("redis+cluster://portcullis:s3cret@127.0.0.1:{port}");
        let store = async |part: &str| Arc::new(RedisStore::open(&options(&url, &format!("{prefix}{part}"), 0)).await.unwrap());
        contract::of_64_redeems_at_once_by_three_controllers_exactly_one_is_kept(store("redeem").await).await;
        contract::more_than_a_call_may_forget_goes_in_several(store("forget").await).await;
        contract::news_tell_once_what_others_wrote_with_its_lines(store("news").await).await;
        contract::audit_lines_of_many_at_once_make_one_chain(store("audit").await).await;
        assert_eq!(look_at(&options(&url, prefix, 0)).await.unwrap().risks, [Risk::NoReplicas], "another may take a node's place");
    }
    let held = nodes.iter().map(|(node, _)| node.say("DBSIZE\r\n"));
    assert!(held.clone().all(|size| size.starts_with(':') && size != ":0\r\n"), "{:?}", held.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_first_of_a_redis_that_sentinels_watch() {
    if !server::is_there() {
        return;
    }
    let ports = [free_port(), free_port(), free_port()];
    let first_port = ports[0].to_string();
    let mut first = Server::start(&["--port", &first_port]);
    let replicas: Vec<Server> =
        ports[1..].iter().map(|port| Server::start(&["--port", &port.to_string(), "--replicaof", "127.0.0.1", &first_port])).collect();
    until(async || first.say("INFO replication\r\n").contains("connected_slaves:2")).await;
    let sentinel_port = free_port();
    let sentinel = Server::sentinel(
        sentinel_port,
        &format!(
            "sentinel monitor nas 127.0.0.1 {first_port} 1\nsentinel down-after-milliseconds nas 500\nsentinel failover-timeout nas 4000\n"
        ),
    );
    until(async || sentinel.say_tcp(sentinel_port, "SENTINEL MASTER nas\r\n").contains("num-slaves\r\n$1\r\n2")).await;

    let options = options(&format!("redis+sentinel://portcullis:s3cret@127.0.0.1:{sentinel_port}/nas"), "p", 1);
    let store = RedisStore::open(&options).await.unwrap();
    // Whoever has just come may not have all of it yet.
    until(async || store.try_write().await.is_ok()).await;
    let me = store.join(Introduction { folder: [1; 16], name: "a".to_owned() }).await.unwrap().number;
    let mut shares = Vec::new();
    for n in 0..20 {
        shares.push(open_share(&store, n, 1, seconds(1)).await);
        redeem_as_if_free(&store, &shares[n as usize], 1).await.unwrap();
    }
    first.kill();
    // Nothing is answered as done until one that has all of it is the first.
    until(async || store.try_write().await.is_ok()).await;
    assert_eq!(store.living().await.unwrap().len(), shares.len());
    for share in &shares {
        until(async || !matches!(redeem_as_if_free(&store, share, 2).await, Err(StoreError::Unavailable { .. }))).await;
        assert!(matches!(redeem_as_if_free(&store, share, 2).await, Err(StoreError::Spent)));
    }
    until(async || store.beat(me, Steady(1)).await.is_ok()).await;
    assert_eq!(store.take_over(me, LEASE, 100).await.unwrap().len(), shares.len());
    drop(replicas);
}
