use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::*;

/// A `tailscale` that says what lies in its folder, and does what a test tells it to with every change.
struct Stub {
    folder: tempfile::TempDir,
    cli: Cli,
    doors: Doors,
}

impl Stub {
    /// `change` is a piece of shell, run in its folder when it is to change something.
    fn new(change: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tailscale");
        let text = format!(
            "#!/bin/sh\ncd {}\necho \"$*\" >>asked\ncase \"$*\" in\n'--socket=/s status --json --peers=false') cat node ;;\n\
             '--socket=/s funnel status --json') cat served ;;\n*) {change} ;;\nesac\n",
            folder.path().display()
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = CliOptions {
            runs: Runs::Here { program },
            socket: Some("/s".into()),
            port: 8443,
            target: "127.0.0.1:8001".to_owned(),
            last_name: None,
            on_name: Box::new(|_| ()),
        };
        let doors = Doors::default();
        let stub = Self { folder, cli: Cli::new(options, doors.clone()).unwrap(), doors };
        stub.put("node", &ready());
        stub.put("served", &json!({}));
        stub.put("then", &served(&[id(1)], true));
        stub
    }

    fn put(&self, name: &str, value: &Value) {
        std::fs::write(self.folder.path().join(name), value.to_string()).unwrap();
    }

    /// Returns what it was asked to change.
    fn changes(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default();
        asked.lines().filter(|line| !line.contains("status --json")).map(str::to_owned).collect()
    }

    /// Returns what is open, and what somebody took away.
    async fn lists(&self) -> (Vec<ShareId>, Vec<ShareId>) {
        let Standing { open, removed } = self.cli.list().await.unwrap();
        let [open, removed] = [open, removed].map(|shares| {
            let mut all: Vec<ShareId> = shares.into_iter().collect();
            all.sort_unstable();
            all
        });
        (open, removed)
    }
}

fn id(n: u64) -> ShareId {
    ShareId::from_random(n)
}

fn ready() -> Value {
    json!({
        "Version": "1.102.3", "BackendState": "Running", "CertDomains": ["nas.tail1.ts.net"],
        "Self": { "DNSName": "nas.tail1.ts.net.", "PublicKey": "nodekey:1", "CapMap": { "https": null, "funnel": null, "https://tailscale.com/cap/funnel-ports?ports=8443": null } }
    })
}

fn served(shares: &[ShareId], is_public: bool) -> Value {
    let handlers: serde_json::Map<String, Value> =
        shares.iter().map(|share| (format!("/{share}"), json!({ "Proxy": format!("http://127.0.0.1:8001/{share}") }))).collect();
    json!({
        "TCP": { "8443": { "HTTPS": true } }, "Web": { "nas.tail1.ts.net:8443": { "Handlers": handlers } },
        "AllowFunnel": { "nas.tail1.ts.net:8443": is_public }
    })
}

fn said(stderr: &str) -> Said {
    Said { code: Some(1), stderr: stderr.into(), ..Said::default() }
}

#[tokio::test]
async fn it_opens_by_path_once_and_says_where_that_is() {
    let stub = Stub::new("cp then served");
    assert_eq!(stub.cli.address().at("/x"), "https://the-node-has-told-no-name-yet.invalid:8443/x");
    stub.cli.open(id(1)).await.unwrap();
    let expected = format!("--socket=/s funnel --bg --yes --https=8443 --set-path=/{0} http://127.0.0.1:8001/{0}", id(1));
    assert_eq!(stub.changes(), [expected.as_str()]);
    assert_eq!(stub.cli.public_url(id(1)).at("/x"), "https://nas.tail1.ts.net:8443/x");
    stub.cli.open(id(1)).await.unwrap();
    assert_eq!(stub.changes().len(), 1, "what stands is not opened again");
    assert_eq!(stub.lists().await, (vec![id(1)], vec![]));
    assert!(stub.doors.is_open(id(1)));
}

#[tokio::test]
async fn it_closes_by_path_and_nothing_where_nothing_stands() {
    let stub = Stub::new("cp then served");
    stub.cli.close(id(1)).await.unwrap();
    assert!(stub.changes().is_empty());
    stub.put("served", &served(&[id(1), id(2)], true));
    stub.put("then", &served(&[id(2)], true));
    stub.doors.open(id(1));
    let closing = stub.cli.close(id(1));
    assert!(!stub.doors.is_open(id(1)), "nobody is answered while `tailscale` thinks");
    closing.await.unwrap();
    assert_eq!(stub.changes(), [format!("--socket=/s serve --https=8443 --set-path=/{} off", id(1))]);
    assert_eq!(stub.lists().await, (vec![id(2)], vec![]));
}

#[tokio::test]
async fn success_without_effect_is_none() {
    let stub = Stub::new("echo 'Funnel is not enabled on your tailnet. To enable, visit: https://login.tailscale.com/f/funnel'");
    let error = stub.cli.open(id(1)).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("https://login.tailscale.com/f/funnel"), "{error}");
    stub.put("served", &served(&[id(1)], true));
    let error = stub.cli.close(id(1)).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().starts_with("tailscaled still serves"), "{error}");
}

#[tokio::test]
async fn a_change_that_met_somebody_elses_is_tried_again_and_not_for_ever() {
    let fails = "echo 'error: etag mismatch' >&2; exit 1";
    let stub = Stub::new(&format!("echo x >>tries; if [ $(wc -l <tries) = 3 ]; then cp then served; else {fails}; fi"));
    stub.cli.open(id(1)).await.unwrap();
    assert_eq!(stub.changes().len(), 3);

    let stub = Stub::new("echo 'Another client is changing the serve config; please try again.' >&2; exit 1");
    assert!(stub.cli.open(id(1)).await.unwrap_err().is_retryable());
    assert_eq!(stub.changes().len(), MOST_TRIES as usize);
}

#[tokio::test]
async fn nothing_is_opened_beside_what_is_not_ours() {
    let stub = Stub::new("cp then served");
    let mut config = served(&[id(2)], true);
    config["Web"]["nas.tail1.ts.net:8443"]["Handlers"]["/private"] = json!({ "Path": "/home" });
    stub.put("served", &config);
    let error = stub.cli.open(id(1)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("(the path /private of port 8443)"), "{error}");
    assert!(stub.changes().is_empty(), "nothing was changed");
    stub.put("then", &config);
    assert!(stub.cli.close(id(2)).await.is_err());
    assert_eq!(stub.changes().len(), MOST_TRIES as usize, "what is ours is closed beside it");
}

#[tokio::test]
async fn a_node_that_may_not_is_asked_for_nothing() {
    let stub = Stub::new("cp then served");
    for (state, is_retryable) in [("NeedsLogin", false), ("Starting", true), ("Stopped", false)] {
        stub.put("node", &json!({ "BackendState": state }));
        let error = stub.cli.open(id(1)).await.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
    }
    let mut node = ready();
    node["Self"]["CapMap"] = json!({ "https": null });
    stub.put("node", &node);
    let error = stub.cli.open(id(1)).await.unwrap_err();
    assert!(error.to_string().contains("nodeAttrs"), "{error}");
    assert_eq!(stub.cli.trouble(), Some(error.to_string()));
    assert!(stub.changes().is_empty());
    stub.put("node", &ready());
    stub.cli.open(id(1)).await.unwrap();
    assert_eq!(stub.cli.trouble(), None);
}

#[tokio::test]
async fn what_somebody_took_away_is_told_from_what_is_lost() {
    let stub = Stub::new("cp then served");
    stub.cli.open(id(1)).await.unwrap();
    stub.put("served", &served(&[id(1), id(2)], false));
    assert_eq!(stub.lists().await, (vec![id(2)], vec![id(1)]), "Funnel was switched off; the other was left behind by somebody");
    stub.put("served", &json!({}));
    assert_eq!(stub.lists().await, (vec![], vec![id(1)]));
    for (field, value) in [("PublicKey", "nodekey:2"), ("DNSName", "other.tail1.ts.net.")] {
        let mut node = ready();
        node["Self"][field] = value.into();
        stub.put("node", &node);
        assert_eq!(stub.lists().await, (vec![], vec![]), "another {field}: it is opened anew");
    }
    stub.put("node", &json!({ "BackendState": "NeedsLogin", "Self": ready()["Self"] }));
    assert_eq!(stub.lists().await, (vec![], vec![]));
    stub.put("node", &ready());
    stub.cli.close(id(1)).await.unwrap();
    assert_eq!(stub.lists().await, (vec![], vec![]), "what is closed was not taken away");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_nothing() {
    let stub = Stub::new("cp then served");
    std::fs::write(stub.folder.path().join("served"), "# Funnel on").unwrap();
    for error in [stub.cli.open(id(1)).await.unwrap_err(), stub.cli.close(id(1)).await.unwrap_err(), stub.cli.list().await.unwrap_err()] {
        assert!(error.is_retryable() && error.to_string().contains("`tailscale funnel status --json` says cannot be read"), "{error}");
    }
}

#[test]
fn each_refusal_says_what_to_do() {
    for (words, expected, is_retryable) in [
        ("Failed to connect to local Tailscale daemon for /localapi/v0/status; not running?", "start it, or name its socket", true),
        ("failed to connect to local tailscaled; dial unix /s: connect: permission denied", "run this program as root", false),
        ("sending serve config: Access denied: serve config denied", "tailscale set --operator=NAME", false),
        ("something else\nbroke", "`tailscale` failed: something else broke", true),
    ] {
        let error = refusal(&said(words));
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
    }
}

#[test]
fn a_target_is_what_tailscale_writes_as_it_was_given() {
    for good in ["127.0.0.1:8001", "portcullis:8001", "my-nas.lan:1", "a_b:65535"] {
        assert!(is_target(good), "{good}");
    }
    for bad in ["", "8001", ":8001", "[::1]:8001", "nas:0", "nas:08001", "nas:65536", "NAS:1", "http://nas:1", "nas:1/x", "a b:1", "nas:+1"]
    {
        assert!(!is_target(bad), "{bad}");
    }
    let made = |port, target: &str| {
        let runs = Runs::Here { program: Path::new("tailscale").to_owned() };
        let options = CliOptions { runs, socket: None, port, target: target.to_owned(), last_name: None, on_name: Box::new(|_| ()) };
        Cli::new(options, Doors::default()).map(drop)
    };
    assert!(made(443, "nas:8001").is_ok());
    assert!(made(0, "nas:8001").is_err_and(|error| !error.is_retryable()));
    assert!(made(443, "nas").is_err_and(|error| error.to_string().contains("127.0.0.1:8001")));
}
