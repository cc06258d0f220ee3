//! What the operator set: the one file that reads the environment.
//!
//! Every setting stands in one table ([`SETTINGS`]) and is a flag and an environment variable; the flag wins, and an empty
//! value counts as none. A secret is a variable or a file (`JWT_SECRET_FILE`) and never a flag. All mistakes are found at
//! once, each a sentence with the setting's name.

mod settings;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::settings::setting;
pub use self::settings::{SETTINGS, Setting, Settings, env_example};
pub use self::values::Secret;
use self::values::{base_url, host, list, listen, network, whole, word, yes_or_no};
use crate::share::{Limits, Network};
use crate::telemetry::{LogFormat, check_filter};
use crate::token::Key;

/// The shortest owner's token: short enough to type on a phone, long enough that nobody guesses it over a LAN.
const MIN_OWNER_TOKEN_BYTES: usize = 16;
/// The longest secret that is read from a file; what is longer is the wrong file.
const MAX_SECRET_BYTES: u64 = 4096;

/// How owners sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// With the owner's token.
    Token,
    /// Not at all: everybody on the LAN is an owner.
    None,
}

/// Which way in is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelKind {
    /// The recipient listener itself.
    Direct,
}

/// Who sends the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// This program.
    Embedded,
}

/// What the operator set, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder whose files can be shared.
    pub root: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Where the owner side listens.
    pub owner_listen: SocketAddr,
    /// Whether the owner side listens on TCP at all, beside its socket in the state folder.
    pub owner_tcp: bool,
    /// Where the recipient side listens.
    pub recipient_listen: SocketAddr,
    /// What every link begins with, without a slash at its end.
    pub base_url: Option<String>,
    /// How owners sign in.
    pub auth: AuthMode,
    /// What owners sign in with; else one is made and kept.
    pub owner_token: Option<Secret>,
    /// More names that the owner side answers to, in lower case.
    pub owner_hosts: Vec<String>,
    /// The keys of links, each taken by [`Key::new`]: the first signs. Empty: one is made and kept.
    pub jwt_secrets: Vec<Secret>,
    /// The bounds of every share.
    pub limits: Limits,
    /// Which way in is opened.
    pub tunnel: TunnelKind,
    /// Who sends the bytes.
    pub delivery: DeliveryKind,
    /// Proxies whose word about a recipient's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether hidden files are shown.
    pub show_hidden: bool,
    /// How many connections of recipients may be open at once.
    pub max_connections: usize,
    /// How many of them may come from one address.
    pub max_connections_per_address: usize,
    /// How long running downloads may go on after the program was told to stop.
    pub drain: Duration,
    /// Which log lines are written.
    pub log: String,
    /// How they look.
    pub log_format: LogFormat,
    /// Whether a terminal gets colours: not where `NO_COLOR` is set.
    pub colours: bool,
}

/// Something wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting's name, as `STATE_DIR`.
    pub name: &'static str,
    /// What is wrong and how to put it right. It never holds a secret.
    pub sentence: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.sentence)
    }
}

impl Config {
    /// Reads every setting. Blocks; for the start of the program.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn load(flags: &Settings) -> Result<Self, Vec<Mistake>> {
        Self::read(flags, &from_environment)
    }

    fn read(flags: &Settings, environment: Environment<'_>) -> Result<Self, Vec<Mistake>> {
        let mut source = Source { flags, environment, mistakes: Vec::new() };
        let limits = Limits {
            max_tunnel: source.seconds("MAX_TUNNEL_SECONDS", 1..=31_536_000),
            stall_timeout: source.seconds("STALL_TIMEOUT_SECONDS", 1..=86_400),
            grace_period: source.seconds("GRACE_PERIOD_SECONDS", 0..=604_800),
        };
        let config = Self {
            root: source.path("NAS_MOUNT_PATH"),
            state_dir: source.path("STATE_DIR"),
            owner_listen: source.required("OWNER_LISTEN", listen),
            owner_tcp: true,
            recipient_listen: source.required("RECIPIENT_LISTEN", listen),
            base_url: source.optional("BASE_URL", base_url),
            auth: source.required("AUTH", |text| word(text, &[("token", AuthMode::Token), ("none", AuthMode::None)], &[])),
            owner_token: source.secret("OWNER_TOKEN", check_owner_token),
            owner_hosts: source.optional("OWNER_HOSTS", |text| list(text, host)).unwrap_or_default(),
            jwt_secrets: source.jwt_secrets(),
            limits,
            tunnel: source.required("TUNNEL", |text| {
                word(text, &[("direct", TunnelKind::Direct)], &["tailscale", "tailscale-mount", "tailscale-cli", "tailscale-node"])
            }),
            delivery: source.required("DELIVERY", |text| word(text, &[("embedded", DeliveryKind::Embedded)], &["nginx"])),
            trusted_proxies: source.optional("TRUSTED_PROXIES", |text| list(text, network)).unwrap_or_default(),
            show_hidden: source.required("SHOW_HIDDEN", yes_or_no),
            max_connections: source.count("MAX_CONNECTIONS", 1..=1_000_000),
            max_connections_per_address: source.count("MAX_CONNECTIONS_PER_ADDRESS", 1..=1_000_000),
            drain: source.seconds("DRAIN_SECONDS", 0..=3600),
            log: source.required("LOG", |text| check_filter(text).map(|()| text.to_owned()).map_err(|error| error.to_string())),
            log_format: source.required("LOG_FORMAT", |text| word(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[])),
            colours: environment("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        source.refuse_later_settings();
        source.refuse_contradictions(&config);
        if source.mistakes.is_empty() { Ok(config) } else { Err(source.mistakes) }
    }
}

/// Reads where state is kept and nothing else: all that a command needs that speaks to a running server.
pub fn state_dir(flags: &Settings) -> PathBuf {
    Source { flags, environment: &from_environment, mistakes: Vec::new() }.path("STATE_DIR")
}

/// Returns whether a setting is given, by flag or by variable.
pub fn is_set(flags: &Settings, name: &str) -> bool {
    Source { flags, environment: &from_environment, mistakes: Vec::new() }.raw(name).is_some()
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

#[expect(clippy::disallowed_methods, reason = "this is the home of the environment")]
fn from_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Where the values come from, and what was wrong with them.
struct Source<'a> {
    flags: &'a Settings,
    environment: Environment<'a>,
    mistakes: Vec<Mistake>,
}

impl Source<'_> {
    fn raw(&self, name: &str) -> Option<OsString> {
        let set = |value: &OsString| !value.is_empty();
        self.flags.flag(name).cloned().filter(set).or_else(|| (self.environment)(name).filter(set))
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        let raw = self.raw(name)?;
        let text = raw.into_string().ok();
        if text.is_none() {
            self.mistake(name, "it is not valid UTF-8".to_owned());
        }
        text
    }

    fn mistake(&mut self, name: &'static str, sentence: String) {
        self.mistakes.push(Mistake { name, sentence });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.raw(name).unwrap_or_else(|| setting(name).default.into()).into()
    }

    fn optional<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        read(text.trim()).map_err(|sentence| self.mistake(name, sentence)).ok()
    }

    /// Reads a setting that has a default; after a mistake the default stands in, so that the rest can be looked at.
    fn required<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(name, &read).unwrap_or_else(|| read(setting(name).default).expect("the default in the table is good"))
    }

    fn seconds(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.required(name, |text| whole(text, bounds.clone())))
    }

    fn count(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> usize {
        let count = self.required(name, |text| whole(text, bounds.clone()));
        usize::try_from(count).expect("the bounds lie within a million")
    }

    /// Reads a secret from its variable or from its file. No sentence ever shows it.
    fn secret(&mut self, name: &'static str, check: impl Fn(&str) -> Result<(), String>) -> Option<Secret> {
        let file_name = setting(name).file_name().expect("the table says that it is a secret");
        let (direct, file) = (self.raw(name), self.raw(file_name));
        let secret = match (direct, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.mistake(name, format!("it is set, and so is {file_name}; set one of the two"));
                return None;
            }
            (Some(_), None) => self.text(name)?,
            (None, Some(file)) => match read_secret(Path::new(&file)) {
                Ok(secret) => secret,
                Err(sentence) => {
                    self.mistake(file_name, sentence);
                    return None;
                }
            },
        };
        match check(&secret) {
            Ok(()) => Some(Secret::new(secret)),
            Err(sentence) => {
                self.mistake(name, sentence);
                None
            }
        }
    }

    fn jwt_secrets(&mut self) -> Vec<Secret> {
        let check = |secret: &str| Key::new(secret).map(drop).map_err(|weak| weak.to_string());
        let before = self.mistakes.len();
        let (signing, previous) = (self.secret("JWT_SECRET", check), self.secret("JWT_SECRET_PREVIOUS", check));
        if previous.is_some() && self.mistakes.len() == before {
            if signing.is_none() {
                // The first key signs: alone, the old one would go on signing.
                self.mistake("JWT_SECRET_PREVIOUS", "it needs JWT_SECRET, the key that signs from here on".to_owned());
            } else if signing == previous {
                self.mistake(
                    "JWT_SECRET_PREVIOUS",
                    "it is the same as JWT_SECRET; leave it out, or set the key that signed before".to_owned(),
                );
            }
        }
        signing.into_iter().chain(previous).collect()
    }

    fn refuse_later_settings(&mut self) {
        for setting in SETTINGS {
            if let Some(instead) = setting.later()
                && (self.raw(setting.name).is_some() || self.raw(&format!("{}_FILE", setting.name)).is_some())
            {
                self.mistake(setting.name, format!("{instead}, and leave this unset"));
            }
        }
    }

    fn refuse_contradictions(&mut self, config: &Config) {
        let (owner, recipient) = (config.owner_listen, config.recipient_listen);
        let overlap = owner.ip() == recipient.ip() || owner.ip().is_unspecified() || recipient.ip().is_unspecified();
        if owner.port() != 0 && owner.port() == recipient.port() && overlap {
            self.mistake("RECIPIENT_LISTEN", "it has the port of OWNER_LISTEN; recipients and owners need one each".to_owned());
        }
        if config.auth == AuthMode::None && config.owner_token.is_some() {
            self.mistake("AUTH", "it is none, and OWNER_TOKEN is set; set one of the two".to_owned());
        }
    }
}

fn check_owner_token(token: &str) -> Result<(), String> {
    if token.len() < MIN_OWNER_TOKEN_BYTES {
        return Err(format!("it is too short: {MIN_OWNER_TOKEN_BYTES} characters or more (`openssl rand -hex 16` makes a good one)"));
    }
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("it may have only ASCII letters, digits and signs, no spaces".to_owned())
    }
}

/// Reads a secret's file without the newline that editors and `echo` leave at its end.
fn read_secret(path: &Path) -> Result<String, String> {
    let wrong = |why: &dyn fmt::Display| format!("the file {:?} cannot be read ({why})", path);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(wrong(&format_args!("it is longer than {MAX_SECRET_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not valid UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err(format!("the file {path:?} is empty")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests;
