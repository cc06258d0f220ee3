//! What the operator set: the one file that reads the environment.
//!
//! Every setting stands in one table ([`SETTINGS`]) and is a flag, an environment variable and a key of the settings file;
//! the flag wins over the variable, the variable over the file, and an empty value counts as none. A secret is a variable
//! or a file (`JWT_SECRET_FILE`) and never a flag. All mistakes are found at once, each a sentence with the setting's name.
//!
//! * `settings.rs`: the table. `source.rs`: the layers, and what wins. `file.rs`: the settings file. `values.rs`: how a value is read.
//! * `tls.rs`: the files of an owner's own certificate. `redis.rs`: the Redis that is shared.
//! * `describe.rs`: what holds, and who said so. `reload.rs`: what may change while the program runs.

mod describe;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod redis;
mod reload;
mod remote;
mod settings;
mod source;
mod tls;
mod values;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::describe::{Described, describe};
pub use self::redis::Redis;
pub use self::reload::Changes;
pub use self::remote::{RemoteMistake, RemoteServer, remote_server};
pub use self::settings::{SETTINGS, Setting, Settings, env_example};
pub use self::source::Origin;
use self::source::{Source, Variables, with_credentials};
pub use self::tls::TlsFiles;
pub use self::values::Secret;
use self::values::{
    base_path, base_url, docker_host, funnel_port, host, list, listen, login, network, plain, probe, resolvers, target, up_arguments, word,
    yes_or_no,
};
use crate::delivery::Prefix;
use crate::delivery::nginx::AccessLog;
use crate::share::{Limits, Network};
use crate::telemetry::{LogFormat, check_filter};
use crate::tunnel::probe::Resolver;

/// The shortest owner's token: short enough to type on a phone, long enough that nobody guesses it over a LAN.
const MIN_OWNER_TOKEN_BYTES: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 3600);

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
    /// A Tailscale node's Funnel, which brings connections as they come; we end TLS.
    Tailscale,
    /// A Tailscale node's Funnel, which ends TLS and proxies.
    TailscaleMount,
    /// The same by the program `tailscale`, here or in a container.
    TailscaleCli,
    /// A node for each share, in a container of its own.
    TailscaleNode,
}

/// Which node, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tailscale {
    /// tailscaled's socket.
    pub socket: PathBuf,
    /// Whether that was said.
    pub is_socket_set: bool,
    /// The node's public port.
    pub port: u16,
    /// Where tailscaled finds the recipient listener: `host:port`; `None` for the listener's own address.
    pub target: Option<String>,
    /// The program `tailscale`.
    pub program: String,
    /// The container in which `tailscale` is run; `None`: here.
    pub container: Option<String>,
    /// Where Docker answers.
    pub docker_host: String,
    /// The key by which nodes of shares log in.
    pub auth_key: Option<Secret>,
    /// Whether shares are looked at from outside.
    pub probe: ProbeKind,
    /// Whom the public address is asked of; none: those that [`crate::tunnel::probe::By::default`] has.
    pub resolvers: Vec<Resolver>,
    /// How nodes of shares are made.
    pub nodes: Nodes,
}

/// How nodes of shares are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The image of their containers.
    pub image: String,
    /// Whether it may be fetched where it is missing.
    pub may_pull: bool,
    /// The network of their containers; `None`: the engine's usual one.
    pub network: Option<String>,
    /// More arguments of `tailscale up`.
    pub up_arguments: String,
    /// How many there may be at once.
    pub most: usize,
    /// The state folder as the engine finds it; `None`: by the same path.
    pub state_on_host: Option<PathBuf>,
}

/// Whether shares are looked at from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Where the public DNS leads.
    Auto,
    /// Not at all.
    Off,
    /// By a connection to this address.
    At(SocketAddr),
}

/// Who sends the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// This program.
    Embedded,
    /// nginx, which asks this program what to send.
    Nginx,
}

/// How nginx and this program find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    /// Where this program answers it.
    pub upstream: SocketAddr,
    /// Where it writes what it has sent.
    pub access_log: AccessLog,
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
    /// The path below which a proxy puts the owner side.
    pub base_path: Prefix,
    /// Where the recipient side listens.
    pub recipient_listen: SocketAddr,
    /// What every link begins with, without a slash at its end.
    pub base_url: Option<String>,
    /// An owner's own certificate for the recipient side.
    pub tls: Option<TlsFiles>,
    /// How owners sign in.
    pub auth: AuthMode,
    /// What owners sign in with; else one is made and kept.
    pub owner_token: Option<Secret>,
    /// More names that the owner side answers to, in lower case.
    pub owner_hosts: Vec<String>,
    /// The logins of the tailnet that are owners, in lower case. None: tailscaled is not asked who comes.
    pub tailnet_owners: Vec<String>,
    /// The keys of links, each taken by [`crate::token::Key::new`]: the first signs. Empty: one is made and kept.
    pub jwt_secrets: Vec<Secret>,
    /// The bounds of every share.
    pub limits: Limits,
    /// Which way in is opened.
    pub tunnel: TunnelKind,
    /// Which node, where one is used.
    pub tailscale: Tailscale,
    /// Who sends the bytes.
    pub delivery: DeliveryKind,
    /// How nginx is found, where it does.
    pub nginx: Nginx,
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
    /// How long closed shares, events and audit lines are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// The Redis in which state is shared, where it is.
    pub redis: Option<Redis>,
    /// The settings file that was read.
    pub file: Option<PathBuf>,
    /// What is odd and no mistake, each a sentence.
    pub doubts: Vec<String>,
    /// Every setting as it holds, and who said so; never a secret.
    pub described: Vec<Described>,
}

/// Something wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting's name, as `STATE_DIR`, or a place in the settings file.
    pub name: Cow<'static, str>,
    /// What is wrong and how to put it right. It never holds a secret.
    pub sentence: String,
}

impl Mistake {
    fn new(name: impl Into<Cow<'static, str>>, sentence: impl Into<String>) -> Self {
        Self { name: name.into(), sentence: sentence.into() }
    }
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
        Self::read(flags, &environment())
    }

    fn read(flags: &Settings, environment: &Variables) -> Result<Self, Vec<Mistake>> {
        let mut source = Source::new(flags, environment);
        let limits = Limits {
            max_tunnel: source.seconds("MAX_TUNNEL_SECONDS", 1..=31_536_000),
            stall_timeout: source.seconds("STALL_TIMEOUT_SECONDS", 1..=86_400),
            grace_period: source.seconds("GRACE_PERIOD_SECONDS", 0..=604_800),
        };
        let mut config = Self {
            root: source.path("NAS_MOUNT_PATH"),
            state_dir: source.path("STATE_DIR"),
            owner_listen: source.required("OWNER_LISTEN", listen),
            owner_tcp: true,
            base_path: source.optional("BASE_PATH", base_path).unwrap_or_default(),
            recipient_listen: source.required("RECIPIENT_LISTEN", listen),
            base_url: source.optional("BASE_URL", base_url),
            tls: source.tls_files(),
            auth: source.required("AUTH", |text| word(text, &[("token", AuthMode::Token), ("none", AuthMode::None)], &[])),
            owner_token: source.secret("OWNER_TOKEN", check_owner_token),
            owner_hosts: source.optional("OWNER_HOSTS", |text| list(text, host)).unwrap_or_default(),
            tailnet_owners: source.optional("TAILNET_OWNERS", |text| list(text, login)).unwrap_or_default(),
            jwt_secrets: source.jwt_secrets(),
            limits,
            tunnel: source.required("TUNNEL", |text| {
                let tunnels = [
                    ("direct", TunnelKind::Direct),
                    ("tailscale", TunnelKind::Tailscale),
                    ("tailscale-mount", TunnelKind::TailscaleMount),
                    ("tailscale-cli", TunnelKind::TailscaleCli),
                    ("tailscale-node", TunnelKind::TailscaleNode),
                ];
                word(text, &tunnels, &[])
            }),
            tailscale: Tailscale {
                socket: source.path("TAILSCALE_SOCKET"),
                is_socket_set: source.raw("TAILSCALE_SOCKET").is_some(),
                port: source.required("TAILSCALE_PORT", funnel_port),
                target: source.optional("TAILSCALE_TARGET", target),
                program: source.required("TAILSCALE_PROGRAM", plain),
                container: source.optional("TAILSCALE_CONTAINER", plain),
                docker_host: source.required("DOCKER_HOST", docker_host),
                auth_key: source.secret("TAILSCALE_AUTH_KEY", check_auth_key),
                nodes: Nodes {
                    image: source.required("TAILSCALE_IMAGE", plain),
                    may_pull: source.required("TAILSCALE_PULL", yes_or_no),
                    network: source.optional("TAILSCALE_NETWORK", plain),
                    up_arguments: source.optional("TAILSCALE_UP_ARGS", up_arguments).unwrap_or_default(),
                    most: source.count("TAILSCALE_MAX_NODES", 1..=100),
                    state_on_host: source.raw("STATE_DIR_ON_HOST").map(|(path, _)| path.into()),
                },
                probe: source.required("TAILSCALE_PROBE", probe),
                resolvers: source.optional("TAILSCALE_RESOLVERS", resolvers).unwrap_or_default(),
            },
            delivery: source
                .required("DELIVERY", |text| word(text, &[("embedded", DeliveryKind::Embedded), ("nginx", DeliveryKind::Nginx)], &[])),
            nginx: Nginx {
                upstream: source.required("NGINX_UPSTREAM", listen),
                access_log: source.required("NGINX_ACCESS_LOG", str::parse),
            },
            trusted_proxies: source.optional("TRUSTED_PROXIES", |text| list(text, network)).unwrap_or_default(),
            show_hidden: source.required("SHOW_HIDDEN", yes_or_no),
            max_connections: source.count("MAX_CONNECTIONS", 1..=1_000_000),
            max_connections_per_address: source.count("MAX_CONNECTIONS_PER_ADDRESS", 1..=1_000_000),
            drain: source.seconds("DRAIN_SECONDS", 0..=3600),
            log: source.required("LOG", |text| check_filter(text).map(|()| text.to_owned()).map_err(|error| error.to_string())),
            log_format: source.required("LOG_FORMAT", |text| word(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[])),
            colours: environment.get("NO_COLOR").is_none_or(|value| value.is_empty()),
            retention: Some(DAY * source.count("RETENTION_DAYS", 0..=36_500) as u32).filter(|time| !time.is_zero()),
            redis: source.redis(),
            file: source.file.as_ref().map(|file| file.path.clone()),
            doubts: source.doubtful_variables(),
            described: Vec::new(),
        };
        source.refuse_contradictions(&config);
        if !source.mistakes.is_empty() {
            return Err(source.mistakes);
        }
        config.described = describe::all(&mut source);
        Ok(config)
    }
}

/// Reads where state is kept and nothing else: all that a command needs that speaks to a running server.
pub fn state_dir(flags: &Settings) -> PathBuf {
    Source::new(flags, &environment()).path("STATE_DIR")
}

/// Returns whether a setting is given, by flag, variable or file.
pub fn is_set(flags: &Settings, name: &str) -> bool {
    Source::new(flags, &environment()).raw(name).is_some()
}

/// Returns whether whoever reads the output can be shown signs beyond ASCII, as the locale says.
pub fn speaks_utf8() -> bool {
    let variables = environment();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variables.get(*name).filter(|value| !value.is_empty()));
    locale.and_then(|locale| locale.to_str()).is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Returns the variables of the process, and what the service manager handed over beside them. One whose name is no text is
/// nobody's setting. Blocks.
fn environment() -> Variables {
    with_credentials(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect())
}

fn check_auth_key(key: &str) -> Result<(), String> {
    if key.starts_with("tskey-") && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("it is no auth key of Tailscale's, which begins with tskey-; make one under Keys in the admin console".to_owned())
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

#[cfg(test)]
mod tests;
