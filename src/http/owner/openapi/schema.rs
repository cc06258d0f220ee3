//! The schemas that no derive can write: words of the core, whose modules know nothing of HTTP, and bodies that are read by
//! hand.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};

use crate::catalog::EntryKind;
use crate::http::owner::operate::CheckStatus;
use crate::share::{Clamped, Evidence, OnStall, Outcome, State, TransferEnd};
use crate::store::Scope;

/// The words of a share's state.
pub(in crate::http::owner) const STATES: [State; 8] = [
    State::Scheduled,
    State::Opening,
    State::Offered,
    State::Transferring,
    State::Waiting,
    State::Delivered,
    State::Closing,
    State::Closed,
];
/// The words for how a share ended.
pub(in crate::http::owner) const OUTCOMES: [Outcome; 7] =
    [Outcome::Completed, Outcome::Expired, Outcome::TimedOut, Outcome::Stalled, Outcome::Revoked, Outcome::SourceChanged, Outcome::Failed];

pub(in crate::http::owner) fn state() -> Object {
    words(STATES).build()
}

pub(in crate::http::owner) fn outcome_or_null() -> Object {
    words_or_null(OUTCOMES)
}

pub(in crate::http::owner) fn on_stall() -> Object {
    words([OnStall::Close, OnStall::Reopen]).build()
}

pub(in crate::http::owner) fn evidence_or_null() -> Object {
    words_or_null([Evidence::HandedOver, Evidence::Acknowledged, Evidence::Confirmed])
}

pub(in crate::http::owner) fn clamped() -> Array {
    ArrayBuilder::new().items(words([Clamped::ExpiresInSeconds])).build()
}

pub(in crate::http::owner) fn tunnel_state() -> Object {
    words(["scheduled", "opening", "open", "closing", "closed"]).build()
}

pub(in crate::http::owner) fn reach_or_null() -> Object {
    words_or_null(["yes", "no", "not_probed"])
}

pub(in crate::http::owner) fn transfer_state() -> Object {
    words(["redeemed", "transferring", "waiting", "completed", "stalled", "never_began", "stopped", "cut"]).build()
}

pub(in crate::http::owner) fn transfer_end_or_null() -> Object {
    use TransferEnd::{Completed, Cut, NeverBegan, Stalled, Stopped};
    words_or_null([Completed, Stalled, NeverBegan, Stopped, Cut])
}

pub(in crate::http::owner) fn entry_kind() -> Object {
    words([EntryKind::File, EntryKind::Folder]).build()
}

pub(in crate::http::owner) fn scope() -> Object {
    words([Scope::Read, Scope::Share, Scope::Admin]).build()
}

pub(in crate::http::owner) fn audit_break_or_null() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .property("seq", ObjectBuilder::new().schema_type(Type::Integer).description(Some("At which line.")))
        .property("sentence", ObjectBuilder::new().schema_type(Type::String).description(Some("What is wrong, as a sentence.")))
        .build()
}

pub(in crate::http::owner) fn origin() -> Object {
    words(["flag", "environment", "file", "default"]).build()
}

pub(in crate::http::owner) fn check_status() -> Object {
    words([CheckStatus::Ok, CheckStatus::Warning, CheckStatus::Wrong]).build()
}

pub(in crate::http::owner) fn problem_or_null() -> Schema {
    let nothing = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new().item(Ref::from_schema_name("Problem")).item(nothing).build().into()
}

pub(in crate::http::owner) fn index_state_or_null() -> Object {
    let flag = || ObjectBuilder::new().schema_type(Type::Boolean);
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .property("building", flag().description(Some("Whether the folders are being looked through at the moment.")))
        .property("files", ObjectBuilder::new().schema_type(Type::Integer).description(Some("How many files it knows.")))
        .property("truncated", flag().description(Some("Whether there are more than it can hold.")))
        .build()
}

fn words<T: Serialize, const N: usize>(words: [T; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.map(|word| word_of(&word))))
}

fn words_or_null<T: Serialize, const N: usize>(words: [T; N]) -> Object {
    let values = words.iter().map(word_of).chain([Value::Null]);
    ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null])).enum_values(Some(values)).build()
}

fn word_of<T: Serialize>(word: &T) -> Value {
    serde_json::to_value(word).expect("a word is plain JSON")
}

// ---- What is written as JSON, for parameters and bodies ----

/// A text.
pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

/// A text of so many letters.
pub(super) fn text_of(least: usize, most: usize) -> Value {
    json!({ "type": "string", "minLength": least, "maxLength": most })
}

/// A text that is spelt so.
pub(super) fn spelt(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// One of a few words.
pub(super) fn one_of<T: Serialize>(words: &[T]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// A whole number, `least` or more.
pub(super) fn whole(least: u64) -> Value {
    json!({ "type": "integer", "minimum": least })
}

/// A whole number within bounds.
pub(super) fn whole_to(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// A time.
pub(super) fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

/// A yes or no.
pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// A list.
pub(super) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// A list of so many.
pub(super) fn list_of(items: Value, least: usize, most: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": least, "maxItems": most })
}

/// A schema of this name.
pub(super) fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The same, or nothing.
pub(super) fn or_null(mut schema: Value) -> Value {
    match schema.get("type").cloned() {
        Some(kind @ Value::String(_)) => {
            schema["type"] = json!([kind, "null"]);
            if let Some(Value::Array(words)) = schema.get_mut("enum") {
                words.push(Value::Null);
            }
            schema
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// A field of an object: its name (a `?` behind it: may be left out), what it holds, and what that means.
pub(super) type Field = (&'static str, Value, &'static str);

/// An object with these fields and no other.
pub(super) fn object<const N: usize>(fields: [Field; N]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, mut schema, about) in fields {
        let bare = name.trim_end_matches('?');
        if bare == name {
            required.push(name);
        }
        if !about.is_empty() {
            schema["description"] = about.into();
        }
        properties.insert(bare.to_owned(), schema);
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}
