//! The description of the API: OpenAPI 3.1, made from the code, and committed as `docs/openapi.json`.
//!
//! Each operation stands in a table by what it is about (`shares.rs`, `looking_back.rs`, …), with the bounds that the code
//! has. What every operation of a kind can answer is added here, by the same table of routes that lets requests in. The
//! schemas of answers are derived from the types that are answered. A test holds that the tables cover every route, and the
//! suite `openapi` of `tests/run` holds the running server to the document.
//!
//! * `operation.rs`, `schema.rs`: the words that the tables are written in.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::OwnerSide;
use super::audit::{AuditJson, VerdictJson};
use super::operate::{ChecksJson, SettingsJson};
use super::pages::SharesJson;
use super::routes;
use super::sessions::{SessionsJson, SignedOutJson};
use super::shares::BatchJson;
use super::stats::StatsJson;
use super::tokens::{NewTokenJson, TokensJson};
use super::wire::{FilesJson, RecentJson, TransferJson};
use crate::http::auth::{self, Access};
use crate::store::Scope;

mod access;
mod looking_back;
mod operating;
mod operation;
mod original;
pub(super) mod schema;
mod shares;

pub(super) use operation::Operation;

const SHARES: &str = "Shares";
const FILES: &str = "Files";
const LOOKING_BACK: &str = "Looking back";
const ACCESS: &str = "Signing in";
const OPERATING: &str = "Operating";
const ORIGINAL: &str = "The original's endpoints";

/// What there is, in the order in which a newcomer reads it.
pub(super) const TAGS: [(&str, &str); 6] = [
    (
        SHARES,
        "A share offers one file for a limited time. Its link is redeemed once, or as often as its policy says, and a download resumes.",
    ),
    (FILES, "What can be shared: the folder that the server was started with, read-only."),
    (LOOKING_BACK, "What happens, as it happens, and what happened."),
    (ACCESS, "Browsers, scripts, and what they did."),
    (OPERATING, "For those who keep it running."),
    (ORIGINAL, "The endpoints of the controller that Portcullis takes the place of, with its shapes. New scripts use the others."),
];

/// How the id of a share is spelt.
const ID: &str = "^[0-9a-hjkmnp-tv-z]{10}$";

pub(super) const ABOUT: &str = "Portcullis lifts one file of a NAS into the public internet for one person, over a single-use link, and drops the gate behind them. \
This is the owner's side; recipients need nothing but their link.

Send the owner's token, or an API token made for a script, with each request. A token has a scope: `read` looks at everything but links, `share` also makes and closes shares and sees their links, \
`admin` does everything:

```
curl -H \"Authorization: Bearer $TOKEN\" http://nas.local:8000/api/v1/shares
```

Make a share, and hand out its link:

```
curl -H \"Authorization: Bearer $TOKEN\" --json '{\"path\": \"films/holiday.mp4\"}' http://nas.local:8000/api/v1/shares | jq -r .url
```

Bodies are JSON, and a field that is not known is refused rather than passed over. Times are RFC 3339 in UTC, sizes are bytes. Lists come in pages: ask again with `next_cursor` as `cursor` until it is \
`null`. Whatever is refused is answered with a problem: a `status`, a stable `code` for programs, a sentence in `detail` for people, and the `request_id` under which the log says more. \
Every answer carries that id as `X-Request-Id`.";

static TEXT: LazyLock<String> = LazyLock::new(|| written_out("/"));

/// Returns the description of a server that is at `path`.
fn written_out(path: &str) -> String {
    let mut text = serde_json::to_string_pretty(&document(path)).expect("the document is plain JSON");
    text.push('\n');
    text
}

/// Returns the description of the owner's API, as `/openapi.json` serves it.
pub fn openapi_json() -> &'static str {
    &TEXT
}

/// Answers `GET /openapi.json`.
pub(super) async fn show(State(side): State<Arc<OwnerSide>>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match side.settings.prefix.as_str() {
        "" => (json, openapi_json()).into_response(),
        path => (json, side.description.get_or_init(|| written_out(path).into()).clone()).into_response(),
    }
}

/// Returns what there is, with all that it can answer, in the order in which a newcomer reads it.
pub(super) fn operations() -> Vec<(Operation, Access)> {
    let tables = [shares::operations(), looking_back::operations(), access::operations(), operating::operations(), original::operations()];
    let rules = routes();
    tables
        .into_iter()
        .flatten()
        .map(|mut operation| {
            let rule = rules.iter().find(|route| route.method == operation.method && route.path == operation.path);
            let access = rule.map_or(Access::Needs(Scope::Admin), |route| route.rule.access);
            complete(&mut operation, access);
            (operation, access)
        })
        .collect()
}

/// Says to people who may ask for something.
pub(super) fn sentence_of(access: Access) -> String {
    match access {
        Access::Public => "Open to everybody in the LAN.".to_owned(),
        Access::Needs(scope) => {
            format!("Needs a credential of the scope `{}`{}.", scope.as_str(), if scope == Scope::Admin { "" } else { " or a wider one" })
        }
    }
}

/// Adds what the layers around the handlers answer.
fn complete(operation: &mut Operation, access: Access) {
    if access != Access::Public {
        operation.or_problem(401, "No credential, or a wrong one (`not_signed_in`, `wrong_token`).");
        operation
            .or_problem(403, "The credential is of too small a scope (`scope_too_small`), or the request comes from another site's page.");
        operation.or_problem(429, "Too many wrong tokens from this address (`too_many_tries`); `Retry-After` says when to come back.");
        operation
            .or_problem(503, "The store, the NAS or the way in cannot be had at the moment; `code` says which, and nothing was changed.");
    } else if operation.method != Method::GET {
        operation.or_problem(403, "The request comes from another site's page (`foreign_origin`).");
    }
    if operation.has_query() {
        operation.or_problem(400, "The query cannot be read (`bad_request`).");
    }
    if operation.has_body() {
        operation.or_problem(400, "The body is not valid JSON (`bad_json`).");
        operation.or_problem(408, "The body did not arrive in time (`body_too_slow`).");
        operation.or_problem(413, "The body is longer than 64 KiB (`body_too_large`).");
        operation.or_problem(415, "The body is of another type (`unsupported_media_type`).");
        operation.or_problem(422, "A field is wrong (`bad_field`, `unknown_field`).");
    }
    operation.or_problem(421, "The server is called by a name that it does not know (`misdirected`).");
    operation.or_problem(500, "Something went wrong inside (`internal_error`).");
}

/// Returns the schemas that have names.
pub(super) fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    let of_answers = [
        derived::<SharesJson>(),
        derived::<BatchJson>(),
        derived::<TransferJson>(),
        derived::<FilesJson>(),
        derived::<RecentJson>(),
        derived::<StatsJson>(),
        derived::<TokensJson>(),
        derived::<NewTokenJson>(),
        derived::<SessionsJson>(),
        derived::<SignedOutJson>(),
        derived::<AuditJson>(),
        derived::<VerdictJson>(),
        derived::<SettingsJson>(),
        derived::<ChecksJson>(),
    ];
    schemas.extend(of_answers.into_iter().flatten());
    for (name, schema) in [
        ("Event", looking_back::event()),
        ("Health", operating::health_schema()),
        ("OriginalTunnel", original::tunnel()),
        ("Problem", problem()),
    ] {
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

/// Returns the schema of a type that is answered, and those that it is made of. An answer has every field.
fn derived<T: ToSchema>() -> Vec<(String, Value)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    let exact = |(name, schema)| {
        let mut schema = serde_json::to_value(schema).expect("a schema is plain JSON");
        if let Some(properties) = schema["properties"].as_object() {
            let all: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
            schema["required"] = all.into();
        }
        (name, schema)
    };
    schemas.into_iter().map(exact).collect()
}

fn problem() -> Value {
    let mut problem = schema::object([
        ("type", schema::text(), "Always `about:blank`: the code says what it is."),
        ("title", schema::text(), "The status in words."),
        ("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 }), "The status of the answer."),
        ("detail", schema::text(), "One sentence that a person can act on."),
        ("code", schema::spelt("^[a-z_]+$"), "What it is, for programs: it stays the same."),
        ("request_id?", schema::text(), "Under which the server's log says more; left out in a part of an answer."),
    ]);
    problem["description"] = "Why a request was not answered as it wished (RFC 9457).".into();
    problem["example"] = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "There is no file “films/holiday.mp4”.",
        "code": "unknown_file", "request_id": "6f0c2c5d9a1b4e77",
    });
    problem
}

/// Returns the whole document.
fn document(path: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (operation, access) in operations() {
        let security = match access {
            Access::Public => json!([]),
            Access::Needs(_) => json!([{ "bearer": [] }, { "key": [] }, { "cookie": [] }]),
        };
        let item = paths.entry(written(operation.path)).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_ascii_lowercase()] = operation.json(&sentence_of(access), security);
    }
    let tags: Vec<Value> = TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": path, "description": "The server that this was read from." }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas(), "securitySchemes": {
            "bearer": { "type": "http", "scheme": "bearer", "description": "The owner's token, or an API token." },
            "key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, for programs that cannot send the other header." },
            "cookie": { "type": "apiKey", "in": "cookie", "name": auth::COOKIE, "description": "A signed-in browser." },
        } },
    })
}

/// Returns a route's path as OpenAPI writes it.
pub(super) fn written(path: &str) -> String {
    path.replace("{*", "{")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

    #[test]
    #[expect(clippy::disallowed_methods, reason = "whoever changes the API says so by the environment")]
    fn the_committed_document_is_current() {
        if std::env::var_os("RENEW").is_some() {
            std::fs::write(COMMITTED, openapi_json()).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == openapi_json(),
            "docs/openapi.json is not what the code says; renew it: RENEW=1 cargo test --lib the_committed_document_is_current"
        );
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: BTreeSet<(String, String)> =
            operations().iter().map(|(operation, _)| (operation.method.to_string(), operation.path.to_owned())).collect();
        let routes: BTreeSet<(String, String)> =
            super::super::route_list().into_iter().map(|(method, path)| (method.to_string(), path.to_owned())).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_a_summary_and_an_answer() {
        let mut ids = BTreeSet::new();
        for (operation, access) in operations() {
            let json = operation.json("", json!([]));
            assert!(ids.insert(operation.id()), "{}", operation.id());
            assert!(TAGS.iter().any(|(tag, _)| *tag == operation.tag), "{}", operation.id());
            assert!(!json["summary"].as_str().unwrap().ends_with('.'));
            let answers = json["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2') || status.starts_with('3')), "{}", operation.id());
            assert!(
                access == Access::Public || ["401", "403", "429", "503"].iter().all(|status| answers.contains_key(*status)),
                "{}",
                operation.id()
            );
            for part in operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let name = part.trim_start_matches('*');
                assert!(json["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == name), "{}", operation.id());
            }
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let text = openapi_json();
        let schemas = schemas();
        let named: BTreeSet<&str> = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for name in &named {
            assert!(schemas.contains_key(*name), "{name}");
        }
        for name in schemas.keys() {
            assert!(named.contains(name.as_str()), "nothing speaks of {name}");
        }
    }

    #[test]
    fn an_id_of_a_share_is_spelt_as_the_document_says() {
        let letters = "0123456789abcdefghjkmnpqrstvwxyz";
        for letter in (b' '..=b'~').map(char::from) {
            let is_id = letter.to_string().repeat(10).parse::<crate::share::ShareId>().is_ok();
            assert_eq!(is_id, letters.contains(letter), "{letter}");
        }
    }
}
