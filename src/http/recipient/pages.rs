//! The pages that recipients see: one card, one sentence, at most one button.
//!
//! Every page is whole by itself: no script, no other file, nothing from another host, under [`MAX_PAGE_BYTES`]. A link is
//! fetched by chat previews and mail scanners too, so what they read (title and OpenGraph) never tells a file's name.
//! maud escapes whatever is put into a page; only the style and the logo, which are ours, are written as they are.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::http::words::{duration_text, size_text, time_text};
use crate::share::Timestamp;

/// The most that a page may weigh: it must show at once on a bad mobile connection. The tests hold it.
pub const MAX_PAGE_BYTES: usize = 15_000;

const STYLE: &str = concat!(include_str!("../../../web/shared/tokens.css"), include_str!("../../../web/recipient/page.css"));
const LOGO: &str = include_str!("../../../web/shared/logo.svg");
/// Allows the one inline style by its digest (a test computes it), forms to where the page came from, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-oJHadDEEW6qCLULEUXe+J5Fza14IAVxjXhuDwjWZ2SE='; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a recipient's browser is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The whole document.
    pub html: String,
}

/// What the page of a link that works tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The file's name, without control and direction characters.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256, where it is known.
    pub sha256: Option<[u8; 32]>,
    /// When the link ends, by the wall clock.
    pub ends: Timestamp,
    /// How long that is from now.
    pub ends_in: Duration,
    /// What the sender has to say; plain text.
    pub message: Option<String>,
    /// How many people may download it; `None`: as many as come.
    pub downloads: Option<u32>,
    /// How fast it may go, in bytes per second.
    pub max_bytes_per_second: Option<u64>,
    /// Where the button leads: a relative URL.
    pub form_action: String,
}

/// Returns the value of `Content-Security-Policy` for every page of this module.
pub fn content_security_policy() -> &'static str {
    CONTENT_SECURITY_POLICY
}

/// Offers the file with one button.
pub fn ready(offer: &Offer) -> Page {
    let now = Timestamp(offer.ends.0.saturating_sub(i64::try_from(offer.ends_in.as_millis()).unwrap_or(i64::MAX)));
    let works = match offer.downloads {
        Some(1) => "This link works once.".to_owned(),
        Some(n) => format!("This link works for {n} downloads in all."),
        None => "This link works as often as you like, until it ends.".to_owned(),
    };
    let body = html! {
        h1 { bdi { (offer.name) } }
        p.size { (size_text(offer.size_bytes)) }
        @if let Some(message) = &offer.message {
            blockquote { (message) }
        }
        form method="post" action=(offer.form_action) { button { "Download" } }
        p { (works) " If the download is cut off, it can go on from where it stopped." }
        p.hint { "Open for " (rough_duration_text(offer.ends_in)) " more, until " (time_text(offer.ends, now)) "."
            @if let Some(limit) = offer.max_bytes_per_second { " The sender lets it go at " (size_text(limit)) "/s at most." }
        }
        details {
            summary { "Details" }
            dl {
                dt { "Exact size" }
                dd { (grouped(offer.size_bytes)) @if offer.size_bytes == 1 { " byte" } @else { " bytes" } }
                @if let Some(digest) = &offer.sha256 {
                    dt { "Checksum (SHA-256)" }
                    dd { code { (hexadecimal(digest)) } }
                }
                dt { "On a command line" }
                dd { "curl, wget and aria2 download from the link itself: " code.command { "curl -OJ" } " and the link between quotes." }
            }
        }
    };
    page(200, "A file for you", None, &body)
}

/// Says that every use is taken and a download still runs.
pub fn running(max_downloads: u32) -> Page {
    let sentence = match max_downloads {
        1 => "This link is for one download and it is running right now.".to_owned(),
        n => format!("This link is for {n} downloads. All are taken, and one is running right now."),
    };
    let hint = "If it is yours, look in your browser’s list of downloads: one that was cut off goes on from there. \
                If it is not, ask the sender.";
    notice(409, &sentence, hint)
}

/// Says that every use is spent.
pub fn used() -> Page {
    notice(
        410,
        "This link has been used.",
        "It worked for a limited number of downloads. If you still need the file, ask the sender for a new link.",
    )
}

/// Says that the time is up.
pub fn expired() -> Page {
    notice(410, "This link has expired.", "It was open for a limited time. If you still need the file, ask the sender for a new link.")
}

/// Says that the owner closed the share.
pub fn revoked() -> Page {
    notice(410, "The sender closed this link.", "If you still need the file, ask the sender for a new link.")
}

/// Says that the share closed because its bytes stopped.
pub fn stalled() -> Page {
    notice(
        410,
        "The download stopped for too long, and the link was closed.",
        "No data arrived for several minutes. Ask the sender for a new link, and try on a better connection if you can.",
    )
}

/// Says that the file is not what was offered any more.
pub fn source_changed() -> Page {
    notice(
        410,
        "The file changed at the sender’s side, and the link was closed.",
        "What you may have received is incomplete: please delete it, and ask the sender for a new link.",
    )
}

/// Says that the link begins to work later.
pub fn not_yet(starts: Option<Timestamp>) -> Page {
    // The date always stands there: the page may be read much later than it was made.
    let hint = match starts {
        Some(starts) => format!("It opens on {}. Come back then.", time_text(starts, Timestamp(i64::MIN))),
        None => "Come back later.".to_owned(),
    };
    notice(403, "This link is not open yet.", &hint)
}

/// Says that the link is for others. Nothing else is told of it.
pub fn not_for_this_network() -> Page {
    notice(
        403,
        "This link is for another network.",
        "The sender lets it work from certain networks only, as an office or a home. Open it there, or ask the sender.",
    )
}

/// Says that the file cannot be reached for a moment, and asks again by itself.
pub fn a_moment() -> Page {
    let body = html! {
        h1 { "One moment, please." }
        p { "The sender’s side is getting ready. This page tries again in a few seconds." }
        p.hint { "Nothing has been used up." }
    };
    page(503, "One moment", Some(5), &body)
}

/// Says that the link does not work, without a reason.
pub fn gone() -> Page {
    notice(410, "This link no longer works.", "If you still need the file, ask the sender for a new link.")
}

/// Answers a request that makes no sense; `sentence` says what is wrong with it.
pub fn bad_request(sentence: &str) -> Page {
    notice(400, sentence, "Please open the link again, exactly as it was sent to you.")
}

fn notice(status: u16, sentence: &str, hint: &str) -> Page {
    let body = html! {
        h1 { (sentence) }
        p { (hint) }
    };
    page(status, sentence, None, &body)
}

/// Puts `body` into the frame of every page. `title` must not tell a file's name.
fn page(status: u16, title: &str, refresh_seconds: Option<u32>, body: &Markup) -> Page {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                meta name="robots" content="noindex, nofollow, noarchive";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                meta name="format-detection" content="telephone=no";
                meta property="og:title" content="A file for you";
                meta property="og:description" content="Open the link to see what was sent to you.";
                meta property="og:type" content="website";
                @if let Some(seconds) = refresh_seconds { meta http-equiv="refresh" content=(seconds); }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header { (PreEscaped(LOGO)) span { "A file sent to you directly, with Portcullis" } }
                    (body)
                }
            }
        }
    };
    Page { status, html: document.into_string() }
}

/// Writes what is left of a link's time; whoever reads a page does not need the seconds.
fn rough_duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => "less than a minute".to_owned(),
        _ => duration_text(Duration::from_secs(seconds / 60 * 60)),
    }
}

/// Writes a number with its digits in threes.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
