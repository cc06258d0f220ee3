//! Who asks for a link: a command-line client that wants the bytes, or anybody else.
//!
//! It is an allow list. A preview bot that nobody has heard of gets the page; a client that is missing here gets the
//! page, too, and its user adds `?dl=1`.

use http::{HeaderMap, header};

/// How the agents of command-line download clients begin.
const CLIENTS: &[&str] = &["curl/", "wget/", "wget2/", "aria2/", "httpie/", "xh/"];
/// PowerShell's `Invoke-WebRequest` calls itself Mozilla and names itself later on.
const POWERSHELL: &[&str] = &["windowspowershell/", " powershell/"];
/// Parts of agents of previews and scanners. A client on the allow list never has them; one that pretends to be curl and
/// says `bot` is believed in the latter.
const NOT_CLIENTS: &[&str] = &["bot", "preview", "facebookexternalhit", "whatsapp", "crawler", "spider", "scanner"];

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

fn asks_for_bytes(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "dl=1"))
}

fn is_client(headers: &HeaderMap) -> bool {
    let Some(agent) = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()) else { return false };
    let agent = agent.to_ascii_lowercase();
    let is_listed = CLIENTS.iter().any(|client| agent.starts_with(client)) || POWERSHELL.iter().any(|part| agent.contains(part));
    is_listed && !NOT_CLIENTS.iter().any(|part| agent.contains(part))
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
