//! How fast the bytes leave, beside nginx on the same machine, in the same minutes.
//!
//! `cargo bench --bench delivery [-- --quick]` needs nginx and prints a table; there is no pass and no fail. Both serve
//! the same files from the page cache over loopback to the same client, in rounds that alternate who goes first, and
//! what counts is the median of the rounds' own ratios: a busy neighbour disturbs both sides of a round alike.
//!
//! * *large*: one file of 2 GiB to one client that copies it out into a buffer of 256 KiB. MB/s, and the server's own CPU
//!   seconds per GiB.
//! * *small*: a file of 1 KiB, fetched over 16 kept connections as often as it goes. Requests per second, and the
//!   server's CPU per request. Portcullis does more here than nginx does: each request is checked against its share,
//!   counted and logged as an event of its transfer.
//!
//! nginx runs as Debian ships it where that matters: sendfile, `tcp_nopush`, an access log into a file, two workers.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const SMALL_BYTES: usize = 1024;
const CONNECTIONS: usize = 16;
const CLIENT_BUFFER_BYTES: usize = 256 * 1024;
/// The unit of CPU times in `/proc`: what the kernel shows to programs is 100 whatever it counts in itself (`man 5 proc`).
const TICKS_PER_SECOND: f64 = 100.0;
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Clone, Copy)]
struct Plan {
    large_bytes: u64,
    rounds: usize,
    small_time: Duration,
}

const FULL: Plan = Plan { large_bytes: 2048 * MIB, rounds: 7, small_time: Duration::from_secs(5) };
const QUICK: Plan = Plan { large_bytes: 512 * MIB, rounds: 3, small_time: Duration::from_secs(1) };
/// Shows that the benchmark works; its figures mean nothing.
const SMOKE: Plan = Plan { large_bytes: 8 * MIB, rounds: 1, small_time: Duration::from_millis(200) };

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let plan = if has("--smoke") {
        SMOKE
    } else if has("--quick") {
        QUICK
    } else {
        FULL
    };
    let Some(nginx_program) = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|p| Path::new(p).exists())
    else {
        println!("nginx is not installed (apt-get install nginx-light): there is nothing to compare with");
        return;
    };
    let dir = tempfile::Builder::new().prefix("delivery-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let root = dir.path().join("nas");
    fs::create_dir(&root).expect("the root is made");
    write_file(&root.join("large.bin"), plan.large_bytes);
    write_file(&root.join("small.bin"), SMALL_BYTES as u64);

    let nginx = nginx(nginx_program, dir.path(), &root);
    let portcullis = portcullis(dir.path(), &root);
    let targets = [&nginx, &portcullis];
    println!("{}\n", describe(nginx_program, plan));
    large(plan, targets);
    small(plan, targets);
}

/// Writes a file with real pages behind it, and leaves it in the page cache.
fn write_file(path: &Path, size: u64) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let chunk: Vec<u8> = (0..MIB / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let mut file = fs::File::create(path).expect("the file is made");
    let mut left = size;
    while left > 0 {
        let n = left.min(MIB) as usize;
        file.write_all(&chunk[..n]).expect("there is space on the disk");
        left -= n as u64;
    }
    // Written back before anything is measured, so that no flush falls into a round.
    file.sync_all().expect("the disk takes it");
}

fn describe(nginx: &str, plan: Plan) -> String {
    let version = Command::new(nginx).arg("-v").output().map(|o| String::from_utf8_lossy(&o.stderr).trim().to_owned()).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "test profile: figures mean nothing" } else { "release" };
    format!(
        "{cores} cores, Linux {}, {version}, portcullis {} ({build}); {} rounds, large file {} MiB, loopback, client on the same cores",
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
        plan.rounds,
        plan.large_bytes / MIB
    )
}

// ---- The two servers -----------------------------------------------------------------------------------------------

/// A running server and where it has the two files.
struct Target {
    name: &'static str,
    process: Child,
    address: SocketAddr,
    large: String,
    small: String,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // nginx's master takes its workers with it only if it is asked.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

fn wait_until_open(address: SocketAddr, process: &mut Child, log: &Path) {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        let ended = process.try_wait().expect("a child can be asked");
        if ended.is_some() || begin.elapsed() > START_PATIENCE {
            panic!("nothing listens on {address}; ended: {ended:?}\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nginx(program: &str, dir: &Path, root: &Path) -> Target {
    let address = free_address();
    let base = dir.join("nginx");
    fs::create_dir(&base).expect("a folder for nginx");
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", base.display()))
        .collect();
    let config = format!(
        "{user}\nworker_processes 2;\npid {base}/pid;\nerror_log {base}/error.log;\nevents {{ worker_connections 768; }}\nhttp {{\n{temp}\
         sendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\ndefault_type application/octet-stream;\n\
         access_log {base}/access.log;\nserver {{ listen {address}; root {root}; }}\n}}\n",
        base = base.display(),
        root = root.display()
    );
    let path = base.join("nginx.conf");
    fs::write(&path, config).expect("the configuration is written");
    let log = base.join("stderr");
    let mut process = Command::new(program)
        .arg("-p")
        .arg(&base)
        .arg("-c")
        .arg(&path)
        .args(["-g", "daemon off;"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("nginx starts");
    wait_until_open(address, &mut process, &log);
    Target { name: "nginx", process, address, large: "/large.bin".into(), small: "/small.bin".into() }
}

fn portcullis(dir: &Path, root: &Path) -> Target {
    let (owner, address) = (free_address(), free_address());
    let log = dir.join("portcullis.log");
    let uuid = || fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel gives random bytes").trim().replace('-', "");
    let token = uuid() + &uuid();
    let output = || fs::File::options().create(true).append(true).open(&log).expect("a log");
    let mut process = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("serve")
        .arg(root)
        .env_clear()
        .env("STATE_DIR", dir.join("state"))
        .env("OWNER_TOKEN", &token)
        .env("OWNER_LISTEN", owner.to_string())
        .env("RECIPIENT_LISTEN", address.to_string())
        .env("BASE_URL", format!("http://{address}"))
        .env("GRACE_PERIOD_SECONDS", "3600")
        .env("MAX_CONNECTIONS_PER_ADDRESS", "1024")
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
        .expect("portcullis starts");
    wait_until_open(owner, &mut process, &log);
    wait_until_open(address, &mut process, &log);
    let transfer = |file: &str| {
        let body = format!("{{\"path\":\"{file}\"}}");
        let head = format!(
            "POST /api/v1/shares HTTP/1.1\r\nHost: {owner}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(owner, &head);
        let json = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let share: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("no share ({e}): {answer}"));
        let url = share["url"].as_str().unwrap_or_else(|| panic!("no link: {answer}"));
        let (redeem, _) = url.rsplit_once('/').expect("a link has three parts");
        let path = redeem.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).expect("a path");
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = exchange(address, &head);
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = location.unwrap_or_else(|| panic!("not redeemed: {answer}"));
        // The contract leaves it open whether a redirect names the host, the path, or the path from where it stands.
        let below = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = location.strip_prefix(&format!("http://{address}")).unwrap_or(&location);
        if path.starts_with('/') { path.to_owned() } else { format!("{below}/{}", path.trim_start_matches("./")) }
    };
    let (large, small) = (transfer("large.bin"), transfer("small.bin"));
    Target { name: "portcullis", process, address, large, small }
}

/// Sends one request and reads until the end of the connection.
fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

// ---- Measuring -----------------------------------------------------------------------------------------------------

/// What one run of one target came to.
#[derive(Clone, Copy)]
struct Figure {
    /// MB/s, or requests per second.
    rate: f64,
    /// CPU seconds per GiB, or CPU microseconds per request.
    cpu: f64,
}

/// Returns the CPU seconds that a process, all its threads and its children have used.
fn cpu_seconds(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let all = std::iter::once(pid).chain(children.split_whitespace().filter_map(|c| c.parse().ok()));
    let ticks: u64 = all
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| {
            // The name in parentheses may hold anything; the fields behind it are counted from the third.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

fn large(plan: Plan, targets: [&Target; 2]) {
    let rounds = rounds(plan, targets, |target| {
        let before = cpu_seconds(target.process.id());
        let begin = Instant::now();
        let bytes = download(target, &target.large);
        let seconds = begin.elapsed().as_secs_f64();
        assert_eq!(bytes, plan.large_bytes, "{} sent another length", target.name);
        let cpu = cpu_seconds(target.process.id()) - before;
        Figure { rate: bytes as f64 / 1e6 / seconds, cpu: cpu / (bytes as f64 / GIB) }
    });
    print_table("large: one file, one client", "MB/s", "server CPU s/GiB", targets, &rounds);
}

fn small(plan: Plan, targets: [&Target; 2]) {
    let rounds = rounds(plan, targets, |target| {
        let before = cpu_seconds(target.process.id());
        let begin = Instant::now();
        let requests = hammer(target, plan.small_time);
        let seconds = begin.elapsed().as_secs_f64();
        let cpu = cpu_seconds(target.process.id()) - before;
        Figure { rate: requests as f64 / seconds, cpu: cpu * 1e6 / requests.max(1) as f64 }
    });
    print_table("small: 1 KiB, 16 kept connections", "requests/s", "server CPU µs/request", targets, &rounds);
}

/// Runs every target in every round, who goes first alternating.
fn rounds(plan: Plan, targets: [&Target; 2], run: impl Fn(&Target) -> Figure) -> Vec<[Figure; 2]> {
    for target in targets {
        run(target);
    }
    (0..plan.rounds)
        .map(|round| {
            if round % 2 == 0 {
                let first = run(targets[0]);
                [first, run(targets[1])]
            } else {
                let second = run(targets[1]);
                [run(targets[0]), second]
            }
        })
        .collect()
}

fn request(target: &Target, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\n\r\n", target.address)
}

/// Fetches a file and copies it out of the kernel; returns the length of its body.
fn download(target: &Target, path: &str) -> u64 {
    let mut stream = TcpStream::connect(target.address).expect("it listens");
    stream.write_all(request(target, path).as_bytes()).expect("it reads");
    let mut buffer = vec![0; CLIENT_BUFFER_BYTES];
    let mut filled = 0;
    let (head, length) = loop {
        let n = stream.read(&mut buffer[filled..]).expect("it answers");
        assert!(n > 0, "{} closed early: {}", target.name, String::from_utf8_lossy(&buffer[..filled]));
        filled += n;
        if let Some(found) = head_and_length(&buffer[..filled]) {
            break found;
        }
    };
    let mut got = (filled - head) as u64;
    while got < length {
        let n = stream.read(&mut buffer).expect("it sends");
        assert!(n > 0, "{} closed after {got} of {length} bytes", target.name);
        got += n as u64;
    }
    got
}

/// Returns where the head ends and how long the body is, once the head is whole.
fn head_and_length(bytes: &[u8]) -> Option<(usize, u64)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    assert!(head.starts_with("HTTP/1.1 200"), "not the file: {head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    Some((end, length.unwrap_or_else(|| panic!("no length: {head}"))))
}

/// Fetches the small file over kept connections for a while; returns how often.
fn hammer(target: &Target, time: Duration) -> u64 {
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let request = request(target, &target.small);
                let mut stream = TcpStream::connect(target.address).expect("it listens");
                stream.set_nodelay(true).expect("a socket");
                let mut buffer = vec![0; 8 * 1024];
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(request.as_bytes()).expect("it reads");
                    let (mut filled, mut wanted) = (0, usize::MAX);
                    while filled < wanted {
                        let n = stream.read(&mut buffer[filled..]).expect("it answers");
                        assert!(n > 0, "{} closed a kept connection", target.name);
                        filled += n;
                        if wanted == usize::MAX
                            && let Some((head, length)) = head_and_length(&buffer[..filled])
                        {
                            wanted = head + length as usize;
                        }
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn print_table(title: &str, rate: &str, cpu: &str, targets: [&Target; 2], rounds: &[[Figure; 2]]) {
    println!("### {title}\n\n| | {rate} | × nginx | min..max | {cpu} | × nginx |\n|---|---|---|---|---|---|");
    for (at, target) in targets.iter().enumerate() {
        let of = |f: &dyn Fn(&[Figure; 2]) -> f64| median(rounds.iter().map(f).collect());
        let rates = rounds.iter().map(|r| r[at].rate);
        // A short run may use less CPU than one tick; there is no ratio to nothing.
        let cpu_ratio = of(&|r| if r[0].cpu > 0.0 { r[at].cpu / r[0].cpu } else { f64::NAN });
        let cpu_ratio = if cpu_ratio.is_nan() { "-".to_owned() } else { format!("{cpu_ratio:.2}") };
        println!(
            "| {} | {:.0} | {:.2} | {:.0}..{:.0} | {:.3} | {cpu_ratio} |",
            target.name,
            of(&|r| r[at].rate),
            of(&|r| r[at].rate / r[0].rate),
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(0.0, f64::max),
            of(&|r| r[at].cpu)
        );
    }
    println!();
}
