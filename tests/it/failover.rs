//! What is promised when Redis itself goes: killed and started again with its log, and failed over by Sentinels to a replica.
//!
//! Two controllers share it. Owners make shares at one and recipients take them at the other, until Redis goes under their hands; then
//! everything that was answered is there, and nothing can be taken twice.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    Authority, BROWSER, Client, DURABLE, Offer, Random, Redis, Server, Setup, free_port, has_redis, only_embedded, poll, put, random_hex,
    sha256,
};
use crate::life::ask;

const MIB: usize = 1024 * 1024;
/// How often Redis is killed under load.
const KILLS: u64 = 4;
/// How many make shares and take them at once.
const WORKERS: u64 = 3;
/// How long a Sentinel's failover may take until both controllers have found the new primary: its own limits are 1.5 s and 10 s.
const FAILED_OVER: Duration = Duration::from_secs(60);
/// How long controllers may take to find a Redis that is back.
const FOUND_AGAIN: Duration = Duration::from_secs(20);
/// How long the load goes on before Redis goes, and behind it.
const UNDER_LOAD: Duration = Duration::from_millis(700);

fn here() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Stands before several, and leads one connection after the other to the next of them.
fn in_turns<const N: usize>(to: [SocketAddr; N], listener: TcpListener) {
    std::thread::spawn(move || {
        for (client, to) in listener.incoming().zip(to.into_iter().cycle()) {
            let Ok(mut client) = client else { return };
            let Ok(mut server) = TcpStream::connect(to) else { continue };
            let (mut asks, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut server).and_then(|_| server.shutdown(Shutdown::Write)));
            std::thread::spawn(move || std::io::copy(&mut answers, &mut client).and_then(|_| client.shutdown(Shutdown::Both)));
        }
    });
}

#[test]
fn a_self_test_passes_whichever_of_those_behind_one_address_its_guest_meets() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start(here(), &DURABLE);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("it listens"));
    let servers = pair_with(&redis.url(), &[("BASE_URL", &base)]);
    // A guest comes five times, and has the byte at the third: by these turns from either, whoever made it.
    in_turns([servers[0].recipient, servers[1].recipient, servers[1].recipient], listener);
    for server in servers.iter().cycle().take(6) {
        let verdict = server.api("POST", "/api/v1/self-test", None).expect_status(200).json();
        assert_eq!((&verdict["passed"], &verdict["by"]), (&json!(true), &json!("public")), "{verdict:#}");
    }
}

/// Starts two controllers that share the Redis of a URL.
fn pair(url: &str) -> [Server; 2] {
    pair_with(url, &[])
}

/// As [`pair`], with more settings.
fn pair_with(url: &str, more: &[(&str, &str)]) -> [Server; 2] {
    let secret = random_hex(32);
    let setup = |name: &str| {
        let setup = Setup::new().set("REDIS_URL", url).set("JWT_SECRET", &secret).set("CONTROLLER_NAME", name);
        let setup = setup.set("GRACE_PERIOD_SECONDS", 600).set("BASE_URL", "http://portcullis.test");
        more.iter().fold(setup, |setup, (name, value)| setup.set(name, value))
    };
    let one = setup("one").start();
    let mut other = setup("other").build(|_, _| {});
    other.root.clone_from(&one.root);
    other.start();
    [one, other]
}

/// What is known of one share.
struct Known {
    offer: Offer,
    transfer: Option<String>,
    /// Whether somebody asked for it and was not told what came of that.
    is_unsure: bool,
}

/// What was answered so far.
#[derive(Default)]
struct Outside {
    shares: Mutex<Vec<Known>>,
    is_over: AtomicBool,
    refused: Mutex<Vec<String>>,
}

impl Outside {
    /// Makes shares at one controller and takes them at the other, until the load is to end.
    fn work(&self, servers: &[Server; 2], mut random: Random) {
        while !self.is_over.load(Ordering::SeqCst) {
            let at = random.below(2) as usize;
            let (one, other) = (&servers[at], &servers[1 - at]);
            let Some(offer) = self.create(one) else { continue };
            if random.below(4) == 0 {
                self.note(Known { offer, transfer: None, is_unsure: false });
                continue;
            }
            let answer = ask(other.recipient, "POST", &offer.redeem_path(), &[BROWSER], None);
            let transfer = answer.as_ref().filter(|answer| answer.status == 303).map(crate::harness::Answer::location);
            let is_unsure = transfer.is_none();
            self.note(Known { offer, transfer, is_unsure });
        }
    }

    fn note(&self, known: Known) {
        self.shares.lock().expect("nobody panicked").push(known);
    }

    fn create(&self, at: &Server) -> Option<Offer> {
        let authorization = format!("Authorization: Bearer {}", at.token);
        let body = json!({ "path": "song.ogg", "policy": { "expires_in_seconds": 3000 } });
        let answer = ask(at.owner, "POST", "/api/v1/shares", &[&authorization], Some(&body)).expect("it says so where it cannot");
        if answer.status == 201 {
            return Some(Offer::from_json(&answer.json()));
        }
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}\n{}", answer.head_text(), answer.text());
        self.refused.lock().expect("nobody panicked").push(answer.text());
        std::thread::sleep(Duration::from_millis(50));
        None
    }

    /// Runs the load around something that happens.
    fn around(&self, servers: &[Server; 2], seed: u64, happens: impl FnOnce()) {
        self.is_over.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for n in 0..WORKERS {
                scope.spawn(move || self.work(servers, Random::new(seed * 100 + n)));
            }
            std::thread::sleep(UNDER_LOAD);
            happens();
            std::thread::sleep(UNDER_LOAD);
            self.is_over.store(true, Ordering::SeqCst);
        });
    }

    /// Everything that was answered is there at both, and nothing is taken twice.
    fn check(&self, servers: &[Server; 2]) {
        let mut shares = self.shares.lock().expect("nobody panicked");
        assert!(!shares.is_empty(), "something was answered");
        for known in shares.iter_mut() {
            for server in servers {
                let is_there = |share: &serde_json::Value| known.transfer.is_none() || share["transfers"] == 1;
                server.wait_for(&known.offer.id, "it is told of what was answered", is_there);
            }
            for server in servers {
                let answer = server.fetch("POST", &known.offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
                match answer.status {
                    // Nobody had it, or it was not told: now it is taken, once.
                    303 if known.transfer.is_none() => known.transfer = Some(answer.location()),
                    409 | 410 if known.transfer.is_some() || known.is_unsure => {}
                    status => panic!("{}: {status}, taken {:?}, unsure {}", known.offer.id, known.transfer, known.is_unsure),
                }
            }
        }
        for known in shares.iter().rev().take(10) {
            if let Some(transfer) = &known.transfer {
                servers[1].fetch("GET", transfer, &[]).expect("an answer").expect_status(200);
            }
        }
        shares.clear();
    }
}

/// Waits until both make shares again.
#[track_caller]
fn wait_until_they_make_shares(servers: &[Server; 2], within: Duration) {
    let outside = Outside::default();
    for server in servers {
        poll(within, "shares can be made again", || outside.create(server).is_some());
    }
}

#[test]
fn a_redis_that_is_killed_under_load_and_started_again_has_everything_that_was_answered() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start(here(), &DURABLE);
    let servers = pair(&redis.url());
    put(&servers[0], "song.ogg", 100_000);
    let outside = Outside::default();
    for round in 0..KILLS {
        outside.around(&servers, round + 1, || {
            redis.kill();
            std::thread::sleep(Duration::from_millis(300 * round));
            redis.run();
            redis.wait();
            wait_until_they_make_shares(&servers, FOUND_AGAIN);
        });
        outside.check(&servers);
    }
    let verdict = servers[1].api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
    assert_eq!(verdict["is_intact"], true, "{verdict}");
}

/// Returns the account that operators are told to make, as `ACL SETUSER` takes it.
fn account(password: &str) -> Vec<String> {
    let manual = std::fs::read_to_string("docs/operating.md").expect("the manual is there");
    let line = manual.lines().find(|line| line.starts_with("user portcullis on ")).expect("the manual has an account");
    line.replace("PASSWORD", password).split(' ').skip(1).map(str::to_owned).collect()
}

#[test]
fn two_share_a_redis_behind_tls_by_an_account_that_can_do_nothing_else() {
    if !has_redis() {
        return;
    }
    let (authority, address, sealed) = (Authority::new(), here(), here().port().to_string());
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| authority.path(name).to_str().expect("a path of ours").to_owned());
    let tls = ["--tls-port", &sealed, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let mut redis = Redis::start(address, &[&DURABLE[..], &tls].concat());
    let _: String = redis.ask(redis::cmd("ACL").arg("SETUSER").arg(account("s3cret")));
    let url = format!("rediss://portcullis:s3cret@localhost:{sealed}");
    let trust = ("SSL_CERT_FILE", &*authority.trust());
    let servers = pair_with(&url, &[trust]);
    put(&servers[0], "song.ogg", 100_000);
    let outside = Outside::default();
    outside.around(&servers, 1, || {});
    outside.check(&servers);

    // Whom this machine does not trust, and an account that may too little, are sentences that say what to do.
    let refused = |url: &str, more: &[(&str, &str)], sentence: &str| {
        let setup = Setup::new().set("REDIS_URL", url).set("JWT_SECRET", random_hex(32));
        let mut server = more.iter().fold(setup, |setup, (name, value)| setup.set(name, value)).build(|_, _| {});
        assert!(server.try_start().is_some_and(|status| !status.success()), "{}", server.log_text());
        assert!(server.log_text().contains(sentence), "{}", server.log_text());
        assert!(!server.log_text().contains("s3cret"), "{}", server.log_text());
    };
    refused(&url, &[], "SSL_CERT_FILE");
    let narrow = "ACL SETUSER narrow on >s3cret ~{portcullis}:* -@all +@connection +@read";
    let words: Vec<&str> = narrow.split(' ').collect();
    let _: String = redis.ask(redis::cmd(words[0]).arg(&words[1..]));
    refused(&format!("rediss://narrow:s3cret@localhost:{sealed}"), &[trust], "no permissions to run the");
    redis.kill();
}

#[test]
fn while_redis_is_away_nothing_begins_and_what_runs_goes_on() {
    if !has_redis() || only_embedded("who sends the bytes is another process, and asks nobody") {
        return;
    }
    let mut redis = Redis::start(here(), &DURABLE);
    let servers = pair(&redis.url());
    let content = put(&servers[0], "film.mkv", 8 * MIB);
    put(&servers[0], "song.ogg", 100_000);
    let (offer, untaken) = (servers[0].share("film.mkv"), servers[0].share("song.ogg"));
    let transfer = servers[1].redeem(&offer);
    let mut client = Client::connect_with_small_buffer(servers[1].recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let mut got = Vec::new();
    let mut read_to = |got: &mut Vec<u8>, end: usize| {
        while got.len() < end {
            let some = client.read_some(64 * 1024);
            assert!(!some.is_empty(), "the download was cut at {} of {end}", got.len());
            got.extend(some);
        }
    };
    read_to(&mut got, MIB);
    redis.kill();
    let outside = Outside::default();
    for server in &servers {
        assert!(outside.create(server).is_none(), "nothing is made that cannot be kept");
        let answer = server.fetch("POST", &untaken.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        assert_eq!(answer.status, 503, "{}", answer.head_text());
        server.fetch("GET", "/livez", &[]);
        let health = server.api("GET", "/health", None);
        assert_eq!(health.status, 503, "{}", health.text());
    }
    assert_eq!(outside.refused.lock().expect("nobody panicked").len(), 2);
    // More than the kernels hold between it and the reader.
    read_to(&mut got, 6 * MIB);
    redis.run();
    redis.wait();
    wait_until_they_make_shares(&servers, FOUND_AGAIN);
    read_to(&mut got, content.len());
    assert_eq!(sha256(&got), sha256(&content));
    for server in &servers {
        server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
        server.redeem_once_more_is_refused(&offer);
    }
    let transfer = servers[1].redeem(&untaken);
    servers[0].fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
}

impl Server {
    fn redeem_once_more_is_refused(&self, offer: &Offer) {
        let answer = self.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        assert!(matches!(answer.status, 409 | 410), "{}", answer.head_text());
    }
}

/// A primary, two replicas of it, and three Sentinels.
struct Watched {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Watched {
    fn start() -> Self {
        let password = random_hex(16);
        // A primary that no replica hears takes no more writes.
        let own = [&DURABLE[..], &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"]].concat();
        let mut servers: Vec<Redis> = Vec::new();
        for n in 0..3 {
            let primary = servers.first().map(|primary: &Redis| format!("127.0.0.1 {}", primary.address.port()));
            let mut arguments = own.clone();
            if let Some(primary) = &primary {
                arguments.extend(["--replicaof", primary]);
            }
            let mut redis = Redis::new(here(), password.clone(), None, &arguments);
            redis.run();
            redis.wait();
            servers.push(redis);
            assert_eq!(servers.len(), n + 1);
        }
        let sentinels = (0..3).map(|_| {
            let mut sentinel = Redis::new(here(), String::new(), None, &[]);
            sentinel.run_as_sentinel(&servers[0], 2);
            sentinel
        });
        let watched = Self { sentinels: sentinels.collect(), servers };
        let know_each_other = |sentinel: &Redis| {
            let known: Vec<Vec<(String, String)>> = sentinel.ask(redis::cmd("SENTINEL").arg("SENTINELS").arg("portcullis"));
            let replicas: Vec<Vec<(String, String)>> = sentinel.ask(redis::cmd("SENTINEL").arg("REPLICAS").arg("portcullis"));
            known.len() == 2 && replicas.len() == 2
        };
        for sentinel in &watched.sentinels {
            poll(FAILED_OVER, "the Sentinels know each other and the replicas", || know_each_other(sentinel));
        }
        let replicas_are_there = || {
            let info: String = watched.servers[0].ask(redis::cmd("INFO").arg("replication"));
            info.matches("state=online").count() == 2
        };
        poll(FAILED_OVER, "both replicas have caught up", replicas_are_there);
        watched
    }

    fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis+sentinel://:{}@{}/portcullis", self.servers[0].password, hosts.join(","))
    }

    /// Returns the place of the primary, as most Sentinels have it.
    fn primary(&self) -> usize {
        let says = |sentinel: &Redis| -> usize {
            let (_, port): (String, u16) = sentinel.ask(redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg("portcullis"));
            self.servers.iter().position(|server| server.address.port() == port).expect("one of them")
        };
        let said: Vec<usize> = self.sentinels.iter().map(says).collect();
        if said[0] == said[1] { said[0] } else { said[2] }
    }

    fn wait_for_another_than(&self, old: usize) -> usize {
        let started = Instant::now();
        loop {
            let primary = self.primary();
            if primary != old {
                return primary;
            }
            assert!(started.elapsed() < FAILED_OVER, "the Sentinels do not fail over:\n{}", self.sentinels[0].log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Takes the primary away under load, waits until another has its place, and gives it back.
fn fail_over(mut watched: Watched, take: impl Fn(&mut Redis), give_back: impl Fn(&mut Redis)) {
    let servers = pair(&watched.url());
    put(&servers[0], "song.ogg", 100_000);
    let outside = Outside::default();
    let old = watched.primary();
    outside.around(&servers, 1, || {
        take(&mut watched.servers[old]);
        watched.wait_for_another_than(old);
        wait_until_they_make_shares(&servers, FAILED_OVER);
    });
    assert!(!outside.refused.lock().expect("nobody panicked").is_empty(), "it was away for a while");
    outside.check(&servers);
    // Who was the primary comes back, and must not be believed.
    outside.around(&servers, 2, || {
        give_back(&mut watched.servers[old]);
        let is_replica = |redis: &Redis| {
            let info: String = redis.ask(redis::cmd("INFO").arg("replication"));
            info.contains("role:slave") && info.contains("master_link_status:up")
        };
        watched.servers[old].wait_for(FAILED_OVER, "who was the primary is a replica", is_replica);
        wait_until_they_make_shares(&servers, FAILED_OVER);
    });
    outside.check(&servers);
    let verdict = servers[1].api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
    assert_eq!(verdict["is_intact"], true, "{verdict}");
}

#[test]
fn a_primary_that_dies_under_load_is_replaced_and_everything_that_was_answered_is_there() {
    if has_redis() {
        fail_over(Watched::start(), Redis::kill, |redis| {
            redis.run();
            redis.wait();
        });
    }
}

#[test]
fn a_primary_that_is_paused_and_wakes_up_behind_its_replacement_takes_no_write_that_counts() {
    if has_redis() {
        fail_over(Watched::start(), |redis| redis.signal(Signal::STOP), |redis| redis.signal(Signal::CONT));
    }
}

#[test]
fn a_redis_that_could_forget_what_it_acknowledged_is_refused_unless_the_owner_accepts_that() {
    if !has_redis() {
        return;
    }
    let cases: [(&[&str], &str); 3] = [
        (&["--appendonly", "no"], "it keeps no log on disk (set appendonly yes)"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "appendfsync is everysec; set appendfsync always"),
        (&["--appendonly", "yes", "--appendfsync", "no"], "appendfsync is no; set appendfsync always"),
    ];
    for (arguments, why) in cases {
        let redis = Redis::start(here(), arguments);
        let mut server = Setup::new().set("REDIS_URL", redis.url()).build(|_, _| {});
        let status = server.try_start().unwrap_or_else(|| panic!("it starts with {arguments:?}"));
        let said = server.log_text();
        assert!(!status.success() && said.contains(why) && said.contains("REDIS_ACCEPT_LOSS"), "{arguments:?}: {said}");
        assert!(!said.contains(&redis.password), "its password is told");
        server.set("REDIS_ACCEPT_LOSS", "yes");
        server.start();
        let said = server.log_text();
        assert!(said.contains("WARN") && said.matches(why).count() >= 2, "{arguments:?} is taken without a word: {said}");
        put(&server, "song.ogg", 1000);
        let offer = server.share("song.ogg");
        server.redeem(&offer);
    }
}
