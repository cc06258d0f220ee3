//! Signed-in browsers: a cookie of 256 random bits, of which the store keeps only the digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use axum_extra::extract::CookieJar;

use super::SecretDigest;
use crate::share::{Steady, Timestamp};
use crate::store::{Session, Store, StoreError};
use crate::token::random;

/// The cookie's name.
pub const COOKIE: &str = "portcullis_session";
/// How long a browser stays signed in after its last visit.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// A session is prolonged once this much of it has passed: one write a day, not one for each request.
const PROLONG_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long a session is believed without asking the store; as long as a sign-out on another controller takes to be seen.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// How many sessions are remembered; a household has a few browsers, and a forgotten one costs a look into the store.
const MAX_REMEMBERED: usize = 256;
/// The letters of a cookie's value: what [`random::secret`] makes.
const SECRET_LENGTH: usize = 64;

/// Knows who is signed in.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    remembered: Mutex<HashMap<SecretDigest, Remembered>>,
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
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, remembered: Mutex::default() }
    }

    /// Signs a browser in. Returns the cookie to set.
    pub(super) async fn begin(&self, now: Steady) -> Result<HeaderValue, StoreError> {
        let secret = random::secret();
        self.keep(SecretDigest::of(&secret), now).await?;
        Ok(cookie(&secret, LIFETIME))
    }

    /// Returns the session that a request's cookie names, where there is one and it holds.
    pub(super) async fn of(&self, headers: &HeaderMap, now: Steady) -> Result<Option<SignedIn>, StoreError> {
        let Some(secret) = secret_in(headers) else { return Ok(None) };
        let digest = SecretDigest::of(&secret);
        let expires = match self.recall(digest, now) {
            Some(expires) => expires,
            None => match self.store.session(digest.0, now).await? {
                Some(session) => session.expires,
                None => return Ok(None),
            },
        };
        if expires.since(now) + PROLONG_AFTER > LIFETIME {
            self.remember(digest, Remembered { expires, checked: now });
            return Ok(Some(SignedIn { digest, renewed_cookie: None }));
        }
        self.keep(digest, now).await?;
        Ok(Some(SignedIn { digest, renewed_cookie: Some(cookie(&secret, LIFETIME)) }))
    }

    /// Signs a browser out.
    pub(super) async fn end(&self, digest: SecretDigest, now: Steady) -> Result<(), StoreError> {
        self.table().remove(&digest);
        self.store.end_session(digest.0, now).await
    }

    async fn keep(&self, digest: SecretDigest, now: Steady) -> Result<(), StoreError> {
        let expires = now.plus(LIFETIME);
        self.store
            .put_session(Session {
                digest: digest.0,
                expires,
                created: Timestamp(0),
                seen: Timestamp(0),
                address: None,
                agent: String::new(),
            })
            .await?;
        self.remember(digest, Remembered { expires, checked: now });
        Ok(())
    }

    fn recall(&self, digest: SecretDigest, now: Steady) -> Option<Steady> {
        let remembered = *self.table().get(&digest)?;
        (now < remembered.expires && now.since(remembered.checked) < BELIEVED_FOR).then_some(remembered.expires)
    }

    fn remember(&self, digest: SecretDigest, entry: Remembered) {
        let mut table = self.table();
        if table.len() >= MAX_REMEMBERED && !table.contains_key(&digest) {
            table.clear();
        }
        let known = table.entry(digest).or_insert(entry);
        // Being seen again does not make it checked again: only the store can say that it still holds.
        if entry.checked.since(known.checked) >= BELIEVED_FOR || entry.expires != known.expires {
            *known = entry;
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<SecretDigest, Remembered>> {
        self.remembered.lock().expect("nobody panics while holding the table of sessions")
    }
}

/// Returns the cookie that makes a browser forget its session.
pub fn removal_cookie() -> HeaderValue {
    cookie("", Duration::ZERO)
}

/// `Secure` is left out: the owner side speaks plain HTTP in the LAN.
fn cookie(secret: &str, lifetime: Duration) -> HeaderValue {
    let text = format!("{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}", lifetime.as_secs());
    HeaderValue::try_from(text).expect("a cookie of ours is made of visible ASCII letters")
}

fn secret_in(headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    let value = jar.get(COOKIE)?.value();
    (value.len() == SECRET_LENGTH && value.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| value.to_owned())
}
