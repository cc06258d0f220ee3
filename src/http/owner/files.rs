//! The catalog: a folder page by page, a search, one file; and what an owner is likely to want.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::OwnerSide;
use super::query::{Edge, bad, given, limit, moment};
use super::wire::{EntryJson, FilesJson, RecentJson, SharedBeforeJson, hex, time};
use crate::catalog::{CATEGORIES, Category, EntryKind, Filter, ListQuery, MAX_ENTRIES, Sort};
use crate::http::problem::Problem;
use crate::share::{CatalogPath, FileIdentity, Moment, Timestamp};
use crate::store::{MAX_PAGE, ShareQuery};

/// Where the one route of this file that carries a path begins.
const FILES: &str = "/api/v1/files/";
/// How many entries a page has where it is not said.
const DEFAULT_ENTRIES: usize = 200;
/// How many bytes an answer has beside its entries, and how many each of these has, about: more is made where they do not do.
const ROOM: usize = 512;
const ROOM_PER_ENTRY: usize = 256;
/// The longest text that is searched for: no name is longer.
const MAX_QUERY_BYTES: usize = 255;
/// How many files `recent` has of each sort where it is not said, and at most: what a person looks over.
pub(super) const DEFAULT_RECENT: usize = 20;
pub(super) const MAX_RECENT: usize = 50;
/// How many shares are looked back for files that were shared before: one page of the store.
const SHARES_LOOKED_BACK: usize = MAX_PAGE;
/// How many of their files are looked for: the half may be gone before there is less to show than could be.
const MAX_LOOKED_FOR: usize = 2 * MAX_RECENT;

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    path: Option<String>,
    query: Option<String>,
    sort: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
    everywhere: Option<String>,
    kind: Option<String>,
    min_bytes: Option<String>,
    max_bytes: Option<String>,
    changed_since: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecentParams {
    limit: Option<String>,
}

/// Answers `GET /api/v1/files`: a page of a folder, with `query` what is called so anywhere, or with `everywhere` what changed last.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Response, Problem> {
    let path = CatalogPath::parse(params.path.as_deref().unwrap_or_default())?;
    let limit = limit(params.limit.as_deref(), DEFAULT_ENTRIES, MAX_ENTRIES)?;
    let sort = sort(given(&params.sort))?;
    let (filter, everywhere) = wanted(&params)?;
    let now = side.clock.now();
    if let Some(text) = given(&params.query).map(str::trim).filter(|text| !text.is_empty()) {
        return search(&side, &path, text, filter, limit).await;
    }
    if everywhere {
        let answer = side.catalog.newest(filter, limit).await?;
        return Ok(json_of(&FilesJson {
            path: path.to_text(),
            total: answer.total,
            entries: answer.entries.iter().map(|entry| EntryJson::new(entry, now, Vec::new())).collect(),
            next_cursor: None,
            index: Some(answer.index),
        }));
    }
    let cursor = given(&params.cursor).map(str::to_owned);
    let listing = side.catalog.list(&path, ListQuery { sort, cursor, limit, filter }).await?;
    Ok(json_of(&FilesJson {
        path: path.to_text(),
        entries: listing.entries.iter().map(|entry| EntryJson::new(entry, now, Vec::new())).collect(),
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

async fn search(side: &OwnerSide, path: &CatalogPath, text: &str, filter: Filter, limit: usize) -> Result<Response, Problem> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(bad(format!("query is too long: at most {MAX_QUERY_BYTES} bytes.")));
    }
    let answer = side.catalog.search(text, filter, limit).await?;
    let now = side.clock.now();
    Ok(json_of(&FilesJson {
        path: path.to_text(),
        total: answer.total,
        entries: answer.hits.into_iter().map(|hit| EntryJson::new(&hit.entry, now, hit.highlights)).collect(),
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

/// Reads which entries are wanted, and whether they are wanted from everywhere.
fn wanted(params: &Params) -> Result<(Filter, bool), Problem> {
    Ok((filter(params)?, everywhere(given(&params.everywhere))?))
}

fn filter(params: &Params) -> Result<Filter, Problem> {
    let kinds = given(&params.kind).into_iter().flat_map(|names| names.split(','));
    let filter = Filter {
        categories: kinds.map(|name| Category::parse(name).ok_or_else(wrong_kind)).collect::<Result<_, _>>()?,
        min_bytes: given(&params.min_bytes).map(|text| bytes("min_bytes", text)).transpose()?,
        max_bytes: given(&params.max_bytes).map(|text| bytes("max_bytes", text)).transpose()?,
        changed_since: given(&params.changed_since).map(|text| moment("changed_since", text, Edge::Start)).transpose()?,
    };
    match filter.min_bytes.zip(filter.max_bytes) {
        Some((min, max)) if min > max => Err(bad("min_bytes must not be more than max_bytes.")),
        _ => Ok(filter),
    }
}

fn wrong_kind() -> Problem {
    let names: Vec<&str> = CATEGORIES.iter().map(|(_, name)| *name).collect();
    bad(format!("kind must be one of {}, or several of them with commas between.", names.join(", ")))
}

fn bytes(name: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| bad(format!("{name} must be a whole number of bytes, 0 or more.")))
}

fn everywhere(text: Option<&str>) -> Result<bool, Problem> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad("everywhere must be true or false.")),
    }
}

/// Answers `GET /api/v1/recent`: files that were shared before, and the newest ones.
pub(super) async fn recent(State(side): State<Arc<OwnerSide>>, Query(params): Query<RecentParams>) -> Result<Json<RecentJson>, Problem> {
    let limit = limit(params.limit.as_deref(), DEFAULT_RECENT, MAX_RECENT)?;
    let now = side.clock.now();
    let shared = shared_before(&side, now, limit).await?;
    let newest = side.catalog.newest(Filter::of_files(), limit).await?.entries;
    Ok(Json(RecentJson { shared, newest: newest.iter().map(|entry| EntryJson::new(entry, now, Vec::new())).collect() }))
}

async fn shared_before(side: &OwnerSide, now: Moment, limit: usize) -> Result<Vec<SharedBeforeJson>, Problem> {
    let closed = side.controller.history(ShareQuery { limit: SHARES_LOOKED_BACK, ..ShareQuery::default() }).await?;
    let living = side.controller.living();
    let shares = living.iter().take(SHARES_LOOKED_BACK).chain(&closed);
    let mut times: HashMap<CatalogPath, (Timestamp, u32)> = HashMap::new();
    for share in shares.map(|view| &view.share) {
        let (last, count) = times.entry(share.file.path.clone()).or_insert((share.created.wall, 0));
        *last = share.created.wall.max(*last);
        *count += 1;
    }
    let mut paths: Vec<CatalogPath> = times.keys().cloned().collect();
    paths.sort_unstable_by(|a, b| times[b].0.cmp(&times[a].0).then_with(|| a.cmp(b)));
    paths.truncate(MAX_LOOKED_FOR);
    let entries = side.catalog.files_at(paths, limit).await?;
    let shared = entries.iter().filter_map(|entry| {
        let (last, shares) = *times.get(&entry.path)?;
        Some(SharedBeforeJson { entry: EntryJson::new(entry, now, Vec::new()), shared_at: time(last), shares })
    });
    Ok(shared.collect())
}

/// Answers `GET /api/v1/files/{path}`: what a file is, and its checksum once it is known. Asking has it computed.
// Not `OriginalUri`: that still has the prefix of a proxy before it.
pub(super) async fn show(State(side): State<Arc<OwnerSide>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let path = path_of(uri.path())?;
    let entry = side.catalog.entry(&path).await?;
    let mut answer = serde_json::to_value(EntryJson::new(&entry, side.clock.now(), Vec::new())).expect("an entry is plain JSON");
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
///
/// # Errors
/// [`Problem`] where no path of the catalog stands there, or the address is none of this route.
pub(super) fn path_of(address: &str) -> Result<CatalogPath, Problem> {
    // Nothing would be the root folder: whoever asked for a file must not hear about that.
    let encoded = address.strip_prefix(FILES).ok_or_else(|| Problem::not_found("not_found", "There is nothing at this address."))?;
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

    #[test]
    fn an_address_of_something_else_is_not_the_root_folder() {
        for other in ["", "/", "/api/v1/files", "/portcullis/api/v1/files/a", "/api/v1/filesa"] {
            assert_eq!(path_of(other).unwrap_err().code(), "not_found", "{other}");
        }
    }
}
