//! The JSON of requests, read strictly: every field known, every type right, every length bounded.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::http::problem::Problem;

/// The longest body: the longest path (4 KiB, six times that when every letter is escaped) and note, with room.
pub(in crate::http) const MAX_BODY_BYTES: usize = 64 * 1024;
/// How deep a body may be nested; ours have two levels.
const MAX_DEPTH: usize = 8;
/// How long a body may take to arrive: it fits into a few packets.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a body that is too long is read on so that its sender gets the answer, and for how long.
const MAX_PASSED_OVER_BYTES: usize = 64 * 1024 * 1024;
const PASS_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a wrong name is repeated to whoever sent it.
const MAX_QUOTED_CHARS: usize = 60;

/// The object that a request brings. Its bytes too: an `Idempotency-Key` is bound to them.
#[derive(Debug)]
pub(in crate::http) struct StrictJson {
    pub(in crate::http) object: Object,
    pub(in crate::http) bytes: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for StrictJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(&request);
        let bytes = read(request).await?;
        if !is_json {
            return Err(unsupported());
        }
        let object = parse(&bytes)?;
        Ok(Self { object, bytes })
    }
}

/// As [`StrictJson`], but no body at all is an empty object.
#[derive(Debug)]
pub(in crate::http) struct OptionalJson(pub(in crate::http) StrictJson);

impl<S: Send + Sync> FromRequest<S> for OptionalJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(&request);
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Ok(Self(StrictJson { object: Object::new(Map::new(), String::new()), bytes }));
        }
        if !is_json {
            return Err(unsupported());
        }
        let object = parse(&bytes)?;
        Ok(Self(StrictJson { object, bytes }))
    }
}

/// Reads a whole short body.
pub(in crate::http) async fn read(request: Request) -> Result<Bytes, Problem> {
    let mut body = request.into_body();
    match tokio::time::timeout(BODY_TIMEOUT, read_bounded(&mut body)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            pass_over_the_rest(body);
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is longer than 64 KiB."))
        }
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The body broke off.")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time.")),
    }
}

/// Reads a body; `None` where it is too long.
async fn read_bounded(body: &mut Body) -> Result<Option<Bytes>, axum::Error> {
    let declared = body.size_hint().lower();
    let mut bytes = BytesMut::new();
    while bytes.len() <= MAX_BODY_BYTES && declared <= MAX_BODY_BYTES as u64 {
        match body.frame().await.transpose()? {
            None => return Ok(Some(bytes.freeze())),
            Some(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
        }
    }
    Ok(None)
}

/// Reads what is still on its way, for a moment: a connection that closes with unread bytes on it is reset, and whoever sends
/// them never sees why they were refused.
#[expect(clippy::disallowed_methods, reason = "it ends by itself within a moment, and nothing depends on its end")]
fn pass_over_the_rest(mut body: Body) {
    tokio::spawn(tokio::time::timeout(PASS_OVER_TIMEOUT, async move {
        let mut passed = 0;
        while passed < MAX_PASSED_OVER_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => passed += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => break,
            }
        }
    }));
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn unsupported() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Send the body as `Content-Type: application/json`.")
}

pub(super) fn parse(bytes: &[u8]) -> Result<Object, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let text = error.to_string();
        if error.is_data() {
            Problem::unprocessable("bad_body", format!("The body cannot be taken: {text}."))
        } else if text.starts_with("number out of range") {
            Problem::unprocessable("bad_body", "The body holds a number that is out of every range.")
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", format!("The body is not valid JSON: {text}."))
        }
    })?;
    match value {
        Value::Object(fields) => Ok(Object::new(fields, String::new())),
        _ => Err(Problem::unprocessable("bad_body", "The body must be a JSON object.")),
    }
}

/// The fields of an object. Each is taken out once, by name; [`Object::finish`] refuses what is left.
#[derive(Debug)]
pub(in crate::http) struct Object {
    fields: Map<String, Value>,
    /// What stands before the name of a field in sentences, as `policy.`.
    prefix: String,
    known: Vec<&'static str>,
}

impl Object {
    fn new(fields: Map<String, Value>, prefix: String) -> Self {
        Self { fields, prefix, known: Vec::new() }
    }

    /// Takes a text; `null` counts as left out.
    pub(in crate::http) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a text")),
        }
    }

    /// Takes a text that must be there.
    pub(in crate::http) fn required_text(&mut self, name: &'static str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is missing; it must be a text"))
    }

    /// Takes a whole number of 1 or more. `null` is no number: who sends it for a time means "for ever", which there is not.
    pub(in crate::http) fn positive(&mut self, name: &'static str) -> Result<Option<u64>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if number > 0 => Ok(Some(number)),
                _ => Err(self.wrong(name, "must be a whole number, 1 or more")),
            },
        }
    }

    /// Takes an object; `null` counts as left out.
    pub(in crate::http) fn object(&mut self, name: &'static str) -> Result<Option<Object>, Problem> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Object::new(fields, format!("{}{name}.", self.prefix)))),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    /// Takes a yes or no; `null` counts as left out, and that as no.
    pub(in crate::http) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// Takes a list of texts; `null` counts as left out, and that as an empty list. The body's own length bounds it.
    pub(in crate::http) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Problem> {
        let wrong = |object: &Self| object.wrong(name, "must be a list of texts");
        let items = match self.take(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong(self)),
        };
        let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(wrong(self)) };
        items.into_iter().map(text).collect()
    }

    /// Refuses what nobody took.
    pub(in crate::http) fn finish(self) -> Result<(), Problem> {
        let Some(name) = self.fields.keys().next() else { return Ok(()) };
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        let prefix = &self.prefix;
        Err(Problem::unprocessable("unknown_field", format!("There is no field {prefix}{}; the fields here are: {known}.", quoted(name))))
    }

    /// Says what is wrong with a field.
    pub(in crate::http) fn wrong(&self, name: &str, what: &str) -> Problem {
        Problem::unprocessable("bad_field", format!("{}{name} {what}.", self.prefix))
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name)
    }
}

/// Quotes what somebody sent, cut short and escaped.
pub(in crate::http) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(MAX_QUOTED_CHARS).collect::<String>())
}

/// Reads any JSON value, but no name twice in an object and nothing too deep.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH { Err(E::custom("it is nested too deep")) } else { Ok(Self { depth }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut fields = Map::new();
        while let Some(name) = items.next_key::<Name>()? {
            let value = items.next_value_seed(inner)?;
            if fields.contains_key(&name.0) {
                let name: String = name.0.chars().take(MAX_QUOTED_CHARS).collect();
                return Err(A::Error::custom(format_args!("it has the field {name:?} twice")));
            }
            fields.insert(name.0, value);
        }
        Ok(fields.into())
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(body: &str) -> Option<u16> {
        parse(body.as_bytes()).err().map(|problem| problem.status().as_u16())
    }

    #[test]
    fn what_is_no_object_of_ours_is_told_apart_from_what_is_no_json() {
        for (body, status) in [
            (r#"{"a":{"b":[1,2.5,"x",true,null]}}"#, None),
            ("", Some(400)),
            ("{", Some(400)),
            (r#"{"a":NaN}"#, Some(400)),
            (r#"{"a":Infinity}"#, Some(400)),
            (r#"{"a":1e999}"#, Some(422)),
            (r#"{"a":1} x"#, Some(400)),
            ("\u{feff}{}", Some(400)),
            (r#"{"a":1,"a":2}"#, Some(422)),
            (r#"{"p":{"a":1,"a":2}}"#, Some(422)),
            ("[]", Some(422)),
            ("null", Some(422)),
            ("7", Some(422)),
        ] {
            assert_eq!(status_of(body), status, "{body}");
        }
        assert_eq!(status_of(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), Some(422));
        assert_eq!(status_of(&r#"{"a":"#.repeat(100_000)), Some(422));
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_number_of_seconds_is_whole_and_positive() {
        for (value, taken) in [
            ("3600", Some(3600)),
            ("1", Some(1)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0", None),
            ("-0", None),
            ("-1", None),
            ("1.0", None),
            ("1e3", None),
            ("\"60\"", None),
            ("null", None),
            ("true", None),
            ("[1]", None),
        ] {
            let mut object = parse(format!(r#"{{"n":{value}}}"#).as_bytes()).unwrap();
            assert_eq!(object.positive("n").ok().flatten(), taken, "{value}");
        }
        assert_eq!(parse(b"{}").unwrap().positive("n").unwrap(), None);
    }

    #[test]
    fn a_field_that_nobody_takes_is_named() {
        let mut object = parse(br#"{"policy":{"expires":5}}"#).unwrap();
        let mut policy = object.object("policy").unwrap().unwrap();
        assert_eq!(policy.positive("expires_in_seconds").unwrap(), None);
        let problem = format!("{:?}", policy.finish().unwrap_err());
        assert!(problem.contains("policy.") && problem.contains("expires_in_seconds"), "{problem}");
        assert!(object.finish().is_ok());
    }
}
