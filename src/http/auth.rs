//! Who an owner is, and from where they may speak.
//!
//! `guard` stands in front of every route. In this order it refuses what came through the public tunnel, what calls us by
//! a foreign name, what a foreign page sends, whoever brings no credential, and whoever's credential is for less. Credentials
//! are: the owner's token or an API token (`Authorization: Bearer` or `X-API-Key`), the cookie of a signed-in browser, or the
//! local socket in the hands of root or of our own user, or a login that tailscaled vouches for on a socket of its own. A browser signs in by a link that carries a sign-in code, or by
//! pasting the owner's token. An API token has a scope; all others may do everything.
//!
//! * `guard.rs`: the one place that lets in. `caller.rs`: who it is. `origin.rs`: from where. `guesses.rs`: how often.
//! * `sessions.rs`: signed-in browsers. `tokens.rs`: API tokens.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::owner::OwnerSettings;
use super::problem::Problem;
use crate::share::{Moment, Steady};
use crate::store::{ApiToken, ApiTokenId, Session, Store};
use crate::token::random;

mod caller;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod guard;
mod guesses;
mod origin;
mod sessions;
mod tokens;

use caller::address_of;
pub(super) use caller::from_of;
pub use caller::{Caller, Credential};
pub use guard::{Access, Rule};
pub(super) use guard::{Post, Rules, guard};
pub use sessions::COOKIE;
pub(super) use sessions::NewBrowser;
pub(super) use tokens::{Going, NewToken, new_id as new_api_token_id};

/// Where a browser signs in.
pub const SIGN_IN: &str = "/sign-in";
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

    /// Takes a digest that was kept.
    pub(super) fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Names it in lists and logs: its first 16 hexadecimal digits, no help to whoever looks for the secret.
    pub(super) fn id(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
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
    /// tailscaled, which says on its own socket who of the tailnet asks.
    Tailnet,
}

/// The owner's token, which may be changed while we run.
struct OwnerToken(RwLock<SecretDigest>);

impl OwnerToken {
    fn matches(&self, candidate: &str) -> bool {
        self.0.read().expect("nobody panics while holding the token").matches(candidate)
    }
}

/// What it takes to tell an owner from a stranger.
pub(super) struct Gate {
    auth: Auth,
    owner_token: OwnerToken,
    codes: Mutex<VecDeque<SecretDigest>>,
    sessions: sessions::Sessions,
    tokens: tokens::Tokens,
    guesses: guesses::Guesses,
    names: origin::Names,
    /// The logins of the tailnet that are owners.
    tailnet: Vec<String>,
    our_uid: u32,
}

impl Gate {
    pub(super) fn new(settings: &OwnerSettings, store: Arc<dyn Store>) -> Self {
        Self {
            auth: settings.auth,
            owner_token: OwnerToken(RwLock::new(settings.owner_token)),
            codes: Mutex::default(),
            sessions: sessions::Sessions::new(store.clone(), settings.prefix.as_str()),
            tokens: tokens::Tokens::new(store),
            guesses: guesses::Guesses::new(),
            names: origin::Names::new(&settings.hosts, origin::machine_name().as_deref()),
            tailnet: settings.tailnet_owners.clone(),
            our_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Takes another owner's token in place of that. Returns whether it is another.
    pub(super) fn set_owner_token(&self, token: SecretDigest) -> bool {
        let mut held = self.owner_token.0.write().expect("nobody panics while holding the token");
        std::mem::replace(&mut *held, token) != token
    }

    /// Takes other names under which the owner's side may be called.
    pub(super) fn set_hosts(&self, hosts: &[String]) {
        self.names.set(hosts);
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

    /// Returns whether a browser may sign in with `secret`: the owner's token or a sign-in code.
    pub(super) fn knows(&self, secret: &str, peer: Option<Peer>, now: Steady) -> Result<bool, Problem> {
        let is_code = {
            let codes = self.codes.lock().expect("nobody panics while holding the codes");
            codes.iter().fold(false, |found, code| found | code.matches(secret))
        };
        self.judge(address_of(peer), now, is_code | self.owner_token.matches(secret))
    }

    /// Signs a browser in. Returns the cookie to set.
    pub(super) async fn sign_in(&self, browser: NewBrowser, agent: &str, now: Moment) -> Result<HeaderValue, Problem> {
        Ok(self.sessions.begin(browser, agent, now).await?)
    }

    /// Returns the cookie that makes a browser forget its session.
    pub(super) fn removal_cookie(&self) -> HeaderValue {
        self.sessions.removal_cookie()
    }

    /// Signs a browser out.
    pub(super) async fn sign_out(&self, session: SecretDigest, now: Steady) -> Result<(), Problem> {
        Ok(self.sessions.end(session, now).await?)
    }

    /// Returns the sessions of all signed-in browsers, the one that was seen last first.
    pub(super) async fn sessions(&self, now: Steady) -> Result<Vec<Session>, Problem> {
        Ok(self.sessions.list(now).await?)
    }

    /// Returns the API tokens, the newest first.
    pub(super) async fn api_tokens(&self) -> Result<Vec<ApiToken>, Problem> {
        Ok(self.tokens.list().await?)
    }

    /// Makes an API token. Returns it with its secret, which nobody can tell again.
    pub(super) async fn make_api_token(&self, new: NewToken, now: Moment) -> Result<(ApiToken, String), Problem> {
        Ok(self.tokens.make(new, now).await?)
    }

    /// Lets an API token open nothing as long as what is returned lives: while it is being revoked.
    pub(super) fn hold_api_token_shut(&self, id: &ApiTokenId) -> Going {
        self.tokens.hold_shut(id)
    }

    /// Revokes an API token; from here on it opens nothing. Returns it, where there was one.
    pub(super) async fn revoke_api_token(&self, id: &ApiTokenId) -> Result<Option<ApiToken>, Problem> {
        Ok(self.tokens.revoke(id).await?)
    }

    /// Returns whether whoever came in may still be in: what a long answer asks from time to time. Where the store cannot
    /// say, what held a moment ago holds.
    pub(super) async fn still_holds(&self, caller: &Caller, now: Moment) -> bool {
        let holds = match &caller.credential {
            Credential::Nothing | Credential::LocalUser | Credential::TailnetLogin | Credential::OwnerToken => return true,
            Credential::Browser(session) => self.sessions.holds(*session, now.steady).await,
            Credential::ApiToken(id) => self.tokens.holds(id, now).await,
        };
        holds.unwrap_or(true)
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
        match peer {
            // No browser reaches the local socket, and its callers name any host. A proxy there would lend everybody its rights.
            Some(Peer::Local { .. }) => origin::check_not_proxied(headers)?,
            Some(Peer::Tailnet) => drop(self.tailnet_login(headers)?),
            Some(Peer::Tcp(_)) | None => origin::check_host(uri, headers, &self.names)?,
        }
        // tailscaled calls a socket `localhost`, and says beside it what the browser called.
        let host = if peer == Some(Peer::Tailnet) { "x-forwarded-host" } else { "host" };
        origin::check_origin(method, uri, headers, host)
    }

    /// Returns who of the tailnet asks, where tailscaled says so and they are an owner.
    fn tailnet_login<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
        let mut logins = headers.get_all(origin::TAILNET_LOGIN).iter().map(|login| login.to_str().unwrap_or_default());
        let login = logins.next().filter(|_| logins.next().is_none()).unwrap_or_default();
        if !login.is_empty() && self.tailnet.iter().any(|owner| owner.eq_ignore_ascii_case(login)) {
            return Ok(login);
        }
        let detail = "This login of the tailnet is no owner here; TAILNET_OWNERS in the settings says who is.";
        Err(Problem::new(StatusCode::FORBIDDEN, "not_an_owner", detail))
    }

    /// Says who a request is from. A good session is asked for first: wrong guesses from the same address never block it.
    async fn identify(&self, headers: &HeaderMap, peer: Option<Peer>, now: Moment) -> Result<Identified, Problem> {
        if self.auth == Auth::None {
            return Ok(Identified::as_caller(Caller::anybody(peer)));
        }
        if let Some(Peer::Local { uid }) = peer
            && (uid == 0 || uid == self.our_uid)
        {
            return Ok(Identified::as_caller(Caller::local(uid, peer)));
        }
        if peer == Some(Peer::Tailnet) {
            return Ok(Identified::as_caller(Caller::of_tailnet(self.tailnet_login(headers)?, peer)));
        }
        if let Some(signed_in) = self.sessions.of(headers, now).await? {
            let caller = Caller::browser(signed_in.digest, peer);
            return Ok(Identified { caller: Some(caller), cookie: signed_in.renewed_cookie });
        }
        let Some(secret) = token_in(headers) else { return Ok(Identified { caller: None, cookie: None }) };
        // An API token is 256 bits of ours, which nobody guesses: a script that goes on with a revoked one shuts out no other
        // behind the same proxy. The owner's token may be a word that its owner chose.
        if let Some(token) = self.tokens.find(secret, now).await? {
            return Ok(Identified::as_caller(Caller::api_token(&token, peer)));
        }
        if self.judge(address_of(peer), now.steady, self.owner_token.matches(secret))? {
            return Ok(Identified::as_caller(Caller::owner_token(peer)));
        }
        let detail = "This is neither the owner's token nor an API token that holds.";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", detail))
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

fn token_in(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.to_str().unwrap_or_default());
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}
