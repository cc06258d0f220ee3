//! The files of the owner's page, built into the program.
//!
//! They are sent as they are, but for two things that only cost time on the way: comments (a third of what is sent), and
//! those parts of a catalogue that the server alone says.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::words::{Language, pages_words, text_named};

#[derive(Embed)]
#[folder = "web/owner/"]
struct Owner;

#[derive(Embed)]
#[folder = "web/shared/"]
struct Shared;

#[derive(Embed)]
#[folder = "web/words/"]
struct Words;

/// Marks an answer as a part of a page, which no browser shows by itself.
#[derive(Debug, Clone, Copy)]
pub struct Part;

/// Answers `GET /assets/{path}`. A browser keeps a file and asks whether it is still the same: a program that was updated
/// shows its page at once.
pub async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let data = match path.split_once('/') {
        Some(("owner", name)) => Owner::get(name).map(|file| file.data),
        Some(("shared", name)) => Shared::get(name).map(|file| file.data),
        Some(("words", name)) => {
            let words = words_of_pages(name).map(|text| Cow::Owned(text.into_bytes()));
            words.or_else(|| Words::get(name).map(|file| file.data))
        }
        _ => None,
    };
    match data {
        Some(data) => {
            let mut response = answer(&path, without_comments(&path, data), &headers);
            response.extensions_mut().insert(Part);
            response
        }
        None => Problem::not_found("not_found", "There is nothing at this address.").into_response(),
    }
}

/// Returns the module with what the pages say in a language.
fn words_of_pages(name: &str) -> Option<String> {
    let code = name.strip_suffix(".js")?;
    let language = Language::ALL.into_iter().find(|language| language.code() == code)?;
    Some(format!("export default {};\n", pages_words(language)))
}

/// Leaves out of a script or a style the lines that are comments. The tests hold that every comment of ours has lines of its own.
fn without_comments(path: &str, data: Cow<'static, [u8]>) -> Cow<'static, [u8]> {
    let Some(text) = std::str::from_utf8(&data).ok().filter(|_| path.ends_with(".js") || path.ends_with(".css")) else { return data };
    let mut kept = String::with_capacity(text.len());
    let mut is_comment = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if !is_comment && trimmed.starts_with("/*") {
            // What follows a comment of one line is code: a cast.
            is_comment = !trimmed.contains("*/");
            let code = trimmed.split_once("*/").map_or("", |(_, code)| code);
            if !code.is_empty() {
                kept += code.trim_start();
                kept.push('\n');
            }
        } else if is_comment {
            is_comment = !trimmed.ends_with("*/");
        } else if !trimmed.is_empty() && !trimmed.starts_with("//") {
            kept += trimmed;
            kept.push('\n');
        }
    }
    Cow::Owned(kept.into_bytes())
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

fn answer(path: &str, data: Cow<'static, [u8]>, headers: &HeaderMap) -> Response {
    let digest: String = Sha256::digest(&data)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let etag = HeaderValue::try_from(format!("\"{digest}\"")).expect("an ETag of ours is made of hexadecimal digits");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest));
    let common = [(header::ETAG, etag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, media_type(path))], body_of(data)).into_response()
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

    fn sent(path: &str, text: &'static str) -> String {
        String::from_utf8(without_comments(path, Cow::Borrowed(text.as_bytes())).into_owned()).unwrap()
    }

    #[test]
    fn comments_stay_at_home_and_code_does_not() {
        let script = "// About.\n\n/** One line. */\nconst a = 'http://x'; // kept\n/**\n * Several.\n */\n  /** @type {A} */ (a).b();\nconst c = /** @type {B} */ (1);\n";
        assert_eq!(sent("owner/a.js", script), "const a = 'http://x'; // kept\n(a).b();\nconst c = /** @type {B} */ (1);\n");
        assert_eq!(sent("owner/a.css", "/* About. */\n\na { b: c; }\n"), "a { b: c; }\n");
        assert_eq!(sent("owner/a.svg", "<!-- x -->\n"), "<!-- x -->\n");
    }

    #[test]
    fn no_line_of_ours_is_cut_in_two() {
        for name in Owner::iter().chain(Shared::iter()).filter(|name| name.ends_with(".js")) {
            let file = Owner::get(&name).or_else(|| Shared::get(&name)).unwrap();
            for line in String::from_utf8_lossy(&file.data).lines() {
                // A text over several lines would lose its indentation, and what looks like a comment in it.
                assert!(line.matches('`').count().is_multiple_of(2), "{name}: {line}");
            }
        }
    }

    #[test]
    fn pages_get_only_the_words_that_they_say() {
        let words = words_of_pages("de.js").unwrap();
        assert!(words.starts_with("export default {") && words.contains("\"find\"") && !words.contains("\"state\""), "{words}");
        assert_eq!((words_of_pages("fr.js"), words_of_pages("de")), (None, None));
    }
}
