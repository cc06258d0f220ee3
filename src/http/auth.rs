//! Who an owner is, and from where they may speak.
//!
//! `guard` stands in front of every route. In this order it refuses what came through the public tunnel, what calls us by
//! a foreign name, what a foreign page sends, and whoever brings no credential. Credentials are: the owner's token
//! (`Authorization: Bearer` or `X-API-Key`), the cookie of a signed-in browser, or the local socket in the hands of root or
//! of our own user. A browser signs in by a link that carries a sign-in code, or by pasting the token.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::owner::OwnerSide;
use super::problem::Problem;
use crate::share::Steady;
use crate::store::Store;
use crate::token::random;

mod guesses;
mod origin;
mod sessions;

pub use sessions::{COOKIE, removal_cookie};

/// Where a browser signs in.
pub const SIGN_IN: &str = "/sign-in";
/// What anybody in the LAN may ask for. Each handler tells a stranger no more than it must. Everything else wants a credential.
pub const PUBLIC: &[&str] = &["/", SIGN_IN, "/health", "/healthz", "/livez"];
/// The files of the page: the sign-in page needs them, and they hold no data.
pub const PUBLIC_FOLDER: &str = "/assets/";
/// How many sign-in codes hold at once, the one of the start among them. `portcullis` prints one whenever it is asked to.
const MAX_CODES: usize = 64;
/// The digits of a sign-in code: 128 bits, short enough for a line of a terminal.
const CODE_LENGTH: usize = 32;

/// Whether an owner must show a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// The owner's token, or a session that began with it.
    Token,
    /// Nothing: everybody in the LAN is an owner.
    None,
}

impl Auth {
    /// Returns the word that settings and JSON use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::None => "none",
        }
    }
}

/// The SHA-256 of a secret: enough to know it again, too little to use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Digests a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Returns whether `candidate` is the secret; takes as long whether it is or not.
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.ct_eq(&Self::of(candidate).0).into()
    }
}

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

/// Who stands at the other end of a connection; the loop that accepts it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Somebody in the LAN.
    Tcp(SocketAddr),
    /// A process of this machine, over the local socket.
    Local {
        /// The user it runs as, as the kernel says.
        uid: u32,
    },
}

/// Who a request is from, once that is known. Without one the request is a stranger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Anybody: no credential is asked for.
    Anybody,
    /// Our own user or root, over the local socket.
    Local,
    /// Somebody who has the owner's token.
    Token,
    /// A signed-in browser.
    Browser(SecretDigest),
}

/// What it takes to tell an owner from a stranger.
pub(super) struct Gate {
    auth: Auth,
    owner_token: SecretDigest,
    codes: Mutex<VecDeque<SecretDigest>>,
    sessions: sessions::Sessions,
    guesses: guesses::Guesses,
    names: origin::Names,
    our_uid: u32,
}

impl Gate {
    pub(super) fn new(auth: Auth, owner_token: SecretDigest, hosts: &[String], store: Arc<dyn Store>) -> Self {
        Self {
            auth,
            owner_token,
            codes: Mutex::default(),
            sessions: sessions::Sessions::new(store),
            guesses: guesses::Guesses::new(),
            names: origin::Names::new(hosts, origin::machine_name().as_deref()),
            our_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Makes a sign-in code. It holds until the process ends or many others were made; the first one is never pushed out.
    pub(super) fn new_code(&self) -> String {
        let mut code = random::secret();
        code.truncate(CODE_LENGTH);
        let mut codes = self.codes.lock().expect("nobody panics while holding the codes");
        if codes.len() >= MAX_CODES {
            codes.remove(1);
        }
        codes.push_back(SecretDigest::of(&code));
        code
    }

    /// Signs a browser in that brings the owner's token or a sign-in code. Returns the cookie to set; `None` where the secret
    /// is wrong.
    pub(super) async fn sign_in(&self, secret: &str, address: Option<IpAddr>, now: Steady) -> Result<Option<HeaderValue>, Problem> {
        let is_code = {
            let codes = self.codes.lock().expect("nobody panics while holding the codes");
            codes.iter().fold(false, |found, code| found | code.matches(secret))
        };
        if self.judge(address, now, is_code | self.owner_token.matches(secret))? {
            Ok(Some(self.sessions.begin(now).await?))
        } else {
            Ok(None)
        }
    }

    /// Signs a browser out.
    pub(super) async fn sign_out(&self, session: SecretDigest, now: Steady) -> Result<(), Problem> {
        Ok(self.sessions.end(session, now).await?)
    }

    fn judge(&self, address: Option<IpAddr>, now: Steady, is_right: bool) -> Result<bool, Problem> {
        self.guesses.judge(address, now, is_right).map_err(|too_many| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tries", "Too many wrong tries; wait a moment and try again.")
                .retry_after(too_many.wait)
        })
    }

    /// Refuses what may not come in whoever sends it.
    fn check_source(&self, request: &Request, peer: Option<Peer>) -> Result<(), Problem> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        origin::check_not_public(headers)?;
        // No browser reaches the local socket, and its callers name any host.
        if !matches!(peer, Some(Peer::Local { .. })) {
            origin::check_host(uri, headers, &self.names)?;
        }
        origin::check_origin(method, uri, headers)
    }

    /// Says who a request is from. A good session is asked for first: wrong guesses from the same address never block it.
    async fn identify(&self, headers: &HeaderMap, peer: Option<Peer>, now: Steady) -> Result<Identified, Problem> {
        if self.auth == Auth::None {
            return Ok(Identified::as_caller(Caller::Anybody));
        }
        if matches!(peer, Some(Peer::Local { uid }) if uid == 0 || uid == self.our_uid) {
            return Ok(Identified::as_caller(Caller::Local));
        }
        if let Some(signed_in) = self.sessions.of(headers, now).await? {
            return Ok(Identified { caller: Some(Caller::Browser(signed_in.digest)), cookie: signed_in.renewed_cookie });
        }
        let Some(token) = token_in(headers) else { return Ok(Identified { caller: None, cookie: None }) };
        if self.judge(address_of(peer), now, self.owner_token.matches(token))? {
            return Ok(Identified::as_caller(Caller::Token));
        }
        Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", "This is not the owner's token."))
    }
}

struct Identified {
    caller: Option<Caller>,
    cookie: Option<HeaderValue>,
}

impl Identified {
    fn as_caller(caller: Caller) -> Self {
        Self { caller: Some(caller), cookie: None }
    }
}

/// Lets in whoever may come in, and tells the handlers who it is by an extension of the type [`Caller`].
pub(super) async fn guard(State(side): State<Arc<OwnerSide>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    if let Err(problem) = side.gate.check_source(&request, peer) {
        return problem.into_response();
    }
    let path = request.uri().path();
    let is_public = PUBLIC.contains(&path) || path.starts_with(PUBLIC_FOLDER);
    let identified = match side.gate.identify(request.headers(), peer, side.clock.now().steady).await {
        Ok(identified) => identified,
        Err(_) if is_public => Identified { caller: None, cookie: None },
        Err(problem) => return problem.into_response(),
    };
    match identified.caller {
        Some(caller) => drop(request.extensions_mut().insert(caller)),
        None if is_public => {}
        None => {
            let detail = "Sign in on the owner's page, or send the owner's token as `Authorization: Bearer …`.";
            return Problem::new(StatusCode::UNAUTHORIZED, "not_signed_in", detail).into_response();
        }
    }
    let mut response = next.run(request).await;
    if let Some(cookie) = identified.cookie
        && !response.headers().contains_key(header::SET_COOKIE)
    {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns the address that wrong tries are counted for.
pub(super) fn address_of(peer: Option<Peer>) -> Option<IpAddr> {
    match peer {
        Some(Peer::Tcp(address)) => Some(address.ip()),
        Some(Peer::Local { .. }) | None => None,
    }
}

fn token_in(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.to_str().unwrap_or_default());
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}
