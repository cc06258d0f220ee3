//! Speaks to a running server: over the socket in its state folder, where being the same account is credential enough, or
//! over the network with a token.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::answers::{Answered, Problem, Session, SignInLink};
use super::events::{Event, Parser};
use crate::app::OWNER_SOCKET;
use crate::config::RemoteServer;
use crate::token::random;

/// How long an answer may take. Making a share waits for its way in, some seconds with a slow tunnel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server on the network may take to be reached: past it the address is wrong, or the machine is off.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long between two tries of a request that made something and whose answer was lost.
const BEFORE_THE_SECOND_TRY: Duration = Duration::from_secs(1);
/// The longest answer that is read: a page of shares takes a few megabytes at most.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Says why the server gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody listens on the socket.
    #[error("no portcullis is running with the state folder {}; start it with `portcullis serve`", .folder.display())]
    NoServer {
        /// The state folder.
        folder: PathBuf,
    },
    /// Nobody answers at the address.
    #[error("nothing answers at {url}; is portcullis running there, and is this its owner's port?")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// What names the server is no address that we speak to.
    #[error("{url:?} {why}; write it as http://nas:8000")]
    BadAddress {
        /// What was typed.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server wants a token, or a better one.
    #[error(
        "{url} does not let this command in: {detail} Make a token there (`portcullis token create NAME`) and name its file by --token-file, \
         or set PORTCULLIS_TOKEN"
    )]
    NotLetIn {
        /// The address.
        url: String,
        /// What the server said.
        detail: String,
    },
    /// The socket is somebody else's.
    #[error("the socket {} belongs to another account; run this as that account, or as root", .socket.display())]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
    },
    /// The server understood and said no.
    #[error("{detail}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// Its stable code, where it has one.
        code: String,
        /// Why, as a sentence.
        detail: String,
    },
    /// The connection broke, or the answer is not one of ours.
    #[error("the server did not answer as expected")]
    Broken {
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ClientError {
    fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken { source: source.into() }
    }

    /// Returns whether the same call may succeed in a moment, when the server is back.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NoServer { .. } | Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::NotPermitted { .. } | Self::BadAddress { .. } | Self::NotLetIn { .. } => false,
        }
    }

    /// Returns whether the server understood and said no: the next wish may fare better.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Returns whether no server is there to be asked.
    pub(super) fn is_no_server(&self) -> bool {
        matches!(self, Self::NoServer { .. } | Self::Unreachable { .. })
    }
}

/// Speaks to one server. Each request has a connection of its own: a command makes few.
#[derive(Debug, Clone)]
pub(super) struct Client {
    way: Way,
}

/// How a server is reached.
#[derive(Debug, Clone)]
enum Way {
    Socket(PathBuf),
    Network {
        /// As it is said to people.
        url: String,
        /// Host and port, to connect to.
        address: String,
        /// As the header has it.
        host: String,
        authorization: Option<HeaderValue>,
    },
}

/// An answer whose body may still come, and the task that brings it.
struct Answer {
    response: Response<Incoming>,
    connection: JoinSet<()>,
}

impl Client {
    pub(super) fn of_state_dir(folder: &Path) -> Self {
        Self::of_socket(folder.join(OWNER_SOCKET))
    }

    pub(super) fn of_socket(socket: PathBuf) -> Self {
        Self { way: Way::Socket(socket) }
    }

    pub(super) fn of_remote(remote: RemoteServer) -> Result<Self, ClientError> {
        let RemoteServer { url, token } = remote;
        let wrong = |why| ClientError::BadAddress { url: url.clone(), why };
        let Some((scheme, rest)) = url.split_once("://") else { return Err(wrong("is no address of a server")) };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(wrong("wants TLS, which the owner's side does not speak: use its LAN address, or a tunnel as `ssh -L`")),
            _ => return Err(wrong("does not begin with http://")),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("is more than a host and a port"));
        }
        let authority: Authority = rest.parse().map_err(|_| wrong("is no address of a server"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong("must be a host and a port, without a name before an @"));
        }
        let address = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {}", token.expose())));
        let mut authorization =
            authorization.transpose().map_err(|_| wrong("cannot be asked: the token for it has letters that no token has"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { way: Way::Network { host: authority.to_string(), address, authorization, url: format!("http://{rest}") } })
    }

    /// Returns whether the server may see other files than this machine does.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.way, Way::Network { .. })
    }

    /// Asks the server about itself.
    pub(super) async fn session(&self) -> Result<Session, ClientError> {
        self.get("/api/v1/session").await
    }

    /// Asks for something and reads the answer as a `T`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(self.call(Method::GET, path, None).await?)
    }

    /// Sends what makes or changes something. Where the answer is lost on its way it is sent once more: its key sees to it
    /// that it is done once.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let key = random::request_id();
        match self.call_with(Method::POST, path, Some(body), Some(&key)).await {
            Err(ClientError::Broken { .. }) => {
                tokio::time::sleep(BEFORE_THE_SECOND_TRY).await;
                self.call_with(Method::POST, path, Some(body), Some(&key)).await
            }
            answer => answer,
        }
    }

    /// Ends something; what is ended already stays so.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None).await
    }

    pub(super) async fn share(&self, id: &str) -> Result<Answered, ClientError> {
        parse_share(self.call(Method::GET, &format!("/api/v1/shares/{}", encoded(id)), None).await?)
    }

    pub(super) async fn revoke(&self, id: &str) -> Result<Answered, ClientError> {
        parse_share(self.delete(&format!("/api/v1/shares/{}", encoded(id))).await?)
    }

    /// Asks for a link that signs a browser in; each call makes another.
    pub(super) async fn sign_in_link(&self) -> Result<SignInLink, ClientError> {
        parse(self.call(Method::POST, "/api/v1/session/link", None).await?)
    }

    /// Asks whether the server is well, and returns what it looked at.
    pub(super) async fn health(&self) -> Result<Value, ClientError> {
        self.call(Method::GET, "/health", None).await
    }

    /// Listens to what happens from here on, or from the line behind `after`.
    pub(super) async fn events(&self, after: Option<u64>) -> Result<Events, ClientError> {
        let mut request = self.request(Method::GET, "/api/v1/events/stream", None)?;
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", after.into());
        }
        let mut answer = timed(self.send(request)).await?;
        if !answer.response.status().is_success() {
            return Err(self.refusal(answer.response.status(), &body_of(&mut answer).await?));
        }
        Ok(Events { answer, parser: Parser::default(), waiting: Vec::new().into_iter() })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.call_with(method, path, body, None).await
    }

    async fn call_with(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> Result<Value, ClientError> {
        let mut request = self.request(method, path, body)?;
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", HeaderValue::try_from(key).map_err(ClientError::broken)?);
        }
        let bytes = timed(self.bytes_of(request)).await?;
        if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes).map_err(ClientError::broken) }
    }

    async fn bytes_of(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let mut answer = self.send(request).await?;
        let bytes = body_of(&mut answer).await?;
        if answer.response.status().is_success() { Ok(bytes) } else { Err(self.refusal(answer.response.status(), &bytes)) }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
        request = match &self.way {
            Way::Socket(_) => request.header(HOST, "localhost"),
            Way::Network { host, authorization, .. } => {
                let request = request.header(HOST, host);
                if let Some(authorization) = authorization { request.header(AUTHORIZATION, authorization) } else { request }
            }
        };
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body.map(Value::to_string).unwrap_or_default())).map_err(ClientError::broken)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        match &self.way {
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| not_connected(socket, error))?;
                send_over(stream, request).await
            }
            Way::Network { url, address, .. } => {
                let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
                let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let stream = connected.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
                send_over(stream, request).await
            }
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let failing = problem.failing();
        let detail = match (problem.detail.is_empty(), failing.is_empty()) {
            (false, _) => problem.detail,
            (true, false) => format!("the server is not well: {failing}"),
            (true, true) => format!("the server answered {status}"),
        };
        match &self.way {
            Way::Network { url, .. } if status == StatusCode::UNAUTHORIZED => ClientError::NotLetIn { url: url.clone(), detail },
            _ => ClientError::Refused { status, code: problem.code, detail },
        }
    }
}

async fn send_over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::broken)?;
    let mut tasks = JoinSet::new();
    // It ends with the answer; what breaks it is told to whoever reads the answer.
    tasks.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(ClientError::broken)?;
    Ok(Answer { response, connection: tasks })
}

fn not_connected(socket: &Path, error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NoServer { folder: socket.parent().unwrap_or(Path::new(".")).to_owned() }
        }
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted { socket: socket.to_owned() },
        _ => ClientError::broken(error),
    }
}

/// What happens to shares, as it happens.
pub(super) struct Events {
    answer: Answer,
    parser: Parser,
    waiting: std::vec::IntoIter<Event>,
}

impl Events {
    /// Returns the next event, or nothing where the server ended the stream. May be called anew after it was dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.waiting.next() {
                return Ok(Some(event));
            }
            let Some(frame) = self.answer.response.body_mut().frame().await else { return Ok(None) };
            if let Ok(piece) = frame.map_err(ClientError::broken)?.into_data() {
                self.waiting = self.parser.feed(&piece).map_err(ClientError::broken)?.into_iter();
            }
        }
    }
}

async fn timed<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(ClientError::broken)?
}

async fn body_of(answer: &mut Answer) -> Result<Bytes, ClientError> {
    let body = Limited::new(answer.response.body_mut(), MAX_ANSWER_BYTES).collect().await.map_err(ClientError::broken)?;
    answer.connection.abort_all();
    Ok(body.to_bytes())
}

pub(super) fn parse<T: DeserializeOwned>(json: Value) -> Result<T, ClientError> {
    serde_json::from_value(json).map_err(ClientError::broken)
}

pub(super) fn parse_share(json: Value) -> Result<Answered, ClientError> {
    Answered::try_from(json).map_err(ClientError::broken)
}

/// Returns a text as it stands in a path or a query.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn client(url: &str, token: Option<&str>) -> Result<Client, String> {
        let token = token.map(|token| Secret::new(token.to_owned()));
        Client::of_remote(RemoteServer { url: url.to_owned(), token }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_named_by_host_and_port() {
        for (url, address) in [
            ("http://nas:8000", "nas:8000"),
            ("HTTP://nas", "nas:80"),
            ("http://192.168.1.2:8000/", "192.168.1.2:8000"),
            ("http://[::1]:8000", "[::1]:8000"),
        ] {
            let Way::Network { address: found, .. } = client(url, None).unwrap().way else { panic!("{url} is no socket") };
            assert_eq!(found, address);
        }
        for (url, word) in [
            ("https://nas:8000", "TLS"),
            ("nas:8000", "no address"),
            ("ftp://nas", "http://"),
            ("http://nas:8000/api", "more than a host"),
            ("http://nas:8000?x=1", "more than a host"),
            ("http://me@nas:8000", "@"),
            ("http://", "no address"),
        ] {
            let sentence = client(url, None).unwrap_err();
            assert!(sentence.contains(word) && sentence.contains("http://nas:8000"), "{url}: {sentence}");
        }
    }

    #[test]
    fn a_token_is_in_no_sentence_and_no_debug_text() {
        let sentence = client("http://nas", Some("hush\nhush")).unwrap_err();
        assert!(sentence.contains("token") && !sentence.contains("hush"), "{sentence}");
        let client = client("http://nas", Some("hush")).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
    }
}
