//! Entrances for hostile bytes: one plain function for each reader of what strangers send, with what must hold of it.
//!
//! They are compiled for tests and for libFuzzer's builds (`fuzz/`) alone. Each is more than "it does not panic": it reads
//! the same bytes a second, simpler way, or writes back what was read, and compares. `cargo test` feeds them the kept corpus
//! (`fuzz/corpus/`) and some thousands of seeded twists of it; `tests/run --long` does so for hours.

use crate::{config, delivery, http, meter, share, token};

/// What takes bytes and fails by a panic.
pub type Target = fn(&[u8]);

/// Every target, with the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("request_head", delivery::fuzz::request_head),
    ("range", delivery::fuzz::range),
    ("bytes_answer", delivery::fuzz::bytes_answer),
    ("content_disposition", delivery::fuzz::content_disposition),
    ("transfer_address", delivery::fuzz::transfer_address),
    ("forwarded", delivery::fuzz::forwarded),
    ("proxy_header", delivery::fuzz::proxy_header),
    ("certificate", delivery::fuzz::certificate),
    ("http2_frames", meter::fuzz::http2_frames),
    ("socket_answer", meter::fuzz::socket_answer),
    ("token", token::fuzz::token),
    ("transfer_secret", token::fuzz::transfer_secret),
    ("catalog_path", share::fuzz::catalog_path),
    ("ids", share::fuzz::ids),
    ("json_body", http::owner::fuzz::json_body),
    ("query_words", http::owner::fuzz::query_words),
    ("address", http::owner::fuzz::address),
    ("host", http::auth::fuzz::host),
    ("origin", http::auth::fuzz::origin),
    ("settings_file", config::fuzz::settings_file),
    ("setting_values", config::fuzz::setting_values),
];

/// Feeds a target.
///
/// # Panics
/// Where what must hold does not, and where there is no such target.
pub fn feed(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(its, _)| *its == name).expect("one of the targets");
    target(data);
}

#[cfg(test)]
mod tests;
