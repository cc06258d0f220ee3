//! The files of the owner's page, built into the program.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{Embed, EmbeddedFile};

use super::problem::Problem;
use super::words::{Language, text_named};

#[derive(Embed)]
#[folder = "web/owner/"]
struct Owner;

#[derive(Embed)]
#[folder = "web/shared/"]
struct Shared;

#[derive(Embed)]
#[folder = "web/words/"]
struct Words;

/// Answers `GET /assets/{path}`. A browser keeps a file and asks whether it is still the same: a program that was updated
/// shows its page at once.
pub async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let file = match path.split_once('/') {
        Some(("owner", name)) => Owner::get(name),
        Some(("shared", name)) => Shared::get(name),
        Some(("words", name)) => Words::get(name),
        _ => None,
    };
    match file {
        Some(file) => answer(&path, file, &headers),
        None => Problem::not_found("not_found", "There is nothing at this address.").into_response(),
    }
}

/// Answers with a page of the owner's side, `index.html` or `sign-in.html`, in the reader's language. It is never kept: who
/// is signed out sees another.
pub fn page(name: &str, status: StatusCode, language: Language) -> Response {
    let Some(file) = Owner::get(name) else {
        return Problem::not_found("not_found", "There is nothing at this address.").into_response();
    };
    let html = filled_in(&String::from_utf8_lossy(&file.data), language);
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_LANGUAGE, language.code())], html).into_response()
}

/// Fills in the words of a page: `{{language}}` is the language's code, `{{part.name}}` a text of its catalogue.
fn filled_in(template: &str, language: Language) -> String {
    let mut pieces = template.split("{{");
    let mut html = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        let text = if name == "language" { Some(language.code()) } else { text_named(language, name) };
        debug_assert!(text.is_some(), "the catalogue has no {name}");
        html += &maud::html! { (text.unwrap_or_default()) }.into_string();
        html += rest;
    }
    html
}

fn answer(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let digest: String = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let etag = HeaderValue::try_from(format!("\"{digest}\"")).expect("an ETag of ours is made of hexadecimal digits");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest));
    let common = [(header::ETAG, etag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, media_type(path))], body_of(file.data)).into_response()
}

fn body_of(data: Cow<'static, [u8]>) -> Body {
    match data {
        Cow::Borrowed(data) => Body::from(data),
        Cow::Owned(data) => Body::from(data),
    }
}

fn media_type(path: &str) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let text = if kind.type_() == mime_guess::mime::TEXT { format!("{kind}; charset=utf-8") } else { kind.to_string() };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_all_its_words_in_every_language() {
        for name in ["index.html", "sign-in.html"] {
            for language in Language::ALL {
                let html = filled_in(&String::from_utf8_lossy(&Owner::get(name).unwrap().data), language);
                assert!(html.contains(&format!("<html lang=\"{}\"", language.code())), "{name}");
                assert!(!html.contains("{{") && !html.contains("}}"), "{name}");
            }
        }
    }
}
