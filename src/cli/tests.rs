//! The commands against a server that answers as the owner API's contract says.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use clap::CommandFactory;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_stream::wrappers::BroadcastStream;

use super::interrupt::Interrupts;
use super::terminal::{Keyboard, Screen};
use super::*;

mod answers;
mod asking;
mod helping;
mod watching;

const ID: &str = "abcdefghjk";
const URL: &str = "https://files.example.org/abcdefghjk/eyJ.e30.c2ln/holiday.mp4";

/// A server with one share, which a test moves along.
struct Server {
    folder: tempfile::TempDir,
    state: Arc<State>,
    _task: JoinSet<()>,
}

struct State {
    /// What `GET …/shares/{id}` answers.
    share: Mutex<Value>,
    /// What `POST …/shares` answers where it refuses.
    refusal: Mutex<Option<(u16, Value)>>,
    /// Pieces of the event stream; an empty one ends it.
    events: broadcast::Sender<Bytes>,
    requests: Mutex<Vec<(String, Value)>>,
    /// The credentials that requests came with.
    credentials: Mutex<Vec<String>>,
    /// Told when somebody listens to the events and has asked for the share.
    shown: Notify,
    is_well: bool,
    answers_slowly: AtomicBool,
}

impl Server {
    fn start() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_well: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("nas")).unwrap();
        std::fs::write(folder.path().join("nas/holiday.mp4"), "x").unwrap();
        let listener = UnixListener::bind(folder.path().join("owner.sock")).unwrap();
        let state = Arc::new(State {
            share: Mutex::new(share("offered", "Ready. Nobody has opened it yet.", None)),
            refusal: Mutex::new(None),
            events: broadcast::channel(16).0,
            requests: Mutex::default(),
            credentials: Mutex::default(),
            shown: Notify::new(),
            is_well,
            answers_slowly: AtomicBool::new(false),
        });
        let mut task = JoinSet::new();
        let (served, root) = (Arc::clone(&state), folder.path().join("nas"));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&served), root.clone()));
            }
        });
        Self { folder, state, _task: task }
    }

    /// Serves on the network too, and returns the address.
    async fn listen(&mut self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (served, root) = (Arc::clone(&self.state), self.folder.path().join("nas"));
        self._task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&served), root.clone()));
            }
        });
        format!("http://{address}")
    }

    fn set(&self, share: Value) {
        *self.state.share.lock().unwrap() = share;
    }

    fn send(&self, piece: &str) {
        self.state.events.send(Bytes::from(piece.to_owned())).unwrap();
    }

    fn send_share(&self, share: &Value) {
        self.send(&format!("event: share\ndata: {share}\n\n"));
    }

    fn send_log(&self, seq: u64, line: &Value) {
        self.send(&format!("event: log\nid: {seq}\ndata: {line}\n\n"));
    }

    fn asked(&self, what: &str) -> Vec<Value> {
        self.state.requests.lock().unwrap().iter().filter(|(line, _)| line == what).map(|(_, body)| body.clone()).collect()
    }

    /// Waits until the command has seen the share as it is.
    async fn shown(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.state.shown.notified()).await.expect("the command looks at the share");
    }

    /// Runs a command line against this server.
    async fn run(&self, line: &[&str]) -> Ran {
        run_in(self.folder.path(), line, Interrupts::when(stream::pending())).await
    }

    async fn run_until(&self, line: &[&str], interrupts: impl futures_util::Stream<Item = ()> + Send + 'static) -> Ran {
        run_in(self.folder.path(), line, Interrupts::when(interrupts)).await
    }

    fn file(&self) -> String {
        self.folder.path().join("nas/holiday.mp4").to_str().unwrap().to_owned()
    }
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, state: Arc<State>, root: PathBuf) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (state, root) = (Arc::clone(&state), root.clone());
        async move { Ok::<_, Infallible>(answer(&state, &root, request).await) }
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service).await);
}

async fn answer(state: &State, root: &Path, request: Request<hyper::body::Incoming>) -> Response {
    let mut line = format!("{} {}", request.method(), request.uri());
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    state.credentials.lock().unwrap().extend(header("authorization"));
    if let Some(last) = header("last-event-id") {
        line += &format!(" after {last}");
    }
    if header("host").is_none() || (request.method() == "POST" && !line.ends_with("/link") && header("idempotency-key").is_none()) {
        line += " without what it needs";
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    state.requests.lock().unwrap().push((line.clone(), serde_json::from_slice(&body).unwrap_or_default()));
    let current = state.share.lock().unwrap().clone();
    let (status, json) = match line.as_str() {
        "GET /api/v1/session" => (200, json!({ "auth": "token", "version": "1.2.3", "root": root })),
        "POST /api/v1/shares" if state.answers_slowly.load(Relaxed) => {
            state.shown.notify_one();
            tokio::time::sleep(Duration::from_millis(200)).await;
            (201, current)
        }
        "POST /api/v1/shares" => state.refusal.lock().unwrap().clone().unwrap_or((201, current)),
        "GET /api/v1/shares/abcdefghjk" => {
            state.shown.notify_one();
            (200, current)
        }
        "DELETE /api/v1/shares/abcdefghjk" => (200, share("closed", "You closed it at 15:10 (0 % sent).", Some("revoked"))),
        "GET /api/v1/shares?state=living&limit=1000" => (200, json!({ "shares": [current], "next_cursor": "l.1 &x" })),
        "GET /api/v1/shares?state=living&cursor=l%2E1%20%26x&limit=1000" => (200, json!({ "shares": [current], "next_cursor": null })),
        "GET /api/v1/shares?limit=1000" => (200, json!({ "shares": [], "next_cursor": null })),
        "POST /api/v1/session/link" => (200, json!({ "url": "http://nas:8000/?token=CODE" })),
        "GET /health" if state.is_well => (200, json!({ "status": "healthy" })),
        "GET /health" => (503, json!({ "status": "unhealthy" })),
        "GET /api/v1/events/stream" | "GET /api/v1/events/stream after 8" => {
            let pieces = BroadcastStream::new(state.events.subscribe()).map(|piece| piece.unwrap());
            let pieces = pieces.take_while(|piece| std::future::ready(!piece.is_empty())).map(Ok::<_, Infallible>);
            return Response::new(Body::from_stream(stream::iter([Ok(Bytes::from("event: ready\nid: 4\ndata: {}\n\n"))]).chain(pieces)));
        }
        _ => answers::answer(&line)
            .unwrap_or_else(|| (404, json!({ "detail": "There is no such thing.\u{1b}[2J", "code": "unknown", "status": 404 }))),
    };
    Response::builder().status(status).body(Body::from(json.to_string())).unwrap()
}

fn share(state: &str, text: &str, outcome: Option<&str>) -> Value {
    json!({
        "id": ID, "state": state, "state_text": text, "outcome": outcome, "path": "holiday.mp4", "name": "holi\u{1b}day.mp4",
        "size_bytes": 1_949_000_000_u64, "sha256": null, "policy": { "max_downloads": 1, "expires_in_seconds": 5400, "on_stall": "close" },
        "clamped": ["expires_in_seconds"], "url": URL, "curl": null, "tunnel": { "backend": "direct", "state": "open" },
        "progress": { "delivered_bytes": 5, "size_bytes": 10, "percent": 50, "evidence": null, "bytes_per_second": 0, "eta_seconds": null },
        "transfers": 0, "policy_text": null, "message": null, "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:30:00Z", "closed_at": null, "note": null,
    })
}

/// How a command ended and what it wrote.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn run_in(state_dir: &Path, line: &[&str], interrupts: Interrupts) -> Ran {
    run_on(state_dir, line, interrupts, None, None).await
}

/// As [`run_in`], on a screen and with a keyboard where they are given.
async fn run_on(state_dir: &Path, line: &[&str], interrupts: Interrupts, screen: Option<Screen>, keyboard: Option<Keyboard>) -> Ran {
    let state_dir = format!("--state-dir={}", state_dir.display());
    let cli = Cli::try_parse_from(["portcullis"].iter().chain(line).copied().chain([state_dir.as_str()])).unwrap();
    let (out, err) = (Written::default(), Written::default());
    let mut terminal = Terminal::new(Box::new(out.clone()), Box::new(err.clone()), false).with(screen, keyboard);
    let exit = match cli.command {
        Command::Share(args) => ended(share::run(&args, interrupts, &mut terminal).await, &mut terminal),
        Command::Watch(args) => ended(watch::run(&args, interrupts, &mut terminal).await, &mut terminal),
        command => run(command, &mut terminal).await,
    };
    let text = |written: Written| String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    Ran { exit, out: text(out), err: text(err) }
}

#[test]
fn the_command_line_is_well_formed() {
    command_line().debug_assert();
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for line in [
        &["portcullis"][..],
        &["portcullis", "lift"],
        &["portcullis", "share"],
        &["portcullis", "share", "x", "--expires", "soon"],
        &["portcullis", "share", "x", "--expires", "0"],
        &["portcullis", "share", "x", "--downloads", "0"],
        &["portcullis", "share", "x", "--downloads", "1001"],
        &["portcullis", "share", "x", "--jwt-secret", "b7e01c94d2a85f3366c1f0a49e5d7d20"],
        &["portcullis", "close"],
        &["portcullis", "close", "--all", "abcdefghjk"],
        &["portcullis", "extend", "abcdefghjk"],
        &["portcullis", "extend", "abcdefghjk", "soon"],
        &["portcullis", "reopen"],
        &["portcullis", "show"],
        &["portcullis", "share", "x", "--start", "18:00"],
        &["portcullis", "share", "x", "--max-speed", "fast"],
        &["portcullis", "share", "x", "--on-stall", "cry"],
        &["portcullis", "share", "x", "--token", "pct_abc"],
        &["portcullis", "history", "--outcome", "lost"],
        &["portcullis", "history", "--since", "yesterday"],
        &["portcullis", "history", "--limit", "0"],
        &["portcullis", "stats", "--from", "x"],
        &["portcullis", "token"],
        &["portcullis", "token", "create"],
        &["portcullis", "token", "create", "x", "--scope", "god"],
        &["portcullis", "token", "revoke"],
        &["portcullis", "sessions", "revoke"],
        &["portcullis", "audit", "verify", "--head", "12"],
        &["portcullis", "completions", "cmd"],
        &["portcullis", "serve", "/a", "--nas-mount-path", "/b"],
    ] {
        assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), Exit::Usage as i32, "{line:?}");
    }
}

#[tokio::test]
async fn share_prints_the_link_alone_and_asks_only_for_what_was_said() {
    let server = Server::start();
    let ran = server.run(&["share", &server.file()]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, &*format!("{URL}\n")));
    assert_eq!(ran.err, "holi\u{FFFD}day.mp4 (1.9 GB), for one download within 1 h 30 min (the longest this server allows).\n");
    let everything = ["share", &server.file(), "--expires", "1h30m", "--downloads", "3", "--note", "for Ana"];
    server.run(&everything).await;
    let all = json!({ "path": "holiday.mp4", "policy": { "expires_in_seconds": 5400, "max_downloads": 3 }, "note": "for Ana" });
    assert_eq!(server.asked("POST /api/v1/shares"), [json!({ "path": "holiday.mp4", "policy": {} }), all]);
}

#[tokio::test]
async fn share_prints_json_and_a_code_where_asked() {
    let server = Server::start();
    let ran = server.run(&["share", &server.file(), "--json", "--qr"]).await;
    assert!(!ran.out.trim_end().chars().any(char::is_control), "{:?}", ran.out);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), *server.state.share.lock().unwrap());
    assert!(ran.err.contains('█'));
}

#[tokio::test]
async fn a_refused_share_says_why() {
    let server = Server::start();
    let problem = json!({ "detail": "There is no file holiday.mp4\u{9b}.", "code": "unknown_file", "status": 404 });
    *server.state.refusal.lock().unwrap() = Some((404, problem));
    let ran = server.run(&["share", &server.file()]).await;
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Error, "", "portcullis: There is no file holiday.mp4\u{FFFD}.\n"));
    *server.state.refusal.lock().unwrap() = Some((500, json!("not ours")));
    assert_eq!(server.run(&["share", &server.file()]).await.err, "portcullis: the server answered 500 Internal Server Error\n");
    let outside = server.run(&["share", "/proc/version"]).await;
    assert_eq!(outside.exit, Exit::Error);
    assert!(outside.err.contains("/proc/version lies outside the folder that is shared"), "{}", outside.err);
}

#[tokio::test]
async fn waiting_ends_with_the_share_and_the_exit_code_says_how() {
    for (state, outcome, exit) in [
        ("delivered", None, Exit::Done),
        ("closed", Some("completed"), Exit::Done),
        ("closed", Some("expired"), Exit::Expired),
        ("closed", Some("stalled"), Exit::Stalled),
        ("closed", Some("timed_out"), Exit::Stalled),
        ("closed", Some("revoked"), Exit::Revoked),
        // Its tunnel does not close; how it ended is certain all the same.
        ("closing", Some("revoked"), Exit::Revoked),
        ("closed", Some("source_changed"), Exit::SourceChanged),
        ("closed", Some("failed"), Exit::Failed),
    ] {
        let server = Server::start();
        let file = server.file();
        let line = ["share", &file, "--wait"];
        let story = async {
            server.shown().await;
            server.send(":\n\n");
            // Another share's end is none of our business.
            let mut other = share("closed", "Not this one.", Some("failed"));
            other["id"] = json!("0123456789");
            server.send_share(&other);
            server.send_share(&share("transferring", "5 B of 10 B", None));
            server.send_share(&share("transferring", "6 B of 10 B", None));
            if state == "closed" {
                server.send_share(&share("closing", "Nearly over.", outcome));
            }
            server.send_share(&share(state, "Over.", outcome));
        };
        let (ran, ()) = tokio::join!(server.run(&line), story);
        assert_eq!(ran.exit, exit, "{outcome:?}");
        assert_eq!(ran.out, format!("{URL}\n"));
        let told: Vec<&str> = ran.err.lines().skip(1).filter(|line| *line != "Nearly over.").collect();
        assert_eq!(told, ["Ready. Nobody has opened it yet.", "5 B of 10 B", "Over."]);
    }
}

#[tokio::test]
async fn what_was_missed_is_asked_for() {
    let server = Server::start();
    let file = server.file();
    let line = ["share", &file, "--wait"];
    let story = async {
        server.shown().await;
        server.set(share("transferring", "5 B of 10 B", None));
        server.send("event: resync\ndata: {}\n\n");
        server.shown().await;
        // The stream ends, as it does after a while or with the server, and the rest happens unheard.
        server.set(share("delivered", "Delivered.", None));
        server.send("");
    };
    let (ran, ()) = tokio::join!(server.run(&line), story);
    assert_eq!(ran.exit, Exit::Done);
    assert!(ran.err.ends_with("5 B of 10 B\nDelivered.\n"), "{}", ran.err);
}

#[tokio::test]
async fn an_interrupted_wait_closes_the_share() {
    let server = Arc::new(Server::start());
    let file = server.file();
    let waiting = Arc::clone(&server);
    let interrupt = stream::once(async move { waiting.shown().await });
    let ran = server.run_until(&["share", &file, "--wait"], interrupt.chain(stream::pending())).await;
    assert_eq!(ran.exit, Exit::Interrupted);
    assert!(ran.err.ends_with("Closed the share: its link no longer works.\n"), "{}", ran.err);
    assert_eq!(server.asked("DELETE /api/v1/shares/abcdefghjk").len(), 1);
}

#[tokio::test]
async fn interrupted_before_the_link_is_there_it_closes_what_was_made() {
    let server = Arc::new(Server::start());
    let file = server.file();
    let made = Arc::clone(&server);
    // The server is slow to answer; by the time it does, the owner has changed their mind.
    server.state.answers_slowly.store(true, Relaxed);
    let interrupt = stream::once(async move { made.shown().await });
    let ran = server.run_until(&["share", &file], interrupt.chain(stream::pending())).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Interrupted, ""));
    assert_eq!(server.asked("DELETE /api/v1/shares/abcdefghjk").len(), 1);
}

#[tokio::test]
async fn ls_lists_what_every_page_holds() {
    let server = Server::start();
    let ran = server.run(&["ls"]).await;
    let line = "abcdefghjk  1.9 GB  Ready. Nobody has opened it yet.  holi\u{FFFD}day.mp4\n";
    assert_eq!((ran.exit, ran.out), (Exit::Done, format!("ID            SIZE  STATE                             FILE\n{line}{line}")));
    let json: Value = serde_json::from_str(&server.run(&["ls", "--json"]).await.out).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[1]), (2, &*server.state.share.lock().unwrap()));
    let none = server.run(&["ls", "--all"]).await;
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", "No share is open.\n"));
}

#[tokio::test]
async fn close_closes_every_share_that_it_can() {
    let server = Server::start();
    let ran = server.run(&["close", "../x", "0123456789", ID]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Error, "abcdefghjk  You closed it at 15:10 (0 % sent).\n"));
    let refusals = "portcullis: ../x: a share's id has 10 letters and digits; `portcullis ls` shows them\n\
                    portcullis: 0123456789: There is no such thing.\u{FFFD}[2J\n";
    assert_eq!(ran.err, refusals);
}

#[tokio::test]
async fn sign_in_prints_a_link() {
    let ran = Server::start().run(&["sign-in"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "http://nas:8000/?token=CODE\n"));
}

#[tokio::test]
async fn healthcheck_says_how_the_server_is() {
    assert_eq!(Server::start().run(&["healthcheck"]).await.exit, Exit::Done);
    let unwell = Server::start_with(false).run(&["healthcheck"]).await;
    assert_eq!((unwell.exit, unwell.out.as_str()), (Exit::Error, ""));
}

#[tokio::test]
async fn check_knows_of_a_server_that_runs() {
    let server = Server::start();
    let root = server.folder.path().join("nas");
    let line = ["check", root.to_str().unwrap(), "--owner-listen=127.0.0.1:0", "--recipient-listen=127.0.0.1:0"];
    let ran = server.run(&line).await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert!(ran.out.contains("the server runs and is well (version 1.2.3)"), "{}", ran.out);
    let wrong = server.run(&["check", "--tunnel=pigeon", "--auth=maybe"]).await;
    assert_eq!((wrong.exit, wrong.out.lines().count()), (Exit::Error, 2), "{}", wrong.out);
    assert!(wrong.out.lines().all(|line| line.starts_with("WRONG  ") || line.starts_with('\u{2717}')));
}

#[tokio::test]
async fn without_a_server_every_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        &["ls"][..],
        &["show", ID],
        &["watch"],
        &["watch", ID, "--json"],
        &["close", ID],
        &["close", "--all"],
        &["extend", ID, "2h"],
        &["reopen", ID],
        &["history"],
        &["stats"],
        &["files", "x"],
        &["token", "create", "x"],
        &["token", "ls"],
        &["token", "revoke", "x"],
        &["sessions", "ls"],
        &["sessions", "revoke", "--all"],
        &["sign-in"],
        &["healthcheck"],
    ] {
        let ran = run_in(folder.path(), line, Interrupts::when(stream::pending())).await;
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::NoServer, ""));
        assert!(ran.err.starts_with("portcullis: no portcullis is running with the state folder /"), "{}", ran.err);
    }
    // A socket that a killed server left behind.
    drop(UnixListener::bind(folder.path().join("owner.sock")).unwrap());
    let ran = run_in(folder.path(), &["ls"], Interrupts::when(stream::pending())).await;
    assert_eq!(ran.exit, Exit::NoServer);
}
