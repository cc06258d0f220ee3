//! Looking at a link spends nothing, whoever looks: chat previews, mail scanners, prefetchers, curious people.

use crate::harness::{BROWSER, Client, Offer, Server, Setup, put, sha256};

/// How often each of them comes.
const VISITS: usize = 100;

/// Who comes, by what method, with which headers.
const VISITORS: &[(&str, &str, &[&str])] = &[
    ("WhatsApp", "GET", &["User-Agent: WhatsApp/2.23.20.0"]),
    ("WhatsApp on a desk", "GET", &["User-Agent: WhatsApp/2.2587.9 W"]),
    (
        "Facebook",
        "GET",
        &["User-Agent: facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "Range: bytes=0-524287"],
    ),
    ("Slack", "GET", &["User-Agent: Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Range: bytes=0-32768"]),
    ("Slack's pictures", "GET", &["User-Agent: Slack-ImgProxy (+https://api.slack.com/robots)"]),
    ("Telegram", "GET", &["User-Agent: TelegramBot (like TwitterBot)"]),
    ("Discord", "GET", &["User-Agent: Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"]),
    (
        "Teams and Skype",
        "GET",
        &["User-Agent: Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com"],
    ),
    (
        "iMessage",
        "GET",
        &["User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 \
           Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0"],
    ),
    ("LinkedIn", "GET", &["User-Agent: LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)"]),
    ("Signal", "GET", &["User-Agent: WhatsApp/2"]),
    ("Mastodon", "GET", &["User-Agent: http.rb/5.1.1 (Mastodon/4.2.0; +https://mastodon.social/) Bot"]),
    ("Safe Links, which looks like a browser", "GET", &[BROWSER]),
    ("Google", "GET", &["User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"]),
    ("a bot nobody knows yet", "GET", &["User-Agent: previewer-of-tomorrow/0.1"]),
    ("somebody without a name", "GET", &[]),
    ("python-requests", "GET", &["User-Agent: python-requests/2.32.0"]),
    ("a browser that prefetches", "GET", &[BROWSER, "Sec-Purpose: prefetch"]),
    ("a browser that prerenders", "GET", &[BROWSER, "Sec-Purpose: prefetch;prerender"]),
    ("an older browser that prefetches", "GET", &[BROWSER, "Purpose: prefetch"]),
    ("an old Firefox that prefetches", "GET", &[BROWSER, "X-Moz: prefetch"]),
    ("curl behind a prefetching proxy", "GET", &["User-Agent: curl/8.5.0", "Sec-Purpose: prefetch"]),
    ("curl behind an older prefetching proxy", "GET", &["User-Agent: curl/8.5.0", "Purpose: prefetch"]),
    ("curl behind an old Firefox's proxy", "GET", &["User-Agent: curl/8.5.0", "X-Moz: prefetch"]),
    ("a browser's HEAD", "HEAD", &[BROWSER]),
    ("curl -I", "HEAD", &["User-Agent: curl/8.5.0"]),
    ("wget --spider", "HEAD", &["User-Agent: Wget/1.21.3"]),
    ("OPTIONS", "OPTIONS", &[BROWSER]),
    ("OPTIONS of curl", "OPTIONS", &["User-Agent: curl/8.5.0"]),
];

#[test]
fn a_hundred_visits_of_every_preview_spend_nothing_and_then_a_person_downloads() {
    let server = Setup::new().start();
    let digest = sha256(&put(&server, "holiday.mp4", 700_000));
    let offer = server.share("holiday.mp4");
    for (who, method, headers) in VISITORS {
        for _ in 0..VISITS {
            visit(&server, &offer, who, method, headers);
        }
        assert_eq!(server.uses(&offer.id), 0, "{who} spent a use");
    }
    assert_eq!(server.show(&offer.id)["state"], "offered");
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("the person is answered").expect_status(200);
    assert_eq!(sha256(&answer.body), digest);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    assert_eq!(server.uses(&offer.id), 1);
}

fn visit(server: &Server, offer: &Offer, who: &str, method: &str, headers: &[&str]) {
    let Some(answer) = Client::connect(server.recipient).request(method, &offer.link, headers) else {
        assert_eq!(method, "OPTIONS", "{who} got no answer");
        return;
    };
    assert!(!matches!(answer.status, 301..=308), "{who} was sent on to the bytes:\n{}", answer.head_text());
    assert!(answer.status < 500, "{who}:\n{}", answer.head_text());
    assert!(answer.body.len() < 15_000, "{who} got {} bytes instead of a small page", answer.body.len());
    if method == "GET" {
        assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/html")), "{who}:\n{}", answer.head_text());
    }
}

#[test]
fn previews_and_people_who_look_are_counted_apart_and_told_and_outlive_a_crash() {
    let mut server = Setup::new().start();
    put(&server, "holiday.mp4", 1000);
    let offer = server.share("holiday.mp4");
    let looked = |server: &Server, headers: &[&str]| visit(server, &offer, "somebody", "GET", headers);
    let told = |server: &Server, previews: u32, people: u32, text: &str| {
        server.wait_for(&offer.id, text, |share| {
            share["looks"] == serde_json::json!({ "previews": previews, "people": people }) && share["state_text"] == text
        });
    };
    told(&server, 0, 0, "Ready. Nobody has opened it yet.");
    for headers in
        [["User-Agent: WhatsApp/2.23.20.0"].as_slice(), &["User-Agent: TelegramBot (like TwitterBot)"], &[BROWSER, "Sec-Purpose: prefetch"]]
    {
        looked(&server, headers);
    }
    // Neither: no preview that says so, and nobody who sees the page.
    visit(&server, &offer, "a browser's HEAD", "HEAD", &[BROWSER]);
    looked(&server, &["User-Agent: python-requests/2.32.0"]);
    told(&server, 3, 0, "3 previews looked, nobody took it.");
    looked(&server, &[BROWSER]);
    looked(&server, &[BROWSER]);
    told(&server, 3, 2, "Looked at twice, not downloaded yet.");
    // Saved with the next decision of the share, and no line of the log says so.
    server.redeem(&offer);
    server.kill();
    server.start();
    assert_eq!(server.show(&offer.id)["looks"], serde_json::json!({ "previews": 3, "people": 2 }));
    assert_eq!(server.uses(&offer.id), 1);
    // A link that was made up is met with silence and counted nowhere.
    let forged = offer.link.replacen("eyJ", "eyK", 1);
    server.fetch("GET", &forged, &["User-Agent: WhatsApp/2"]);
    assert_eq!(server.show(&offer.id)["looks"], serde_json::json!({ "previews": 3, "people": 2 }));
}

#[test]
fn a_get_of_the_redeem_path_and_strange_methods_spend_nothing() {
    let server = Setup::new().start();
    put(&server, "a.bin", 1000);
    let offer = server.share("a.bin");
    let redeem = offer.redeem_path();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"] {
        for path in [&redeem, &offer.link] {
            if (method, path) == ("GET", &redeem) || method == "HEAD" || (method, path) == ("GET", &offer.link) {
                server.fetch(method, path, &[BROWSER]);
            } else if let Some(answer) = server.fetch(method, path, &[BROWSER]) {
                assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.head_text());
            }
        }
    }
    assert_eq!(server.uses(&offer.id), 0);
}

#[test]
fn what_a_preview_shows_does_not_tell_the_file_name() {
    let server = Setup::new().start();
    put(&server, "divorce-papers-2026.pdf", 1000);
    let offer = server.share("divorce-papers-2026.pdf");
    let page = server.fetch("GET", &offer.link, &["User-Agent: WhatsApp/2.23.20.0"]).expect("an answer").expect_status(200).text();
    let tags: Vec<&str> = page.split('<').filter(|tag| tag.starts_with("meta") || tag.starts_with("title")).collect();
    assert!(tags.iter().any(|tag| tag.contains("og:title")), "the page has a card: {page}");
    assert!(!tags.iter().any(|tag| tag.contains("divorce")), "{tags:?}");
}
