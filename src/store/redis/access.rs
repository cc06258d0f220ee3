//! Sessions and API tokens. What an answer must be able to merge stands apart: when a session ends and was seen, when a token was used.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Value, cmd, pipe};
use serde::{Deserialize, Serialize};

use super::scripts::Script;
use super::{RedisStore, reply};
use crate::share::{Moment, Steady, Timestamp};
use crate::store::{ApiToken, ApiTokenId, MAX_API_TOKENS, MAX_SESSIONS, Scope, Session, StoreError};

/// What of a session does not change.
#[derive(Serialize, Deserialize)]
struct SignedIn {
    created: Timestamp,
    address: Option<String>,
    agent: String,
}

/// What of an API token does not change, but for its digest.
#[derive(Serialize, Deserialize)]
struct Made {
    name: String,
    scope: Scope,
    created: Timestamp,
    expires: Option<Moment>,
}

impl RedisStore {
    pub(super) fn put_session(&self, session: &Session) -> BoxFuture<'_, Result<(), StoreError>> {
        let Session { digest, expires, created, seen, address, agent } = session.clone();
        let body = serde_json::to_vec(&SignedIn { created, address, agent }).expect("a session has a JSON form");
        let [expires, seen] = [expires.0, seen.0].map(|at| at.to_string().into_bytes());
        let most = MAX_SESSIONS.to_string().into_bytes();
        let put = self.put(Script::PutSession, [reply::hex(&digest).into_bytes(), expires, seen, body, most]);
        async move { put.await.map(drop) }.boxed()
    }

    pub(super) async fn session_of(&self, digest: [u8; 32], now: Steady) -> Result<Option<Session>, StoreError> {
        let kept = self.ask_one(cmd("HGET").arg(self.keys.of("sessions")).arg(reply::hex(&digest)).take()).await?;
        Ok(session(digest, &kept).filter(|session| session.expires > now))
    }

    pub(super) async fn all_sessions(&self, now: Steady) -> Result<Vec<Session>, StoreError> {
        let all = reply::list(self.ask_one(cmd("HGETALL").arg(self.keys.of("sessions")).take()).await?);
        let read = |pair: &[Value]| session(reply::digest(reply::text(&pair[0])?)?, &pair[1]);
        let mut sessions: Vec<Session> = all.chunks_exact(2).filter_map(read).filter(|session| session.expires > now).collect();
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.seen), session.digest));
        Ok(sessions)
    }

    pub(super) fn put_api_token(&self, token: &ApiToken) -> BoxFuture<'_, Result<(), StoreError>> {
        let ApiToken { id, name, scope, digest, created, expires, last_used } = token.clone();
        let body = serde_json::to_vec(&Made { name, scope, created, expires }).expect("a token has a JSON form");
        let used = last_used.map(|used| used.0.to_string()).unwrap_or_default().into_bytes();
        let most = MAX_API_TOKENS.to_string().into_bytes();
        let put = self.put(Script::PutApiToken, [id.as_str().as_bytes().to_vec(), reply::hex(&digest).into_bytes(), used, body, most]);
        async move {
            match reply::word(&put.await?.values) {
                "ok" => Ok(()),
                "full" => Err(StoreError::Full { what: "API tokens", most: MAX_API_TOKENS }),
                _ => Err(StoreError::unavailable("a token of this id or secret exists already")),
            }
        }
        .boxed()
    }

    pub(super) async fn all_api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let mut pipe = pipe();
        pipe.hgetall(self.keys.of("tokens")).hgetall(self.keys.of("token_used"));
        let mut answers = self.ask(&pipe).await?.into_iter().map(reply::list);
        let (tokens, used) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());
        let used_at = |id: &Value| used.chunks_exact(2).find(|pair| pair[0] == *id).map(|pair| &pair[1]);
        let read = |pair: &[Value]| api_token(reply::text(&pair[0])?, &pair[1], used_at(&pair[0]));
        let mut tokens: Vec<ApiToken> = tokens.chunks_exact(2).filter_map(read).collect();
        tokens.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(tokens)
    }

    pub(super) fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>> {
        let removed = self.put(Script::RemoveApiToken, [id.as_str().as_bytes().to_vec()]);
        async move {
            let values = removed.await?.values;
            match values.as_slice() {
                [_, kept, used] => Ok(api_token(id.as_str(), kept, Some(used))),
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

/// Reads `EXPIRES SEEN BODY`.
fn session(digest: [u8; 32], kept: &Value) -> Option<Session> {
    let mut parts = reply::text(kept)?.splitn(3, ' ');
    let mut number = || parts.next()?.parse().ok();
    let (expires, seen) = (Steady(number()?), Timestamp(number()?));
    let SignedIn { created, address, agent } = serde_json::from_str(parts.next()?).ok()?;
    Some(Session { digest, expires, created, seen, address, agent })
}

/// Reads `DIGEST BODY`.
fn api_token(id: &str, kept: &Value, used: Option<&Value>) -> Option<ApiToken> {
    let (digest, body) = reply::text(kept)?.split_once(' ')?;
    let Made { name, scope, created, expires } = serde_json::from_str(body).ok()?;
    let last_used = used.and_then(reply::number).map(Timestamp);
    Some(ApiToken { id: ApiTokenId::parse(id)?, name, scope, digest: reply::digest(digest)?, created, expires, last_used })
}
