//! What changed between two readings of the settings, and what of it can take effect while the program runs.

use super::{Config, Described, Mistake, Redis};

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The settings that take effect at once.
    pub live: Vec<&'static str>,
    /// The settings that wait for the next start.
    pub waiting: Vec<&'static str>,
}

impl Config {
    /// Says what is other in `new`, by the names of the settings.
    pub fn changes_to(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, is_live, is_other) in comparisons(self, new) {
            match (is_other, is_live) {
                (false, _) => {}
                (true, true) => changes.live.push(name),
                (true, false) => changes.waiting.push(name),
            }
        }
        changes
    }

    /// Says why `new` must not take the place of these settings: the settings file that was read is gone, or is empty, as it is
    /// while an editor writes it. Everything in it would fall back to its default, and what is older than the default
    /// keeps would be forgotten for good. Blocks.
    pub fn lost_file(&self, new: &Self) -> Option<Mistake> {
        let file = self.file.as_ref()?;
        let sentence = match &new.file {
            None => "is gone; put it back, or start anew without it",
            Some(path) if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) && self.changes_to(new) != Changes::default() => {
                "is empty; write it whole, or start anew with it as it is"
            }
            Some(_) => return None,
        };
        Some(Mistake::new("CONFIG_FILE", format!("the settings file {} {sentence}", super::file::shown_path(file))))
    }

    /// Returns whether a setting can change while the program runs.
    pub fn reloads(&self, name: &str) -> bool {
        comparisons(self, self).iter().any(|(known, is_live, _)| *known == name && *is_live)
    }

    fn described_with_live_parts_of(&self, new: &Self) -> Vec<Described> {
        // Who says what waits for the next start says it then.
        let pairs = self.described.iter().zip(&new.described);
        let is_so_now = |old: &Described, new: &Described| self.reloads(old.name) || !old.is_secret && old.value == new.value;
        pairs.map(|(old, new)| if is_so_now(old, new) { new.clone() } else { old.clone() }).collect()
    }

    /// Returns these settings with everything of `new` that can take effect while the program runs.
    pub fn with_live_parts_of(&self, new: &Self) -> Self {
        Self {
            owner_token: new.owner_token.clone(),
            owner_hosts: new.owner_hosts.clone(),
            limits: new.limits,
            trusted_proxies: new.trusted_proxies.clone(),
            max_connections: new.max_connections,
            max_connections_per_address: new.max_connections_per_address,
            drain: new.drain,
            retention: new.retention,
            log: new.log.clone(),
            doubts: new.doubts.clone(),
            file: new.file.clone(),
            described: self.described_with_live_parts_of(new),
            ..self.clone()
        }
    }
}

/// Each setting: its name, whether it can change while the program runs, and whether it is another.
pub(super) fn comparisons(old: &Config, new: &Config) -> [(&'static str, bool, bool); 50] {
    let ([signing, previous], [new_signing, new_previous]) =
        [old, new].map(|config| [config.jwt_secrets.first(), config.jwt_secrets.get(1)]).into();
    let redis = |name| Redis::differs(old.redis.as_ref(), new.redis.as_ref(), name);
    [
        // The file that is read is no setting that acts.
        ("CONFIG_FILE", true, false),
        ("NAS_MOUNT_PATH", false, old.root != new.root),
        ("STATE_DIR", false, old.state_dir != new.state_dir),
        ("OWNER_LISTEN", false, old.owner_listen != new.owner_listen),
        ("BASE_PATH", false, old.base_path != new.base_path),
        ("RECIPIENT_LISTEN", false, old.recipient_listen != new.recipient_listen),
        ("BASE_URL", false, old.base_url != new.base_url),
        // What is in them is followed anyway.
        ("TLS_CERT", false, old.tls.as_ref().map(|files| &files.cert) != new.tls.as_ref().map(|files| &files.cert)),
        ("TLS_KEY", false, old.tls.as_ref().map(|files| &files.key) != new.tls.as_ref().map(|files| &files.key)),
        ("AUTH", false, old.auth != new.auth),
        ("OWNER_TOKEN", true, old.owner_token != new.owner_token),
        ("OWNER_HOSTS", true, old.owner_hosts != new.owner_hosts),
        ("TAILNET_OWNERS", false, old.tailnet_owners != new.tailnet_owners),
        ("JWT_SECRET", false, signing != new_signing),
        ("JWT_SECRET_PREVIOUS", false, previous != new_previous),
        ("MAX_TUNNEL_SECONDS", true, old.limits.max_tunnel != new.limits.max_tunnel),
        ("STALL_TIMEOUT_SECONDS", true, old.limits.stall_timeout != new.limits.stall_timeout),
        ("GRACE_PERIOD_SECONDS", true, old.limits.grace_period != new.limits.grace_period),
        ("TUNNEL", false, old.tunnel != new.tunnel),
        ("TAILSCALE_SOCKET", false, old.tailscale.socket != new.tailscale.socket),
        ("TAILSCALE_PORT", false, old.tailscale.port != new.tailscale.port),
        ("TAILSCALE_TARGET", false, old.tailscale.target != new.tailscale.target),
        ("TAILSCALE_PROGRAM", false, old.tailscale.program != new.tailscale.program),
        ("TAILSCALE_CONTAINER", false, old.tailscale.container != new.tailscale.container),
        ("TAILSCALE_AUTH_KEY", false, old.tailscale.auth_key != new.tailscale.auth_key),
        ("TAILSCALE_IMAGE", false, old.tailscale.nodes.image != new.tailscale.nodes.image),
        ("TAILSCALE_PULL", false, old.tailscale.nodes.may_pull != new.tailscale.nodes.may_pull),
        ("TAILSCALE_NETWORK", false, old.tailscale.nodes.network != new.tailscale.nodes.network),
        ("TAILSCALE_UP_ARGS", false, old.tailscale.nodes.up_arguments != new.tailscale.nodes.up_arguments),
        ("TAILSCALE_MAX_NODES", false, old.tailscale.nodes.most != new.tailscale.nodes.most),
        ("DOCKER_HOST", false, old.tailscale.docker_host != new.tailscale.docker_host),
        ("STATE_DIR_ON_HOST", false, old.tailscale.nodes.state_on_host != new.tailscale.nodes.state_on_host),
        ("TAILSCALE_PROBE", false, old.tailscale.probe != new.tailscale.probe),
        ("TAILSCALE_RESOLVERS", false, old.tailscale.resolvers != new.tailscale.resolvers),
        ("DELIVERY", false, old.delivery != new.delivery),
        ("NGINX_UPSTREAM", false, old.nginx.upstream != new.nginx.upstream),
        ("NGINX_ACCESS_LOG", false, old.nginx.access_log != new.nginx.access_log),
        ("TRUSTED_PROXIES", true, old.trusted_proxies != new.trusted_proxies),
        ("SHOW_HIDDEN", false, old.show_hidden != new.show_hidden),
        ("MAX_CONNECTIONS", true, old.max_connections != new.max_connections),
        ("MAX_CONNECTIONS_PER_ADDRESS", true, old.max_connections_per_address != new.max_connections_per_address),
        ("DRAIN_SECONDS", true, old.drain != new.drain),
        ("RETENTION_DAYS", true, old.retention != new.retention),
        ("LOG", true, old.log != new.log),
        ("LOG_FORMAT", false, old.log_format != new.log_format),
        ("REDIS_URL", false, redis("REDIS_URL")),
        ("REDIS_PREFIX", false, redis("REDIS_PREFIX")),
        ("REDIS_REPLICAS", false, redis("REDIS_REPLICAS")),
        ("REDIS_ACCEPT_LOSS", false, redis("REDIS_ACCEPT_LOSS")),
        ("CONTROLLER_NAME", false, redis("CONTROLLER_NAME")),
    ]
}
