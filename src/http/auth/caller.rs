//! Who a request is from, and what they may do.

use std::net::IpAddr;

use super::{Peer, SecretDigest};
use crate::http::words::Language;
use crate::store::{ApiToken, ApiTokenId, Scope};

/// What somebody showed to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: none is asked for.
    Nothing,
    /// That they are our own user or root, over the local socket.
    LocalUser,
    /// A login of the tailnet, by tailscaled's word.
    TailnetLogin,
    /// The owner's token.
    OwnerToken,
    /// The cookie of a signed-in browser.
    Browser(SecretDigest),
    /// An API token.
    ApiToken(ApiTokenId),
}

/// Who a request is from, once that is known. Without one the request is a stranger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What they showed.
    pub credential: Credential,
    /// What they may do.
    pub scope: Scope,
    /// Who they are, as the audit log names them.
    pub who: String,
    /// From where they speak: an address, or `local socket`.
    pub from: String,
    /// In which language they read.
    pub language: Language,
}

impl Caller {
    pub(super) fn anybody(peer: Option<Peer>) -> Self {
        Self::admin(Credential::Nothing, "anybody".to_owned(), peer)
    }

    pub(super) fn local(uid: u32, peer: Option<Peer>) -> Self {
        Self::admin(Credential::LocalUser, format!("local user {uid}"), peer)
    }

    pub(super) fn of_tailnet(login: &str, peer: Option<Peer>) -> Self {
        Self::admin(Credential::TailnetLogin, format!("tailnet login {login}"), peer)
    }

    pub(super) fn owner_token(peer: Option<Peer>) -> Self {
        Self::admin(Credential::OwnerToken, "owner token".to_owned(), peer)
    }

    pub(super) fn browser(session: SecretDigest, peer: Option<Peer>) -> Self {
        Self::admin(Credential::Browser(session), format!("browser {}", session.id()), peer)
    }

    pub(super) fn api_token(token: &ApiToken, peer: Option<Peer>) -> Self {
        Self {
            credential: Credential::ApiToken(token.id.clone()),
            scope: token.scope,
            who: format!("token {} ({})", token.id.as_str(), token.name),
            from: from_of(peer),
            language: Language::default(),
        }
    }

    fn admin(credential: Credential, who: String, peer: Option<Peer>) -> Self {
        Self { credential, scope: Scope::Admin, who, from: from_of(peer), language: Language::default() }
    }

    /// Returns whether they may see links: whoever has a link can download.
    pub fn sees_links(&self) -> bool {
        self.scope >= Scope::Share
    }
}

/// Says from where somebody speaks, as the audit log has it.
pub(in crate::http) fn from_of(peer: Option<Peer>) -> String {
    match peer {
        Some(Peer::Tcp(address)) => address.ip().to_canonical().to_string(),
        Some(Peer::Local { .. }) => "local socket".to_owned(),
        Some(Peer::Tailnet) => "tailnet".to_owned(),
        None => String::new(),
    }
}

/// Returns the address that wrong tries are counted for.
pub(in crate::http) fn address_of(peer: Option<Peer>) -> Option<IpAddr> {
    match peer {
        Some(Peer::Tcp(address)) => Some(address.ip()),
        Some(Peer::Local { .. } | Peer::Tailnet) | None => None,
    }
}
