//! Our own client and a real tailscaled: what it is asked, it answers, and what a node lacks is said as the tailnet takes it away.

use std::time::Duration;

use portcullis::tunnel::tailscale::localapi::{LocalApi, LocalApiError};
use portcullis::tunnel::tailscale::status::{Missing, Node};
use serde_json::{Value, json};

use crate::harness::{Lab, SOON, poll};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn missing(api: &LocalApi, port: u16) -> Vec<Missing> {
    block_on(async { Node::of(&api.status().await.expect("a status")).missing(&api.prefs().await.expect("its settings"), port) })
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn our_client_edits_what_is_served_under_a_session_and_loses_to_who_was_faster() {
    let lab = Lab::start();
    let api = LocalApi::new(lab.socket());
    block_on(async {
        let before = api.serve_config().await.unwrap();
        let bus = api.watch().await.unwrap();
        let new = json!({ "Foreground": { bus.session(): { "TCP": { "443": { "TCPForward": "127.0.0.1:9" } } } } });
        api.set_serve_config(&new, &before.etag).await.unwrap();
        let after = api.serve_config().await.unwrap();
        assert_eq!(after.json["Foreground"][bus.session()]["TCP"]["443"]["TCPForward"], "127.0.0.1:9");
        assert_ne!(after.etag, before.etag);
        let late = api.set_serve_config(&json!({}), &before.etag).await;
        assert!(matches!(late, Err(LocalApiError::Conflict)), "{late:?}");
        assert_eq!(api.serve_config().await.unwrap(), after, "who came late changed nothing");

        drop(bus);
        while !api.serve_config().await.unwrap().json["Foreground"].is_null() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A session that is over takes nothing, and does not say so: what was read back is what counts.
        let now = api.serve_config().await.unwrap();
        api.set_serve_config(&new, &now.etag).await.unwrap();
        assert!(api.serve_config().await.unwrap().json["Foreground"].is_null());
    });
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn our_client_gets_the_nodes_certificate_and_knows_no_stranger() {
    let lab = Lab::start();
    let api = LocalApi::new(lab.socket());
    block_on(async {
        let pair = api.cert_pair(lab.name(), Duration::from_secs(3600)).await.unwrap();
        assert!(pair.key.contains("PRIVATE KEY") && !pair.key.contains("CERTIFICATE"), "the key alone");
        assert_eq!(pair.chain.matches("BEGIN CERTIFICATE").count(), 2, "leaf and authority");
        let other = api.cert_pair("nobody.example.org", Duration::ZERO).await;
        assert!(other.is_err_and(|error| error.to_string().starts_with("tailscaled")), "a name that is not the node's");
        assert_eq!(api.whois("203.0.113.7:40123".parse().unwrap()).await.unwrap(), None);
    });
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_a_node_lacks_is_said_as_the_tailnet_takes_it_away() {
    let mut lab = Lab::start();
    let api = LocalApi::new(lab.socket());
    assert_eq!(missing(&api, 443), []);
    assert!(matches!(&missing(&api, 80)[..], [Missing::Port(80, allowed)] if allowed.contains(&(443, 443))));
    for (capability, expected) in [("funnel", Missing::Funnel), ("https", Missing::Https)] {
        lab.tell(&format!("remove-cap {capability}"));
        poll(SOON, "it is said", || missing(&api, 443).contains(&expected));
        lab.tell("restore-caps");
        poll(SOON, "it is well again", || missing(&api, 443).is_empty());
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_session_ends_with_tailscaled_and_the_next_question_says_so() {
    let mut lab = Lab::start();
    let api = LocalApi::new(lab.socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut bus = runtime.block_on(api.watch()).unwrap();
    lab.tell("kill-tailscaled");
    // Whatever it still had to say comes first.
    while runtime
        .block_on(async { tokio::time::timeout(SOON, bus.next()).await.expect("the bus ends") })
        .unwrap()
        .is_some_and(|it: Value| it.is_object())
    {}
    assert!(matches!(runtime.block_on(api.status()), Err(LocalApiError::NotRunning { .. })));
    lab.tell("start-tailscaled");
    let api = LocalApi::new(lab.socket());
    poll(SOON, "it runs again", || missing(&api, 443).is_empty());
}
