//! What hostile bytes meet on the owner's side: bodies, what stands behind the `?`, and paths in addresses.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::body::{self, Object};
use super::files::path_of;
use super::query::{self, Edge};
use super::shares::{self, Paths};
use super::tokens;
use crate::http::problem::Problem;
use crate::share::{CatalogPath, Limits, Moment, Policy, Steady, Timestamp};

/// The longest sentence that refuses something: what was sent is quoted, and cut.
const MAX_DETAIL_CHARS: usize = 600;

/// A body of JSON, read as every kind of request there is; what is refused is refused in a sentence.
pub(crate) fn json_body(data: &[u8]) {
    let known = |request: fn(Object) -> Result<(), Problem>| match body::parse(data) {
        Ok(object) => request(object).err().iter().for_each(check),
        Err(problem) => check(&problem),
    };
    known(create);
    known(generate_link);
    known(|mut object| object.positive("expires_in_seconds").map(drop).and_then(|()| object.finish()));
    known(|object| tokens::new_token(object).map(drop));
    known(Object::finish);
    // What we take, every other reader takes too, and reads as the same; and no name stands there twice.
    let ours = body::parse(data).is_ok();
    let theirs = serde_json::from_slice::<Value>(data).is_ok_and(|value| value.is_object());
    assert!(!ours || theirs, "only we read this as JSON");
    if ours {
        let names = serde_json::from_slice::<Names>(data).expect("an object").0;
        let different: BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "a name stands there twice: {names:?}");
    }
}

/// The names of an object, as often as they stand there.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self, A::Error> {
        while let Some((name, IgnoredAny)) = fields.next_entry()? {
            self.0.push(name);
        }
        Ok(self)
    }
}

fn create(mut object: Object) -> Result<(), Problem> {
    let path = match shares::wanted_paths(&mut object)? {
        Paths::One(path) => CatalogPath::parse(&path)?,
        Paths::Many(paths) => {
            assert!(!paths.is_empty() && paths.len() <= shares::MAX_BATCH);
            CatalogPath::root()
        }
    };
    let new = shares::new_share(object, path)?;
    let limits = Limits { max_tunnel: HOUR, stall_timeout: HOUR, grace_period: HOUR };
    let now = Moment { steady: Steady(3_600_000), wall: Timestamp(1_700_000_000_000) };
    if let Ok(policy) = Policy::new(new.policy, limits, now) {
        assert!(policy.expires_in <= HOUR && !policy.expires_in.is_zero(), "{policy:?}");
        assert!(policy.max_downloads.is_none_or(|n| (1..=crate::share::MAX_DOWNLOADS).contains(&n)), "{policy:?}");
    }
    Ok(())
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn generate_link(mut object: Object) -> Result<(), Problem> {
    CatalogPath::parse(&object.required_text("file_path")?)?;
    object.positive("expires_in_seconds").map(drop)
}

fn check(problem: &Problem) {
    let status = problem.status().as_u16();
    assert!(matches!(status, 400 | 422), "{problem:?}");
    let json = serde_json::to_value(problem.to_json()).expect("a problem is plain JSON");
    let detail = json["detail"].as_str().expect("a sentence");
    assert!(detail.chars().count() <= MAX_DETAIL_CHARS, "it throws all back: {detail}");
    assert!(!detail.contains(char::is_control), "a control character came back: {detail:?}");
}

/// What stands behind the `?`, and ids.
pub(crate) fn query_words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for max in [1, 500] {
        assert!(query::limit(Some(text), 1, max).is_ok_and(|n| (1..=max).contains(&n)) || query::limit(Some(text), 1, max).is_err());
    }
    for edge in [Edge::Start, Edge::End] {
        query::moment("since", text, edge).err().iter().for_each(check);
    }
    query::day("from", text).err().iter().for_each(check);
    query::time("starts_at", text).err().iter().for_each(check);
    if let Ok(id) = query::share_id(text) {
        assert_eq!(id.as_str(), text);
    }
}

/// A path in an address: what it names is below the root, whatever is encoded in it and however often.
pub(crate) fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match path_of(&format!("/api/v1/files/{text}")) {
        Ok(path) => assert!(path.components().all(|name| !matches!(name, b"" | b"." | b"..")) && !path.as_bytes().contains(&0)),
        Err(problem) => check(&problem),
    }
}
