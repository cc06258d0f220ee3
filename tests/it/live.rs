//! The live stream: whoever listens gets every line of the event log once and in order, whatever breaks in between.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Offer, PATIENCE, SOON, Server, Setup, poll, put, random_below, request};

/// How many listen while the server is killed, and how often it is: two hundred reconnects.
const LISTENERS: usize = 50;
const KILLS: usize = 4;
/// How many readers are promised at once.
const READERS: usize = 500;

/// One event of the stream.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    data: String,
}

/// Listens as a browser does: comes back with the last id that it saw.
pub(crate) struct Listener {
    owner: SocketAddr,
    token: String,
    last_id: Option<u64>,
    body: Option<Body>,
}

/// The body of a stream as it comes, without the framing.
struct Body {
    client: Client,
    raw: Vec<u8>,
    text: String,
}

impl Listener {
    fn of(server: &Server) -> Self {
        Self::at(server.owner, server.token.clone())
    }

    /// Makes one that has not connected yet.
    pub(crate) fn at(owner: SocketAddr, token: String) -> Self {
        Self { owner, token, last_id: None, body: None }
    }

    /// Connects; `false` where the server is not there, or cannot answer now.
    pub(crate) fn connect(&mut self) -> bool {
        let Ok(client) = Client::try_connect(self.owner, None, None) else { return false };
        let mut client = client.giving_up_after(PATIENCE);
        client.send(&stream_request(self.owner, &self.token, self.last_id));
        let Some(head) = client.answer_head() else { return false };
        if head.status == 503 {
            return false;
        }
        assert_eq!(head.status, 200, "{}", head.head_text());
        self.body = Some(Body { client, raw: Vec::new(), text: String::new() });
        true
    }

    /// Returns the next event; `None` when the connection ends.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let event = self.body.as_mut()?.next();
        match &event {
            Some(event) => self.last_id = event.id.or(self.last_id),
            None => self.body = None,
        }
        event
    }

    fn until_ready(&mut self) {
        while self.next().expect("the stream goes on").name != "ready" {}
    }
}

fn stream_request(owner: SocketAddr, token: &str, last_id: Option<u64>) -> Vec<u8> {
    let mut headers = vec![format!("Authorization: Bearer {token}")];
    headers.extend(last_id.map(|id| format!("Last-Event-ID: {id}")));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    request("GET", "/api/v1/events/stream", &owner.to_string(), &headers, None)
}

impl Body {
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
                let event = field("event").map(|name| Event {
                    name,
                    id: field("id").map(|id| id.parse().expect("an id is a number")),
                    data: field("data").expect("an event carries something"),
                });
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let came = self.client.read_some(64 * 1024);
            if came.is_empty() {
                return None;
            }
            self.raw.extend(came);
            self.take_chunks();
        }
    }

    /// Takes the whole chunks out of what came. An event may span several.
    fn take_chunks(&mut self) {
        loop {
            let Some(line_end) = self.raw.windows(2).position(|pair| pair == b"\r\n") else { return };
            let size = std::str::from_utf8(&self.raw[..line_end]).expect("a chunk's size is text");
            let size = usize::from_str_radix(size, 16).expect("a chunk's size is a number");
            let end = line_end + 2 + size + 2;
            if self.raw.len() < end {
                return;
            }
            self.text += std::str::from_utf8(&self.raw[line_end + 2..end - 2]).expect("a piece ends between letters");
            self.raw.drain(..end);
        }
    }
}

/// Returns the whole event log, as the API pages it.
fn whole_log(server: &Server) -> Vec<Value> {
    let (mut log, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let page = server.api("GET", &format!("/api/v1/events?limit=500&cursor={cursor}"), None).expect_status(200).json();
        log.extend(page["events"].as_array().expect("a list").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return log,
        }
    }
}

/// An owner's script and a recipient who go on whatever becomes of the server.
struct Bustle {
    owner: SocketAddr,
    recipient: SocketAddr,
    token: String,
}

impl Bustle {
    fn of(server: &Server) -> Self {
        Self { owner: server.owner, recipient: server.recipient, token: server.token.clone() }
    }

    /// Makes a share and closes it, downloads it or leaves it.
    fn step(&self, round: usize) -> Option<()> {
        let share = self.ask("POST", "/api/v1/shares", Some(&json!({ "path": "song.ogg" })))?;
        let offer = Offer::from_json(&share);
        match round % 3 {
            0 => drop(self.ask("DELETE", &format!("/api/v1/shares/{}", offer.id), None)?),
            1 => {
                let mut client = Client::try_connect(self.recipient, None, None).ok()?;
                let answer = client.request("POST", &offer.redeem_path(), &[])?;
                let transfer = (answer.status == 303).then(|| answer.location())?;
                client.request("GET", &transfer, &["Connection: close"])?;
            }
            _ => {}
        }
        Some(())
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let mut client = Client::try_connect(self.owner, None, None).ok()?;
        let authorization = format!("Authorization: Bearer {}", self.token);
        let headers = [&authorization[..], "Content-Type: application/json", "Connection: close"];
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = client.request_with(method, path, &headers, body.as_bytes())?;
        (answer.complete && answer.status < 300).then(|| answer.json())
    }
}

#[test]
fn whoever_comes_back_after_a_kill_gets_each_line_of_the_log_once_and_in_order() {
    let mut server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "song.ogg", 100_000);
    let (ready, connects, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    // The number of the last line that there is, once that is known.
    let goal = AtomicUsize::new(usize::MAX);
    let listeners: Vec<Listener> = (0..LISTENERS).map(|_| Listener::of(&server)).collect();
    let (log, heard) = std::thread::scope(|scope| {
        let threads: Vec<_> = listeners
            .into_iter()
            .map(|mut listener| {
                let (ready, connects, over, goal) = (&ready, &connects, &over, &goal);
                scope.spawn(move || {
                    let mut lines: Vec<(u64, Value)> = Vec::new();
                    assert!(listener.connect());
                    listener.until_ready();
                    ready.fetch_add(1, Ordering::SeqCst);
                    while lines.last().is_none_or(|(seq, _)| (*seq as usize) < goal.load(Ordering::SeqCst)) && !over.load(Ordering::SeqCst)
                    {
                        match listener.next() {
                            Some(event) if event.name == "log" => {
                                lines.push((event.id.expect("a line has a number"), serde_json::from_str(&event.data).expect("JSON")));
                            }
                            Some(_) => {}
                            None if listener.connect() => drop(connects.fetch_add(1, Ordering::SeqCst)),
                            None => std::thread::sleep(Duration::from_millis(20)),
                        }
                    }
                    lines
                })
            })
            .collect();
        poll(SOON, "all listen", || ready.load(Ordering::SeqCst) == LISTENERS);
        let is_busy = AtomicBool::new(true);
        let bustle = Bustle::of(&server);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..).take_while(|_| is_busy.load(Ordering::SeqCst)).for_each(|round| {
                        if bustle.step(round).is_none() {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    })
                });
            }
            for kill in 1..=KILLS {
                std::thread::sleep(Duration::from_millis(200 + random_below(300)));
                server.kill();
                server.start();
                poll(SOON, "all are back", || connects.load(Ordering::SeqCst) >= kill * LISTENERS);
            }
            is_busy.store(false, Ordering::SeqCst);
        });
        let shares = server.api("GET", "/api/v1/shares?state=living&limit=1000", None).expect_status(200).json();
        for share in shares["shares"].as_array().expect("a list") {
            server.revoke(share["id"].as_str().expect("an id"));
            server.outcome(share["id"].as_str().expect("an id"));
        }
        let log = whole_log(&server);
        goal.store(log.last().expect("something happened")["seq"].as_u64().expect("a number") as usize, Ordering::SeqCst);
        // One more line, so that nobody waits for a goal that they have reached.
        server.share("song.ogg");
        let ended = std::time::Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) && ended.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::SeqCst);
        server.share("song.ogg");
        let heard: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a listener panicked")).collect();
        (log, heard)
    });
    assert!(log.len() > 100, "{} lines", log.len());
    for (at, lines) in heard.iter().enumerate() {
        let heard: Vec<&Value> = lines.iter().map(|(_, line)| line).take(log.len()).collect();
        let numbers: Vec<u64> = lines.iter().map(|(seq, _)| *seq).collect();
        assert!(heard == log.iter().collect::<Vec<_>>(), "listener {at} heard {numbers:?} of {} lines", log.len());
    }
    assert!(connects.load(Ordering::SeqCst) >= KILLS * LISTENERS);
}

#[test]
fn five_hundred_readers_get_every_line_and_one_that_stops_reading_is_cut() {
    let server = Setup::new().start();
    put(&server, "song.ogg", 1000);
    // One that asks and never reads; its kernel takes next to nothing for it.
    let mut stuck = Client::connect_with_small_buffer(server.owner, 4096);
    stuck.send(&stream_request(server.owner, &server.token, None));
    let (ready, goal) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let readers: Vec<JoinHandle<Vec<u64>>> = (0..READERS)
        .map(|_| {
            let (mut listener, ready, goal) = (Listener::of(&server), ready.clone(), goal.clone());
            let read = move || {
                assert!(listener.connect());
                listener.until_ready();
                ready.fetch_add(1, Ordering::SeqCst);
                let mut lines = Vec::new();
                while lines.last().is_none_or(|last| (*last as usize) < goal.load(Ordering::SeqCst)) {
                    let event = listener.next().expect("nobody who reads is cut");
                    lines.extend(event.id.filter(|_| event.name == "log"));
                }
                lines
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn(read).expect("a thread")
        })
        .collect();
    poll(SOON * 3, "all listen", || ready.load(Ordering::SeqCst) == READERS);
    let (before, idle) = (resident_kib(server.pid()), sockets_of(server.pid()) - (READERS + 1));

    // Enough for the one that does not read: what the kernel holds for it is full, and it is cut.
    let note = "n".repeat(1900);
    let offer = server.share_with(&json!({ "path": "song.ogg", "note": note }));
    let body = json!({ "expires_in_seconds": 600 });
    let extend = format!("/api/v1/shares/{}/extend", offer.id);
    let mut owner = Client::connect(server.owner);
    let authorization = format!("Authorization: Bearer {}", server.token);
    for _ in 0..200 {
        let headers = [&authorization[..], "Content-Type: application/json"];
        let answer = owner.request_with("POST", &extend, &headers, body.to_string().as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let log = whole_log(&server);
    goal.store(log.len(), Ordering::SeqCst);
    server.share("song.ogg");
    for reader in readers {
        let lines = reader.join().expect("a reader panicked");
        assert!(lines.iter().take(log.len()).copied().eq(1..=log.len() as u64), "{lines:?}");
    }
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 64 * 1024, "{READERS} readers cost {grown} KiB more");

    // Cut: what it left unread is all that ever comes, and then the end.
    poll(SOON * 4, "the one that does not read is cut", || sockets_of(server.pid()) <= idle);
    let mut rest = Vec::new();
    let _ = stuck.stream().take(1 << 20).read_to_end(&mut rest);
    assert!(rest.len() < 1 << 20, "it got {} bytes", rest.len());
}

/// Returns how much memory a process holds.
fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Returns how many sockets a process holds open.
fn sockets_of(pid: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let is_socket =
        |file: &std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str().to_string_lossy().starts_with("socket:"));
    files.flatten().filter(is_socket).count()
}
