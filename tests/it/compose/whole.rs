//! The main job, through the containers: a link is made on the owner's port, the file is fetched, the door shuts.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::seen::are_hardened;
use super::stack::{FILE, MACHINE, PATIENCE, Stack, said, visitor};
use crate::harness::{Lab, poll};

/// Recipients come to the published port, from other machines.
const DIRECT: [(&str, &str); 2] = [("RECIPIENT_ADDRESS", MACHINE), ("BASE_URL", "http://198.51.100.1:8001")];

/// A file that is longer than what lies in buffers.
const LONG: &str = "long.mkv";

/// Kills a service's process as the kernel does, and waits until Docker has started it anew.
#[track_caller]
fn kill(stack: &Stack, service: &str) {
    let before = stack.pid(service);
    let pid = Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    poll(PATIENCE, "Docker starts it anew", || {
        let state = stack.inspect(service)["State"].clone();
        state["Running"] == true && state["Pid"] != before && state["Health"]["Status"] == "healthy"
    });
}

/// Asserts that a share was delivered, and how sure that is.
#[track_caller]
fn is_delivered(stack: &Stack, id: &str, evidence: &str) {
    let share = stack.wait_for(id, "it is delivered", |share| share["state"] == "delivered");
    assert_eq!(share["progress"]["evidence"], evidence, "{share}");
    assert_eq!(share["progress"]["delivered_bytes"], stack.content.len(), "{share}");
}

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn embedded_is_the_controller_alone_and_comes_back_with_its_shares_when_it_is_killed() {
    let stack = Stack::new(&[("DELIVERY", "embedded"), DIRECT[0], DIRECT[1]]);
    stack.up();
    are_hardened(&stack, &["net", "prepare", "portcullis"], MACHINE);
    let (id, url) = stack.share();
    kill(&stack, "portcullis");
    let fetched = stack.fetch(&url, visitor(), &[]);
    assert!(fetched.stdout == stack.content, "{}", String::from_utf8_lossy(&fetched.stderr));
    is_delivered(&stack, &id, "acknowledged");
    assert!(!stack.fetch(&url, visitor(), &[]).status.success(), "the link is used");
    // Who comes to the loopback meets a proxy of Docker's, which takes all of it at once.
    stack.set(&[("DELIVERY", "embedded"), ("BASE_URL", "http://127.0.0.1:8001")]);
    stack.up();
    let (id, url) = stack.share();
    assert!(stack.fetch(&url, std::process::id(), &[]).stdout == stack.content);
    is_delivered(&stack, &id, "handed_over");
    let shown = stack.compose(&["exec", "portcullis", "portcullis", "show", &id]);
    assert!(shown.contains(FILE), "{shown}");
    stack.compose(&["exec", "portcullis", "portcullis", "check"]);
    stack.down();
}

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn nginx_sends_the_file_the_kernel_tells_what_arrived_and_a_close_cuts_it() {
    let stack = Stack::new(&[("DELIVERY", "nginx"), DIRECT[0], DIRECT[1]]);
    stack.up();
    are_hardened(&stack, &["net", "prepare", "nginx-config", "portcullis", "nginx"], MACHINE);
    let (id, url) = stack.share();
    let fetched = stack.fetch(&url, visitor(), &["--include"]);
    assert!(fetched.stdout.ends_with(&stack.content), "{}", String::from_utf8_lossy(&fetched.stderr));
    let head = String::from_utf8_lossy(&fetched.stdout[..2000]).to_ascii_lowercase();
    assert!(head.contains("server: nginx"), "{head}");
    is_delivered(&stack, &id, "acknowledged");

    stack.compose(&["exec", "portcullis", "portcullis", "check"]);

    nginx_does_not_look_into_others(&stack);
    let written = stack.try_compose(&["exec", "nginx", "sh", "-c", "echo x >/data/x"]);
    assert!(!written.status.success() && !stack.path("nas").join("x").exists(), "{}", said(&written));

    // Whatever is started anew, the others still have their network. More than a recipient's kernel takes on its own.
    std::fs::File::create(stack.path("nas").join(LONG)).and_then(|file| file.set_len(400_000_000)).unwrap();
    let (id, url) = stack.share_of(LONG);
    let mut download = slow(&url);
    stack.wait_for(&id, "bytes arrive", |share| share["progress"]["delivered_bytes"].as_u64() > Some(0));
    kill(&stack, "portcullis");
    let before = stack.wait_for(&id, "it is followed on", |share| share["state"] == "transferring")["progress"]["delivered_bytes"].as_u64();
    stack.wait_for(&id, "more of the same download arrives", |share| share["progress"]["delivered_bytes"].as_u64() > before);
    assert!(download.try_wait().unwrap().is_none(), "nginx went on");
    stack.owner("DELETE", &format!("/shares/{id}"), &Value::Null);
    poll(PATIENCE, "the download is cut", || download.try_wait().unwrap().is_some());
    assert!(!download.wait().unwrap().success());
    stack.wait_for(&id, "it is closed", |share| share["outcome"] == "revoked");
    kill(&stack, "nginx");
    let (id, url) = stack.share();
    assert!(stack.fetch(&url, visitor(), &[]).stdout == stack.content);
    is_delivered(&stack, &id, "acknowledged");
    stack.down();
}

/// Begins a download that takes more than a minute.
fn slow(url: &str) -> std::process::Child {
    let mut curl = Command::new("nsenter");
    curl.arg(format!("--net=/proc/{}/ns/net", visitor()))
        .args(["--", "curl", "-sSfL", "--limit-rate", "4M", "--output", "/dev/null", url])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    curl.spawn().unwrap()
}

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn all_of_it_lends_a_file_through_a_tailnet_and_owners_are_not_reached_from_there() {
    let redis = ("REDIS_URL", "redis+unix:///run/redis/redis.sock");
    let all = [("DELIVERY", "nginx"), ("TUNNEL", "tailscale-mount"), redis, ("TAILSCALE_UP_ARGS", "--login-server=unknown")];
    let stack = Stack::new(&all);
    // The tailnet's doubles live where the node looks for them: on the loopback of the network that the containers share.
    stack.compose(&["up", "--detach", "net"]);
    let net = stack.pid("net");
    let mut lab = Lab::start_in_network_of(net);
    let server = format!("--login-server={}", lab.control_url());
    stack.set(&[all[0], all[1], all[2], ("TAILSCALE_UP_ARGS", &server)]);
    stack.compose(&["create"]);
    let state = stack.volume("tailscale");
    std::fs::copy(lab.authority(), state.join("ca.pem")).unwrap();
    lab.tell(&format!("certify nas {}", state.join("certs").display()));
    stack.own(&state);
    stack.up();
    assert_eq!(stack.pid("net"), net, "it is the same all the time");
    are_hardened(&stack, &["net", "prepare", "nginx-config", "portcullis", "nginx", "tailscale", "redis"], "127.0.0.1");

    let (id, url) = stack.share();
    assert!(url.starts_with("https://nas.tail-lab.ts.net/"), "{url}");
    let (way_in, ca) = (format!("nas.tail-lab.ts.net:443:{}", lab.ingress(443)), lab.authority().to_owned());
    let visit = |url: &str, more: &[&str]| stack.fetch(url, net, &[&["--cacert", ca.as_str(), "--connect-to", &way_in], more].concat());
    for path in ["/", "/health", "/livez", "/api/v1/shares", "/api/docs", "/metrics"] {
        let answer = visit(&format!("https://nas.tail-lab.ts.net{path}"), &["-o", "/dev/null", "-w", "%{http_code}"]);
        assert!(["404", "000"].contains(&&*String::from_utf8_lossy(&answer.stdout)), "{path}: {}", said(&answer));
    }
    peers_do_not_reach_owners(&stack, &lab, net);
    nginx_does_not_look_into_others(&stack);
    let fetched = visit(&url, &[]);
    assert!(fetched.stdout == stack.content, "{}", String::from_utf8_lossy(&fetched.stderr));
    // tailscaled stands between: what it took may be under way.
    is_delivered(&stack, &id, "handed_over");

    let ask_redis = ["exec", "redis", "redis-cli", "-s", "/run/redis/redis.sock"];
    assert_ne!(stack.compose(&[&ask_redis[..], &["dbsize"]].concat()).trim(), "0", "shares are kept there");
    for service in ["portcullis", "redis", "tailscale"] {
        let (id, url) = stack.share();
        kill(&stack, service);
        poll(PATIENCE, "the door is open again", || visit(&url, &["-o", "/dev/null", "--head"]).status.success());
        assert!(visit(&url, &[]).stdout == stack.content, "{service}: {}", stack.logs());
        is_delivered(&stack, &id, "handed_over");
    }
    let (id, url) = stack.share();
    stack.owner("DELETE", &format!("/shares/{id}"), &json!(null));
    stack.wait_for(&id, "it is closed", |share| share["outcome"] == "revoked");
    assert!(!visit(&url, &[]).status.success());
    drop(lab);
    stack.down();
}

/// nginx has the account of the controller, and sees its processes: also one that holds a door, and the healthcheck's. In each of them it could
/// find the controller's secrets, if it could look into it.
#[track_caller]
fn nginx_does_not_look_into_others(stack: &Stack) {
    let seen = stack.compose(&["exec", "nginx", "sh", "-c", "cat /proc/[0-9]*/comm"]);
    assert!(seen.lines().any(|name| name == "portcullis"), "it sees them: {seen}");
    let look = |path: &str| stack.compose(&["exec", "nginx", "sh", "-c", &format!("echo {path}")]);
    assert_ne!(look("/proc/self/root/etc/portcullis/*"), "/proc/self/root/etc/portcullis/*\n", "it looks into itself");
    for path in ["/proc/[0-9]*/root/run/secrets/*", "/proc/[0-9]*/root/var/lib/portcullis/*"] {
        assert_eq!(look(path), format!("{path}\n"), "no such file is found");
    }
}

/// tailscaled leads whatever a peer of the tailnet asks of the node to its own loopback, on any port: owners are served elsewhere.
#[track_caller]
fn peers_do_not_reach_owners(stack: &Stack, lab: &Lab, net: u32) {
    let node = stack.compose(&["exec", "tailscale", "tailscale", "--socket=/var/run/tailscale/tailscaled.sock", "ip", "-4"]);
    let socket = format!("--socket={}", lab.socket().display());
    let dial = |port: &str| {
        let mut nc = Command::new("nsenter");
        nc.arg(format!("--net=/proc/{net}/ns/net")).args(["--", "timeout", "20"]);
        nc.arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin/current/tailscale"));
        said(&nc.args([&socket, "nc", node.trim(), port]).stdin(Stdio::null()).output().unwrap())
    };
    assert!(dial("8000").contains("connection was refused"), "{}", dial("8000"));
    assert!(
        !dial("8001").contains("refused"),
        "what is on the loopback is reached, so the refusal above means something: {}",
        dial("8001")
    );
}
