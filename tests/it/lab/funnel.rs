//! Our tunnels by a node, held to what every tunnel promises on the real tailscaled: what the contract is for the fake, it is here.

use std::collections::{BTreeSet, HashSet};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis::share::ShareId;
use portcullis::tunnel::tailscale::funnel::{Funnel, Options};
use portcullis::tunnel::tailscale::keeper::{BEAT_EVERY, Beats, Hold, PATIENCE};
use portcullis::tunnel::tailscale::shape::{Shape, Way};
use portcullis::tunnel::{Doors, PublicUrl, Standing, Tunnel, TunnelError};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{TLS_CUT, foreground};
use crate::harness::{Lab, SOON};

#[path = "../../../src/tunnel/contract.rs"]
pub(crate) mod contract;

/// A recipient side as a tunnel sees it: it takes connections, and answers for a share while its door is open.
pub(super) struct Recipients {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Recipients {
    /// Answers HTTP requests for shares whose door is open, and counts who comes.
    pub(super) fn serve(doors: Doors) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, came) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counted = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                let doors = doors.clone();
                std::thread::spawn(move || answer(stream, &doors));
            }
        });
        Self { address, came }
    }
}

fn answer(mut stream: std::net::TcpStream, doors: &Doors) -> std::io::Result<()> {
    use std::io::Write;
    stream.set_read_timeout(Some(SOON))?;
    let mut head = [0; 4096];
    let n = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..n]).into_owned();
    let share = head.split('/').nth(1).and_then(|id| id.trim_end_matches(" HTTP").parse().ok());
    if share.is_some_and(|share| doors.is_open(share)) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nopen")?;
    }
    Ok(())
}

/// A tunnel with the task that holds its session. Dropped, both end.
pub(super) struct Held {
    pub(super) funnel: Arc<Funnel>,
    pub(super) doors: Doors,
    recipients: Recipients,
    beats: Beats,
    beating: Option<JoinHandle<()>>,
    tasks: JoinSet<()>,
    way: Way,
}

impl Held {
    pub(super) fn begin(lab: &Lab, way: Way, hold: Hold, port: u16) -> Self {
        let doors = Doors::default();
        let recipients = Recipients::serve(doors.clone());
        let options = Options {
            socket: lab.socket().to_owned(),
            shape: Shape { way, port, target: recipients.address.to_string() },
            hold,
            install: None,
            last_name: None,
            on_name: Box::new(|_| {}),
        };
        let (funnel, session) = Funnel::new(options, doors.clone());
        let (beats, mut tasks) = (funnel.beats(), JoinSet::new());
        tasks.spawn(session.run(CancellationToken::new()));
        let held = Self { funnel: Arc::new(funnel), doors, recipients, beats, beating: None, tasks, way };
        held.beat()
    }

    /// Gives signs of life from here on.
    fn beat(mut self) -> Self {
        let beats = self.beats.clone();
        self.beating = Some(tokio::spawn(async move {
            loop {
                beats.beat();
                tokio::time::sleep(BEAT_EVERY / 4).await;
            }
        }));
        self
    }

    /// Opens a way in; waits for the session first, which takes a moment.
    pub(super) async fn open(&self, share: ShareId) {
        let begun = Instant::now();
        while let Err(error) = self.funnel.open(share).await {
            assert!(error.is_retryable() && begun.elapsed() < SOON, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As [`Held::open`], where the node is to become ready first.
    async fn open_patiently(&self, share: ShareId) {
        wait_for("it opens", async || self.funnel.open(share).await.is_ok()).await;
    }

    async fn stop_beating(&mut self) {
        if let Some(beating) = self.beating.take() {
            beating.abort();
            let _ = beating.await;
        }
    }

    /// Returns whether a visitor from outside gets to the recipient side, and there to the share.
    pub(super) fn reaches(&self, lab: &Lab, share: ShareId) -> bool {
        let before = self.recipients.came.load(Ordering::Relaxed);
        let visit = lab.visit(&format!("/{share}"), &["--write-out", "%{http_code}"]);
        match self.way {
            Way::Mount => visit.stdout == b"open200",
            // Nobody ends TLS here; whoever does asks the doors.
            Way::Passthrough => self.recipients.came.load(Ordering::Relaxed) > before && self.doors.is_open(share),
        }
    }
}

fn child() -> Hold {
    Hold::Child(PathBuf::from(env!("CARGO_BIN_EXE_portcullis")))
}

/// Returns the processes that hold a session with the lab's tailscaled.
fn keepers_of(lab: &Lab) -> Vec<i32> {
    let socket = lab.socket().to_string_lossy().into_owned();
    let is_keeper = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.iter().any(|word| word == "hold-session") && words.iter().any(|word| **word == *socket)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(is_keeper).collect()
}

fn share(n: u64) -> ShareId {
    ShareId::from_random(n)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn both_ways_keep_the_contract_on_a_real_tailscaled() {
    let lab = Lab::start();
    for way in [Way::Passthrough, Way::Mount] {
        for hold in [Hold::Here, child()] {
            let held = Held::begin(&lab, way, hold, 443);
            // The session stands from here on.
            held.open(share(9)).await;
            held.funnel.close(share(9)).await.unwrap();
            contract::holds(held.funnel.clone(), |share| held.reaches(&lab, share)).await;
            let left = foreground(&lab.local_api());
            let is_nothing = left.as_object().is_none_or(|sessions| sessions.values().all(|served| *served == json!({})));
            assert!(is_nothing, "no port is held for nobody: {left}");
        }
    }
}

/// Returns what is served in the one session there is.
fn served(lab: &Lab) -> Value {
    foreground(&lab.local_api()).as_object().and_then(|sessions| sessions.values().next().cloned()).unwrap_or_default()
}

/// Returns the shares that have a mount.
fn mounted(lab: &Lab) -> BTreeSet<ShareId> {
    let web = served(lab)["Web"].clone();
    let handlers = web.as_object().and_then(|web| web.values().next()).map(|host| host["Handlers"].clone()).unwrap_or_default();
    handlers.as_object().into_iter().flatten().map(|(path, _)| path[1..].parse().expect("a mount of ours")).collect()
}

async fn wait_for(what: &str, is: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < SOON, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn without_signs_of_life_the_keeper_lets_go_and_with_them_all_is_open_again() {
    let lab = Lab::start();
    let mut held = Held::begin(&lab, Way::Mount, child(), 443);
    held.open(share(1)).await;
    assert!(held.reaches(&lab, share(1)));
    let (changes, keepers) = (held.funnel.changes(), keepers_of(&lab));
    assert_eq!(keepers.len(), 1);

    held.stop_beating().await;
    let begun = Instant::now();
    wait_for("the door is shut", async || lab.visit("/", &[]).status.code() == Some(TLS_CUT)).await;
    println!("the keeper let go after {:?} of silence", begun.elapsed());
    // It stays shut as long as nobody decides here, though this process goes on.
    let begun = Instant::now();
    while begun.elapsed() < 2 * PATIENCE {
        assert_eq!(lab.visit("/", &[]).status.code(), Some(TLS_CUT));
        assert_eq!(keepers_of(&lab), [0; 0]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut held = held.beat();
    wait_for("it is told of", async || changes.has_changed().unwrap()).await;
    held.open(share(1)).await;
    assert!(held.reaches(&lab, share(1)));
    held.tasks.abort_all();
    while held.tasks.join_next().await.is_some() {}
    wait_for("nobody holds anything for who is gone", async || keepers_of(&lab).is_empty()).await;
    assert_eq!(lab.visit("/", &[]).status.code(), Some(TLS_CUT));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn a_keeper_that_is_killed_is_replaced_and_nobody_takes_it_for_the_operators_will() {
    let lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, child(), 443);
    held.open(share(1)).await;
    for _ in 0..5 {
        let keepers = keepers_of(&lab);
        let [keeper] = keepers[..] else { panic!("{keepers:?}") };
        rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), rustix::process::Signal::KILL).unwrap();
        wait_for("another holds it", async || keepers_of(&lab).iter().any(|other| *other != keeper)).await;
        held.open(share(1)).await;
        assert!(held.reaches(&lab, share(1)));
        assert_eq!(held.funnel.list().await.unwrap(), Standing::open([share(1)].into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn whoever_overwrites_what_we_serve_has_closed_it() {
    let lab = Lab::start();
    for way in [Way::Passthrough, Way::Mount] {
        let held = Held::begin(&lab, way, child(), 443);
        for share in [share(1), share(2)] {
            held.open(share).await;
        }
        held.funnel.close(share(2)).await.unwrap();
        let mut changes = held.funnel.changes();
        let reset = lab.tailscale(&["funnel", "reset"]);
        assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
        changes.changed().await.unwrap();
        wait_for("it is known to be removed", async || {
            held.funnel.list().await.is_ok_and(|standing| standing == Standing { open: HashSet::new(), removed: [share(1)].into() })
        })
        .await;
        assert!(!held.reaches(&lab, share(1)));
        let error = held.funnel.open(share(1)).await.unwrap_err();
        assert!(matches!(&error, TunnelError::NotPossible(why) if why.contains("taken away")), "{error}");
        // Whoever closes it and opens it again means it.
        held.funnel.close(share(1)).await.unwrap();
        held.open(share(1)).await;
        assert!(held.reaches(&lab, share(1)));
        assert_eq!(held.funnel.list().await.unwrap(), Standing::open([share(1)].into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn what_is_closed_while_the_node_lets_nobody_in_does_not_come_back_with_it() {
    let lab = Lab::start();
    for way in [Way::Passthrough, Way::Mount] {
        let held = Held::begin(&lab, way, child(), 443);
        for share in [share(1), share(2)] {
            held.open(share).await;
        }
        assert!(lab.tailscale(&["down"]).status.success());
        wait_for("nothing is open", async || held.funnel.list().await.is_ok_and(|standing| standing.open.is_empty())).await;
        // As the controller does with what it finds to be lost, until its owner revokes it.
        for share in [share(1), share(2)] {
            assert!(held.funnel.open(share).await.is_err());
            held.funnel.close(share).await.unwrap();
        }
        assert_eq!(served(&lab), json!({}), "nothing is left to come back");
        assert!(lab.tailscale(&["up"]).status.success());
        wait_for("the node is back", async || held.funnel.trouble().is_none()).await;
        assert_eq!(held.funnel.list().await.unwrap(), Standing::default());
        assert_eq!(served(&lab), json!({}));
        assert!(!held.reaches(&lab, share(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn of_what_somebody_else_changed_nothing_is_left_open() {
    let lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, child(), 443);
    for n in 1..=3 {
        held.open(share(n)).await;
    }
    let (mut config, etag) = lab.local_api().serve_config();
    let session = config["Foreground"].as_object().unwrap().keys().next().unwrap().clone();
    let public = format!("{}:443", lab.name());
    let removed = config["Foreground"][&session]["Web"][&public]["Handlers"].as_object_mut().unwrap().remove(&format!("/{}", share(2)));
    assert!(removed.is_some());
    assert_eq!(lab.local_api().set_serve_config(&config, &etag).status, 200);
    let standing = held.funnel.list().await.unwrap();
    assert_eq!(standing.removed, (1..=3).map(share).collect(), "who takes one away is the operator");
    for n in 1..=3 {
        held.funnel.close(share(n)).await.unwrap();
    }
    assert_eq!((held.funnel.list().await.unwrap(), served(&lab)), (Standing::default(), json!({})));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn an_operators_own_serve_stays_as_it_was_and_on_our_port_we_refuse() {
    let lab = Lab::start();
    let theirs = lab.tailscale(&["serve", "--bg", "--https=8443", "http://127.0.0.1:9"]);
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let before = lab.local_api().serve_config().0;
    for way in [Way::Passthrough, Way::Mount] {
        let held = Held::begin(&lab, way, Hold::Here, 443);
        held.open(share(1)).await;
        let mut during = lab.local_api().serve_config().0;
        during.as_object_mut().unwrap().remove("Foreground");
        assert_eq!(during, before);
        held.funnel.close(share(1)).await.unwrap();

        let ours = Held::begin(&lab, way, Hold::Here, 8443);
        let refused = loop {
            match ours.funnel.open(share(1)).await {
                Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(TunnelError::NotPossible(why)) => break why,
                other => panic!("{other:?}"),
            }
        };
        assert!(refused.contains("port 8443 of this node is served by somebody else already"), "{refused}");
        assert_eq!(ours.funnel.list().await.unwrap(), Standing::default());
    }
    let mut after = lab.local_api().serve_config().0;
    after.as_object_mut().unwrap().remove("Foreground");
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn beside_a_writer_who_never_rests_every_edit_lands_and_none_of_theirs_is_lost() {
    let lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, child(), 443);
    held.open(share(0)).await;
    let (api, is_over, theirs_so_far) = (lab.local_api(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (over, counted) = (is_over.clone(), theirs_so_far.clone());
    let writer = std::thread::spawn(move || {
        let mut written = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let (mut config, etag) = api.serve_config();
            config["TCP"]["8443"] = json!({ "TCPForward": format!("127.0.0.1:{}", 1 + written % 60_000) });
            match api.set_serve_config(&config, &etag).status {
                200 => {
                    written += 1;
                    counted.store(written, Ordering::Relaxed);
                }
                412 => {}
                other => panic!("{other}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        written
    });
    for n in 1..=60 {
        held.funnel.open(share(n)).await.unwrap();
        if n % 3 == 0 {
            held.funnel.close(share(n)).await.unwrap();
        }
    }
    // As long as it takes until they have been between ours often.
    let begun = Instant::now();
    while theirs_so_far.load(Ordering::Relaxed) < 20 {
        assert!(begun.elapsed() < SOON, "they cannot write");
        held.funnel.open(share(61)).await.unwrap();
        held.funnel.close(share(61)).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap();
    let theirs = lab.local_api().serve_config().0["TCP"]["8443"]["TCPForward"].clone();
    assert_eq!(theirs, json!(format!("127.0.0.1:{}", 1 + (written - 1) % 60_000)), "their last one stands");
    assert_eq!(mounted(&lab), (0..=60).filter(|n| *n == 0 || n % 3 != 0).map(share).collect());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn five_hundred_shares_open_and_close_at_random_and_what_is_served_is_what_lives() {
    let lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, child(), 443);
    held.open(share(0)).await;
    let mut living = BTreeSet::from([share(0)]);
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..10_u64 {
        let opens: Vec<ShareId> = (0..50).map(|n| share(1 + round * 50 + n)).collect();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let closes: Vec<ShareId> =
            living.iter().enumerate().filter(|(n, _)| chance >> (n % 64) & 1 == 1).map(|(_, share)| *share).collect();
        let opening = opens.iter().map(|share| held.funnel.open(*share)).collect::<Vec<_>>();
        let closing = closes.iter().map(|share| held.funnel.close(*share)).collect::<Vec<_>>();
        for done in futures_util::future::join_all(opening.into_iter().chain(closing)).await {
            done.unwrap();
        }
        living.extend(&opens);
        living.retain(|share| !closes.contains(share));
        assert_eq!(mounted(&lab), living, "round {round}");
        assert_eq!(held.funnel.list().await.unwrap(), Standing::open(living.iter().copied().collect()));
    }
    let one = *living.iter().next().unwrap();
    assert!(held.reaches(&lab, one));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn tailscaled_dies_fifty_times_and_what_is_open_in_the_end_is_what_lives() {
    let mut lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, child(), 443);
    held.open(share(0)).await;
    let (funnel, is_over) = (held.funnel.clone(), Arc::new(AtomicBool::new(false)));
    let over = is_over.clone();
    let owners = tokio::spawn(async move {
        let (mut living, mut n) = (BTreeSet::from([share(0)]), 0_u64);
        while !over.load(Ordering::Relaxed) {
            n += 1;
            if funnel.open(share(n)).await.is_ok() {
                living.insert(share(n));
            }
            if n % 2 == 0 && funnel.close(share(n / 2)).await.is_ok() {
                living.remove(&share(n / 2));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (living, n)
    });
    let mut lab = tokio::task::spawn_blocking(move || {
        for _ in 0..50 {
            lab.tell("restart-tailscaled");
        }
        lab
    })
    .await
    .unwrap();
    is_over.store(true, Ordering::Relaxed);
    let (living, n) = owners.await.unwrap();
    println!("{n} were tried, {} live", living.len());
    // As the controller does: what lives and is lost is opened again.
    for share in &living {
        held.open(*share).await;
    }
    let standing = held.funnel.list().await.unwrap();
    assert_eq!(standing, Standing::open(living.iter().copied().collect()));
    assert_eq!(mounted(&lab), living);
    assert!(living.len() > 10 && held.reaches(&lab, *living.iter().next().unwrap()));
    lab.tell("counts");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab (tests/lab/build)"]
async fn another_name_is_another_link_and_what_the_node_may_no_longer_is_said() {
    let mut lab = Lab::start();
    let held = Held::begin(&lab, Way::Mount, Hold::Here, 443);
    held.open(share(1)).await;
    let url = |share| held.funnel.public_url(share);
    assert_eq!(url(share(1)), PublicUrl::new(&format!("https://{}", lab.name())));

    lab.tell("rename another");
    wait_for("the new name is known", async || url(share(1)).at("").contains("//another.")).await;
    wait_for("what stood under the old one is lost", async || held.funnel.list().await.unwrap() == Standing::default()).await;
    held.open(share(1)).await;
    assert!(held.reaches(&lab, share(1)));

    lab.tell("remove-cap funnel");
    wait_for("nothing is open", async || held.funnel.list().await.unwrap().open.is_empty()).await;
    let error = held.funnel.open(share(2)).await.unwrap_err();
    assert!(matches!(&error, TunnelError::NotPossible(why) if why.contains("nodeAttrs")), "{error}");
    lab.tell("restore-caps");
    held.open_patiently(share(2)).await;
    assert!(held.reaches(&lab, share(2)));
}
