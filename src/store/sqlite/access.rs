//! Sessions and API tokens in the file.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::Undone;
use super::{StoreError, refused};
use crate::share::{Moment, Steady, Timestamp};
use crate::store::{ApiToken, ApiTokenId, MAX_API_TOKENS, MAX_SESSIONS, Scope, Session};

const SESSION: &str = "SELECT digest, expires_ms, created_ms, seen_ms, address, agent FROM session";
const API_TOKEN: &str = "SELECT id, name, scope, digest, created_ms, expires_steady_ms, expires_wall_ms, last_used_ms FROM api_token";

pub(super) fn put_session(connection: &Connection, session: &Session) -> Result<(), Undone> {
    let sql = "INSERT INTO session (digest, expires_ms, created_ms, seen_ms, address, agent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (digest) DO UPDATE
               SET expires_ms = max(expires_ms, excluded.expires_ms), seen_ms = max(seen_ms, excluded.seen_ms)";
    let values = params![session.digest, session.expires.0, session.created.0, session.seen.0, session.address, session.agent];
    connection.prepare_cached(sql)?.execute(values)?;
    // Those that end first go first.
    let sql = "DELETE FROM session WHERE digest IN
               (SELECT digest FROM session ORDER BY expires_ms DESC, digest DESC LIMIT -1 OFFSET ?1)";
    connection.prepare_cached(sql)?.execute([MAX_SESSIONS as i64])?;
    Ok(())
}

pub(super) fn end_session(connection: &Connection, digest: [u8; 32], now: Steady) -> Result<(), Undone> {
    connection.prepare_cached("DELETE FROM session WHERE digest = ?1 OR expires_ms <= ?2")?.execute(params![digest, now.0])?;
    Ok(())
}

pub(super) fn session(connection: &Connection, digest: [u8; 32], now: Steady) -> Result<Option<Session>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SESSION} WHERE digest = ?1 AND expires_ms > ?2")).map_err(refused)?;
    statement.query_row(params![digest, now.0], session_of).optional().map_err(refused)
}

pub(super) fn sessions(connection: &Connection, now: Steady) -> Result<Vec<Session>, StoreError> {
    let sql = format!("{SESSION} WHERE expires_ms > ?1 ORDER BY seen_ms DESC, digest");
    let mut statement = connection.prepare_cached(&sql).map_err(refused)?;
    let rows = statement.query_map([now.0], session_of).map_err(refused)?;
    rows.collect::<Result<_, _>>().map_err(refused)
}

fn session_of(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        digest: row.get(0)?,
        expires: Steady(row.get(1)?),
        created: Timestamp(row.get(2)?),
        seen: Timestamp(row.get(3)?),
        address: row.get(4)?,
        agent: row.get(5)?,
    })
}

pub(super) fn put_api_token(connection: &Connection, token: &ApiToken) -> Result<(), Undone> {
    let kept: i64 = connection.prepare_cached("SELECT count(*) FROM api_token")?.query_row([], |row| row.get(0))?;
    if kept >= MAX_API_TOKENS as i64 {
        return Err(Undone::Refused(StoreError::Full { what: "API tokens", most: MAX_API_TOKENS }));
    }
    let sql = "INSERT INTO api_token (id, name, scope, digest, created_ms, expires_steady_ms, expires_wall_ms, last_used_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (steady, wall) = (token.expires.map(|end| end.steady.0), token.expires.map(|end| end.wall.0));
    let used = token.last_used.map(|used| used.0);
    let values = params![token.id.as_str(), token.name, token.scope.as_str(), token.digest, token.created.0, steady, wall, used];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

pub(super) fn api_tokens(connection: &Connection) -> Result<Vec<ApiToken>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{API_TOKEN} ORDER BY created_ms DESC, id DESC")).map_err(refused)?;
    let rows = statement.query_map([], api_token_of).map_err(refused)?;
    rows.collect::<Result<_, _>>().map_err(refused)
}

pub(super) fn remove_api_token(connection: &Connection, id: &ApiTokenId) -> Result<Option<ApiToken>, Undone> {
    let mut statement = connection.prepare_cached(&format!("{API_TOKEN} WHERE id = ?1"))?;
    let token = statement.query_row([id.as_str()], api_token_of).optional()?;
    connection.prepare_cached("DELETE FROM api_token WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(token)
}

pub(super) fn api_token_used(connection: &Connection, id: &ApiTokenId, at: Timestamp) -> Result<(), Undone> {
    let sql = "UPDATE api_token SET last_used_ms = max(coalesce(last_used_ms, ?2), ?2) WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id.as_str(), at.0])?;
    Ok(())
}

fn api_token_of(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    let (id, scope): (String, String) = (row.get(0)?, row.get(2)?);
    let unreadable = |column| rusqlite::Error::InvalidColumnType(column, "api_token".to_owned(), rusqlite::types::Type::Text);
    let expires: (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
    Ok(ApiToken {
        id: ApiTokenId::parse(&id).ok_or_else(|| unreadable(0))?,
        name: row.get(1)?,
        scope: Scope::parse(&scope).ok_or_else(|| unreadable(2))?,
        digest: row.get(3)?,
        created: Timestamp(row.get(4)?),
        expires: expires.0.zip(expires.1).map(|(steady, wall)| Moment { steady: Steady(steady), wall: Timestamp(wall) }),
        last_used: row.get::<_, Option<i64>>(7)?.map(Timestamp),
    })
}
