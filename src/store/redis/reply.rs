//! What Redis says, as values of ours, and the other way round.

use redis::Value;

use super::scripts::Args;
use crate::share::{Share, Timestamp};
use crate::store::StoreError;
use crate::store::audit::{AuditEntry, AuditLine, AuditMark};
use crate::store::shared::{ControllerNumber, Held, Hold};

/// Says that an answer has not the form that it must have.
pub(super) fn strange() -> StoreError {
    StoreError::unavailable("Redis answers what nobody asked")
}

fn unreadable(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Unusable { reason: format!("{what} in it cannot be read ({error})") }
}

/// Returns the bytes of a text.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Returns a text.
pub(super) fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

/// Returns a number, however it is written.
pub(super) fn number<N: std::str::FromStr + TryFrom<i64>>(value: &Value) -> Option<N> {
    match value {
        Value::Int(number) => N::try_from(*number).ok(),
        value => text(value)?.parse().ok(),
    }
}

/// Returns the parts of a list; none where there is no list.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => Vec::new(),
    }
}

/// Says what came of a script.
pub(super) fn word(values: &[Value]) -> &str {
    values.first().and_then(text).unwrap_or_default()
}

/// Reads 32 bytes in hexadecimal.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

/// Writes bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a place in the audit log.
pub(super) fn mark(value: &Value) -> Option<AuditMark> {
    let (seq, hash) = text(value)?.split_once(' ')?;
    Some(AuditMark { seq: seq.parse().ok()?, hash: digest(hash)? })
}

/// Writes a place in the audit log.
pub(super) fn of_mark(mark: AuditMark) -> String {
    format!("{} {}", mark.seq, hex(&mark.hash))
}

/// Writes down a line of the audit log, as `line.lua` takes it.
pub(super) fn line_args(line: &AuditLine) -> Args {
    let before = AuditMark { seq: line.seq - 1, hash: line.previous };
    let AuditEntry { at, who, from, action, target, detail } = &line.entry;
    let texts = [of_mark(before), of_mark(line.mark()), line.seq.to_string(), at.0.to_string()];
    let mut args: Args = texts.map(String::into_bytes).into();
    args.extend([who, from, action, target, detail].map(|text| text.clone().into_bytes()));
    args.extend([line.previous.to_vec(), line.hash.to_vec()]);
    args
}

/// Reads a line of the audit log.
pub(super) fn line(entry: Value) -> Result<AuditLine, StoreError> {
    let read = || {
        let (seq, fields) = entry_of(&entry)?;
        let part = |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]);
        let word = |name: &str| part(name).and_then(text).map(str::to_owned);
        let hash = |name: &str| part(name).and_then(bytes).and_then(|bytes| bytes.try_into().ok());
        let at = Timestamp(number(part("a")?)?);
        let entry = AuditEntry { at, who: word("w")?, from: word("f")?, action: word("c")?, target: word("t")?, detail: word("d")? };
        Some(AuditLine { seq, entry, previous: hash("p")?, hash: hash("h")? })
    };
    read().ok_or_else(|| unreadable("a line of the audit log", "it is damaged"))
}

/// Takes an entry of a stream apart: its number and its fields.
pub(super) fn entry_of(entry: &Value) -> Option<(u64, &[Value])> {
    match entry {
        Value::Array(parts) => match parts.as_slice() {
            [id, Value::Array(fields)] => Some((text(id)?.split_once('-')?.0.parse().ok()?, fields)),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a share's body.
pub(super) fn share(body: &[u8]) -> Result<Share, StoreError> {
    serde_json::from_slice(body).map_err(|error| unreadable("a share", error))
}

/// Takes a share apart as it is kept: who holds it, and its body.
pub(super) fn kept(value: &[u8]) -> Option<(Hold, &[u8])> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let mut header = std::str::from_utf8(&value[..end]).ok()?.split(' ');
    let mut next = || header.next()?.parse::<u64>().ok();
    let (version, watcher, fence) = (next()?, next()?, next()?);
    Some((Hold { version, watcher: ControllerNumber(u16::try_from(watcher).ok()?), fence }, &value[end + 1..]))
}

/// Takes a share apart as it is kept: the ids of its links, and its body.
pub(super) fn links_and_body(value: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let header = std::str::from_utf8(&value[..end]).ok()?;
    Some((header.split(' ').skip(6).map(str::to_owned).collect(), &value[end + 1..]))
}

/// Reads a share as it is kept; `None` where there is none.
pub(super) fn held(value: &Value) -> Result<Option<Held>, StoreError> {
    let Some(value) = bytes(value) else { return Ok(None) };
    let (hold, body) = kept(value).ok_or_else(|| unreadable("a share", "it is damaged"))?;
    Ok(Some(Held { share: share(body)?.into(), hold }))
}
