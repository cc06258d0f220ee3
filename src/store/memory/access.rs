//! Sessions and API tokens.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::share::{Steady, Timestamp};
use crate::store::{ApiToken, ApiTokenId, MAX_API_TOKENS, MAX_SESSIONS, Session, StoreError};

/// Who may come in.
#[derive(Debug, Default)]
pub(super) struct Access {
    sessions: HashMap<[u8; 32], Session>,
    api_tokens: Vec<ApiToken>,
}

impl Access {
    pub(super) fn put_session(&mut self, session: Session) {
        let kept = self.sessions.entry(session.digest).or_insert_with(|| session.clone());
        kept.expires = session.expires.max(kept.expires);
        kept.seen = session.seen.max(kept.seen);
        if self.sessions.len() > MAX_SESSIONS
            && let Some(first) = self.sessions.values().min_by_key(|session| (session.expires, session.digest))
        {
            let first = first.digest;
            self.sessions.remove(&first);
        }
    }

    pub(super) fn session(&self, digest: [u8; 32], now: Steady) -> Option<Session> {
        self.sessions.get(&digest).filter(|session| session.expires > now).cloned()
    }

    pub(super) fn end_session(&mut self, digest: [u8; 32], now: Steady) {
        self.sessions.retain(|kept, session| *kept != digest && session.expires > now);
    }

    pub(super) fn sessions(&self, now: Steady) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.sessions.values().filter(|session| session.expires > now).cloned().collect();
        sessions.sort_by_key(|session| (Reverse(session.seen), session.digest));
        sessions
    }

    pub(super) fn put_api_token(&mut self, token: ApiToken) -> Result<(), StoreError> {
        if self.api_tokens.len() >= MAX_API_TOKENS {
            return Err(StoreError::Full { what: "API tokens", most: MAX_API_TOKENS });
        }
        if self.api_tokens.iter().any(|kept| kept.id == token.id || kept.digest == token.digest) {
            return Err(StoreError::unavailable("a token of this id or secret exists already"));
        }
        self.api_tokens.push(token);
        Ok(())
    }

    pub(super) fn api_tokens(&self) -> Vec<ApiToken> {
        let mut tokens = self.api_tokens.clone();
        tokens.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        tokens
    }

    pub(super) fn remove_api_token(&mut self, id: &ApiTokenId) -> Option<ApiToken> {
        let at = self.api_tokens.iter().position(|token| token.id == *id)?;
        Some(self.api_tokens.remove(at))
    }

    pub(super) fn api_token_used(&mut self, id: &ApiTokenId, at: Timestamp) {
        if let Some(token) = self.api_tokens.iter_mut().find(|token| token.id == *id) {
            token.last_used = token.last_used.max(Some(at));
        }
    }
}
