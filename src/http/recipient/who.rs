//! Who asks for a link: a command-line client that wants the bytes, or anybody else.
//!
//! Who gets bytes is an allow list. A preview bot that nobody has heard of gets the page; a client that is missing here gets the
//! page, too, and its user adds `?dl=1`. Who is a preview and who a person decides what the owner is told, and nothing else: a
//! scanner that calls itself a browser counts as a person.

use http::{HeaderMap, Method, header};

use crate::share::Looker;

/// How the agents of command-line download clients begin.
const CLIENTS: &[&str] = &["curl/", "wget/", "wget2/", "aria2/", "httpie/", "xh/"];
/// PowerShell's `Invoke-WebRequest` calls itself Mozilla and names itself later on.
const POWERSHELL: &[&str] = &["windowspowershell/", " powershell/"];
/// Parts of agents of previews and scanners, in small letters: what most of them say of themselves, then those who say nothing
/// like it. A client on the allow list never has them; one that pretends to be curl and says `bot` is believed in the latter.
/// `bot` is in Slackbot-LinkExpanding, Twitterbot, TelegramBot, Discordbot, LinkedInBot, Googlebot, Applebot, redditbot and
/// bitlybot; iMessage calls itself facebookexternalhit, and Signal WhatsApp.
const PREVIEWS: &[&str] = &[
    "bot",
    "crawler",
    "spider",
    "preview",
    "scanner",
    "whatsapp",
    "facebookexternalhit",
    "slack-imgproxy",
    "skypeuripreview",
    "microsoft office",
    "microsoft outlook",
    "ms-office",
    "msoffice",
    "safelinks",
    "teams/",
    "signal",
    "mastodon",
    "pleroma",
    "embedly",
];
/// A maker of phones whose name is in the agents of their browsers.
const NO_BOT: &str = "cubot";
/// How the agents of browsers begin: every one with a window says Mozilla, or once said Opera; those of a terminal their own names.
const BROWSERS: &[&str] = &["mozilla/", "opera/", "lynx/", "links ", "elinks/", "w3m/"];

/// Returns whether a GET of a link is to be answered with the bytes.
pub(super) fn wants_bytes_at_the_link(headers: &HeaderMap, query: Option<&str>) -> bool {
    !is_prefetch(headers) && (asks_for_bytes(query) || is_client(headers))
}

/// Returns whether the client is curl: of those on the list the only one that follows a redirect only when it is told to.
/// `xargs curl -OJ` would save nothing.
pub(super) fn follows_no_redirect(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().to_ascii_lowercase().starts_with(b"curl/"))
}

/// Returns whether the request goes on behind bytes that the client has: `Range: bytes=k-` with k > 0.
pub(super) fn resumes(headers: &HeaderMap) -> bool {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).and_then(|text| text.trim().strip_prefix("bytes="));
    let first = range.and_then(|set| set.split_once('-')).and_then(|(first, _)| first.parse::<u64>().ok());
    first.is_some_and(|first| first > 0)
}

/// Returns who looks at a link's page, for the owner to see; `None` for whoever is neither known as a preview nor a browser that
/// gets the page.
pub(super) fn looker(method: &Method, headers: &HeaderMap) -> Option<Looker> {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    if is_prefetch(headers) || is_preview(&agent) {
        return Some(Looker::Preview);
    }
    (method == Method::GET && BROWSERS.iter().any(|browser| agent.starts_with(browser))).then_some(Looker::Person)
}

/// Returns whether an agent, in small letters, is a known preview's.
fn is_preview(agent: &str) -> bool {
    let agent = agent.replace(NO_BOT, "");
    PREVIEWS.iter().any(|part| agent.contains(part))
}

/// Returns whether a script asks, which wants to be told where the transfer is and not to be led there.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accepted| accepted.as_bytes() == b"application/json")
}

fn asks_for_bytes(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "dl=1"))
}

fn is_client(headers: &HeaderMap) -> bool {
    let Some(agent) = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()) else { return false };
    let agent = agent.to_ascii_lowercase();
    let is_listed = CLIENTS.iter().any(|client| agent.starts_with(client)) || POWERSHELL.iter().any(|part| agent.contains(part));
    is_listed && !is_preview(&agent)
}

/// Returns whether a browser or a proxy fetches ahead of a person: <https://wicg.github.io/nav-speculation/prefetch.html>
/// and the older spellings of Safari and Firefox.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let value = headers.get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        ["prefetch", "prerender", "preview"].iter().any(|purpose| value.contains(purpose))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wants(agent: &str, others: &[(&'static str, &'static str)], query: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_str(agent).unwrap());
        for (name, value) in others {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        wants_bytes_at_the_link(&headers, query)
    }

    #[test]
    fn command_line_clients_get_the_bytes_at_the_link() {
        for agent in [
            "curl/8.5.0",
            "Wget/1.21.3",
            "Wget2/2.0.1",
            "aria2/1.36.0",
            "HTTPie/3.2.2",
            "xh/0.22",
            "Mozilla/5.0 (Windows NT; Windows NT 10.0; de-DE) WindowsPowerShell/5.1.19041.1",
            "Mozilla/5.0 (Macintosh; Darwin 22.1; en-US) PowerShell/7.3.0",
        ] {
            assert!(wants(agent, &[], None), "{agent}");
            assert!(!wants(agent, &[("sec-purpose", "prefetch;prerender")], None), "{agent} fetching ahead");
        }
    }

    #[test]
    fn previews_scanners_and_browsers_get_a_page() {
        for agent in [
            "",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            "WhatsApp/2.23.20.0",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "TelegramBot (like TwitterBot)",
            "curl/7.0 (compatible; SomePreviewBot)",
            "python-requests/2.31",
            "Go-http-client/1.1",
            "libcurl-scanner",
        ] {
            assert!(!wants(agent, &[], None), "{agent}");
        }
        assert!(!wants("curl/8", &[("purpose", "prefetch")], Some("dl=1")));
        assert!(!wants("x", &[("x-moz", "prefetch")], Some("dl=1")));
    }

    #[test]
    fn previews_and_people_are_told_apart_and_who_is_neither_is_not_counted() {
        const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
        let looker = |method: Method, agent: &str, others: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_str(agent).unwrap());
            headers.extend(others.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))));
            looker(&method, &headers)
        };
        for agent in [
            "WhatsApp/2.23.20.0",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Slack-ImgProxy (+https://api.slack.com/robots)",
            "Twitterbot/1.0",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Teams/1.5.00.4689 Chrome/85.0 Electron/10.4.7 Safari/537.36",
            "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.12026; Pro)",
            "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
            "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) (Applebot/0.1)",
            "Mozilla/5.0 (Macintosh) Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
            "Signal-Desktop/7.0",
            "http.rb/5.1.1 (Mastodon/4.2.0; +https://mastodon.social/)",
            "Pleroma 2.5; https://example.org",
            "Mozilla/5.0 (compatible; redditbot/1.0)",
            "bitlybot/3.0",
            "Mozilla/5.0 (compatible; Embedly/0.2; +http://support.embed.ly/)",
            "previewer-of-tomorrow/0.1",
            "SomeCrawler",
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(looker(method, agent, &[]), Some(Looker::Preview), "{agent}");
            }
        }
        for header in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch"), ("x-moz", "prefetch")] {
            assert_eq!(looker(Method::GET, CHROME, &[header]), Some(Looker::Preview), "{header:?}");
        }
        for agent in
            [CHROME, "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) Chrome/79.0", "Lynx/2.9.0dev.12", "Links (2.28; Linux)", "w3m/0.5.3"]
        {
            assert_eq!(looker(Method::GET, agent, &[]), Some(Looker::Person), "{agent}");
            assert_eq!(looker(Method::HEAD, agent, &[]), None, "{agent} shows nobody a page by HEAD");
        }
        for agent in ["", "curl/8.5.0", "python-requests/2.32.0", "Go-http-client/1.1"] {
            assert_eq!(looker(Method::GET, agent, &[]), None, "{agent}");
        }
    }

    #[test]
    fn whoever_says_so_gets_the_bytes() {
        assert!(wants("Mozilla/5.0", &[], Some("dl=1")));
        assert!(wants("Mozilla/5.0", &[], Some("a=b&dl=1")));
        assert!(!wants("Mozilla/5.0", &[], Some("dl=0")));
        assert!(!wants("Mozilla/5.0", &[], Some("xdl=1")));
    }

    #[test]
    fn curl_alone_follows_no_redirect() {
        for (agent, expected) in
            [("curl/8.5.0", true), ("Wget/1.21.3", false), ("aria2/1.36.0", false), ("HTTPie/3.2.2", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_str(agent).unwrap());
            assert_eq!(follows_no_redirect(&headers), expected, "{agent}");
        }
    }

    #[test]
    fn only_a_range_behind_something_resumes() {
        let resumes = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
            super::resumes(&headers)
        };
        assert!(resumes("bytes=1-") && resumes("bytes=5-9"));
        assert!(!resumes("bytes=0-") && !resumes("bytes=-5") && !resumes("lines=1-"));
    }
}
