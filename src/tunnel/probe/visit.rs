//! One visit over TLS: the handshake, one question, the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::causes::Causes;
use crate::share::Obstacle;

/// How long a handshake may take: through Funnel's relays up to ten seconds were seen.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer may take, a few round trips behind the handshake's.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read: a resolver's has a few hundred bytes, and a canary's none.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What is asked, and of whom.
pub(super) struct Question<'a> {
    /// Whose certificate it must be: a name, or an address.
    pub(super) name: &'a str,
    /// What stands in `Host`.
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    /// Which kind of answer is wanted.
    pub(super) accept: &'static str,
}

/// Speaks TLS as a stranger on this machine would, with the roots that it trusts.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl Tls {
    /// Takes this machine's roots.
    pub(super) async fn of_this_machine() -> Self {
        let roots = tokio::task::spawn_blocking(roots).await.unwrap_or_else(|_| bundled_roots());
        Self::trusting(roots)
    }

    /// Takes these roots.
    pub(super) fn trusting(roots: RootCertStore) -> Self {
        let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let versions = versions.expect("the provider speaks TLS 1.2 and 1.3");
        let mut config = versions.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Asks over a connection that was taken; returns the answer's status and what it holds.
    pub(super) async fn ask(&self, stream: TcpStream, question: &Question<'_>) -> Result<(StatusCode, Bytes), Obstacle> {
        let stream = self.seal(stream, question.name).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = question.path.parse().map_err(|_| Obstacle::OtherAnswer)?;
        let host = HeaderValue::from_str(question.authority).map_err(|_| Obstacle::NameUnknown)?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(question.accept));
        let (parts, body) = timeout(ANSWER_TIMEOUT, answer(stream, request)).await.unwrap_or(Err(Obstacle::NoAnswer))?.into_parts();
        Ok((parts.status, body))
    }

    /// Shakes hands with whoever a name's certificate is of.
    pub(super) async fn seal(&self, stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, Obstacle> {
        let its = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(|_| Obstacle::NameUnknown)?;
        match timeout(HANDSHAKE_TIMEOUT, self.0.connect(its, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(error = %Causes(&error), "No handshake with {name}");
                Err(met_in_handshake(&error))
            }
            Err(_) => Err(Obstacle::NoAnswer),
        }
    }
}

/// Asks over a connection and reads the whole answer.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Bytes>, Obstacle> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| met(&error))?;
    let mut tasks = JoinSet::new();
    // It ends with the set; what breaks it is told to whoever reads the answer.
    tasks.spawn(async move { drop(connection.await) });
    let (parts, body) = sender.send_request(request).await.map_err(|error| met(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|_| Obstacle::NoAnswer)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Says what a handshake that failed means.
fn met_in_handshake(error: &io::Error) -> Obstacle {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => Obstacle::ForeignCertificate,
        // It was refused in TLS's own words, or without any.
        Some(rustls::Error::AlertReceived(_)) | None => Obstacle::HandshakeCut,
        Some(_) => Obstacle::OtherAnswer,
    }
}

/// Says what a question that failed means.
fn met(error: &hyper::Error) -> Obstacle {
    if error.is_parse() { Obstacle::OtherAnswer } else { Obstacle::NoAnswer }
}

/// Returns the roots that this machine trusts (`SSL_CERT_FILE` says otherwise); where it has none, as a container that holds the
/// program alone, those that Mozilla trusts. Blocks.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(error = %Causes(&error), "Some of this machine's roots cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { bundled_roots() } else { roots }
}

fn bundled_roots() -> RootCertStore {
    RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
}
