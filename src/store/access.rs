//! Who may come in besides the owner's token: signed-in browsers and API tokens.

use serde::{Deserialize, Serialize};

use crate::share::{Moment, Steady, Timestamp};

/// The most sessions that are kept; past it those that end first are forgotten. An owner has a handful of browsers, and
/// whoever can sign in cannot grow the store without end.
pub const MAX_SESSIONS: usize = 1000;
/// The most API tokens; past it making another is refused. A household has a handful of scripts.
pub const MAX_API_TOKENS: usize = 200;

/// A signed-in browser. Only the digest of its cookie is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie's value.
    pub digest: [u8; 32],
    /// When it ends, by the steady clock.
    pub expires: Steady,
    /// When it signed in, by the wall clock.
    pub created: Timestamp,
    /// When it was last prolonged, by the wall clock.
    pub seen: Timestamp,
    /// From where it signed in; `None` over the local socket.
    pub address: Option<String>,
    /// What its browser calls itself, cut to a sensible length.
    pub agent: String,
}

/// What the holder of a credential may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything but links and secrets.
    Read,
    /// Make, extend, close and open shares, and see their links.
    Share,
    /// Everything: also tokens, sessions and the audit log.
    Admin,
}

impl Scope {
    /// Returns the word that JSON and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Share => "share",
            Self::Admin => "admin",
        }
    }

    /// Reads the word that [`Scope::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Read, Self::Share, Self::Admin].into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A credential for a script. Only the digest of its secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Names it, as ten letters: no secret.
    pub id: ApiTokenId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// SHA-256 of the secret.
    pub digest: [u8; 32],
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, on whichever clock gets there first; `None`: when it is removed.
    pub expires: Option<Moment>,
    /// When it was last used, to the minute or so.
    pub last_used: Option<Timestamp>,
}

/// Names an API token: letters and digits, at most 32.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiTokenId(String);

impl ApiTokenId {
    /// Takes a text that can be an id; `None` where it cannot.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        is_id.then(|| Self(text.to_owned()))
    }

    /// Returns its letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
