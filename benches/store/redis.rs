//! What a share costs in a Redis, against the bare scripts.
//!
//! The bare rate is that of the very commands which the store sends: they are recorded once, by a relay between both, and sent again
//! to an emptied Redis by a loop that does nothing else, on one connection: one by one, or so that 32 are unanswered at any time. What counts is the median of
//! the rounds' own ratios, of which each empties the same Redis, whose log lies on the same disk and is flushed for each answer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use portcullis::share::{Event, Recipient, Share, TransferId};
use portcullis::store::Save;
use portcullis::store::redis::{RedisAddress, RedisOptions, RedisStore};
use portcullis::store::shared::{Basis, ControllerNumber, Introduction, SharedStore};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{at, entry, share};

/// How many callers there are at once.
const CALLERS: usize = 32;
/// How many shares the memory of one is measured by.
const LIVE: u64 = 10_000;
/// How often a server is looked for until it answers.
const TRIES: usize = 1000;

/// A server that ends with the benchmark.
struct Server {
    process: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints the rows of a Redis; says so where there is none.
pub(super) async fn measure(folder: &Path, rounds: u64, shares: u64) {
    let Some(server) = start(folder).await else {
        println!("\nredis-server is not installed: no rows of a Redis");
        return;
    };
    println!("\nRedis on a unix socket, appendfsync always; median of {rounds} rounds of {shares}, per second");
    println!("{:<44} {:>8} {:>8} {:>8}", "", "store", "bare", "ratio");
    for (what, callers) in
        [("redeem, 1 at a time", 1), ("redeem, 32 at once", CALLERS), ("create with its audit line, 32 at once", CALLERS)]
    {
        let is_redeem = what.starts_with("redeem");
        let recorded = record(&server, folder, shares, callers).await;
        let (mut stores, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let (mut of_store, mut of_bare) = (0.0, 0.0);
            for step in 0..2 {
                server.say("FLUSHALL").await;
                if (round + step) % 2 == 0 {
                    let took = live(&server.socket, shares, callers).await;
                    of_store = shares as f64 / if is_redeem { took.1 } else { took.0 };
                } else {
                    let took = replay(&server, &recorded, callers).await;
                    of_bare = shares as f64 / if is_redeem { took.1 } else { took.0 };
                }
            }
            stores.push(of_store);
            bares.push(of_bare);
            ratios.push(of_store / of_bare);
        }
        println!("{what:<44} {:>8.0} {:>8.0} {:>8.2}", median(stores), median(bares), median(ratios));
    }
    server.say("FLUSHALL").await;
    let before = server.memory().await;
    let live_shares = LIVE.min(shares * 10);
    made(&server.socket, live_shares, CALLERS).await;
    println!("{:<44} {:>8.0} bytes", "memory of a live share", (server.memory().await - before) / live_shares as f64);
}

async fn start(folder: &Path) -> Option<Server> {
    let socket = folder.join("redis.sock");
    let mut command = Command::new("redis-server");
    command.current_dir(folder).args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server { process: command.spawn().ok()?, socket };
    for _ in 0..TRIES {
        if UnixStream::connect(&server.socket).await.is_ok() {
            return Some(server);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("redis-server does not answer");
}

impl Server {
    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("unix://{}", self.socket.display())).expect("an address");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
    }

    async fn say(&self, word: &str) {
        redis::cmd(word).exec_async(&mut self.connect().await).await.expect("it does it");
    }

    async fn memory(&self) -> f64 {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut self.connect().await).await.expect("it says it");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("there is that line");
        line.trim().parse().expect("a number")
    }
}

async fn open(socket: &Path) -> (Arc<RedisStore>, ControllerNumber) {
    let address = RedisAddress::parse(&format!("unix://{}", socket.display())).expect("an address");
    let options = RedisOptions { address, prefix: "bench".to_owned(), replicas: 0, folder: [1; 16] };
    let store = RedisStore::open(&options).await.expect("a store");
    let joined = store.join(Introduction { folder: [1; 16], name: "bench".to_owned() }).await.expect("it joins");
    (Arc::new(store), joined.number)
}

/// Has so many callers make shares and then redeem each; returns how many seconds both took.
async fn live(socket: &Path, shares: u64, callers: usize) -> (f64, f64) {
    let (store, me, made) = made(socket, shares, callers).await;
    let begin = Instant::now();
    of_callers(callers, shares, move |n| {
        let (store, mut share) = (store.clone(), share(n, at(0)).0);
        async move {
            let opened = share.on(Event::TunnelOpened, at(0));
            assert_eq!(opened.answer, Ok(()));
            let transfer = TransferId::from_bytes([1; 16]);
            let redeem = Event::Redeemed { link: share.link, transfer, recipient: Recipient::default() };
            let decided = share.on(redeem, at(0));
            let save = Save { share: Arc::new(share), facts: decided.facts, at: at(0) };
            store.save_if(me, save, Basis { version: 1, fence: None }, None).await.expect("it is redeemed");
        }
    })
    .await;
    (made, begin.elapsed().as_secs_f64())
}

async fn made(socket: &Path, shares: u64, callers: usize) -> (Arc<RedisStore>, ControllerNumber, f64) {
    let (store, me) = open(socket).await;
    let (begin, kept) = (Instant::now(), store.clone());
    of_callers(callers, shares, move |n| {
        let (store, (mut share, mut facts)) = (store.clone(), share(n, at(0)));
        async move {
            facts.extend(Share::on(&mut share, Event::TunnelOpened, at(0)).facts);
            let save = Save { share: Arc::new(share), facts, at: at(0) };
            store.save_if(me, save, Basis::default(), Some(entry(n))).await.expect("it is made");
        }
    })
    .await;
    (kept, me, begin.elapsed().as_secs_f64())
}

/// Runs some tasks, so many at once; each caller waits for its answer before it does the next.
async fn of_callers<F: Future<Output = ()> + Send + 'static>(
    callers: usize,
    tasks: u64,
    task: impl Fn(u64) -> F + Clone + Send + Sync + 'static,
) {
    let callers = callers as u64;
    let running = (0..callers).map(|caller| {
        let task = task.clone();
        #[expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks itself")]
        tokio::spawn(async move {
            for n in (caller..tasks).step_by(callers as usize) {
                task(n).await;
            }
        })
    });
    for ended in join_all(running).await {
        ended.expect("no caller panics");
    }
}

/// Returns the commands that save, in their order: as many that make shares, and as many that redeem.
async fn record(server: &Server, folder: &Path, shares: u64, callers: usize) -> Vec<Vec<Vec<u8>>> {
    server.say("FLUSHALL").await;
    let relay = folder.join("relay.sock");
    let _ = std::fs::remove_file(&relay);
    let (listener, heard) = (UnixListener::bind(&relay).expect("a socket"), Arc::new(Mutex::new(Vec::new())));
    let (socket, into) = (server.socket.clone(), heard.clone());
    #[expect(clippy::disallowed_methods, reason = "a benchmark ends its tasks itself")]
    let listening = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = UnixStream::connect(&socket).await.expect("the server is there");
            tokio::spawn(pass_on(client, upstream, into.clone()));
        }
    });
    live(&relay, shares, callers).await;
    listening.abort();
    let heard = std::mem::take(&mut *heard.lock().expect("nobody panics while holding it"));
    // The last argument but the ticks tells nothing; what saves has a share's body.
    let saves = heard
        .into_iter()
        .filter(|command: &Vec<Vec<u8>>| command[0] == b"EVALSHA" && command.iter().any(|part| part.starts_with(b"{\"id\"")));
    let saves: Vec<_> = saves.collect();
    assert_eq!(saves.len() as u64, 2 * shares, "each was sent once");
    saves
}

async fn pass_on(client: UnixStream, upstream: UnixStream, heard: Arc<Mutex<Vec<Vec<Vec<u8>>>>>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), upstream.into_split());
    let back = async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    let there = async move {
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65536]);
        while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
            bytes.extend_from_slice(&chunk[..length]);
            if to_server.write_all(&chunk[..length]).await.is_err() {
                return;
            }
            while let Some((command, rest)) = command_of(&bytes) {
                heard.lock().expect("nobody panics while holding it").push(command);
                bytes = rest.to_vec();
            }
        }
    };
    tokio::select! { () = back => {}, () = there => {} }
}

/// Takes the first command off: `*N`, then `$LENGTH` and so many bytes for each part.
fn command_of(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    fn number(bytes: &[u8], sign: u8) -> Option<(usize, &[u8])> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        assert_eq!(bytes[0], sign);
        Some((std::str::from_utf8(&bytes[1..end]).ok()?.parse().ok()?, &bytes[end + 2..]))
    }
    let (parts, mut rest) = number(bytes, b'*')?;
    let mut command = Vec::with_capacity(parts);
    for _ in 0..parts {
        let (length, part) = number(rest, b'$')?;
        command.push(part.get(..length)?.to_vec());
        rest = part.get(length + 2..)?;
    }
    Some((command, rest))
}

/// Sends the commands once more on one connection, so many unanswered at any time; returns how many seconds each half took.
async fn replay(server: &Server, recorded: &[Vec<Vec<u8>>], at_once: usize) -> (f64, f64) {
    let connection = server.connect().await;
    let call = |command: &Vec<Vec<u8>>| {
        let mut call = redis::cmd("EVALSHA");
        command[1..].iter().for_each(|part| {
            call.arg(part.as_slice());
        });
        call
    };
    let calls: Vec<redis::Cmd> = recorded.iter().map(call).collect();
    let (creates, redeems) = calls.split_at(calls.len() / 2);
    let mut took = Vec::new();
    for calls in [creates.to_vec(), redeems.to_vec()] {
        let connection = connection.clone();
        // A task, as callers of the store are.
        let sending = async move {
            let begin = Instant::now();
            let mut answers = stream::iter(calls)
                .map(|call| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&call).await.expect("an answer") }
                })
                .buffered(at_once);
            while let Some(answer) = answers.next().await {
                let is_ok = matches!(&answer, redis::Value::Array(parts) if parts[0] == redis::Value::BulkString(b"ok".to_vec()));
                assert!(is_ok, "{answer:?}");
            }
            begin.elapsed().as_secs_f64()
        };
        #[expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks itself")]
        took.push(tokio::spawn(sending).await.expect("nobody panics"));
    }
    (took[0], took[1])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
