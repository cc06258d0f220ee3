//! nginx's configuration: the templates of `nginx/`, filled in, and the proof by which whoever asks shows that it runs with one.
//!
//! nginx says with each request which configuration it runs with: a digest of the text, and under a key of this installation's
//! that the digest was made here. So nobody else is taken for nginx, and nginx with an older text is told apart from
//! nginx with this one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::source::AccessLog;
use crate::delivery::Bounds;
use crate::meter::syslog::TAG;
use crate::share::Network;
use crate::token;

const RECIPIENT_CONF: &str = include_str!("../../../nginx/recipient.conf");
const ACCESS_LOG_CONF: &str = include_str!("../../../nginx/access_log.conf");
const NGINX_CONF: &str = include_str!("../../../nginx/nginx.conf");

/// What the proof is made for; no other use of the key says the same.
const PURPOSE: &str = "portcullis nginx";
/// The version of the proof's form.
const PROOF_VERSION: &[u8] = b"v1";
const DIGEST_BYTES: usize = 8;

/// How often a second each connection that an address may have may ask: a visit takes four requests (the page, its style, the
/// button, the file), a player or a download manager asks for parts one behind the other.
const REQUESTS_PER_CONNECTION: usize = 4;
/// How many seconds' worth of requests may come at once: a download manager that was stopped begins all its parts anew.
const SECONDS_AT_ONCE: usize = 2;
/// How much shared memory nginx keeps for each visitor that it counts, with room to spare (it takes 64 or 128 bytes).
const BYTES_PER_VISITOR: usize = 256;
/// The least of it: nginx refuses a zone of less than eight pages.
const MIN_ZONE_KIB: usize = 64;
/// The most connections of one worker: nginx takes some 400 bytes for each when it starts, so this is 50 MB.
const MAX_WORKER_CONNECTIONS: usize = 131_072;
/// The most that a bound of connections can be: nginx refuses a larger one.
const MAX_LIMIT_CONN: usize = 65_535;
/// What a worker has beside its visitors' connections: where it listens, what it talks to its master by, its logs.
const OTHER_DESCRIPTORS: usize = 64;

/// What nginx has to know to serve recipients.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where it listens for them.
    pub listen: SocketAddr,
    /// Where portcullis answers it.
    pub upstream: SocketAddr,
    /// The folder whose files can be shared, as nginx finds it.
    pub root: PathBuf,
    /// Where it writes what it has sent.
    pub access_log: AccessLog,
    /// Whose word about a visitor's address is taken.
    pub forwarders: Vec<Network>,
    /// How much it takes on.
    pub bounds: Bounds,
}

/// Something that cannot be written in nginx's language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A path that is no text.
    #[error("the path {} is not valid UTF-8, and nginx cannot be told of it; give it another name", .0.display())]
    NoText(PathBuf),
    /// A path with a letter that nginx takes for something else.
    #[error("the path {path:?} has {what}, which nginx cannot be told of; give it another name, or mount it elsewhere")]
    Letter {
        /// The path.
        path: PathBuf,
        /// Which letter.
        what: &'static str,
    },
    /// A path that begins nowhere.
    #[error("the path {0:?} is not absolute, and nginx would look for it elsewhere")]
    Relative(PathBuf),
    /// A port that the kernel would choose.
    #[error("port 0 of {0} is no port that nginx could be told of; name one")]
    NoPort(SocketAddr),
}

/// The key of the proof. It has no Debug form.
#[derive(Clone)]
pub struct SiteKey([u8; 32]);

impl SiteKey {
    /// Makes the key from a secret that is kept.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

/// Tells one configuration from another: the first 64 bits of the SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteDigest([u8; DIGEST_BYTES]);

impl fmt::Display for SiteDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Site {
    /// Returns what belongs into `http { }` of an nginx that serves others too.
    ///
    /// # Errors
    /// [`Unwritable`] where a path or an address is none that nginx could be told of.
    pub fn conf(&self, key: &SiteKey) -> Result<String, Unwritable> {
        self.filled(&proof(self.digest()?, key))
    }

    /// Returns the whole configuration of an nginx that serves nobody else; `run_dir` is where it keeps what it needs while it runs.
    ///
    /// # Errors
    /// As [`Self::conf`].
    pub fn standalone(&self, key: &SiteKey, run_dir: &Path) -> Result<String, Unwritable> {
        let recipient_conf = indented(&self.conf(key)?);
        // Each visitor may have a connection to portcullis behind its own, and a file.
        let connections = self.bounds.connections.saturating_mul(2).saturating_add(OTHER_DESCRIPTORS).min(MAX_WORKER_CONNECTIONS);
        Ok(fill(
            NGINX_CONF,
            &[
                ("RUN_DIR", quotable(run_dir)?),
                ("WORKER_CONNECTIONS", connections.to_string()),
                ("OPEN_FILES", (connections * 2).to_string()),
                ("RECIPIENT_CONF", recipient_conf),
            ],
        ))
    }

    /// Returns what tells this configuration from any other.
    ///
    /// # Errors
    /// As [`Self::conf`].
    pub fn digest(&self) -> Result<SiteDigest, Unwritable> {
        let digest = Sha256::digest(self.filled("")?);
        Ok(SiteDigest(std::array::from_fn(|at| digest[at])))
    }

    fn filled(&self, proof: &str) -> Result<String, Unwritable> {
        let Bounds { connections, connections_per_address } = self.bounds;
        let per_second = connections_per_address.saturating_mul(REQUESTS_PER_CONNECTION);
        let forwarders: BTreeSet<String> = self.forwarders.iter().map(Network::to_string).collect();
        Ok(fill(
            RECIPIENT_CONF,
            &[
                ("ACCESS_LOG_FORMAT", ACCESS_LOG_CONF.trim_end().to_owned()),
                ("UPSTREAM", with_port(reached_at(self.upstream))?.to_string()),
                ("LISTEN", with_port(self.listen)?.to_string()),
                // The kernel's own default, which nginx has not.
                ("LISTEN_BOTH", if self.listen.ip() == Ipv6Addr::UNSPECIFIED { " ipv6only=off" } else { "" }.to_owned()),
                ("ROOT", folder(&self.root)?),
                ("ACCESS_LOG", log(&self.access_log)?),
                ("FORWARDERS", in_geo(&forwarders)),
                ("REAL_IP", real_ip(&forwarders)),
                ("CONNECTIONS", connections.min(MAX_LIMIT_CONN).to_string()),
                ("CONNECTIONS_PER_ADDRESS", connections_per_address.min(MAX_LIMIT_CONN).to_string()),
                ("CONNECTION_ZONE_KIB", (connections.saturating_mul(BYTES_PER_VISITOR) / 1024 + MIN_ZONE_KIB).to_string()),
                ("REQUESTS_PER_SECOND", per_second.to_string()),
                ("REQUESTS_AT_ONCE", per_second.saturating_mul(SECONDS_AT_ONCE).to_string()),
                ("PROOF", proof.to_owned()),
            ],
        ))
    }
}

/// Returns which configuration whoever sent this field runs with; `None` where it was not made here.
pub fn verify(field: &[u8], key: &SiteKey) -> Option<SiteDigest> {
    let mut parts = field.splitn(3, |byte| *byte == b'.');
    let (version, digest, seal) = (parts.next()?, parts.next()?, parts.next()?);
    let mut bytes = [0; DIGEST_BYTES];
    if version != PROOF_VERSION || digest.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(digest.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let digest = SiteDigest(bytes);
    bool::from(sealed(digest, key).as_bytes().ct_eq(seal)).then_some(digest)
}

fn proof(digest: SiteDigest, key: &SiteKey) -> String {
    format!("v1.{digest}.{}", sealed(digest, key))
}

fn sealed(digest: SiteDigest, key: &SiteKey) -> String {
    token::vouch(&key.0, PURPOSE, digest.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts values in the place of `@NAMES@`. What a value holds is not looked at again.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let name = from[1..].split('@').next().unwrap_or_default();
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                text.push_str(value);
                rest = &from[name.len() + 2..];
            }
            None => {
                text.push('@');
                rest = &from[1..];
            }
        }
    }
    text + rest
}

/// Returns lines as they stand in a block of the template.
fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n    ")
}

fn in_geo(forwarders: &BTreeSet<String>) -> String {
    if forwarders.is_empty() { "# None.".to_owned() } else { lines(forwarders.iter().map(|network| format!("{network} 1;"))) }
}

fn real_ip(forwarders: &BTreeSet<String>) -> String {
    if forwarders.is_empty() {
        return "# Visitors come themselves: what they say about where they come from is not looked at.".to_owned();
    }
    let all = forwarders.iter().map(|network| format!("set_real_ip_from {network};"));
    lines(all.chain(["real_ip_header X-Forwarded-For;".to_owned(), "real_ip_recursive on;".to_owned()]))
}

/// Returns a text with its lines as far in as those of `http { }`.
fn indented(text: &str) -> String {
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("    {line}") };
    text.trim_end().lines().map(indented).collect::<Vec<_>>().join("\n")
}

/// Returns where an address that is listened on is reached on the same machine.
pub fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn with_port(address: SocketAddr) -> Result<SocketAddr, Unwritable> {
    if address.port() == 0 { Err(Unwritable::NoPort(address)) } else { Ok(address) }
}

/// Returns a folder with one slash at its end: without it the names of its neighbours would lie below it too.
fn folder(path: &Path) -> Result<String, Unwritable> {
    let text = quotable(&path.components().collect::<PathBuf>())?;
    Ok(if text.ends_with('/') { text } else { text + "/" })
}

/// Returns where the log goes, as it stands between double quotes.
fn log(log: &AccessLog) -> Result<String, Unwritable> {
    match log {
        AccessLog::File(path) => quotable(path),
        // A path with a comma is none of a socket's.
        AccessLog::Syslog(path) => Ok(format!("syslog:server=unix:{},nohostname,tag={TAG}", quotable(path)?)),
    }
}

/// Returns a path as it stands between double quotes. nginx takes a dollar sign for the beginning of a variable, and has no way
/// to say that it is none.
fn quotable(path: &Path) -> Result<String, Unwritable> {
    let text = path.to_str().ok_or_else(|| Unwritable::NoText(path.to_owned()))?;
    let letter = |what| Unwritable::Letter { path: path.to_owned(), what };
    if !path.is_absolute() {
        return Err(Unwritable::Relative(path.to_owned()));
    }
    if text.contains('$') {
        return Err(letter("a dollar sign"));
    }
    if text.chars().any(char::is_control) {
        return Err(letter("a control character"));
    }
    Ok(text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
