//! What every page promises, in every language: small, whole by itself, escaped, and silent towards previews.

use base64::Engine;
use sha2::{Digest, Sha256};

use super::*;
use crate::controller::MAX_MESSAGE_BYTES;

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='a()'> & ünïcode\u{FFFD}🏰.mp4";
const THEN: Timestamp = Timestamp(1_795_275_720_000);

fn english() -> Reader {
    Reader::in_language(Language::English)
}

fn file(name: &str) -> File {
    File { name: name.to_owned(), size_bytes: 1_912_345_678, sha256: Some([0xAB; 32]) }
}

fn offer(name: &str) -> Offer {
    Offer {
        file: file(name),
        ends: THEN,
        ends_in: Duration::from_secs(3599),
        message: None,
        downloads: Some(1),
        max_bytes_per_second: None,
        form_action: "/abcdefghjk/token\"><b>".to_owned(),
    }
}

fn mine(name: &str) -> Mine {
    Mine {
        file: file(name),
        state: "transferring",
        title: "Your download is running.".to_owned(),
        text: "412 MB of 1.9 GB · 11 MB/s · about 2 min left".to_owned(),
        delivered_bytes: 412_000_000,
        bytes: format!("../get/{}/{}", "7".repeat(32), "%22".repeat(255)),
        live: format!("../live/{}", "7".repeat(32)),
    }
}

fn delivered(name: &str) -> Delivered {
    Delivered { file: file(name), is_only_sent: false, again: Some((mine(name).bytes, THEN, Timestamp(THEN.0 - 1000))) }
}

const OUTCOMES: [Outcome; 7] =
    [Outcome::Completed, Outcome::Expired, Outcome::TimedOut, Outcome::Stalled, Outcome::Revoked, Outcome::SourceChanged, Outcome::Failed];

fn every_page(reader: Reader) -> Vec<Page> {
    let largest = "\"".repeat(255);
    let mut pages = vec![
        reader.ready(&offer(HOSTILE)),
        reader.ready(&offer(&largest)),
        reader.ready(&Offer { downloads: None, max_bytes_per_second: Some(1), ..offer("a") }),
        reader.mine(&mine(HOSTILE)),
        reader.mine(&mine(&largest)),
        reader.delivered(&delivered(HOSTILE)),
        reader.delivered(&delivered(&largest)),
        reader.delivered(&Delivered { is_only_sent: true, again: None, ..delivered("a") }),
        reader.running(1),
        reader.running(3),
        reader.used(),
        reader.not_yet(None),
        reader.not_yet(Some(THEN)),
        reader.a_moment(),
        reader.gone(),
        reader.not_for_this_network(),
    ];
    pages.extend(OUTCOMES.map(|outcome| reader.ended(outcome)));
    pages
}

fn in_every_language() -> Vec<Page> {
    Language::ALL.into_iter().flat_map(|language| every_page(Reader::in_language(language))).collect()
}

/// Takes out what is ours and what is shown as text, so that only what does something is left.
fn what_acts(html: &str) -> String {
    html.replace(&**inline::SCRIPT, "").replace(&**inline::STYLE, "").replace("&lt;img src=x", "")
}

#[test]
fn every_page_is_small() {
    let message = Some("m".repeat(MAX_MESSAGE_BYTES));
    let longest = Language::ALL.map(|language| Reader::in_language(language).ready(&Offer { message: message.clone(), ..offer(HOSTILE) }));
    for page in in_every_language().into_iter().chain(longest) {
        assert!(page.html.len() < MAX_PAGE_BYTES, "{} bytes", page.html.len());
    }
    // This is what chat previews and text browsers get, which take nothing compressed.
    let plain = english().ready(&offer("holiday.mp4"));
    assert!(plain.html.len() < 15_000, "{} bytes", plain.html.len());
}

#[test]
fn every_page_is_whole_by_itself() {
    for page in in_every_language() {
        let html = &page.html;
        assert!(html.starts_with(&format!("<!DOCTYPE html><html lang=\"{}\">", page.language.code())));
        for needed in
            ["name=\"viewport\"", "content=\"noindex, nofollow, noarchive\"", "content=\"no-referrer\"", "<h1", "<main>", "<svg class="]
        {
            assert!(html.contains(needed), "{needed} in {html}");
        }
        // A hostile name may be shown, but only as text.
        let acts = what_acts(html).replace("<script type=\"module\"></script>", "");
        for foreign in
            ["<script", "<img", "<link", "<iframe", "<object", "<base", "://", "url(", "@import", " style=", "src=", " onerror='"]
        {
            assert!(!acts.replace("&lt;", "").contains(foreign) || foreign == " onerror='", "{foreign} in {html}");
        }
        for attribute in [" onclick", " onload", "javascript:"] {
            assert!(!acts.contains(attribute), "{attribute} in {html}");
        }
    }
}

#[test]
fn a_name_is_shown_as_text_and_no_preview_learns_it() {
    for html in [english().ready(&offer(HOSTILE)).html, english().mine(&mine(HOSTILE)).html, english().delivered(&delivered(HOSTILE)).html]
    {
        assert!(html.contains("<bdi>&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
        assert!(html.contains("🏰"), "{html}");
    }
    let html = english().ready(&offer(HOSTILE)).html;
    assert!(html.contains("action=\"/abcdefghjk/token&quot;&gt;&lt;b&gt;\""), "{html}");
    let name = "plan-of-the-merger.pdf";
    for page in [english().ready(&offer(name)), english().mine(&mine(name)), english().delivered(&delivered(name))] {
        let (head, _) = page.html.split_once("</head>").unwrap();
        assert!(!head.contains("plan-of-the-merger"), "{head}");
        assert!(head.contains("<title>A file for you</title>"), "{head}");
    }
}

#[test]
fn the_policy_allows_exactly_the_style_and_the_script_of_the_pages() {
    let digest = |text: &str| format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)));
    for page in in_every_language() {
        let policy = page.policy.to_str().unwrap();
        let (_, rest) = page.html.split_once("<style>").unwrap();
        let (style, rest) = rest.split_once("</style>").unwrap();
        assert!(!rest.contains("<style"));
        let mut expected = format!("default-src 'none'; style-src {};", digest(style));
        if let Some((_, rest)) = rest.split_once("<script type=\"module\">") {
            let (script, _) = rest.split_once("</script>").unwrap();
            expected += &format!(" script-src {}; connect-src 'self';", digest(script));
        }
        assert_eq!(policy, expected + " form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    }
    assert!(!english().used().html.contains("<script"), "a page that has no use for it has no script");
}

#[test]
fn the_page_of_a_link_tells_what_it_offers() {
    let html = english().ready(&offer("holiday.mp4")).html;
    let groups = "<i>abababab</i>".repeat(8);
    for needed in [
        "holiday.mp4",
        "Video (MP4) · 1.9 GB",
        "1,912,345,678 bytes",
        &groups,
        &format!("data-sha256=\"{}\" data-size=\"1912345678\"", "ab".repeat(32)),
        "Open for 59 minutes more, until <time datetime=\"2026-11-21T15:42:00Z\">15:42 UTC</time>.",
        "This link works once. If the download is cut off, it can go on from where it stopped.",
        "<form method=\"post\"",
        "<button>Download</button>",
    ] {
        assert!(html.contains(needed), "{needed} in {html}");
    }
    let one_byte = File { sha256: None, size_bytes: 1, ..file("a") };
    let several = english().ready(&Offer { downloads: Some(3), file: one_byte, ..offer("a") }).html;
    assert!(several.contains("This link works for 3 downloads in all."));
    assert!(several.contains("<dd>1 byte</dd>"));
    assert!(!several.contains("SHA-256") && !several.contains("data-sha256="), "{several}");
    let unlimited = english().ready(&Offer { downloads: None, max_bytes_per_second: Some(2_000_000), ..offer("a") }).html;
    assert!(unlimited.contains("This link works as often as you like, until it ends."));
    assert!(unlimited.contains("</time>. The sender lets it go at 2.0 MB/s at most."), "{unlimited}");
    let message = Some("Hello Ann,\n<b>see</b> https://example.org".to_owned());
    let told = english().ready(&Offer { message, ..offer("a") }).html;
    assert!(
        told.contains(
            "<blockquote><p class=\"hint\">From the sender</p>Hello Ann,\n&lt;b&gt;see&lt;/b&gt; https://example.org</blockquote>"
        ),
        "{told}"
    );
    let (head, _) = told.split_once("</head>").unwrap();
    assert!(!head.contains("Hello"), "a preview reads {head}");
}

#[test]
fn whoever_has_a_transfer_reads_how_far_it_is_and_where_it_goes_on() {
    let html = english().mine(&mine("holiday.mp4")).html;
    for needed in [
        &*format!("<section data-live=\"../live/{}\" data-lost=", "7".repeat(32)),
        "<h1 tabindex=\"-1\">Your download is running.</h1>",
        "<progress max=\"1912345678\" value=\"412000000\" aria-label=\"Progress of your download\"></progress>",
        "412 MB of 1.9 GB · 11 MB/s · about 2 min left",
        &*format!("href=\"../get/{}/", "7".repeat(32)),
        "Download again from the start",
    ] {
        assert!(html.contains(needed), "{needed} in {html}");
    }
    assert!(!html.contains("<form"), "nothing is to be redeemed");
    let begins = english().mine(&Mine { state: "redeemed", ..mine("a") }).html;
    assert!(begins.contains(">Start the download</a>"), "{begins}");
    let empty = english().mine(&Mine { file: File { size_bytes: 0, ..file("a") }, delivered_bytes: 0, ..mine("a") }).html;
    assert!(empty.contains("<progress max=\"1\" value=\"0\""), "{empty}");
}

#[test]
fn delivered_is_said_only_of_what_is_known_to_be_there() {
    let html = english().delivered(&delivered("a")).html;
    for needed in [
        "Delivered, all of it.",
        "data-sha256=",
        "Until <time datetime=\"2026-11-21T15:42:00Z\">15:42 UTC</time> you can",
        ">Download again</a>",
    ] {
        assert!(html.contains(needed), "{needed} in {html}");
    }
    let sent = english().delivered(&Delivered { is_only_sent: true, again: None, ..delivered("a") }).html;
    assert!(sent.contains("Sent, all of it.") && !sent.contains("Delivered, all"), "{sent}");
    assert!(!sent.contains("Download again"), "{sent}");
}

#[test]
fn every_refusal_has_its_status_and_its_sentence_in_every_language() {
    let german = Reader::in_language(Language::German);
    for (make, status, in_english, in_german) in [
        (
            Box::new(|reader: Reader| reader.running(1)) as Box<dyn Fn(Reader) -> Page>,
            409,
            "This link is for one download and it is running right now.",
            "Dieser Link gilt für einen Download, und der läuft gerade.",
        ),
        (Box::new(|reader: Reader| reader.running(3)), 409, "This link is for 3 downloads.", "Dieser Link gilt für 3 Downloads."),
        (Box::new(Reader::used), 410, "This link has been used.", "Dieser Link wurde schon benutzt."),
        (Box::new(|reader: Reader| reader.ended(Outcome::Expired)), 410, "This link has expired.", "Dieser Link ist abgelaufen."),
        (Box::new(|reader: Reader| reader.ended(Outcome::Revoked)), 410, "The sender closed this link.", "Dieser Link wurde geschlossen."),
        (
            Box::new(|reader: Reader| reader.ended(Outcome::Stalled)),
            410,
            "The download stopped for too long, and the link was closed.",
            "Der Download stand zu lange still, und der Link wurde geschlossen.",
        ),
        (
            Box::new(|reader: Reader| reader.ended(Outcome::SourceChanged)),
            410,
            "The file changed at the sender’s side, and the link was closed.",
            "Die Datei wurde am Ursprung geändert, und der Link wurde geschlossen.",
        ),
        (
            Box::new(|reader: Reader| reader.not_yet(Some(THEN))),
            403,
            "It opens on <time datetime=\"2026-11-21T15:42:00Z\">21 Nov 2026 15:42 UTC</time>. Come back then.",
            "Er öffnet am <time datetime=\"2026-11-21T15:42:00Z\">21. Nov. 2026 15:42 UTC</time>. Bitte dann wiederkommen.",
        ),
        (Box::new(|reader: Reader| reader.not_yet(None)), 403, "Come back later.", "Bitte später wiederkommen."),
        (Box::new(Reader::a_moment), 503, "<meta http-equiv=\"refresh\" content=\"5\">", "Einen Moment, bitte."),
        (Box::new(Reader::not_for_this_network), 403, "This link is for another network.", "Dieser Link ist für ein anderes Netz."),
        (Box::new(Reader::gone), 410, "This link no longer works.", "Dieser Link funktioniert nicht mehr."),
    ] {
        for (reader, sentence) in [(english(), in_english), (german, in_german)] {
            let page = make(reader);
            assert_eq!(page.status, status, "{sentence}");
            assert!(page.html.contains(sentence), "{sentence} in {}", page.html);
        }
    }
}
