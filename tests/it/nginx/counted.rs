//! A hundred thousand requests through nginx, while its log is rotated and the product is killed: each has its line, each line is counted
//! once, and so is each download.
//!
//! It takes half a minute on two busy cores.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use portcullis::meter::access_log::{self, Line};
use rustix::process::Signal;
use serde_json::json;

use super::product::{FOREIGN, OURS, assert_no_mishap, lines_in, number};
use crate::harness::{Answer, Client, Offer, SOON, Server, Setup, poll, put};

/// How many requests there are, each of which nginx has a line about.
const REQUESTS: u64 = 100_000;
/// Each from an address of its own: nginx bounds how often one may ask.
const CLIENTS: u64 = 16;
const REQUESTS_EACH: u64 = REQUESTS / CLIENTS;
/// Two clients have each of them: what a share keeps of its transfers is saved with each one.
const SHARES: usize = 8;
/// A client begins a download with every so-many-th request, and goes on with ranges of it: so some 5600 answers are nginx's own.
const ROUND: u64 = 125;
const RANGES_OF_A_ROUND: u64 = 6;
/// More than a link is redeemed, also where a redeem is told nobody, since the product died with it.
const MOST_DOWNLOADS: u64 = 2 * REQUESTS_EACH / ROUND + 20;
const FILE_BYTES: usize = 3000;
/// A link that is none, which nobody is answered.
const UNKNOWN: &str = "/abcdefgh/abcdefghijklmnop/film.mkv";
/// How long a client rests that met silence: while the product is dead it would spend all its requests on that.
const REST: Duration = Duration::from_millis(20);
/// How long all of it may take on a machine that is busy with other tests.
const PATIENCE_OF_ALL: Duration = Duration::from_secs(600);
/// How many requests nobody answers before the product is started again.
const ASKED_IN_VAIN: u64 = 200;
/// What nginx calls it when nobody answers, and it keeps silent.
const SILENT: [u16; 2] = [444, 502];

/// What happens meanwhile, and when, in hundredths of the requests.
const HAPPENINGS: [(u64, Happening); 7] = [
    (10, Happening::Rotation),
    (20, Happening::Kill),
    (35, Happening::Rotation),
    (45, Happening::KillAndRotation),
    (60, Happening::Rotation),
    (70, Happening::Kill),
    (80, Happening::Nothing),
];
const ROTATIONS: u64 = 4;

#[derive(Clone, Copy, PartialEq)]
enum Happening {
    Nothing,
    Rotation,
    Kill,
    KillAndRotation,
}

/// What a client saw.
#[derive(Default)]
struct Seen {
    /// How many answers of each status; 0 is silence.
    answers: BTreeMap<u16, u64>,
    /// How many of them came from the file.
    of_the_file: u64,
    /// The transfers of which it has all, and how many redeems nobody answered.
    whole: u64,
    redeems_in_vain: u64,
}

/// One of those who ask.
struct Asking<'t> {
    nginx: SocketAddr,
    address: Ipv4Addr,
    offer: &'t Offer,
    content: &'t [u8],
    done: &'t AtomicU64,
    client: Option<Client>,
    seen: Seen,
}

impl Asking<'_> {
    /// Asks for one thing; `None` is silence.
    fn ask(&mut self, method: &str, path: &str, fields: &[&str]) -> Option<Answer> {
        let mut client = self.client.take().unwrap_or_else(|| Client::connect_from(self.nginx, self.address));
        let answer = client.request(method, path, fields);
        self.done.fetch_add(1, Ordering::Relaxed);
        *self.seen.answers.entry(answer.as_ref().map_or(0, |answer| answer.status)).or_default() += 1;
        match &answer {
            Some(answer) if answer.complete && answer.header("connection").as_deref() != Some("close") => self.client = Some(client),
            Some(_) => {}
            None if path != UNKNOWN => thread::sleep(REST),
            None => {}
        }
        answer
    }

    /// Asks for the file or a part of it; returns whether it came.
    fn fetch(&mut self, transfer: &str, range: Option<(usize, usize)>) -> bool {
        let fields = range.map(|(start, end)| format!("Range: bytes={start}-{}", end - 1));
        let Some(answer) = self.ask("GET", transfer, &fields.as_deref().into_iter().collect::<Vec<_>>()) else { return false };
        if answer.status != if range.is_some() { 206 } else { 200 } {
            return false;
        }
        let (start, end) = range.unwrap_or((0, FILE_BYTES));
        assert!(answer.complete && answer.body == self.content[start..end], "{}", answer.head_text());
        self.seen.of_the_file += 1;
        true
    }

    /// Asks so many times, the last tenth of them when all has `happened`.
    fn run(mut self, happened: &AtomicBool) -> Seen {
        let offer = self.offer;
        let (mut transfer, mut is_whole, mut ranges) = (None, false, 0);
        for n in 0..REQUESTS_EACH {
            if n == REQUESTS_EACH * 9 / 10 {
                poll(PATIENCE_OF_ALL, "all happens", || happened.load(Ordering::Relaxed));
            }
            match &transfer {
                None if n % ROUND == 0 => match self.ask("POST", &offer.redeem_path(), &[]) {
                    Some(answer) => (transfer, is_whole, ranges) = (Some(answer.expect_status(303).location()), false, 0),
                    None => self.seen.redeems_in_vain += 1,
                },
                Some(path) if !is_whole => {
                    let path = path.clone();
                    is_whole = self.fetch(&path, None);
                    self.seen.whole += u64::from(is_whole);
                }
                Some(path) if ranges < RANGES_OF_A_ROUND => {
                    let (path, start) = (path.clone(), (n * 7) as usize % (FILE_BYTES - 100));
                    self.fetch(&path, Some((start, start + 100)));
                    ranges += 1;
                    if ranges == RANGES_OF_A_ROUND {
                        transfer = None;
                    }
                }
                _ if n % 25 == 20 => assert!(self.ask("GET", UNKNOWN, &[]).is_none(), "nobody answers it"),
                _ if n % 10 == 9 => drop(self.ask("HEAD", &offer.link, &[])),
                _ => drop(self.ask("GET", &offer.link, &[])),
            }
        }
        assert!(is_whole, "there was time to end what was begun");
        self.seen
    }
}

fn address_of(client: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, client as u8 + 1)
}

/// Gives the log another name, and has nginx begin it anew.
fn rotate(server: &mut Server, n: u64) {
    let folder = server.nginx_folder();
    fs::rename(folder.join("access.log"), folder.join(format!("access.log.{n}"))).unwrap();
    server.nginx().signal(Signal::USR1);
    poll(SOON, "the log is opened anew", || folder.join("access.log").exists());
}

/// Has all of it happen, each when so many requests were made.
fn happen(server: &mut Server, done: &AtomicU64) {
    let wait_for = |count: u64| poll(PATIENCE_OF_ALL, "the clients go on", || done.load(Ordering::Relaxed) >= count);
    let mut rotations = 0;
    for (hundredth, happening) in HAPPENINGS {
        wait_for(REQUESTS / 100 * hundredth);
        let is_kill = matches!(happening, Happening::Kill | Happening::KillAndRotation);
        if is_kill {
            server.kill();
            wait_for(done.load(Ordering::Relaxed) + ASKED_IN_VAIN);
        }
        if matches!(happening, Happening::Rotation | Happening::KillAndRotation) {
            rotations += 1;
            rotate(server, rotations);
        }
        if is_kill {
            server.start();
        }
    }
    assert_eq!(rotations, ROTATIONS);
}

#[test]
fn each_of_a_hundred_thousand_requests_is_counted_once_over_rotations_and_kills() {
    let mut server = Setup::new().behind_nginx().start();
    let content = put(&server, "film.mkv", FILE_BYTES);
    let share = || server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": MOST_DOWNLOADS } }));
    let offers: Vec<Offer> = (0..SHARES).map(|_| share()).collect();
    let (done, happened, nginx) = (AtomicU64::new(0), AtomicBool::new(false), server.recipient);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let ask = |client: u64| {
            let (offer, address, seen) = (&offers[client as usize % SHARES], address_of(client), Seen::default());
            let asking = Asking { nginx, address, offer, content: &content, done: &done, client: None, seen };
            let happened = &happened;
            scope.spawn(move || asking.run(happened))
        };
        let asking: Vec<_> = (0..CLIENTS).map(ask).collect();
        happen(&mut server, &done);
        happened.store(true, Ordering::Relaxed);
        asking.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let asked = done.load(Ordering::Relaxed);
    assert!(asked >= REQUESTS, "{asked}");

    let names: Vec<String> = (1..=ROTATIONS).map(|n| format!("access.log.{n}")).chain(["access.log".to_owned()]).collect();
    let read = || names.iter().map(|name| fs::read_to_string(server.nginx_folder().join(name)).unwrap()).collect::<String>();
    let is_clients = |line: &Line<'_>| matches!(line.peer.ip(), IpAddr::V4(ip) if ip.octets()[1] == 1);
    let count = |text: &str| text.lines().filter(|line| is_clients(&access_log::parse(line.as_bytes()).unwrap())).count() as u64;
    poll(SOON, "the lines are written", || count(&read()) >= asked);
    let text = read();
    let lines: Vec<Line<'_>> = text.lines().map(|line| access_log::parse(line.as_bytes()).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.connection).collect::<HashSet<_>>().len(), lines.len(), "nginx has one line of each request");
    assert_answers_have_lines(&seen, &lines);

    let all = || names.iter().map(|name| lines_in(&server, name)).sum::<u64>();
    poll(SOON, "the lines are counted", || number(&server, OURS) == all());
    assert_eq!(number(&server, FOREIGN), 0);
    assert_no_mishap(&server);
    let named: u64 = lines.iter().filter(|line| !line.request.is_empty()).map(|line| line.body_bytes).sum();
    // Its own looks at nginx ask for a head alone.
    assert_eq!(number(&server, "portcullis_nginx_log_sent_bytes_total"), named);

    for (n, offer) in offers.iter().enumerate() {
        let of_it = || seen.iter().skip(n).step_by(SHARES);
        let (whole, in_vain) = (of_it().map(|seen| seen.whole).sum::<u64>(), of_it().map(|seen| seen.redeems_in_vain).sum::<u64>());
        let transfers = || server.transfers(&offer.id);
        let have_all = || transfers().iter().filter(|transfer| transfer["delivered_bytes"] == FILE_BYTES).count() as u64;
        poll(SOON, "each download is whole", || have_all() == whole);
        let begun = transfers().len() as u64;
        assert!(
            (whole..=whole + in_vain).contains(&begun),
            "{begun} transfers, of which {whole} were taken whole and {in_vain} told nobody"
        );
        println!("{whole} downloads of share {n}, {begun} transfers");
    }
    println!("{asked} requests, {} lines, {} of them named", lines.len(), lines.iter().filter(|line| !line.request.is_empty()).count());
}

/// Each client's answers are those that nginx has lines about; and what came from the file has a name.
fn assert_answers_have_lines(seen: &[Seen], lines: &[Line<'_>]) {
    for (client, seen) in seen.iter().enumerate() {
        let of_it = || lines.iter().filter(|line| line.peer.ip() == address_of(client as u64));
        let mut written = BTreeMap::new();
        for line in of_it() {
            *written.entry(if SILENT.contains(&line.status) { 0 } else { line.status }).or_default() += 1;
        }
        assert_eq!(written, seen.answers, "client {client}");
        let named = of_it().filter(|line| !line.request.is_empty() && matches!(line.status, 200 | 206)).count() as u64;
        assert_eq!(named, seen.of_the_file, "client {client}");
        let answered = seen.answers.keys().all(|status| [0, 200, 206, 303, 503].contains(status));
        assert!(answered && seen.answers[&200] > REQUESTS_EACH / 2, "{:?}", seen.answers);
    }
}
