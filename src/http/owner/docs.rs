//! The description of the API as a page: for people, without script, and without a word from elsewhere.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Map, Value};

use super::openapi::{ABOUT, Operation, TAGS, operations, schemas, sentence_of, written};
use crate::http::auth::Access;

static PAGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(page().into_string()));

/// Answers `GET /api/docs`.
pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE.clone()).into_response()
}

fn page() -> Markup {
    let operations = operations();
    let schemas = schemas();
    let of = |tag: &'static str| operations.iter().filter(move |(operation, _)| operation.tag == tag);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "The API – Portcullis" }
                meta name="robots" content="noindex";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="../assets/shared/icon.svg";
                link rel="stylesheet" href="../assets/shared/tokens.css";
                link rel="stylesheet" href="../assets/shared/base.css";
                link rel="stylesheet" href="../assets/owner/docs.css";
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    p.brand { a href="../" { img src="../assets/shared/icon.svg" alt="" width="28" height="28"; " Portcullis" } }
                    h1 { "The API" }
                    p.muted.small { "Version " (env!("CARGO_PKG_VERSION")) " · for programs: " a href="../openapi.json" { "openapi.json" } }
                }
                nav aria-label="What there is" {
                    @for (tag, _) in TAGS {
                        details open {
                            summary { (tag) }
                            ul {
                                @for (operation, _) in of(tag) {
                                    li { a href=(format!("#{}", operation.id())) { (method(operation)) (operation.summary()) } }
                                }
                            }
                        }
                    }
                    details {
                        summary { "Shapes" }
                        ul { @for name in schemas.keys() { li { a href=(format!("#shape-{name}")) { (name) } } } }
                    }
                }
                main id="content" {
                    section { (prose(ABOUT)) }
                    @for (tag, about) in TAGS {
                        section {
                            h2 { (tag) }
                            p.muted { (about) }
                            @for (operation, access) in of(tag) { (article(operation, *access)) }
                        }
                    }
                    section {
                        h2 { "Shapes" }
                        @for (name, schema) in &schemas { (shape(name, schema)) }
                    }
                }
            }
        }
    }
}

fn method(operation: &Operation) -> Markup {
    let name = operation.method.as_str();
    html! { span class=(format!("method {}", name.to_ascii_lowercase())) { (name) } " " }
}

fn article(operation: &Operation, access: Access) -> Markup {
    let json = operation.json("", Value::Null);
    let parameters = json["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        article id=(operation.id()) {
            h3 { (operation.summary()) }
            p.path { (method(operation)) code { (written(operation.path)) } }
            p.small.muted { (inline(&sentence_of(access))) }
            (prose(json["description"].as_str().unwrap_or_default()))
            @if !parameters.is_empty() {
                h4 { "What it takes" }
                dl { @for parameter in parameters { (parameter_of(parameter)) } }
            }
            @for (media_type, content) in contents(&json["requestBody"]) {
                h4 { "The body " span.muted { (media_type) @if json["requestBody"]["required"] == false { ", may be left out" } } }
                (fields(&content["schema"], 0))
                @if let Some(example) = content.get("example") { (example_of(example)) }
            }
            h4 { "What it answers" }
            dl.answers { @for (status, answer) in json["responses"].as_object().unwrap_or(&Map::new()) { (answer_of(status, answer)) } }
        }
    }
}

fn parameter_of(parameter: &Value) -> Markup {
    html! {
        dt {
            code { (text(&parameter["name"])) } " "
            span.kind { (kind(&parameter["schema"])) @if parameter["in"] == "header" { ", a header" } @if parameter["required"] == true { ", in the path" } }
        }
        dd { (inline(text(&parameter["description"]))) }
    }
}

fn answer_of(status: &str, answer: &Value) -> Markup {
    let is_fine = status.starts_with(['2', '3']);
    html! {
        dt class=(if is_fine { "fine" } else { "problem" }) { (status) }
        dd {
            (inline(text(&answer["description"]))) " "
            @for (media_type, content) in contents(answer) {
                @if is_fine {
                    span.kind { (kind(&content["schema"])) @if media_type != "application/json" { " " (media_type) } }
                    @if content["schema"].get("$ref").is_none() { (fields(&content["schema"], 0)) }
                }
            }
        }
    }
}

fn shape(name: &str, schema: &Value) -> Markup {
    html! {
        article id=(format!("shape-{name}")) {
            h3 { (name) }
            @if let Some(about) = schema["description"].as_str() { p { (inline(about)) } }
            (fields(schema, 0))
            @if let Some(example) = schema.get("example") { (example_of(example)) }
        }
    }
}

/// How deep the fields of fields are told; the rest is a shape of its own.
const MAX_DEPTH: usize = 3;

/// Tells the fields of an object, and those of the objects in it.
fn fields(schema: &Value, depth: usize) -> Markup {
    let parts = ["allOf", "anyOf"].iter().filter_map(|name| schema[name].as_array()).flatten();
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    html! {
        @if depth < MAX_DEPTH {
            @for part in parts { @if part.get("$ref").is_none() { (fields(part, depth)) } }
            @if let Some(items) = schema.get("items").filter(|items| items.get("$ref").is_none()) { (fields(items, depth + 1)) }
            @if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
                dl.fields {
                    @for (name, field) in properties {
                        dt { code { (name) } " " span.kind { (kind(field)) @if !required(name) { ", optional" } } }
                        dd { (inline(text(&field["description"]))) (fields(field, depth + 1)) }
                    }
                }
            }
        }
    }
}

/// Says in a few words what a value is, with a link where that is a shape of its own.
fn kind(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        return html! { a href=(format!("#shape-{name}")) { (name) } };
    }
    for alternatives in ["allOf", "anyOf", "oneOf"] {
        if let Some(parts) = schema[alternatives].as_array() {
            let word = if alternatives == "allOf" { " and more" } else { " or " };
            return html! { @for (index, part) in parts.iter().enumerate() { @if index > 0 { (word) } @if index == 0 || alternatives != "allOf" { (kind(part)) } } };
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        // An empty parameter counts as left out; that is no choice to tell of.
        let words = words.iter().filter(|word| *word != "");
        return html! { @for (index, word) in words.enumerate() { @if index > 0 { " | " } code { (word.as_str().unwrap_or("null")) } } };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec!["anything"],
    };
    let words: Vec<&str> = types
        .iter()
        .map(|name| match (*name, schema["format"].as_str()) {
            ("string", Some("date-time")) => "time",
            ("string", Some("uri")) => "address",
            ("string", _) => "text",
            ("integer", _) => "whole number",
            ("boolean", _) => "true or false",
            ("array", _) => "list",
            (other, _) => other,
        })
        .collect();
    html! {
        (words.join(" or "))
        @if let Some(items) = schema.get("items") { " of " (kind(items)) }
        @match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => { ", " (least) " to " (most) }
            (Some(least), None) if least > 0 => { ", " (least) " or more" }
            (None, Some(most)) => { ", at most " (most) }
            _ => {}
        }
    }
}

fn example_of(example: &Value) -> Markup {
    html! { pre tabindex="0" { code { (serde_json::to_string_pretty(example).unwrap_or_default()) } } }
}

fn contents(of: &Value) -> Vec<(&str, &Value)> {
    of["content"].as_object().into_iter().flatten().map(|(media_type, content)| (media_type.as_str(), content)).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Writes paragraphs, lists and blocks of code: as much of Markdown as the descriptions use.
fn prose(text: &str) -> Markup {
    html! {
        @for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            @if let Some(code) = block.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) {
                // What scrolls sideways can be reached by keyboard.
                pre tabindex="0" { code { (code.trim()) } }
            } @else if block.starts_with("- ") {
                ul { @for item in block.lines() { li { (inline(item.trim_start_matches("- "))) } } }
            } @else {
                p { (inline(block)) }
            }
        }
    }
}

/// Writes a line in which `this` is code.
fn inline(line: &str) -> Markup {
    html! {
        @for (index, part) in line.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_of_every_operation_and_each_of_its_links_leads_somewhere() {
        let page = page().into_string();
        for (operation, _) in operations() {
            assert!(page.contains(&format!("<article id=\"{}\">", operation.id())), "{}", operation.id());
        }
        for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("http://www") && !page.contains("https://"));
    }

    #[test]
    fn code_stands_out_and_nothing_breaks_out() {
        assert_eq!(inline("a `b<c` d").into_string(), "a <code>b&lt;c</code> d");
        assert_eq!(
            prose("x\n\n```\ny & z\n```\n\n- `1`\n- 2").into_string(),
            "<p>x</p><pre tabindex=\"0\"><code>y &amp; z</code></pre><ul><li><code>1</code></li><li>2</li></ul>"
        );
    }
}
