//! The whole history as a file: CSV for a spreadsheet, or a line of JSON for each share.
//!
//! It is read a page at a time and as the reader takes it, so a long history and a slow reader cost one page. Where the store
//! cannot be read on, the connection breaks off: what is not all of it must not look as if it were. Links never stand in it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;

use super::OwnerSide;
use super::query::bad;
use super::wire::{ShareJson, day};
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::share::ShareId;
use crate::store::{Day, ShareQuery, StoreError};

/// How many shares are read at once: some hundreds of kilobytes at the most.
const PAGE: usize = 200;
/// What makes a spreadsheet take a cell for something to compute when the cell begins with it.
const FORMULAS: &[char] = &['=', '+', '-', '@'];
/// What some spreadsheets drop at the beginning of a cell, and then look at what stands behind it.
const DROPPED: &[char] = &['\t', '\r', '\n'];
/// Behind what a cell begins for a spreadsheet that separates cells by other than a comma, as a German one does: our quotes are letters to it.
const SEPARATORS: &[char] = &[';', '\t', '\r', '\n'];

/// In which form a history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A page of JSON.
    Page,
    /// All of it, a table.
    Csv,
    /// All of it, a line of JSON for each share.
    JsonLines,
}

impl Format {
    /// Reads which form is wanted: as `format` says, or else the first one known that `Accept` names.
    pub(super) fn wanted(format: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        match format {
            Some("json") => Ok(Self::Page),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::JsonLines),
            Some(_) => Err(bad("format must be json, csv or jsonl.")),
            None => Ok(Self::accepted(headers)),
        }
    }

    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let types = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let known = |kind: String| match &*kind {
            "text/csv" => Some(Self::Csv),
            "application/x-ndjson" | "application/jsonl" => Some(Self::JsonLines),
            "application/json" | "application/*" | "*/*" => Some(Self::Page),
            _ => None,
        };
        types.filter_map(known).next().unwrap_or(Self::Page)
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Page => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::JsonLines => "application/x-ndjson",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Page => "json",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
        }
    }
}

/// Where a download is.
struct Export {
    side: Arc<OwnerSide>,
    caller: Caller,
    format: Format,
    /// Where the next page begins; `None` where there is none.
    next: Option<ShareQuery>,
    /// What stands before the first share.
    head: Option<Vec<u8>>,
}

/// Answers with all closed shares that `filter` wants, as a download.
///
/// # Errors
/// [`Problem`] where the store cannot be read for the first page. Later the body ends with an error.
pub(super) async fn download(side: Arc<OwnerSide>, caller: Caller, format: Format, filter: ShareQuery) -> Result<Response, Problem> {
    let name = format!("portcullis-history-{}.{}", day(Day::of(side.clock.now().wall)), format.ending());
    let head = (format == Format::Csv).then(|| csv_line(ShareJson::COLUMNS.map(str::to_owned)));
    let mut export = Export { side, caller, format, next: Some(ShareQuery { limit: PAGE, ..filter }), head };
    let first = export.page().await?;
    let rest =
        stream::try_unfold(export, |mut export| async move { Ok::<_, StoreError>(export.page().await?.map(|piece| (piece, export))) });
    let body = Body::from_stream(stream::StreamExt::chain(stream::iter(first.map(Ok)), rest));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).expect("a day is plain ASCII");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

impl Export {
    /// Returns the next page as bytes; `None` behind the last.
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(query) = self.next.take() else { return Ok(None) };
        let views = self.side.controller.history(query.clone()).await?;
        if let (true, Some(before)) = (views.is_empty(), query.before) {
            self.expect_known(before).await?;
        }
        let now = self.side.clock.now();
        let mut bytes = self.head.take().unwrap_or_default();
        for view in &views {
            let share = ShareJson::new(view, now, &self.caller).without_link();
            match self.format {
                Format::Csv => bytes.extend(csv_line(share.cells())),
                Format::Page | Format::JsonLines => {
                    serde_json::to_writer(&mut bytes, &share).expect("a share is plain JSON");
                    bytes.push(b'\n');
                }
            }
        }
        if views.len() == PAGE {
            self.next = views.last().map(|last| ShareQuery { before: Some(last.share.id), ..query });
        }
        Ok(Some(bytes.into()))
    }

    /// Behind a share that was forgotten meanwhile (its time was over) nothing is found, though there may be more.
    async fn expect_known(&self, share: ShareId) -> Result<(), StoreError> {
        match self.side.store.share(share).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::unavailable("the share where the page before ended was forgotten meanwhile")),
        }
    }
}

/// Writes a line as RFC 4180 has it. No cell begins like a formula, however a spreadsheet splits the line: it would run what a stranger
/// called a file.
fn csv_line<const N: usize>(cells: [String; N]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells.map(|cell| harmless(&cell))).expect("memory takes every byte");
    writer.into_inner().expect("memory takes every byte")
}

/// Returns a cell with `'` before each letter by which a spreadsheet would take it, or what stands behind a separator in it, for a formula.
fn harmless(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len() + 1);
    if cell.starts_with(DROPPED) {
        safe.push('\'');
    }
    let mut is_at_begin = true;
    for letter in cell.chars() {
        if is_at_begin && FORMULAS.contains(&letter) {
            safe.push('\'');
        }
        // Blanks and quotes before a formula are left out by some.
        is_at_begin = SEPARATORS.contains(&letter) || is_at_begin && (letter.is_whitespace() || letter == '"');
        safe.push(letter);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_computed_and_each_stays_one() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("=cmd|'/c calc'!A0", "'=cmd|'/c calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\r=1", "\"'\r'=1\""),
            ("\n=1", "\"'\n'=1\""),
            ("a;=cmd|x", "a;'=cmd|x"),
            ("a; \u{a0}+1;b-1;@x", "a; \u{a0}'+1;b-1;'@x"),
            ("a;\"=1", "\"a;\"\"'=1\""),
            ("a\t-1", "a\t'-1"),
            ("a\n=1", "\"a\n'=1\""),
            (" \"=1", "\" \"\"'=1\""),
            ("a;b=c - d", "a;b=c - d"),
            ("a=b", "a=b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=\",\"", "\"'=\"\",\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("", ""),
        ] {
            let line = String::from_utf8(csv_line(["x".to_owned(), cell.to_owned()])).unwrap();
            assert_eq!(line, format!("x,{expected}\r\n"), "{cell:?}");
        }
    }

    #[test]
    fn the_form_is_as_the_query_says_or_else_the_first_that_is_accepted() {
        let wanted = |format: Option<&str>, accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            Format::wanted(format, &headers).ok()
        };
        for (format, accept, expected) in [
            (None, "*/*", Some(Format::Page)),
            (None, "text/html", Some(Format::Page)),
            (None, "Text/CSV; charset=utf-8", Some(Format::Csv)),
            (None, "text/html, application/x-ndjson;q=0.9, */*", Some(Format::JsonLines)),
            (None, "application/json, text/csv", Some(Format::Page)),
            (Some("csv"), "application/json", Some(Format::Csv)),
            (Some("jsonl"), "text/csv", Some(Format::JsonLines)),
            (Some("json"), "text/csv", Some(Format::Page)),
            (Some("xml"), "text/csv", None),
        ] {
            assert_eq!(wanted(format, accept), expected, "{format:?} {accept}");
        }
        assert_eq!(Format::wanted(None, &HeaderMap::new()).unwrap(), Format::Page);
    }
}
