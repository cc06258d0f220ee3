//! Speaks to the running server over the socket in its state folder.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::answers::{Answered, Page, Problem, Session, SignInLink};
use super::events::{Event, Parser};
use crate::app::OWNER_SOCKET;
use crate::share::ShareId;

/// How long an answer may take. Making a share waits for its way in, some seconds with a slow tunnel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
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
            Self::NoServer { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::NotPermitted { .. } => false,
        }
    }
}

/// Speaks to one server. Each request has a connection of its own, which costs nothing here.
#[derive(Debug, Clone)]
pub(super) struct Client {
    socket: PathBuf,
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
        Self { socket }
    }

    /// Asks the server about itself.
    pub(super) async fn session(&self) -> Result<Session, ClientError> {
        parse(self.call(Method::GET, "/api/v1/session", None).await?)
    }

    pub(super) async fn create(&self, wish: &Value) -> Result<Answered, ClientError> {
        parse_share(self.call(Method::POST, "/api/v1/shares", Some(wish)).await?)
    }

    pub(super) async fn share(&self, id: &str) -> Result<Answered, ClientError> {
        parse_share(self.call(Method::GET, &format!("/api/v1/shares/{}", encoded(id)), None).await?)
    }

    pub(super) async fn revoke(&self, id: ShareId) -> Result<Answered, ClientError> {
        parse_share(self.call(Method::DELETE, &format!("/api/v1/shares/{id}"), None).await?)
    }

    pub(super) async fn shares(&self, all: bool, cursor: Option<&str>) -> Result<Page, ClientError> {
        let mut path = "/api/v1/shares?".to_owned();
        if !all {
            path += "state=living&";
        }
        if let Some(cursor) = cursor {
            path += &format!("cursor={}", encoded(cursor));
        }
        parse(self.call(Method::GET, path.trim_end_matches(['?', '&']), None).await?)
    }

    pub(super) async fn sign_in_link(&self) -> Result<SignInLink, ClientError> {
        parse(self.call(Method::POST, "/api/v1/session/link", None).await?)
    }

    /// Asks whether the server is well.
    pub(super) async fn health(&self) -> Result<(), ClientError> {
        self.call(Method::GET, "/health", None).await.map(drop)
    }

    /// Listens to what happens to shares from here on.
    pub(super) async fn events(&self) -> Result<Events, ClientError> {
        let request = self.request(Method::GET, "/api/v1/events/stream", None)?;
        let mut answer = timed(self.send(request)).await?;
        if !answer.response.status().is_success() {
            return Err(refusal(answer.response.status(), &body_of(&mut answer).await?));
        }
        Ok(Events { answer, parser: Parser::default(), waiting: Vec::new().into_iter() })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let request = self.request(method, path, body)?;
        timed(async {
            let mut answer = self.send(request).await?;
            let bytes = body_of(&mut answer).await?;
            if !answer.response.status().is_success() {
                return Err(refusal(answer.response.status(), &bytes));
            }
            if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes).map_err(ClientError::broken) }
        })
        .await
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost").header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body.map(Value::to_string).unwrap_or_default())).map_err(ClientError::broken)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::broken)?;
        let mut tasks = JoinSet::new();
        // It ends with the answer; what breaks it is told to whoever reads the answer.
        tasks.spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(ClientError::broken)?;
        Ok(Answer { response, connection: tasks })
    }

    fn not_connected(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoServer { folder: self.socket.parent().unwrap_or(Path::new(".")).to_owned() }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted { socket: self.socket.clone() },
            _ => ClientError::broken(error),
        }
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

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let detail = if problem.detail.is_empty() { format!("the server answered {status}") } else { problem.detail };
    ClientError::Refused { status, code: problem.code, detail }
}

fn parse<T: DeserializeOwned>(json: Value) -> Result<T, ClientError> {
    serde_json::from_value(json).map_err(ClientError::broken)
}

fn parse_share(json: Value) -> Result<Answered, ClientError> {
    Answered::try_from(json).map_err(ClientError::broken)
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
