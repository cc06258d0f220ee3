//! Every setting: its name, its flag, its default and what it does.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// One setting. Its name is that of its environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable, as `STATE_DIR`.
    pub name: &'static str,
    /// What holds where it is not set; empty where nothing does.
    pub default: &'static str,
    /// One sentence.
    pub help: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A value, by flag or variable.
    Value { flag: &'static str },
    /// Values with commas between; in a settings file also an array.
    List { flag: &'static str },
    /// Yes or no; the flag alone says yes.
    Switch { flag: &'static str },
    /// A secret: never a flag, since everybody on the machine sees the arguments of every process. Its file may be one.
    Secret { file: &'static str, flag: &'static str },
}

/// What a setting takes, as far as a settings file must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    One,
    List,
    Secret,
}

const fn value(name: &'static str, flag: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help, kind: Kind::Value { flag } }
}

const fn list(name: &'static str, flag: &'static str, help: &'static str) -> Setting {
    Setting { name, default: "", help, kind: Kind::List { flag } }
}

const fn secret(name: &'static str, file: &'static str, flag: &'static str, help: &'static str) -> Setting {
    Setting { name, default: "", help, kind: Kind::Secret { file, flag } }
}

/// Every setting, in the order of `env.example`.
pub const SETTINGS: &[Setting] = &[
    value(
        "CONFIG_FILE",
        "config",
        "",
        "A file of settings (TOML), as stall_timeout_seconds = 300; unset: portcullis.toml in the state folder, if there.",
    ),
    value("NAS_MOUNT_PATH", "nas-mount-path", "/data", "The folder whose files can be shared; it is only read."),
    value("STATE_DIR", "state-dir", "./state", "Where shares, keys and the control socket are kept; on a local disk."),
    value("OWNER_LISTEN", "owner-listen", "0.0.0.0:8000", "Where owners reach their page and the API: address and port on the LAN."),
    value(
        "BASE_PATH",
        "base-path",
        "",
        "The path below which a proxy puts the owners' side, as /portcullis, whether it takes that off or not; unset: none.",
    ),
    value(
        "RECIPIENT_LISTEN",
        "recipient-listen",
        "0.0.0.0:8001",
        "Where recipients reach their links: the only port to make public (with a Tailscale tunnel 127.0.0.1:8001 unless set).",
    ),
    value(
        "BASE_URL",
        "base-url",
        "",
        "What every link begins with, as https://files.example.org; unset: the address of the recipient listener.",
    ),
    value(
        "TLS_CERT",
        "tls-cert",
        "",
        "A file with the certificate that recipients are shown, in PEM, with those that vouch for it; unset: they are served plain HTTP.",
    ),
    value("TLS_KEY", "tls-key", "", "A file with that certificate's private key, in PEM; both are read anew when they change."),
    value("AUTH", "auth", "token", "How owners sign in: token, or none (then everybody on the LAN is an owner)."),
    secret(
        "OWNER_TOKEN",
        "OWNER_TOKEN_FILE",
        "owner-token-file",
        "What owners sign in with, 16 characters or more; unset: made on first run.",
    ),
    list("OWNER_HOSTS", "owner-hosts", "More names the owner side answers to, with commas between, as nas.local,files.lan."),
    list(
        "TAILNET_OWNERS",
        "tailnet-owners",
        "Logins of your tailnet that are owners, as alice@example.com, by tailscale serve to tailnet.sock in STATE_DIR; unset: none.",
    ),
    secret(
        "JWT_SECRET",
        "JWT_SECRET_FILE",
        "jwt-secret-file",
        "The key that signs links, 32 characters or more; unset: made on first run.",
    ),
    secret(
        "JWT_SECRET_PREVIOUS",
        "JWT_SECRET_PREVIOUS_FILE",
        "jwt-secret-previous-file",
        "The key that signed links before JWT_SECRET did; they stay good while it is set.",
    ),
    value(
        "MAX_TUNNEL_SECONDS",
        "max-tunnel-seconds",
        "3600",
        "The longest life of a link; a longer wish is shortened and the answer says so.",
    ),
    value(
        "STALL_TIMEOUT_SECONDS",
        "stall-timeout-seconds",
        "300",
        "How long a download that has begun may stand still before it counts as stalled.",
    ),
    value(
        "GRACE_PERIOD_SECONDS",
        "grace-period-seconds",
        "3600",
        "How long after delivery the same recipient may fetch again; nobody else may.",
    ),
    value(
        "TUNNEL",
        "tunnel",
        "direct",
        "The public way in: direct (the recipient listener itself), tailscale, tailscale-mount, tailscale-cli or tailscale-node.",
    ),
    value(
        "TAILSCALE_SOCKET",
        "tailscale-socket",
        "/var/run/tailscale/tailscaled.sock",
        "The socket of the tailscaled whose Funnel is used.",
    ),
    value("TAILSCALE_PORT", "tailscale-port", "443", "The node's public port: 443, 8443 or 10000."),
    value(
        "TAILSCALE_TARGET",
        "tailscale-target",
        "",
        "Where tailscaled finds the recipient listener, as portcullis:8001; unset: its own address, on this machine.",
    ),
    value("TAILSCALE_PROGRAM", "tailscale-program", "tailscale", "With tailscale-cli: the program, a name or a path."),
    value("TAILSCALE_CONTAINER", "tailscale-container", "", "With tailscale-cli: the container in which tailscale is run; unset: here."),
    secret(
        "TAILSCALE_AUTH_KEY",
        "TAILSCALE_AUTH_KEY_FILE",
        "tailscale-auth-key-file",
        "With tailscale-node: the key by which nodes log in, for tagged, ephemeral and reusable nodes.",
    ),
    value("TAILSCALE_IMAGE", "tailscale-image", "tailscale/tailscale:v1.102.3", "With tailscale-node: the image of the nodes."),
    Setting {
        name: "TAILSCALE_PULL",
        default: "false",
        help: "With tailscale-node: whether the image may be fetched where it is missing.",
        kind: Kind::Switch { flag: "tailscale-pull" },
    },
    value(
        "TAILSCALE_NETWORK",
        "tailscale-network",
        "",
        "With tailscale-node: the containers' network, by which TAILSCALE_TARGET is reached; unset: Docker's usual one.",
    ),
    value(
        "TAILSCALE_UP_ARGS",
        "tailscale-up-args",
        "",
        "With tailscale-node: more arguments of tailscale up, as --advertise-tags=tag:share, with spaces between.",
    ),
    value(
        "TAILSCALE_MAX_NODES",
        "tailscale-max-nodes",
        "8",
        "With tailscale-node: how many nodes there may be at once; each takes some 40 MB.",
    ),
    value(
        "DOCKER_HOST",
        "docker-host",
        "unix:///var/run/docker.sock",
        "Where Docker answers, for tailscale-cli in a container and for tailscale-node.",
    ),
    value(
        "STATE_DIR_ON_HOST",
        "state-dir-on-host",
        "",
        "With tailscale-node: the state folder as Docker finds it, where this program is in a container itself; unset: the same path.",
    ),
    value(
        "TAILSCALE_PROBE",
        "tailscale-probe",
        "auto",
        "Whether shares are looked at from the internet: auto, off, or ADDRESS:PORT to connect there and ask no public resolver.",
    ),
    list(
        "TAILSCALE_RESOLVERS",
        "tailscale-resolvers",
        "Whom TAILSCALE_PROBE=auto asks for the node's public address, with commas between; unset: https://1.1.1.1/dns-query,https://8.8.8.8/resolve.",
    ),
    value(
        "DELIVERY",
        "delivery",
        "embedded",
        "Who sends the bytes: embedded (portcullis itself), or nginx, as portcullis nginx-config tells it to.",
    ),
    value(
        "NGINX_UPSTREAM",
        "nginx-upstream",
        "127.0.0.1:8002",
        "With nginx: where portcullis answers it, address and port; nginx has RECIPIENT_LISTEN then.",
    ),
    value(
        "NGINX_ACCESS_LOG",
        "nginx-access-log",
        "/var/log/nginx/portcullis.log",
        "With nginx: the file in which it writes what it has sent; or, as syslog:/run/portcullis/nginx.sock, a socket to which it sends that.",
    ),
    list(
        "TRUSTED_PROXIES",
        "trusted-proxies",
        "Proxies whose word about a recipient's address is believed: addresses or networks as 10.0.0.0/8, with commas between.",
    ),
    Setting {
        name: "SHOW_HIDDEN",
        default: "false",
        help: "Whether files that begin with a dot, and a NAS's own folders, are shown and can be shared.",
        kind: Kind::Switch { flag: "show-hidden" },
    },
    value("MAX_CONNECTIONS", "max-connections", "4096", "How many connections of recipients may be open at once."),
    value("MAX_CONNECTIONS_PER_ADDRESS", "max-connections-per-address", "64", "How many of them may come from one address."),
    value("DRAIN_SECONDS", "drain-seconds", "30", "How long running downloads may go on after the program was told to stop."),
    value("RETENTION_DAYS", "retention-days", "365", "How many days closed shares, events and audit lines are kept; 0: for ever."),
    value(
        "LOG",
        "log",
        "info",
        "Which log lines are written: error, warn, info, debug or trace, or a filter as info,portcullis::store=debug.",
    ),
    value("LOG_FORMAT", "log-format", "text", "How log lines look: text or json."),
    secret(
        "REDIS_URL",
        "REDIS_URL_FILE",
        "redis-url-file",
        "A Redis or Valkey in which several controllers share their state, as redis://:PASSWORD@HOST:6379; unset: state is kept in STATE_DIR.",
    ),
    value("REDIS_PREFIX", "redis-prefix", "portcullis", "With REDIS_URL: what its keys begin with; the same for all that share it."),
    value(
        "REDIS_REPLICAS",
        "redis-replicas",
        "",
        "With REDIS_URL: how many replicas must have a write before it counts; unset: 0, with Sentinels or a Cluster 1.",
    ),
    Setting {
        name: "REDIS_ACCEPT_LOSS",
        default: "false",
        help: "With REDIS_URL: whether a Redis is taken that may forget what it has acknowledged; a used link could work again then.",
        kind: Kind::Switch { flag: "redis-accept-loss" },
    },
    value(
        "CONTROLLER_NAME",
        "controller-name",
        "",
        "What this controller is called among those that share a Redis; unset: the host's name.",
    ),
];

impl Setting {
    /// Returns the name of the variable that names the secret's file, for a secret.
    pub fn file_name(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Secret { file, .. } => Some(file),
            Kind::Value { .. } | Kind::List { .. } | Kind::Switch { .. } => None,
        }
    }

    /// Returns its flag, as `--stall-timeout-seconds`; of a secret that of its file.
    pub(super) fn flag(&self) -> String {
        match self.kind {
            Kind::Value { flag } | Kind::List { flag } | Kind::Switch { flag } | Kind::Secret { flag, .. } => format!("--{flag}"),
        }
    }

    /// Returns what its numbers count, where the name says it.
    pub(super) fn unit(&self) -> Option<&'static str> {
        [("_SECONDS", "seconds"), ("_DAYS", "days")].into_iter().find_map(|(end, unit)| self.name.ends_with(end).then_some(unit))
    }

    /// Returns what it takes.
    pub(super) fn form(&self) -> Form {
        match self.kind {
            Kind::List { .. } => Form::List,
            Kind::Secret { .. } => Form::Secret,
            Kind::Value { .. } | Kind::Switch { .. } => Form::One,
        }
    }

    /// Returns the flag, under the name of the variable that it stands for.
    fn arg(&self) -> Arg {
        let (id, flag) = match self.kind {
            Kind::Value { flag } | Kind::List { flag } | Kind::Switch { flag } => (self.name, flag),
            Kind::Secret { file, flag } => (file, flag),
        };
        let default = if self.default.is_empty() { String::new() } else { format!(" [default: {}]", self.default) };
        let arg = Arg::new(id)
            .long(flag)
            .help(format!("{} [env: {id}]{default}", self.help))
            .value_name(if self.file_name().is_some() { "FILE" } else { "VALUE" })
            .value_parser(ValueParser::os_string())
            .action(ArgAction::Set)
            .hide_short_help(true)
            .help_heading("Settings");
        match self.kind {
            Kind::Switch { .. } => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Kind::Value { .. } | Kind::List { .. } | Kind::Secret { .. } => arg,
        }
    }
}

/// Returns the entry of a setting.
///
/// # Panics
/// Where there is none of that name.
pub(super) fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("the name stands in the table")
}

/// Returns the setting that a name is of, its own or that of its secret's file, and the name as it stands in the table.
pub(super) fn find(name: &str) -> Option<(&'static str, &'static Setting)> {
    SETTINGS.iter().find_map(|setting| {
        let known = [Some(setting.name), setting.file_name()].into_iter().flatten().find(|known| *known == name)?;
        Some((known, setting))
    })
}

/// Returns the name in the table that looks most like `name`, where one looks much like it.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    let best = names().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKE).then_some(best)
}

/// Returns the setting that the name of a variable seems to mean and misses, by a letter or two or by our own name before it.
pub(super) fn misspelt(variable: &str) -> Option<&'static str> {
    if let Some(rest) = variable.strip_prefix("PORTCULLIS_") {
        return names().find(|known| *known == rest);
    }
    let is_known = names().any(|known| known == variable) || variable.len() < SHORTEST_GUESS;
    let distance = |known: &&str| strsim::osa_distance(known, variable);
    names().min_by_key(distance).filter(|known| !is_known && known.len() >= SHORTEST_GUESS && distance(known) <= FURTHEST_GUESS)
}

fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|setting| [Some(setting.name), setting.file_name()]).flatten()
}

/// How much a wrong name must look like a right one (0 to 1) to be taken for it: a part left out or a slip of a finger.
const LIKE: f64 = 0.84;
/// Other programs have variables too: a short name is near everything, and more than two slips are another word.
const SHORTEST_GUESS: usize = 6;
const FURTHEST_GUESS: usize = 2;

/// The settings that were given as flags, as they were written.
#[derive(Debug, Clone, Default)]
pub struct Settings(BTreeMap<&'static str, OsString>);

impl Settings {
    /// Gives a setting as its flag would.
    ///
    /// # Panics
    /// Where there is no setting of that name.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        let key = SETTINGS.iter().flat_map(|setting| [Some(setting.name), setting.file_name()]).flatten().find(|known| *known == name);
        self.0.insert(key.expect("the name stands in the table"), value.into());
    }

    pub(super) fn flag(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }
}

impl clap::FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in SETTINGS.iter().map(|setting| setting.file_name().unwrap_or(setting.name)) {
            if let Ok(Some(value)) = matches.try_get_one::<OsString>(name) {
                self.0.insert(name, value.clone());
            }
        }
        Ok(())
    }
}

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(Setting::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Returns the text of `env.example`.
pub fn env_example() -> String {
    let mut text =
        "# Every setting of portcullis with its default. Each is also a flag (STATE_DIR is --state-dir; CONFIG_FILE is --config); of a secret\n\
                    # only its file is. In a settings file each is a key in lower case (state_dir). Flags win over the environment, the\n\
                    # environment over the file. An empty value counts as none.\n"
            .to_owned();
    for setting in SETTINGS {
        text += &format!("\n# {}\n# {}={}\n", setting.help, setting.name, setting.default);
        if let Some(file) = setting.file_name() {
            text += &format!("# {file}=\n");
        }
    }
    text
}
