//! The catalog: a folder page by page, a search, one file.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::OwnerSide;
use super::query::{bad, given, limit};
use super::wire::{EntryJson, FilesJson, hex};
use crate::catalog::{EntryKind, ListQuery, MAX_ENTRIES, Sort};
use crate::http::problem::Problem;
use crate::share::{CatalogPath, FileIdentity};

/// Where the one route of this file that carries a path begins.
const FILES: &str = "/api/v1/files/";
/// How many entries a page has where it is not said.
const DEFAULT_ENTRIES: usize = 200;
/// How many bytes an answer has beside its entries, and how many each of these has, about: more is made where they do not do.
const ROOM: usize = 512;
const ROOM_PER_ENTRY: usize = 256;
/// The longest text that is searched for: no name is longer.
const MAX_QUERY_BYTES: usize = 255;

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    path: Option<String>,
    query: Option<String>,
    sort: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// Answers `GET /api/v1/files`: a page of a folder, or with `query` what is called so anywhere.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Response, Problem> {
    let path = CatalogPath::parse(params.path.as_deref().unwrap_or_default())?;
    let limit = limit(params.limit.as_deref(), DEFAULT_ENTRIES, MAX_ENTRIES)?;
    let sort = sort(given(&params.sort))?;
    if let Some(text) = given(&params.query).map(str::trim).filter(|text| !text.is_empty()) {
        return search(&side, &path, text, limit).await;
    }
    let cursor = given(&params.cursor).map(str::to_owned);
    let listing = side.catalog.list(&path, ListQuery { sort, cursor, limit }).await?;
    Ok(json_of(&FilesJson {
        path: path.to_text(),
        entries: listing.entries.iter().map(|entry| EntryJson::new(entry, Vec::new())).collect(),
        next_cursor: listing.next_cursor,
        total: listing.total,
        index: None,
    }))
}

/// Writes a long list into one piece of memory: written bit by bit into a buffer that can be shared, it takes twice as long.
fn json_of(files: &FilesJson) -> Response {
    let mut text = Vec::with_capacity(ROOM + files.entries.len() * ROOM_PER_ENTRY);
    serde_json::to_writer(&mut text, files).expect("a list of files is plain JSON");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

async fn search(side: &OwnerSide, path: &CatalogPath, text: &str, limit: usize) -> Result<Response, Problem> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(bad(format!("query is too long: at most {MAX_QUERY_BYTES} bytes.")));
    }
    let answer = side.catalog.search(text, limit).await?;
    Ok(json_of(&FilesJson {
        path: path.to_text(),
        total: answer.hits.len(),
        entries: answer.hits.into_iter().map(|hit| EntryJson::new(&hit.entry, hit.highlights)).collect(),
        next_cursor: None,
        index: Some(answer.index),
    }))
}

fn sort(text: Option<&str>) -> Result<Sort, Problem> {
    match text {
        None | Some("name") => Ok(Sort::Name),
        Some("newest") => Ok(Sort::Newest),
        Some("largest") => Ok(Sort::Largest),
        Some(_) => Err(bad("sort must be name, newest or largest.")),
    }
}

/// Answers `GET /api/v1/files/{path}`: what a file is, and its checksum once it is known. Asking has it computed.
pub(super) async fn show(State(side): State<Arc<OwnerSide>>, OriginalUri(uri): OriginalUri) -> Result<Json<Value>, Problem> {
    let path = path_of(uri.path())?;
    let entry = side.catalog.entry(&path).await?;
    let mut answer = serde_json::to_value(EntryJson::new(&entry, Vec::new())).expect("an entry is plain JSON");
    if entry.kind == EntryKind::File {
        let identity = side.catalog.open(&path).await?.identity;
        let sha256 = checksum(&side, &path, identity).await?;
        answer["sha256_state"] = json!(if sha256.is_some() { "known" } else { "computing" });
        answer["sha256"] = json!(sha256.map(|digest| hex(&digest)));
    }
    Ok(Json(answer))
}

async fn checksum(side: &OwnerSide, path: &CatalogPath, identity: FileIdentity) -> Result<Option<[u8; 32]>, Problem> {
    if let Some(digest) = side.digests.known(identity) {
        return Ok(Some(digest));
    }
    let kept = side.store.digest(identity).await?;
    if kept.is_none() {
        side.digests.want(path, identity);
    }
    Ok(kept)
}

/// Reads the path in an address: bytes that are not UTF-8 may stand there as they are or in the form that lists give.
pub(super) fn path_of(address: &str) -> Result<CatalogPath, Problem> {
    let encoded = address.strip_prefix(FILES).unwrap_or_default();
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    Ok(match std::str::from_utf8(&bytes) {
        Ok(text) => CatalogPath::parse(text)?,
        Err(_) => CatalogPath::from_bytes(&bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_an_address_may_hold_any_bytes_and_may_not_climb() {
        assert_eq!(path_of("/api/v1/files/a%20b/c%23.bin").unwrap().as_bytes(), b"a b/c#.bin");
        assert_eq!(path_of("/api/v1/files/%ff%FE").unwrap().as_bytes(), b"\xff\xfe");
        assert_eq!(path_of("/api/v1/files/%EE%BE%BF").unwrap().as_bytes(), b"\xbf");
        for climbing in ["%2e%2e/x", "a/../b", "a%2f..%2fb", "%00", "/etc", "a//b"] {
            let problem = path_of(&format!("{FILES}{climbing}")).unwrap_err();
            assert_eq!(problem.code(), "bad_path", "{climbing}");
        }
    }
}
