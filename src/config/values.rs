//! How the values of settings are read. Each error is the end of a sentence that begins with the setting's name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::ProbeKind;
use crate::delivery::Prefix;
use crate::http::owner;
use crate::share::Network;
use crate::tunnel::probe::Resolver;

/// The longest path before the owner's side; with it a sign-in link is still a line of a terminal.
const MAX_BASE_PATH_BYTES: usize = 64;

/// A value that must not be seen: it is not in its Debug form.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret into custody.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Returns the secret itself. Whoever asks sees to it that it goes into no log and no answer.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a network, or one address.
pub(super) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|wrong| format!("{} {wrong}", shown(text)))
}

/// Reads a whole number within bounds.
pub(super) fn whole(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| format!("{} is not allowed; it must be a whole number from {} to {}", shown(text), bounds.start(), bounds.end()))
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{} is no address with a port; write it as 0.0.0.0:8000 or [::]:8000", shown(text)))
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is neither true nor false", shown(text))),
    }
}

/// Reads one of a few words, some of which only later versions know.
pub(super) fn word<T: Copy>(text: &str, known: &[(&str, T)], later: &[&str]) -> Result<T, String> {
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let words = words.join(" or ");
    Err(if later.contains(&text) {
        format!("{text} is not built yet in this version; use {words}")
    } else {
        format!("{} is not known; use {words}", shown(text))
    })
}

/// Reads values with commas between, and says what is wrong with the first that is wrong.
pub(super) fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let address = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if let Ok(IpAddr::V6(address)) = address {
        return Ok(format!("[{address}]"));
    }
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{} is no host name; write names alone, as nas.local (no https://, no port, no slash)", shown(text)))
    }
}

/// Reads the beginning of every link.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{} {why}; write it as https://files.example.org", shown(text)));
    let Some((scheme, rest)) = text.split_once("://") else { return wrong("is no URL") };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return wrong("begins with neither http:// nor https://");
    }
    if rest.contains('?') || rest.contains('#') {
        return wrong("may have no ? and no #");
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return wrong("may name no user");
    }
    let Some(authority) = authority_of(authority) else { return wrong("has no host name, or a port that is none") };
    let path = path.trim_end_matches('/');
    if !path.is_empty() && !is_plain_path(&path[1..]) {
        return wrong("may have only letters, digits and -._~ in its path");
    }
    Ok(format!("{scheme}://{authority}{path}"))
}

/// Reads the path below which a proxy puts the owner's side.
pub(super) fn base_path(text: &str) -> Result<Prefix, String> {
    let wrong = |why: &str| Err(format!("{} {why}; write it as /portcullis", shown(text)));
    let Some(rest) = text.strip_prefix('/') else { return wrong("does not begin with a slash") };
    let path = rest.strip_suffix('/').unwrap_or(rest);
    if text.len() > MAX_BASE_PATH_BYTES {
        return wrong(&format!("is longer than {MAX_BASE_PATH_BYTES} letters"));
    }
    if !rest.is_empty() && !is_plain_path(path) {
        return wrong("may have only letters, digits and -._~ between its slashes");
    }
    // With the prefix taken off by a proxy such an address would lose it once more.
    let first = path.split('/').next().unwrap_or_default();
    if !first.is_empty() && owner::route_list().iter().any(|(_, route)| route.split('/').nth(1) == Some(first)) {
        return wrong(&format!("begins with /{first}, as addresses of the owner's side do themselves"));
    }
    Ok(Prefix::new(text))
}

/// Returns whether a path, without the slash at its beginning, can be pasted into shells and pages: nothing but the plainest letters.
fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    path.split('/').all(plain)
}

/// Reads the name of something that Docker has: no spaces, nothing that is an option.
pub(super) fn plain(text: &str) -> Result<String, String> {
    const MOST: usize = 255;
    if !text.is_empty() && text.len() <= MOST && !text.starts_with('-') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is no name that Docker could have", shown(text)))
    }
}

/// Reads arguments with spaces between.
fn words(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        Ok(text.to_owned())
    } else {
        Err(format!("{} has letters that no argument has", shown(text)))
    }
}

/// Reads arguments of `tailscale up`: none that logs in, since what stands there is shown and passed on as it is.
pub(super) fn up_arguments(text: &str) -> Result<String, String> {
    // Before everything else: other mistakes quote what they find.
    if holds_key(text) { Err("a key does not stand here, where everybody sees it; use TAILSCALE_AUTH_KEY".to_owned()) } else { words(text) }
}

/// Returns whether arguments of `tailscale up` hold a key, or say that one follows.
pub(super) fn holds_key(text: &str) -> bool {
    // What shells would take off is looked behind, though nobody does it here: it is a key all the same.
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    words.map(|word| word.trim_start_matches(['"', '\'', '\\']).to_ascii_lowercase()).any(|word| {
        let flag = word.strip_prefix('-').map(|rest| rest.trim_start_matches('-')).unwrap_or_default();
        word.contains("tskey-") || ["auth-key", "authkey", "client-secret"].iter().any(|secret| flag.starts_with(secret))
    })
}

/// Reads where Docker answers.
pub(super) fn docker_host(text: &str) -> Result<String, String> {
    let is_path = text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/'));
    if is_path || text.strip_prefix("tcp://").is_some_and(|address| target(address).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not where Docker answers; write it as unix:///var/run/docker.sock or tcp://socket-proxy:2375", shown(text)))
    }
}

/// Reads a login of a tailnet, as tailscaled tells it.
pub(super) fn login(text: &str) -> Result<String, String> {
    const MOST: usize = 254;
    if text.len() <= MOST && text.contains('@') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{} is no login of a tailnet; write it as alice@example.com", shown(text)))
    }
}

/// Reads a port that Funnel knows.
pub(super) fn funnel_port(text: &str) -> Result<u16, String> {
    match text {
        "443" => Ok(443),
        "8443" => Ok(8443),
        "10000" => Ok(10_000),
        _ => Err(format!("{} is no port of Funnel's; it has 443, 8443 and 10000", shown(text))),
    }
}

/// Reads where somebody else finds us: a name or an address, with a port.
pub(super) fn target(text: &str) -> Result<String, String> {
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| whole(port, 1..=65535).is_ok());
    let wrong = || format!("{} is no name or address with a port; write it as portcullis:8001", shown(text));
    authority_of(text).filter(|_| has_port).ok_or_else(wrong)
}

/// Reads whether shares are looked at from outside, and where, if not where the public DNS leads.
pub(super) fn probe(text: &str) -> Result<ProbeKind, String> {
    match text {
        "auto" => Ok(ProbeKind::Auto),
        "off" => Ok(ProbeKind::Off),
        address => match address.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(ProbeKind::At(address)),
            Ok(_) | Err(_) => Err(format!("{} is neither auto nor off, nor an address with a port as 192.0.2.7:443", shown(text))),
        },
    }
}

/// Reads resolvers: one or a few.
pub(super) fn resolvers(text: &str) -> Result<Vec<Resolver>, String> {
    const MOST: usize = 4;
    let resolvers = list(text, |one| one.parse::<Resolver>().map_err(|wrong| format!("{} {wrong}", shown(one))))?;
    match resolvers.len() {
        1..=MOST => Ok(resolvers),
        n => Err(format!("there are {n} of them; one to {MOST} are asked at once")),
    }
}

fn authority_of(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    // A bare IPv6 address would have eaten its last part as a port.
    if name.contains(':') && !name.starts_with('[') {
        return None;
    }
    let name = host(name).ok()?;
    match port {
        None => Some(name),
        Some(port) => whole(port, 1..=65535).ok().map(|port| format!("{name}:{port}")),
    }
}

/// Returns a value for a person to read: quoted, escaped and cut short.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() { format!("{:?}", short + "…") } else { format!("{text:?}") }
}
