//! A real tailscaled on loopback (`tests/lab/`): how long a way in takes to open and to close, how many edits many changes become,
//! and how fast bytes go through it, beside tailscaled's own HTTP proxy with nginx behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis::share::ShareId;
use portcullis::tunnel::tailscale::funnel::{Funnel, Options};
use portcullis::tunnel::tailscale::keeper::Hold;
use portcullis::tunnel::tailscale::localapi::LocalApi;
use portcullis::tunnel::tailscale::shape::{Shape, Way};
use portcullis::tunnel::{Doors, Tunnel};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kit::{Bench, MIB, Nginx, Setup, Table, in_turns, median, quantile, ratio, write_file};

/// How long the session may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many changes come at once.
const AT_ONCE: u64 = 200;

pub(crate) fn run(bench: &mut Bench<'_>) {
    let Some(lab) = Lab::start(bench.folder) else {
        println!("the lab is not built (tests/lab/build): there is no tailscaled to measure");
        return;
    };
    opening(bench, &lab);
    through(bench, &lab);
}

/// The lab while it runs.
struct Lab {
    process: Child,
    said: Value,
}

impl Lab {
    fn start(folder: &Path) -> Option<Self> {
        let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin");
        let mut command = Command::new(binaries.join("lab"));
        command.arg("-binaries").arg(binaries.join("current")).arg("-folder").arg(folder.join("lab"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take()?).read_line(&mut line).ok()?;
        Some(Self { process, said: serde_json::from_str(&line).ok()? })
    }

    fn text(&self, what: &str) -> &str {
        self.said[what].as_str().unwrap_or_default()
    }

    fn ingress(&self, port: u16) -> String {
        self.said["ingress"][port.to_string()].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Stands before tailscaled's socket and counts the edits that are asked for.
fn counting(folder: &Path, socket: &str) -> (PathBuf, Arc<AtomicUsize>) {
    let (path, edits) = (folder.join("counted.sock"), Arc::new(AtomicUsize::new(0)));
    let listener = UnixListener::bind(&path).expect("a socket");
    let (to, counted) = (socket.to_owned(), edits.clone());
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let (to, counted) = (to.clone(), counted.clone());
            std::thread::spawn(move || relay(from, &to, &counted));
        }
    });
    (path, edits)
}

fn relay(mut from: UnixStream, to: &str, edits: &AtomicUsize) -> std::io::Result<()> {
    let mut to = UnixStream::connect(to)?;
    let (mut back, mut there) = (to.try_clone()?, from.try_clone()?);
    std::thread::spawn(move || drop(std::io::copy(&mut back, &mut there).map(|_| there.shutdown(std::net::Shutdown::Both))));
    let mut bytes = [0; 64 * 1024];
    let mut is_first = true;
    // Whoever leaves something unread is gone with an error (ECONNRESET): that is an end, too, and tailscaled is to hear of it.
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if std::mem::take(&mut is_first) && bytes.starts_with(b"POST /localapi/v0/serve-config") {
            edits.fetch_add(1, Ordering::Relaxed);
        }
        to.write_all(&bytes[..n])?;
    }
    to.shutdown(std::net::Shutdown::Both)
}

fn share(n: u64) -> ShareId {
    ShareId::from_random(n)
}

fn opening(bench: &mut Bench<'_>, lab: &Lab) {
    let times = bench.extent.of(3, 100, 400);
    let (socket, edits) = counting(bench.folder, lab.text("socket"));
    let mut table = Table::new(["", "open, p50 ms", "p99 ms", "close, p50 ms", "p99 ms", "200 at once: edits", "ms"]);
    for (way, name) in [(Way::Passthrough, "tailscale"), (Way::Mount, "tailscale-mount")] {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (opens, closes, counted, took) = runtime.block_on(changes(&socket, way, times, &edits));
        let ms = |values: &[f64], part: f64| format!("{:.1}", quantile(values.iter().copied(), part));
        table.row([
            name.to_owned(),
            ms(&opens, 0.5),
            ms(&opens, 0.99),
            ms(&closes, 0.5),
            ms(&closes, 0.99),
            counted.to_string(),
            format!("{took:.0}"),
        ]);
    }
    let words = "Wanted: opening and closing at the median within 10 ms each (each is read back before it is called open), and few edits for many changes. With tailscale \
                 the first share opens the door, and the last one shuts it: that is what is measured.";
    bench.report.tell("tunnel-open", "Opening and closing a way in, by a real tailscaled", &table, words);
}

/// Opens and closes one share again and again, then many at once.
async fn changes(socket: &Path, way: Way, times: usize, edits: &AtomicUsize) -> (Vec<f64>, Vec<f64>, usize, f64) {
    let options = Options {
        socket: socket.to_owned(),
        shape: Shape { way, port: 443, target: "127.0.0.1:9".to_owned() },
        hold: Hold::Here,
        install: None,
        last_name: None,
        on_name: Box::new(|_| {}),
    };
    let (funnel, session) = Funnel::new(options, Doors::default());
    let over = CancellationToken::new();
    let held = tokio::spawn(session.run(over.clone()));
    let begun = Instant::now();
    while funnel.open(share(0)).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "a session begins");
    }
    funnel.close(share(0)).await.expect("it closes");
    let (mut opens, mut closes) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let began = Instant::now();
        funnel.open(share(1)).await.expect("it opens");
        opens.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        funnel.close(share(1)).await.expect("it closes");
        closes.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (before, began) = (edits.load(Ordering::Relaxed), Instant::now());
    let all = (0..AT_ONCE).map(|n| funnel.open(share(100 + n)));
    for opened in futures_util::future::join_all(all).await {
        opened.expect("it opens");
    }
    let (counted, took) = (edits.load(Ordering::Relaxed) - before, began.elapsed().as_secs_f64() * 1e3);
    over.cancel();
    held.await.expect("it ends");
    (opens, closes, counted, took)
}

fn through(bench: &mut Bench<'_>, lab: &Lab) {
    let bytes = bench.extent.of(8 * MIB, 256 * MIB, 512 * MIB);
    let root = bench.folder("nas");
    write_file(&root.join("large.bin"), bytes);
    let nginx = Nginx::start(&root);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _session = runtime.block_on(mounted(lab, nginx.address));
    let portcullis = Setup::of(&root)
        .set("TUNNEL", "tailscale")
        .set("TAILSCALE_SOCKET", lab.text("socket"))
        .set("TAILSCALE_PROBE", "off")
        .set("BASE_URL", "")
        .start();
    let offer = portcullis.ask("POST", "/api/v1/shares", r#"{"path":"large.bin","policy":{"unlimited_downloads":true}}"#);
    let link = offer["url"].as_str().expect("a link").to_owned();
    portcullis.wait_for_checksum(&crate::kit::Offer::of(&offer));
    let name = lab.text("dns_name");
    let targets = [(format!("https://{name}:8443/large.bin"), 8443), (link, 443)];
    let rounds = in_turns(bench.extent.of(1, 5, 9), 2, |which| {
        let (url, port) = &targets[which];
        let way_in = format!("{name}:{port}:{}", lab.ingress(*port));
        let began = Instant::now();
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--fail",
                "--location",
                "--output",
                "/dev/null",
                "--write-out",
                "%{size_download}",
                "--cacert",
                lab.text("ca_file"),
            ])
            .args(["--connect-to", &way_in, url])
            .output()
            .expect("curl is installed");
        assert_eq!(String::from_utf8_lossy(&curl.stdout), bytes.to_string(), "{url}: {}", String::from_utf8_lossy(&curl.stderr));
        bytes as f64 / 1e6 / began.elapsed().as_secs_f64()
    });
    let mut table = Table::new(["", "MB/s", "× nginx behind tailscaled's proxy"]);
    for (which, name) in ["nginx, proxied by tailscaled", "portcullis, passed through"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(rounds.iter().map(|round| round[which]))),
            ratio(&rounds, which, 0, |figure| *figure),
        ]);
    }
    let words = "Wanted: at least 1.0 ×. Both go through the lab's ingress and tailscaled over WireGuard on the same two cores, which is what costs most.";
    bench.report.tell("tunnel", &format!("One file of {} MiB from the internet, to curl over HTTP/2", bytes / MIB), &table, words);
}

/// Has tailscaled proxy to nginx on another of Funnel's ports, for as long as what is returned lives.
async fn mounted(lab: &Lab, nginx: SocketAddr) -> impl Sized + use<> {
    let api = LocalApi::new(lab.text("socket"));
    let session = api.watch().await.expect("a session");
    let config = api.serve_config().await.expect("a configuration");
    let public = format!("{}:8443", lab.text("dns_name"));
    let mut json = if config.json.is_object() { config.json } else { json!({}) };
    json["Foreground"][session.session()] = json!({
        "TCP": { "8443": { "HTTPS": true } },
        "Web": { &public: { "Handlers": { "/": { "Proxy": format!("http://{nginx}") } } } },
        "AllowFunnel": { &public: true },
    });
    api.set_serve_config(&json, &config.etag).await.expect("it is served");
    session
}
