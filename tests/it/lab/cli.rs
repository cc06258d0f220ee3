//! `tailscale-cli` on a real tailscaled, with the real `tailscale`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use portcullis::share::ShareId;
use portcullis::tunnel::tailscale::cli::{Cli, CliOptions, Runs};
use portcullis::tunnel::{Doors, Standing, Tunnel, TunnelError};
use serde_json::{Value, json};

use super::contract;
use super::origin::Origin;
use crate::harness::{Lab, SOON, poll};

/// How long another program waits between two edits of the configuration: 20 a second.
const BETWEEN_EDITS: Duration = Duration::from_millis(50);

fn id(n: u64) -> ShareId {
    ShareId::from_random(n)
}

fn program() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin/current/tailscale")
}

fn cli(lab: &Lab, origin: &Origin) -> Cli {
    let options = CliOptions {
        runs: Runs::Here { program: program() },
        socket: Some(lab.socket().into()),
        port: 443,
        target: origin.address.to_string(),
        last_name: None,
        on_name: Box::new(|_| ()),
    };
    Cli::new(options, Doors::default()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn handlers(lab: &Lab) -> Value {
    lab.local_api().serve_config().0["Web"][format!("{}:443", lab.name())]["Handlers"].clone()
}

/// Puts a configuration of somebody else's in the place of what there is.
fn serve(lab: &Lab, config: &Value) {
    let (_, etag) = lab.local_api().serve_config();
    assert_eq!(lab.local_api().set_serve_config(config, &etag).status, 200);
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_cli_tunnel_keeps_the_contract() {
    let lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let tunnel = Arc::new(cli(&lab, &origin));
    let reaches = |share: ShareId| lab.visit(&format!("/{share}/t"), &[]).stdout == b"reached";
    runtime().block_on(contract::holds(tunnel.clone(), reaches));
    assert_eq!(tunnel.address().to_string(), format!("https://{}", lab.name()));
    assert_eq!(lab.local_api().serve_config().0, json!({}), "nothing stays");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_cli_tunnel_brings_the_path_whole() {
    let lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let share = id(7);
    runtime().block_on(cli(&lab, &origin).open(share)).unwrap();
    for path in [format!("/{share}/a/b?c=d"), format!("/{share}"), format!("/{share}/")] {
        assert_eq!(lab.visit(&path, &[]).stdout, b"reached");
        assert!(origin.last_head().starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{path}: {}", origin.last_head());
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_an_earlier_process_left_open_is_found_and_closed() {
    let lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let runtime = runtime();
    for n in 0..10 {
        runtime.block_on(cli(&lab, &origin).open(id(n))).unwrap();
    }
    // And some at any moment of opening, as a process is that is killed.
    for n in 10..30 {
        let before = cli(&lab, &origin);
        let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_millis((n - 10) * 10), before.open(id(n))).await });
    }
    let now = cli(&lab, &origin);
    let listed = || runtime.block_on(now.list()).unwrap().open;
    // Who was killed may have asked tailscaled with their last breath.
    let mounted = || handlers(&lab).as_object().map_or(0, serde_json::Map::len);
    poll(SOON, "all that stands is found", || listed().len() == mounted());
    let mut open = listed();
    assert!((0..10).all(|n| open.contains(&id(n))), "{open:?}");
    while !open.is_empty() {
        for share in open {
            let closing = now.close(share);
            // The first try of each is given up in the middle.
            let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(60), closing).await });
            runtime.block_on(now.close(share)).unwrap();
        }
        open = listed();
    }
    assert_eq!(lab.local_api().serve_config().0, json!({}), "nothing stays");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_somebody_else_serves_stays_as_it_is() {
    let lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let (runtime, tunnel) = (runtime(), cli(&lab, &origin));
    let public = format!("{}:443", lab.name());
    let private =
        json!({ "TCP": { "443": { "HTTPS": true } }, "Web": { &public: { "Handlers": { "/": { "Text": "within the tailnet" } } } } });
    serve(&lab, &private);
    let error = runtime.block_on(tunnel.open(id(1))).unwrap_err();
    assert!(matches!(&error, TunnelError::NotPossible(text) if text.contains("the path / of port 443")), "{error}");
    assert_eq!(lab.local_api().serve_config().0, private);

    let session = lab.local_api().watch();
    serve(&lab, &json!({}));
    session.serve(&json!({ "TCP": { "443": { "TCPForward": "127.0.0.1:9" } } }));
    let error = runtime.block_on(tunnel.open(id(1))).unwrap_err();
    assert!(matches!(&error, TunnelError::NotPossible(text) if text.contains("a session of another program")), "{error}");
    drop(session);
    poll(SOON, "the session's port is free", || lab.local_api().serve_config().0.get("Foreground").is_none());

    let other = json!({ "TCP": { "8443": { "TCPForward": "127.0.0.1:22" } } });
    serve(&lab, &other);
    runtime.block_on(tunnel.open(id(1))).unwrap();
    runtime.block_on(tunnel.close(id(1))).unwrap();
    assert_eq!(lab.local_api().serve_config().0, other, "another port is none of ours");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_second_writer_loses_nothing_and_every_open_and_close_lands() {
    let lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let (runtime, tunnel) = (runtime(), cli(&lab, &origin));
    let api = lab.local_api();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut written = 0;
        while stopped.recv_timeout(BETWEEN_EDITS) == Err(RecvTimeoutError::Timeout) {
            loop {
                let (mut config, etag) = api.serve_config();
                config["TCP"]["8443"] = json!({ "TCPForward": format!("127.0.0.1:{}", 1000 + written) });
                let answer = api.set_serve_config(&config, &etag);
                match answer.status {
                    200 => break written += 1,
                    412 => {}
                    status => panic!("{status}: {}", answer.text()),
                }
            }
        }
        written
    });
    for n in 0..15 {
        runtime.block_on(tunnel.open(id(n))).unwrap();
        runtime.block_on(tunnel.close(id(n))).unwrap();
    }
    drop(stop);
    let written = writer.join().unwrap();
    assert!(written > 0);
    let expected = json!({ "TCP": { "8443": { "TCPForward": format!("127.0.0.1:{}", 999 + written) } } });
    assert_eq!(lab.local_api().serve_config().0, expected);
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_the_node_lacks_is_said_and_it_closes_all_the_same() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let (runtime, tunnel) = (runtime(), cli(&lab, &origin));
    runtime.block_on(tunnel.open(id(1))).unwrap();
    lab.tell("remove-cap funnel");
    let error = runtime.block_on(tunnel.open(id(2))).unwrap_err();
    assert!(matches!(&error, TunnelError::NotPossible(text) if text.contains("nodeAttrs")), "{error}");
    runtime.block_on(tunnel.close(id(1))).unwrap();
    assert_eq!(lab.local_api().serve_config().0, json!({}));
    lab.tell("kill-tailscaled");
    let error = runtime.block_on(tunnel.open(id(1))).unwrap_err();
    assert!(matches!(&error, TunnelError::Unavailable(text) if text.contains("start it, or name its socket")), "{error}");
    assert!(runtime.block_on(tunnel.list()).is_err(), "what cannot be known is not said to be nothing");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_renamed_node_is_open_under_its_other_name() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let (runtime, tunnel) = (runtime(), cli(&lab, &origin));
    runtime.block_on(tunnel.open(id(1))).unwrap();
    lab.tell("rename other");
    assert_eq!(runtime.block_on(tunnel.list()).unwrap(), Standing::default(), "nobody gets in by the name that it has");
    runtime.block_on(tunnel.open(id(1))).unwrap();
    assert_eq!(tunnel.address().to_string(), format!("https://{}", lab.name()));
    assert_eq!(lab.visit(&format!("/{}/", id(1)), &[]).stdout, b"reached");
    runtime.block_on(tunnel.close(id(1))).unwrap();
    assert_eq!(runtime.block_on(tunnel.list()).unwrap(), Standing::default());
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_the_operator_takes_away_is_told_and_a_restart_of_tailscaled_takes_nothing() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"reached".to_vec());
    let (runtime, tunnel) = (runtime(), cli(&lab, &origin));
    runtime.block_on(tunnel.open(id(1))).unwrap();
    lab.tell("restart-tailscaled");
    assert_eq!(runtime.block_on(tunnel.list()).unwrap(), Standing::open([id(1)].into()));
    assert_eq!(lab.visit(&format!("/{}/", id(1)), &[]).stdout, b"reached");
    serve(&lab, &json!({}));
    assert_eq!(runtime.block_on(tunnel.list()).unwrap(), Standing { open: [].into(), removed: [id(1)].into() });
    runtime.block_on(tunnel.close(id(1))).unwrap();
    assert_eq!(runtime.block_on(tunnel.list()).unwrap(), Standing::default());
}
