//! tailscaled's LocalAPI: HTTP/1.1 over a unix socket.
//!
//! What is asked here, and how it answers, stands in `ipn/localapi` and `ipn/ipnlocal` of github.com/tailscale/tailscale, read
//! at v1.102.3. Configurations stay JSON as they came: an edit must not lose a field that this program does not know.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, ETAG, HOST, IF_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The only name that it answers to, beside none: a page that a browser was lured to has another.
const NAME: &str = "local-tailscaled.sock";
/// How long an answer may take. Most take a millisecond; those that write wait for the disk, and before tailscaled has loaded its
/// state every request waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a certificate may take: where none is there yet it is made meanwhile, by way of the DNS.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer: a configuration with a thousand mounts takes 200 kB, a status without peers a tenth of that.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The longest line of the bus. What we ask for has no network map in it, but the node with all its capabilities.
const MAX_LINE_BYTES: usize = 4 << 20;
/// How much of an error's text is kept: it is a sentence.
const MAX_TEXT: usize = 300;
/// What the bus is asked for: the state at first, with the session's id (2), and what is unwell (128). Without 2 there is no id.
const BUS_MASK: &str = "130";

/// Says why tailscaled did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalApiError {
    /// Nobody listens on the socket.
    #[error("tailscaled does not listen on {}: start it, or share the folder of its socket with this program", .socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The system does not let us connect.
    #[error("this program may not open {}: run it as root, or as the account that tailscaled runs as", .socket.display())]
    NoAccess {
        /// The socket.
        socket: PathBuf,
    },
    /// tailscaled lets us read and no more, or nothing at all.
    #[error(
        "tailscaled does not let this account {what}: run as root, or make it the operator (tailscale set --operator=NAME); it says: {text}"
    )]
    Denied {
        /// What was asked.
        what: &'static str,
        /// What it said.
        text: String,
    },
    /// Somebody else changed the configuration since it was read.
    #[error("somebody else changed tailscaled's configuration meanwhile")]
    Conflict,
    /// It must not be asked again before some time is over.
    #[error("tailscaled could not {what}: {text}")]
    NotYet {
        /// What was asked.
        what: &'static str,
        /// What it said.
        text: String,
        /// For how long not, where it says so.
        wait: Option<Duration>,
    },
    /// It understood and failed, or said no.
    #[error("tailscaled could not {what} ({status}): {text}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The answer's status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// It did not answer in time.
    #[error("tailscaled did not {what} within {} seconds", .after.as_secs())]
    Slow {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// Whoever holds the session for us could not.
    #[error("{text}")]
    Keeper {
        /// Why, as a sentence.
        text: String,
        /// Whether it may succeed later.
        is_retryable: bool,
    },
    /// The connection broke, or what came is no answer of tailscaled's.
    #[error("tailscaled did not {what}: {why}")]
    Broken {
        /// What was asked.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
}

impl LocalApiError {
    pub(super) fn broken(what: &'static str, why: impl fmt::Display) -> Self {
        Self::Broken { what, why: short(&why.to_string()) }
    }

    /// Returns whether the same call may succeed later, without an operator doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotRunning { .. } | Self::Conflict | Self::NotYet { .. } | Self::Slow { .. } | Self::Broken { .. } => true,
            Self::Failed { status, .. } => status.is_server_error(),
            Self::NoAccess { .. } | Self::Denied { .. } => false,
            Self::Keeper { is_retryable, .. } => *is_retryable,
        }
    }
}

/// What a configuration was when it was read; given back with the edit, so that nobody else's is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(HeaderValue);

/// What tailscaled serves, to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeConfig {
    /// As it came, with every field; `null` where nothing is served.
    pub json: Value,
    /// What it was.
    pub etag: Etag,
}

/// A node's certificate with its chain, and its key, as PEM.
#[derive(Clone)]
pub struct CertPair {
    /// The chain, the node's own first.
    pub chain: String,
    /// Its private key. Not shown by `Debug`.
    pub key: String,
}

impl fmt::Debug for CertPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertPair").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Asks tailscaled. Each request has a connection of its own, so that one that hangs hurts no other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalApi {
    socket: PathBuf,
}

impl LocalApi {
    /// Takes the path of tailscaled's socket, as `/var/run/tailscale/tailscaled.sock`. Connects to nothing yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Returns the socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for the node's status, without its peers.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn status(&self) -> Result<Value, LocalApiError> {
        self.json("tell its status", Method::GET, "/localapi/v0/status?peers=false").await
    }

    /// Returns which process listens on the socket; `None` where that cannot be seen, as from within another container.
    ///
    /// # Errors
    /// [`LocalApiError`] where nobody does.
    pub async fn process(&self) -> Result<Option<i32>, LocalApiError> {
        let what = "say that it is there";
        in_time(what, ANSWER_TIMEOUT, async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(what, &error))?;
            let peer = stream.peer_cred().map_err(|error| LocalApiError::broken(what, error))?;
            Ok(peer.pid().filter(|pid| *pid > 0))
        })
        .await
    }

    /// Asks for what only who may change the node is told, and does nothing.
    ///
    /// # Errors
    /// [`LocalApiError::Denied`] where this account may not; [`LocalApiError`].
    pub async fn may_change(&self) -> Result<(), LocalApiError> {
        self.ask("let this account change anything", request(Method::GET, "/localapi/v0/metrics"), ANSWER_TIMEOUT).await.map(drop)
    }

    /// Asks for the node's settings.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn prefs(&self) -> Result<Value, LocalApiError> {
        self.json("tell its settings", Method::GET, "/localapi/v0/prefs").await
    }

    /// Reads what is served.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn serve_config(&self) -> Result<ServeConfig, LocalApiError> {
        let what = "tell what it serves";
        let (headers, body) = self.ask(what, request(Method::GET, "/localapi/v0/serve-config"), ANSWER_TIMEOUT).await?;
        let etag = headers.get(ETAG).cloned().ok_or_else(|| LocalApiError::broken(what, "its answer has no ETag"))?;
        let json = serde_json::from_slice(&body).map_err(|error| LocalApiError::broken(what, error))?;
        Ok(ServeConfig { json, etag: Etag(etag) })
    }

    /// Replaces what is served, if it still is what `etag` says. An answer is not yet the truth: what names a session that is
    /// over is taken and dropped in silence, so read it again.
    ///
    /// # Errors
    /// [`LocalApiError::Conflict`] where somebody else was faster; [`LocalApiError`]. After any other one it may have changed.
    pub async fn set_serve_config(&self, json: &Value, etag: &Etag) -> Result<(), LocalApiError> {
        let mut request = request(Method::POST, "/localapi/v0/serve-config");
        *request.body_mut() = Full::from(json.to_string());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // As it came, without quotes. An empty one would overwrite whatever is there.
        request.headers_mut().insert(IF_MATCH, etag.0.clone());
        self.ask("change what it serves", request, ANSWER_TIMEOUT).await.map(drop)
    }

    /// Asks for the certificate of one of the node's names, valid for so long at least. Where there is none it is made first,
    /// which takes up to a minute.
    ///
    /// # Errors
    /// [`LocalApiError::NotYet`] where the certificate authority has had enough for now; [`LocalApiError`].
    pub async fn cert_pair(&self, name: &str, min_validity: Duration) -> Result<CertPair, LocalApiError> {
        let what = "give a certificate";
        let path = format!("/localapi/v0/cert/{}?type=pair&min_validity={}s", encoded(name), min_validity.as_secs());
        let (_, body) = self.ask(what, request(Method::GET, &path), CERTIFICATE_TIMEOUT).await?;
        let text = std::str::from_utf8(&body).map_err(|error| LocalApiError::broken(what, error))?;
        split_pair(text).ok_or_else(|| LocalApiError::broken(what, "what came is not a key with a certificate"))
    }

    /// Asks who in the tailnet has an address; `None` for whoever is not of it, as everybody who comes by Funnel.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn whois(&self, address: SocketAddr) -> Result<Option<Value>, LocalApiError> {
        let path = format!("/localapi/v0/whois?proto=tcp&addr={}", encoded(&address.to_string()));
        match self.json("tell who that is", Method::GET, &path).await {
            Ok(who) => Ok(Some(who)),
            Err(LocalApiError::Failed { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks what is missing for a feature, as `funnel`: the answer has `Complete`, `Text` and `URL`.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn query_feature(&self, feature: &str) -> Result<Value, LocalApiError> {
        self.json("tell what is missing", Method::POST, &format!("/localapi/v0/query-feature?feature={}", encoded(feature))).await
    }

    /// Logs the node out: its keys are of no use any more, and an ephemeral one is gone.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn logout(&self) -> Result<(), LocalApiError> {
        self.ask("log out", request(Method::POST, "/localapi/v0/logout"), ANSWER_TIMEOUT).await.map(drop)
    }

    /// Begins a session on the bus: it lives as long as what is returned, and what is served in its name with it.
    ///
    /// # Errors
    /// [`LocalApiError`].
    pub async fn watch(&self) -> Result<Bus, LocalApiError> {
        let what = "begin a session";
        let begin = async {
            let request = request(Method::GET, &format!("/localapi/v0/watch-ipn-bus?mask={BUS_MASK}"));
            let (response, connection) = self.send(what, request).await?;
            if !response.status().is_success() {
                return Err(refusal(what, response).await);
            }
            let mut bus = Bus { body: response.into_body(), _connection: connection, lines: Lines::default(), session: String::new() };
            let first = bus.next().await?.ok_or_else(|| LocalApiError::broken(what, "the bus ended at once"))?;
            bus.session = session_of(what, &first)?;
            Ok(bus)
        };
        in_time(what, ANSWER_TIMEOUT, begin).await
    }

    async fn json(&self, what: &'static str, method: Method, path: &str) -> Result<Value, LocalApiError> {
        let (_, body) = self.ask(what, request(method, path), ANSWER_TIMEOUT).await?;
        serde_json::from_slice(&body).map_err(|error| LocalApiError::broken(what, error))
    }

    async fn ask(&self, what: &'static str, request: Request<Full<Bytes>>, most: Duration) -> Result<(HeaderMap, Bytes), LocalApiError> {
        in_time(what, most, async {
            let (response, _connection) = self.send(what, request).await?;
            if !response.status().is_success() {
                return Err(refusal(what, response).await);
            }
            let (parts, body) = response.into_parts();
            Ok((parts.headers, whole(what, body).await?))
        })
        .await
    }

    async fn send(&self, what: &'static str, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, JoinSet<()>), LocalApiError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(what, &error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| LocalApiError::broken(what, error))?;
        let mut tasks = JoinSet::new();
        // It ends with whoever holds the set; what breaks it is told to whoever reads the answer.
        tasks.spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(|error| LocalApiError::broken(what, error))?;
        Ok((response, tasks))
    }

    fn not_connected(&self, what: &'static str, error: &io::Error) -> LocalApiError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => LocalApiError::NotRunning { socket },
            io::ErrorKind::PermissionDenied => LocalApiError::NoAccess { socket },
            _ => LocalApiError::broken(what, error),
        }
    }
}

/// Messages as they come, each JSON on a line of its own.
#[derive(Debug, Default)]
pub(super) struct Lines(pub(super) BytesMut);

impl Lines {
    /// Takes the first message off, if it is there as a whole.
    ///
    /// # Errors
    /// [`LocalApiError::Broken`] where it is no message, or has no end.
    pub(super) fn take(&mut self, what: &'static str) -> Result<Option<Value>, LocalApiError> {
        if let Some(end) = memchr::memchr(b'\n', &self.0) {
            let line = self.0.split_to(end + 1);
            return serde_json::from_slice(&line).map(Some).map_err(|error| LocalApiError::broken(what, error));
        }
        if self.0.len() > MAX_LINE_BYTES {
            return Err(LocalApiError::broken(what, "a message without end"));
        }
        Ok(None)
    }
}

/// Returns which session the first message of the bus names.
pub(super) fn session_of(what: &'static str, first: &Value) -> Result<String, LocalApiError> {
    let session = first["SessionID"].as_str().filter(|id| is_session_id(id));
    session.map(str::to_owned).ok_or_else(|| LocalApiError::broken(what, "the first message names no session"))
}

/// A session on tailscaled's bus. What is served in its name ends when this is dropped, or its process dies: tailscaled sees the
/// connection close.
#[derive(Debug)]
pub struct Bus {
    body: Incoming,
    _connection: JoinSet<()>,
    lines: Lines,
    session: String,
}

impl Bus {
    /// Returns the session's id: 16 hexadecimal digits.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Waits for the next message, for as long as that takes: the bus has no heartbeat. `None` where it ended, and with it the
    /// session. May be dropped and called again; nothing is lost.
    ///
    /// # Errors
    /// [`LocalApiError::Broken`] where what comes is no message; the session is over then as well, once this is dropped.
    pub async fn next(&mut self) -> Result<Option<Value>, LocalApiError> {
        let what = "go on with its session";
        loop {
            if let Some(message) = self.lines.take(what)? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                // The connection broke: tailscaled is gone, and with it the session.
                Some(Err(_)) => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.0.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn request(method: Method, path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("what is put into a path is encoded");
    request.headers_mut().insert(HOST, HeaderValue::from_static(NAME));
    request
}

async fn in_time<T>(what: &'static str, most: Duration, work: impl Future<Output = Result<T, LocalApiError>>) -> Result<T, LocalApiError> {
    timeout(most, work).await.unwrap_or(Err(LocalApiError::Slow { what, after: most }))
}

async fn whole(what: &'static str, body: Incoming) -> Result<Bytes, LocalApiError> {
    let read = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| LocalApiError::broken(what, error))
}

/// Says what an answer other than success means.
async fn refusal(what: &'static str, response: Response<Incoming>) -> LocalApiError {
    let (parts, body) = response.into_parts();
    let text = whole(what, body).await.map(|bytes| text_of(&bytes)).unwrap_or_default();
    match parts.status {
        StatusCode::PRECONDITION_FAILED => LocalApiError::Conflict,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => LocalApiError::Denied { what, text },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let wait = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
            LocalApiError::NotYet { what, text, wait }
        }
        status => LocalApiError::Failed { what, status, text },
    }
}

/// Takes the sentence out of an error's body: plain text, or JSON with an `error`.
fn text_of(bytes: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(bytes).ok();
    match json.as_ref().and_then(|json| json["error"].as_str()) {
        Some(text) => short(text),
        None => short(&String::from_utf8_lossy(bytes)),
    }
}

/// Makes one line of a text that somebody else wrote, of a bounded length and without control characters.
pub(super) fn short(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn is_session_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Tells the key from the chain: the key comes first, and each begins with its own line.
fn split_pair(text: &str) -> Option<CertPair> {
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let (key, chain) = text.split_at(begin);
    let is_key = key.trim_start().starts_with("-----BEGIN ") && key.contains("PRIVATE KEY-----");
    is_key.then(|| CertPair { chain: chain.to_owned(), key: key.trim().to_owned() + "\n" })
}

#[cfg(test)]
mod tests;
