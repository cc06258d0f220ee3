//! Signed-in browsers: a cookie of 256 random bits, of which the store keeps only the digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::extract::cookie::Cookie;
use tokio::time::timeout;
use tracing::debug;

use super::caller::{Caller, address_of};
use super::{Peer, SecretDigest};
use crate::causes::Causes;
use crate::share::{Moment, Steady};
use crate::store::{Session, Store, StoreError};
use crate::token::random;

/// The cookie's name.
pub const COOKIE: &str = "portcullis_session";
/// How long a browser stays signed in after its last visit.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// A session is prolonged once this much of it has passed: one write an hour, not one for each request. As exact is what
/// is known of when it was last seen.
const PROLONG_AFTER: Duration = Duration::from_secs(3600);
/// How long whoever comes in waits for that write at the most; a disk that is well takes milliseconds.
const PROLONGED_WITHIN: Duration = Duration::from_millis(200);
/// How long a session is believed without asking the store; as long as a sign-out on another controller takes to be seen.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// How many sessions are remembered; a household has a few browsers, and a forgotten one costs a look into the store.
const MAX_REMEMBERED: usize = 256;
/// How many cookies of our name are looked at in one request: each may cost a look into the store.
const MAX_COOKIES: usize = 4;
/// The letters of a cookie's value: what [`random::secret`] makes.
const SECRET_LENGTH: usize = 64;
/// How much is kept of what a browser calls itself.
const MAX_AGENT_BYTES: usize = 256;

/// A browser that is about to be signed in: who it will be is known before it is.
pub(in crate::http) struct NewBrowser {
    /// Who it will be.
    pub(in crate::http) caller: Caller,
    secret: String,
    address: Option<String>,
}

impl NewBrowser {
    /// Chooses the secret of its cookie.
    pub(in crate::http) fn new(peer: Option<Peer>) -> Self {
        let secret = random::secret();
        let address = address_of(peer).map(|address| address.to_canonical().to_string());
        Self { caller: Caller::browser(SecretDigest::of(&secret), peer), secret, address }
    }

    /// Names its session in lists.
    pub(in crate::http) fn id(&self) -> String {
        SecretDigest::of(&self.secret).id()
    }
}

/// Knows who is signed in.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    /// Below which browsers send the cookie.
    path: String,
    remembered: Mutex<Table>,
    /// Held over each change of a session that exists, so that prolonging one never brings back what is being ended.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<SecretDigest, Remembered>,
    /// How many sessions were ended: what was read from the store before the last end is not remembered after it.
    ended: u64,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    expires: Steady,
    checked: Steady,
}

/// A session that holds.
#[derive(Debug, Clone)]
pub(super) struct SignedIn {
    pub(super) digest: SecretDigest,
    /// What to send so that the browser keeps its cookie as long as the session now lives.
    pub(super) renewed_cookie: Option<HeaderValue>,
}

impl Sessions {
    /// `prefix` is the path below which the owner's side stands, empty where that is the root.
    pub(super) fn new(store: Arc<dyn Store>, prefix: &str) -> Self {
        let path = if prefix.is_empty() { "/" } else { prefix }.to_owned();
        Self { store, path, remembered: Mutex::default(), changing: tokio::sync::Mutex::default() }
    }

    /// Signs a browser in. Returns the cookie to set.
    pub(super) async fn begin(&self, browser: NewBrowser, agent: &str, now: Moment) -> Result<HeaderValue, StoreError> {
        let NewBrowser { secret, address, .. } = browser;
        let end = (0..=MAX_AGENT_BYTES.min(agent.len())).rev().find(|end| agent.is_char_boundary(*end)).unwrap_or(0);
        let session = Session {
            digest: SecretDigest::of(&secret).0,
            expires: now.steady.plus(LIFETIME),
            created: now.wall,
            seen: now.wall,
            address,
            agent: agent[..end].to_owned(),
        };
        self.store.put_session(session).await?;
        Ok(self.cookie(&secret, LIFETIME))
    }

    /// Returns the cookie that makes a browser forget its session.
    pub(super) fn removal_cookie(&self) -> HeaderValue {
        self.cookie("", Duration::ZERO)
    }

    /// `Secure` is left out: the owner side speaks plain HTTP in the LAN.
    fn cookie(&self, secret: &str, lifetime: Duration) -> HeaderValue {
        let (path, seconds) = (&self.path, lifetime.as_secs());
        let text = format!("{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path={path}; Max-Age={seconds}");
        HeaderValue::try_from(text).expect("a cookie of ours is made of visible ASCII letters")
    }

    /// Returns the session that a request's cookie names, where there is one and it holds.
    pub(super) async fn of(&self, headers: &HeaderMap, now: Moment) -> Result<Option<SignedIn>, StoreError> {
        for secret in secrets_in(headers) {
            let signed_in = self.of_secret(&secret, now).await?;
            if signed_in.is_some() {
                return Ok(signed_in);
            }
        }
        Ok(None)
    }

    async fn of_secret(&self, secret: &str, now: Moment) -> Result<Option<SignedIn>, StoreError> {
        let digest = SecretDigest::of(secret);
        let Some(expires) = self.expiry(digest, now.steady).await? else { return Ok(None) };
        let is_due = expires.since(now.steady) + PROLONG_AFTER <= LIFETIME;
        if !is_due {
            return Ok(Some(SignedIn { digest, renewed_cookie: None }));
        }
        match self.prolong(digest, now).await {
            Ok(true) => Ok(Some(SignedIn { digest, renewed_cookie: Some(self.cookie(secret, LIFETIME)) })),
            Ok(false) => Ok(None),
            // A disk that is full or hangs shuts nobody out: the session holds as it stands, and is prolonged another time.
            Err(error) => {
                debug!(error = %Causes(&error), "A session could not be prolonged");
                Ok(Some(SignedIn { digest, renewed_cookie: None }))
            }
        }
    }

    /// Returns whether a session holds still.
    pub(super) async fn holds(&self, digest: SecretDigest, now: Steady) -> Result<bool, StoreError> {
        Ok(self.expiry(digest, now).await?.is_some())
    }

    /// Returns the sessions that have not ended, the one that was seen last first.
    pub(super) async fn list(&self, now: Steady) -> Result<Vec<Session>, StoreError> {
        self.store.sessions(now).await
    }

    /// Signs a browser out; from here on its cookie opens nothing.
    pub(super) async fn end(&self, digest: SecretDigest, now: Steady) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        self.store.end_session(digest.0, now).await?;
        let mut table = self.table();
        table.entries.remove(&digest);
        table.ended += 1;
        Ok(())
    }

    async fn expiry(&self, digest: SecretDigest, now: Steady) -> Result<Option<Steady>, StoreError> {
        let (recalled, ended) = {
            let table = self.table();
            (table.entries.get(&digest).copied(), table.ended)
        };
        if let Some(entry) = recalled
            && now < entry.expires
            && now.since(entry.checked) < BELIEVED_FOR
        {
            return Ok(Some(entry.expires));
        }
        let Some(session) = self.store.session(digest.0, now).await? else { return Ok(None) };
        self.remember(digest, Remembered { expires: session.expires, checked: now }, ended);
        Ok(Some(session.expires))
    }

    /// Lets a session live on from now. Returns whether there is one.
    async fn prolong(&self, digest: SecretDigest, now: Moment) -> Result<bool, StoreError> {
        // Somebody else changes one, and their disk may hang: this one holds as it stands, and is prolonged another time.
        let Ok(_changing) = self.changing.try_lock() else { return Err(StoreError::unavailable("sessions are being changed")) };
        let ended = self.table().ended;
        let Some(session) = self.store.session(digest.0, now.steady).await? else { return Ok(false) };
        let expires = now.steady.plus(LIFETIME);
        // Whoever comes in while the disk hangs may want to shut something; what was asked for is written all the same.
        let kept = timeout(PROLONGED_WITHIN, self.store.put_session(Session { expires, seen: now.wall, ..session })).await;
        kept.map_err(StoreError::unavailable)??;
        self.remember(digest, Remembered { expires, checked: now.steady }, ended);
        Ok(true)
    }

    fn remember(&self, digest: SecretDigest, entry: Remembered, ended: u64) {
        let mut table = self.table();
        if table.ended != ended {
            return;
        }
        if table.entries.len() >= MAX_REMEMBERED && !table.entries.contains_key(&digest) {
            table.entries.clear();
        }
        table.entries.insert(digest, entry);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.remembered.lock().expect("nobody panics while holding the table of sessions")
    }
}

/// Returns the secrets that a browser sends, the one for the longest path first. Cookies know no ports: beside ours there may be that of
/// another Portcullis on the same machine, or an older one of ours for another path.
fn secrets_in(headers: &HeaderMap) -> Vec<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(Cookie::split_parse);
    let values = cookies.filter_map(Result::ok).filter(|cookie| cookie.name() == COOKIE).map(|cookie| cookie.value().to_owned());
    let is_secret = |value: &String| value.len() == SECRET_LENGTH && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    values.filter(is_secret).take(MAX_COOKIES).collect()
}
