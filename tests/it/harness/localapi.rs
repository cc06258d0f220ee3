//! The least of a client of tailscaled's LocalAPI: what a suite needs to see for itself what tailscaled says.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::http::PATIENCE;

/// The state as it comes first on the bus, and changes of the node's health: with these bits the first message comes at
/// once and names the session.
const WATCH: &str = "/localapi/v0/watch-ipn-bus?mask=130";

/// The way to a tailscaled.
#[derive(Clone)]
pub(crate) struct LocalApi {
    socket: PathBuf,
}

/// What came back for one request.
#[derive(Debug)]
pub(crate) struct LocalAnswer {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
}

impl LocalAnswer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body of an answer that must be a success.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }
}

impl LocalApi {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> LocalAnswer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> LocalAnswer {
        let (head, mut reader) = self.talk(method, path, headers, body);
        let mut body = Vec::new();
        reader.read_to_end(&mut body).expect("tailscaled answers to the end");
        LocalAnswer { status: status_of(&head), etag: field(&head, "etag"), body }
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/localapi/v0/status?peers=false").json()
    }

    /// Returns the serve config, and what must be named to change just this one.
    pub(crate) fn serve_config(&self) -> (Value, String) {
        let answer = self.get("/localapi/v0/serve-config");
        (answer.json(), answer.etag)
    }

    /// Changes the serve config, if it is still the one that is named.
    pub(crate) fn set_serve_config(&self, config: &Value, etag: &str) -> LocalAnswer {
        let body = serde_json::to_vec(config).expect("values are JSON");
        self.ask("POST", "/localapi/v0/serve-config", &[&format!("If-Match: {etag}")], &body)
    }

    /// Opens a session on the bus: as long as it is held, what is configured in its name stands.
    pub(crate) fn watch(&self) -> Session {
        let (head, mut reader) = self.talk("GET", WATCH, &[], b"");
        assert_eq!(status_of(&head), 200, "{head}");
        let mut first = String::new();
        reader.read_line(&mut first).expect("the bus speaks");
        let first: Value = serde_json::from_str(&first).unwrap_or_else(|e| panic!("no JSON ({e}): {first}"));
        let id = first["SessionID"].as_str().expect("the first message names the session").to_owned();
        Session { id, api: self.clone(), _bus: reader }
    }

    /// Asks in HTTP/1.0, so that nothing comes in chunks. Returns the head, and what the body is read from.
    fn talk(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (String, BufReader<UnixStream>) {
        let mut stream = UnixStream::connect(&self.socket).unwrap_or_else(|e| panic!("{}: {e}", self.socket.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut raw = format!("{method} {path} HTTP/1.0\r\nHost: local-tailscaled.sock\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            raw += &format!("{header}\r\n");
        }
        raw += "\r\n";
        stream.write_all(&[raw.as_bytes(), body].concat()).expect("tailscaled listens");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).expect("tailscaled answers"), 0, "closed within a head: {head}");
        }
        (head, reader)
    }
}

/// A session on the bus. Dropped, it ends, and what was configured in its name with it.
pub(crate) struct Session {
    pub(crate) id: String,
    api: LocalApi,
    _bus: BufReader<UnixStream>,
}

impl Session {
    /// Puts a config in the session's name beside what else is configured.
    #[track_caller]
    pub(crate) fn serve(&self, config: &Value) {
        let (mut all, etag) = self.api.serve_config();
        if all.is_null() {
            all = json!({});
        }
        all["Foreground"][&self.id] = config.clone();
        let answer = self.api.set_serve_config(&all, &etag);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.api.serve_config().0["Foreground"][&self.id], *config, "it stands");
    }
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"))
}

fn field(head: &str, name: &str) -> String {
    let line = head.lines().find(|line| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name)));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
