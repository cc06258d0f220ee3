//! What every page promises: small, whole by itself, escaped, and silent towards previews.

use sha2::{Digest, Sha256};

use super::*;

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='a()'> & ünïcode\u{FFFD}.mp4";

fn offer(name: &str) -> Offer {
    Offer {
        name: name.to_owned(),
        size_bytes: 1_912_345_678,
        sha256: Some([0xAB; 32]),
        ends: Timestamp(1_795_275_720_000),
        ends_in: Duration::from_secs(3599),
        message: None,
        downloads: Some(1),
        max_bytes_per_second: None,
        form_action: "/abcdefghjk/token\"><b>".to_owned(),
    }
}

fn every_page() -> Vec<Page> {
    let largest = "\"".repeat(255);
    vec![
        ready(&offer(HOSTILE)),
        ready(&offer(&largest)),
        ready(&Offer { message: Some(format!("{HOSTILE}\n").repeat(10)), ..offer(&largest) }),
        running(1),
        running(3),
        used(),
        expired(),
        revoked(),
        stalled(),
        source_changed(),
        not_yet(None),
        not_yet(Some(Timestamp(1_795_275_720_000))),
        a_moment(),
        gone(),
        not_for_this_network(),
        bad_request(HOSTILE),
    ]
}

#[test]
fn every_page_is_small_and_whole_by_itself() {
    for page in every_page() {
        let html = &page.html;
        assert!(html.len() < MAX_PAGE_BYTES, "{} bytes", html.len());
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"));
        for needed in ["name=\"viewport\"", "content=\"noindex, nofollow, noarchive\"", "content=\"no-referrer\"", "<h1>", "<main>"] {
            assert!(html.contains(needed), "{needed} in {html}");
        }
        // A hostile name may be shown, but only as text.
        let ours = html.replace("http://www.w3.org/2000/svg", "").replace("&lt;img src=x", "");
        for foreign in ["<script", "<img", "<link", "<iframe", "://", "url(", "@import", " style=", "src="] {
            assert!(!ours.contains(foreign), "{foreign} in {html}");
        }
    }
}

#[test]
fn a_name_is_shown_as_text_and_no_preview_learns_it() {
    let html = ready(&offer(HOSTILE)).html;
    assert!(html.contains("<bdi>&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
    assert!(html.contains("action=\"/abcdefghjk/token&quot;&gt;&lt;b&gt;\""), "{html}");
    let (head, _) = ready(&offer("plan-of-the-merger.pdf")).html.split_once("</head>").map(|(h, b)| (h.to_owned(), b.to_owned())).unwrap();
    assert!(!head.contains("plan-of-the-merger"), "{head}");
    assert!(head.contains("<title>A file for you</title>"), "{head}");
}

#[test]
fn the_policy_allows_exactly_the_style_of_the_pages() {
    let digest = base64(&Sha256::digest(STYLE));
    assert!(content_security_policy().contains(&format!("style-src 'sha256-{digest}';")), "write sha256-{digest} into the policy");
    for page in every_page() {
        let (_, rest) = page.html.split_once("<style>").unwrap();
        let (style, rest) = rest.split_once("</style>").unwrap();
        assert_eq!(style, STYLE);
        assert!(!rest.contains("<style"));
    }
}

#[test]
fn the_page_of_a_link_tells_what_it_offers() {
    let html = ready(&offer("holiday.mp4")).html;
    for needed in [
        "holiday.mp4",
        "1.9 GB",
        "1,912,345,678 bytes",
        &"ab".repeat(32),
        "Open for 59 minutes more, until 15:42 UTC.",
        "This link works once. If the download is cut off, it can go on from where it stopped.",
        "<form method=\"post\"",
        "<button>Download</button>",
    ] {
        assert!(html.contains(needed), "{needed} in {html}");
    }
    let several = ready(&Offer { downloads: Some(3), sha256: None, size_bytes: 1, ..offer("a") }).html;
    assert!(several.contains("This link works for 3 downloads in all."));
    assert!(several.contains("<dd>1 byte</dd>"));
    assert!(!several.contains("SHA-256"));
    let unlimited = ready(&Offer { downloads: None, max_bytes_per_second: Some(2_000_000), ..offer("a") }).html;
    assert!(unlimited.contains("This link works as often as you like, until it ends."));
    assert!(unlimited.contains("until 15:42 UTC. The sender lets it go at 2.0 MB/s at most."), "{unlimited}");
    let message = Some("Hello Ann,\n<b>see</b> https://example.org".to_owned());
    let told = ready(&Offer { message, ..offer("a") }).html;
    assert!(told.contains("<blockquote>Hello Ann,\n&lt;b&gt;see&lt;/b&gt; https://example.org</blockquote>"), "{told}");
    let (head, _) = told.split_once("</head>").unwrap();
    assert!(!head.contains("Hello"), "a preview reads {head}");
}

#[test]
fn every_refusal_has_its_status_and_its_sentence() {
    for (page, status, sentence) in [
        (running(1), 409, "This link is for one download and it is running right now."),
        (used(), 410, "This link has been used."),
        (expired(), 410, "This link has expired."),
        (revoked(), 410, "The sender closed this link."),
        (stalled(), 410, "The download stopped for too long, and the link was closed."),
        (source_changed(), 410, "The file changed at the sender’s side, and the link was closed."),
        (not_yet(Some(Timestamp(1_795_275_720_000))), 403, "It opens on 21 Nov 2026 15:42 UTC. Come back then."),
        (not_yet(None), 403, "Come back later."),
        (a_moment(), 503, "<meta http-equiv=\"refresh\" content=\"5\">"),
        (not_for_this_network(), 403, "This link is for another network."),
        (gone(), 410, "This link no longer works."),
        (bad_request("The form was sent twice."), 400, "The form was sent twice."),
    ] {
        assert_eq!(page.status, status, "{sentence}");
        assert!(page.html.contains(sentence), "{sentence} in {}", page.html);
    }
}

/// Encodes a digest as `Content-Security-Policy` wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = char::from(ALPHABET[(group >> (18 - 6 * index)) as usize & 63]);
            text.push(if index > chunk.len() { '=' } else { letter });
        }
    }
    text
}
