//! What hostile bytes meet before a credential is looked at: the name that we are called by, and the page that asks.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::origin::{Names, check_origin};

/// A `Host`: whatever a second reader takes for the host in it is ours, or it is refused.
pub(crate) fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names = Names::new(&["files.example".to_owned()], Some("nas\n"));
    if !names.allow(text) {
        return;
    }
    let host = text.parse::<Authority>().map_or_else(|_| text.to_owned(), |authority| authority.host().to_owned());
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_ours = bare.parse::<IpAddr>().is_ok() || ["localhost", "nas", "nas.local", "files.example"].contains(&host.as_str());
    assert!(is_ours && !text.contains(['@', '/', '\\', ' ', '#', '?']), "{text:?} is taken for ours, and names {host:?}");
}

/// An `Origin` and a `Sec-Fetch-Site` of somebody else's page: nothing that changes anything is let through.
pub(crate) fn origin(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (origin, site) = (parts.next().unwrap_or_default(), parts.next());
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("nas:8000"));
    let Ok(value) = HeaderValue::from_bytes(origin) else { return };
    headers.insert(header::ORIGIN, value);
    if let Some(site) = site.and_then(|site| HeaderValue::from_bytes(site).ok()) {
        headers.insert("sec-fetch-site", site);
    }
    let uri = Uri::from_static("/api/v1/shares");
    if check_origin(&Method::POST, &uri, &headers, "host").is_ok() {
        let text = origin.to_ascii_lowercase();
        assert!(matches!(&text[..], b"http://nas:8000" | b"https://nas:8000"), "{:?}", origin.escape_ascii().to_string());
    }
}
