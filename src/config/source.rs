//! Where values come from, layer over layer, and what is wrong with them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{self, SettingsFile};
use super::settings::{self, SETTINGS, Setting, Settings, setting};
use super::values::{Secret, shown, whole};
use super::{Config, Mistake};
use crate::config::{AuthMode, DeliveryKind, TunnelKind};
use crate::token::Key;

/// The longest secret that is read from a file; what is longer is the wrong file.
const MAX_SECRET_BYTES: u64 = 4096;

/// How systemd tells where it puts what a service may read and nobody else.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What the names of our credentials begin with. A folder that `LoadCredential=portcullis:` names gives its files this beginning.
const CREDENTIAL_PREFIX: &str = "portcullis_";

/// Where recipients are served, unless it is set, where a tunnel brings them.
const TUNNELLED_LISTEN: &str = "127.0.0.1:8001";

/// The environment: its variables whose names are text.
pub(super) type Variables = BTreeMap<String, OsString>;

/// Where the value of a setting comes from; each wins over those after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The settings file.
    File {
        /// Which.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File { path, line } => write!(f, "{}:{line}", file::shown_path(path)),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All layers.
pub(super) struct Source<'a> {
    flags: &'a Settings,
    environment: &'a Variables,
    pub(super) file: Option<SettingsFile>,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'a> Source<'a> {
    /// Takes flags and environment, and reads the settings file that they name, or the one in the state folder. Blocks.
    pub(super) fn new(flags: &'a Settings, environment: &'a Variables) -> Self {
        let mut source = Self { flags, environment, file: None, mistakes: Vec::new() };
        let mut mistakes = Vec::new();
        if let Some((path, _)) = source.raw("CONFIG_FILE") {
            source.file = Some(SettingsFile::read(Path::new(&path), &mut mistakes));
        } else {
            let path = source.path("STATE_DIR").join(file::DEFAULT_NAME);
            if path.exists() {
                let file = SettingsFile::read(&path, &mut mistakes);
                if let Some((_, line)) = file.value("STATE_DIR") {
                    let why = "this file is found in the state folder and cannot say where that is; use --state-dir or STATE_DIR, or name \
                               this file with --config";
                    mistakes.push(Mistake::new(file.place(line), why));
                }
                source.file = Some(file);
            }
        }
        source.mistakes = mistakes;
        source
    }

    /// Returns what is said of a setting, and where.
    pub(super) fn raw(&self, name: &str) -> Option<(OsString, Origin)> {
        let set = |value: &&OsString| !value.is_empty();
        if let Some(value) = self.flags.flag(name).filter(set) {
            return Some((value.clone(), Origin::Flag));
        }
        if let Some(value) = self.environment.get(name).filter(set) {
            return Some((value.clone(), Origin::Environment));
        }
        let file = self.file.as_ref()?;
        let (value, line) = file.value(name).filter(|(value, _)| !value.is_empty())?;
        Some((value.clone(), Origin::File { path: file.path.clone(), line }))
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        let (raw, _) = self.raw(name)?;
        let text = raw.into_string().ok();
        if text.is_none() {
            self.mistake(name, "it is not valid UTF-8".to_owned());
        }
        text
    }

    /// Notes a mistake; where the value stands in a file, also where.
    pub(super) fn mistake(&mut self, name: &'static str, sentence: String) {
        let place = match (self.raw(name), &self.file) {
            (Some((_, Origin::File { line, .. })), Some(file)) => format!(" ({})", file.place(line)),
            _ => String::new(),
        };
        self.mistakes.push(Mistake::new(name, sentence + &place));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.raw(name).map_or_else(|| setting(name).default.into(), |(raw, _)| raw).into()
    }

    pub(super) fn optional<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        read(text.trim()).map_err(|sentence| self.mistake(name, sentence)).ok()
    }

    /// Reads a setting that has a default; after a mistake the default stands in, so that the rest can be looked at.
    pub(super) fn required<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(name, &read).unwrap_or_else(|| read(self.default_of(setting(name))).expect("the default in the table is good"))
    }

    /// Returns what holds where a setting is not set. A tunnel's recipients come from this machine: nobody else needs to reach
    /// where they are served.
    pub(super) fn default_of(&self, setting: &Setting) -> &'static str {
        // A container does not reach this machine's loopback.
        let is_here = |tunnel: &str| !matches!(tunnel, "direct" | "tailscale-node");
        let is_tunnelled = || self.raw("TUNNEL").is_some_and(|(tunnel, _)| is_here(tunnel.to_string_lossy().trim()));
        if setting.name == "RECIPIENT_LISTEN" && is_tunnelled() { TUNNELLED_LISTEN } else { setting.default }
    }

    pub(super) fn seconds(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.required(name, |text| whole(text, bounds.clone())))
    }

    pub(super) fn count(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> usize {
        let count = self.required(name, |text| whole(text, bounds.clone()));
        usize::try_from(count).expect("the bounds lie within a million")
    }

    /// Returns under which of its two names a secret is given, and where. A higher layer wins; in one layer there may be one.
    pub(super) fn secret_place(&mut self, name: &'static str) -> Option<(&'static str, OsString, Origin)> {
        let file_name = setting(name).file_name().expect("the table says that it is a secret");
        let layer = |origin: &Origin| match origin {
            Origin::Flag => 0,
            Origin::Environment => 1,
            Origin::File { .. } => 2,
            Origin::Default => 3,
        };
        match (self.raw(name), self.raw(file_name)) {
            (None, None) => None,
            (Some((value, origin)), None) => Some((name, value, origin)),
            (None, Some((value, origin))) => Some((file_name, value, origin)),
            (Some((_, direct)), Some((_, file))) if layer(&direct) == layer(&file) => {
                self.mistake(name, format!("it is set, and so is {file_name}; set one of the two"));
                None
            }
            (Some((value, direct)), Some((_, file))) if layer(&direct) < layer(&file) => Some((name, value, direct)),
            (Some(_), Some((value, origin))) => Some((file_name, value, origin)),
        }
    }

    /// Reads a secret from its variable or from its file. No sentence ever shows it.
    pub(super) fn secret(&mut self, name: &'static str, check: impl Fn(&str) -> Result<(), String>) -> Option<Secret> {
        let (given_as, value, _) = self.secret_place(name)?;
        let secret = if given_as == name {
            let Ok(secret) = value.into_string() else {
                self.mistake(name, "it is not valid UTF-8".to_owned());
                return None;
            };
            secret
        } else {
            match read_secret(Path::new(&value)) {
                Ok(secret) => secret,
                Err(sentence) => {
                    self.mistake(given_as, sentence);
                    return None;
                }
            }
        };
        match check(&secret) {
            Ok(()) => Some(Secret::new(secret)),
            Err(sentence) => {
                self.mistake(name, sentence);
                None
            }
        }
    }

    pub(super) fn jwt_secrets(&mut self) -> Vec<Secret> {
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

    pub(super) fn refuse_contradictions(&mut self, config: &Config) {
        if config.tunnel == TunnelKind::TailscaleNode {
            if config.tailscale.target.is_none() {
                let why = "TUNNEL=tailscale-node needs it: where the containers of the nodes find us, as portcullis:8001";
                self.mistake("TAILSCALE_TARGET", why.to_owned());
            }
            if self.raw("TAILSCALE_AUTH_KEY").is_none() && self.raw("TAILSCALE_AUTH_KEY_FILE").is_none() {
                self.mistake("TAILSCALE_AUTH_KEY", "TUNNEL=tailscale-node needs it: the key by which its nodes log in".to_owned());
            }
        }
        let is_here = |target: &String| target.starts_with("127.") || target.starts_with("localhost:") || target.starts_with("[::1]:");
        let comes_from_elsewhere = config.tailscale.target.as_ref().is_some_and(|target| !is_here(target));
        if config.tunnel != TunnelKind::Direct && comes_from_elsewhere && config.trusted_proxies.is_empty() {
            let why =
                "with TAILSCALE_TARGET visitors come from another host or container: name its address or network, or nobody is let in";
            self.mistake("TRUSTED_PROXIES", why.to_owned());
        }
        if config.tunnel != TunnelKind::Direct && config.tls.is_some() {
            self.mistake(
                "TLS_CERT",
                "with this TUNNEL recipients are shown the node's own certificate; leave TLS_CERT and TLS_KEY unset".to_owned(),
            );
        }
        if config.tunnel != TunnelKind::Direct && config.base_url.is_some() {
            self.mistake("BASE_URL", "with this TUNNEL links begin with the node's own name; leave BASE_URL unset".to_owned());
        }
        if config.redis.is_none() && self.mistakes.iter().all(|mistake| !mistake.name.starts_with("REDIS_URL")) {
            for name in ["REDIS_PREFIX", "REDIS_REPLICAS", "REDIS_ACCEPT_LOSS", "CONTROLLER_NAME"] {
                // What a file spells out as it is anyway says nothing.
                if self.text(name).is_some_and(|said| said.trim() != setting(name).default) {
                    self.mistake(name, "it says something about REDIS_URL, which is not set; set both or neither".to_owned());
                }
            }
        }
        if overlap(config.owner_listen, config.recipient_listen) {
            self.mistake("RECIPIENT_LISTEN", "it has the port of OWNER_LISTEN; recipients and owners need one each".to_owned());
        }
        if config.delivery == DeliveryKind::Nginx {
            self.refuse_contradictions_to_nginx(config);
        }
        if config.auth == AuthMode::None && config.owner_token.is_some() {
            self.mistake("AUTH", "it is none, and OWNER_TOKEN is set; set one of the two".to_owned());
        }
    }

    fn refuse_contradictions_to_nginx(&mut self, config: &Config) {
        if config.tunnel == TunnelKind::Tailscale {
            let why = "it is nginx, and with TUNNEL=tailscale recipients' TLS ends in portcullis; use TUNNEL=tailscale-mount, or DELIVERY=embedded";
            self.mistake("DELIVERY", why.to_owned());
        }
        if config.tls.is_some() {
            let why = "with DELIVERY=nginx recipients do not speak to portcullis; leave TLS_CERT and TLS_KEY unset, and let what stands before nginx have the certificate";
            self.mistake("TLS_CERT", why.to_owned());
        }
        for (name, address) in [("RECIPIENT_LISTEN", config.recipient_listen), ("NGINX_UPSTREAM", config.nginx.upstream)] {
            if address.port() == 0 {
                self.mistake(name, "with DELIVERY=nginx it needs a port that nginx can be told of; 0 is none".to_owned());
            }
        }
        for (name, other, whose) in [
            ("OWNER_LISTEN", config.owner_listen, "owners are served there"),
            ("RECIPIENT_LISTEN", config.recipient_listen, "nginx listens there"),
        ] {
            if overlap(config.nginx.upstream, other) {
                self.mistake("NGINX_UPSTREAM", format!("it has the port of {name}, and {whose}; name another"));
            }
        }
    }

    /// Returns a sentence for each variable that looks like a setting and is none. Other programs have variables too, so
    /// nothing is refused.
    pub(super) fn doubtful_variables(&self) -> Vec<String> {
        let doubt = |variable: &String| {
            let meant = settings::misspelt(variable)?;
            Some(format!("the environment has {}, which is no setting; is {meant} meant?", shown(variable)))
        };
        self.environment.keys().filter_map(doubt).collect()
    }
}

/// Returns whether two addresses cannot both be listened on.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_for_both = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && is_for_both
}

/// Adds, for each secret of which the environment says nothing, the credential `portcullis_NAME` that systemd handed over
/// (`LoadCredential=`, `ImportCredential=`, `SetCredentialEncrypted=`), as if `NAME_FILE` named it: so a unit need not say which
/// secrets there are. Blocks.
pub(super) fn with_credentials(mut environment: Variables) -> Variables {
    let Some(folder) = environment.get(CREDENTIALS).filter(|folder| !folder.is_empty()).map(PathBuf::from) else { return environment };
    for (setting, file_name) in SETTINGS.iter().filter_map(|setting| Some((setting, setting.file_name()?))) {
        let is_said = [setting.name, file_name].iter().any(|name| environment.get(*name).is_some_and(|value| !value.is_empty()));
        let credential = folder.join(format!("{CREDENTIAL_PREFIX}{}", setting.name));
        if !is_said && credential.exists() {
            environment.insert(file_name.to_owned(), credential.into());
        }
    }
    environment
}

/// Reads a secret's file without the newline that editors and `echo` leave at its end.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let wrong = |why: &dyn fmt::Display| format!("the file {path:?} cannot be read ({why})");
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
