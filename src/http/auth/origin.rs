//! From where a request may come: not through the public tunnel, not under a name that is not ours (DNS rebinding), and
//! nothing that changes anything from a page of somebody else (CSRF).

use std::net::IpAddr;
use std::sync::RwLock;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::http::problem::Problem;

/// What tailscaled adds to every request that comes through Funnel, and lets no visitor add or remove.
const FUNNEL_HEADER: &str = "tailscale-funnel-request";
/// Whom of the tailnet a request is from. tailscaled drops what a client sends under this name, and sends none for Funnel's visitors
/// (`addTailscaleIdentityHeaders` in `ipn/ipnlocal/serve.go` of github.com/tailscale/tailscale, v1.102.3).
pub(super) const TAILNET_LOGIN: &str = "tailscale-user-login";
/// What proxies add.
const OF_PROXIES: [&str; 4] = ["x-forwarded-for", "forwarded", "via", TAILNET_LOGIN];

/// The names under which the owner side may be called, besides every IP address and `localhost`.
#[derive(Debug)]
pub(super) struct Names {
    /// Those of the settings, which may change.
    extra: RwLock<Vec<String>>,
    /// The machine's own.
    own: Vec<String>,
}

impl Names {
    /// Takes the names of the settings and adds the machine's own, bare and with `.local`.
    pub(super) fn new(extra: &[String], machine: Option<&str>) -> Self {
        let machine = machine.map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        let own = machine.map(|machine| vec![format!("{machine}.local"), machine]).unwrap_or_default();
        let names = Self { extra: RwLock::default(), own };
        names.set(extra);
        names
    }

    /// Takes other names of the settings in place of those.
    pub(super) fn set(&self, extra: &[String]) {
        let extra = extra.iter().map(|name| host_of(name).unwrap_or(name).to_ascii_lowercase()).collect();
        *self.extra.write().expect("nobody panics while holding the names") = extra;
    }

    pub(super) fn allow(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        bare.parse::<IpAddr>().is_ok() || host == "localhost" || self.own.contains(&host) || self.has_extra(&host)
    }
}

impl Names {
    fn has_extra(&self, host: &String) -> bool {
        self.extra.read().expect("nobody panics while holding the names").contains(host)
    }
}

/// Returns the machine's own name.
pub(super) fn machine_name() -> Option<String> {
    // Not by a file: a sandbox may show nothing of `/proc` but processes.
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

/// Refuses what came through the public tunnel, whatever it asks for.
pub(super) fn check_not_public(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(FUNNEL_HEADER) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "not_public", "The owner's side is not reachable from the internet."));
    }
    Ok(())
}

/// Refuses what a proxy passes on where being the same account is credential enough: everybody whom it lets in would be that.
pub(super) fn check_not_proxied(headers: &HeaderMap) -> Result<(), Problem> {
    if OF_PROXIES.iter().any(|name| headers.contains_key(*name)) {
        let detail = "This socket is for programs of this machine; lead a proxy to OWNER_LISTEN, and tailscale serve to tailnet.sock (TAILNET_OWNERS).";
        return Err(Problem::new(StatusCode::FORBIDDEN, "proxied", detail));
    }
    Ok(())
}

/// Refuses a request for a host that is not ours: a foreign page may have its own name point at us.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap, names: &Names) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    let is_ours = host.is_some_and(|host| names.allow(host)) && hosts.next().is_none();
    // A request in absolute form names the host twice; both must be ours.
    let target_is_ours = uri.authority().is_none_or(|authority| names.allow(authority.as_str()));
    if is_ours && target_is_ours {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected",
        "This name is not known here; use the machine's IP address or name, or add the name to the allowed hosts in the settings.",
    ))
}

/// Refuses a request that changes something and comes from a page of somebody else. Programs send neither header.
///
/// `host` is the field that says by which host the browser asks. A form sends `Origin: null` where the page asks for no referrer, so the form of the sign-in page may: whoever forges that
/// request would have to know the secret that is in it.
pub(super) fn check_origin(method: &Method, uri: &Uri, headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let site_is_ours = site.is_none_or(|site| site == b"same-origin" || site == b"none");
    let host = headers.get(host).map(|value| value.as_bytes());
    let origin_is_ours = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        let same = authority.is_some() && host.is_some_and(|host| authority.is_some_and(|it| it.eq_ignore_ascii_case(host)));
        same || (origin == b"null" && uri.path() == super::SIGN_IN)
    });
    if site_is_ours && origin_is_ours {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", "This request comes from another site's page and was not carried out."))
}

/// Returns the host of `host[:port]`, an IPv6 address with its brackets; `None` where it is no such thing.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            authority.split_at(end)
        }
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    (port_is_fine && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_by_address_or_by_name() {
        let names = Names::new(&["Files.Example".to_owned(), "other.example:8000".to_owned()], Some("nas\n"));
        for host in [
            "127.0.0.1",
            "192.168.0.2:8000",
            "[::1]",
            "[fd00::1]:8000",
            "localhost:8000",
            "LOCALHOST",
            "nas",
            "NAS.local:8000",
            "nas.",
            "files.example",
            "other.example",
        ] {
            assert!(names.allow(host), "{host}");
        }
        for host in [
            "",
            ":8000",
            "evil.example",
            "evil.nas",
            "nas.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "nas:80:80",
            "nas@evil.example",
            "[::1",
            "[::1]x",
            "nas:x",
            "127.0.0.1 evil",
            "user@nas",
        ] {
            assert!(!names.allow(host), "{host}");
        }
    }
}
