//! Reads the settings anew while the program runs (SIGHUP), and lets those take effect that can.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use super::operator::House;
use super::{kept_owner_token, nginx_site, service_manager};
use crate::causes::Causes;
use crate::config::{Config, Mistake};
use crate::controller::Handle;
use crate::delivery::Bounds;
use crate::delivery::nginx::Nginx;
use crate::descriptors;
use crate::http::auth::SecretDigest;
use crate::http::owner::OwnerSide;
use crate::share::Network;
use crate::telemetry::LogControl;

/// Reads all settings as the start did.
pub type Load = Arc<dyn Fn() -> Result<Config, Vec<Mistake>> + Send + Sync>;

/// What can be turned while the program runs.
pub(super) struct Live {
    pub(super) config: Config,
    pub(super) controller: Handle,
    pub(super) owner_side: Arc<OwnerSide>,
    pub(super) house: Arc<House>,
    pub(super) bounds: watch::Sender<Bounds>,
    pub(super) proxies: Arc<RwLock<Vec<Network>>>,
    pub(super) kept_for: watch::Sender<Option<Duration>>,
    pub(super) nginx: Option<Arc<Nginx>>,
}

impl Live {
    /// Reads the settings and lets them take effect. A mistake keeps everything as it was.
    pub(super) async fn reload(&mut self, load: &Load, log: Option<&LogControl>) {
        service_manager::reloading().await;
        let load = load.clone();
        let (state_dir, before) = (self.config.state_dir.clone(), self.config.clone());
        let read = tokio::task::spawn_blocking(move || {
            let config = load()?;
            if let Some(lost) = before.lost_file(&config) {
                return Err(vec![lost]);
            }
            let token = kept_owner_token(&config, &state_dir);
            Ok::<_, Vec<Mistake>>((config, token))
        });
        match read.await {
            Ok(Ok((config, token))) => match token {
                Ok(token) => self.take(&config, SecretDigest::of(token.expose()), log),
                Err(error) => tracing::error!("The settings stay as they were: {error:#}"),
            },
            Ok(Err(mistakes)) => {
                for mistake in &mistakes {
                    tracing::error!("The settings stay as they were: {mistake}");
                }
            }
            Err(error) => tracing::error!(error = %Causes(&error), "The settings stay as they were: reading them broke off"),
        }
        service_manager::reloaded().await;
    }

    fn take(&mut self, new: &Config, owner_token: SecretDigest, log: Option<&LogControl>) {
        let changes = self.config.changes_to(new);
        if let Some(log) = log
            && let Err(error) = log.set_filter(&new.log)
        {
            tracing::error!(error = %Causes(&error), "LOG stays as it was");
        }
        self.controller.set_limits(new.limits, new.drain);
        // The token may lie in the state folder and be another without any setting.
        let is_other_token = self.owner_side.set_owner_token(owner_token);
        self.owner_side.set_hosts(&new.owner_hosts);
        *self.proxies.write().expect("nobody panics while holding the proxies") = new.trusted_proxies.clone();
        self.bounds.send_replace(bounds_of(new));
        self.kept_for.send_if_modified(|kept_for| std::mem::replace(kept_for, new.retention) != new.retention);
        self.config = self.config.with_live_parts_of(new);
        self.house.take(self.config.clone(), &changes);
        if let Some(nginx) = &self.nginx {
            tell_nginx(nginx, &self.config);
        }
        for doubt in &new.doubts {
            tracing::warn!("{doubt}");
        }
        for name in &changes.waiting {
            tracing::warn!("{name} changed, which takes effect at the next start");
        }
        let mut live = changes.live;
        if is_other_token && !live.contains(&"OWNER_TOKEN") {
            live.push("OWNER_TOKEN");
        }
        if is_other_token {
            tracing::warn!("The owner's token changed; browsers that are signed in stay so until their sessions are revoked");
        }
        match live.as_slice() {
            [] => tracing::info!("Read the settings anew; nothing that takes effect now changed"),
            live => tracing::info!("Read the settings anew; these take effect: {}", live.join(", ")),
        }
    }
}

/// Says which configuration nginx should have with these settings: what takes effect here does not take effect there by itself.
fn tell_nginx(nginx: &Nginx, config: &Config) {
    match nginx_site(config).and_then(|site| Ok(site.digest()?)) {
        Ok(site) if nginx.set_site(site) => {
            tracing::warn!(
                "nginx needs another configuration with these settings: print it with `portcullis nginx-config`, and reload nginx"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::error!("What nginx should be told with these settings is not known: {error:#}"),
    }
}

/// Returns how much the recipient side takes on.
pub(super) fn bounds_of(config: &Config) -> Bounds {
    let possible = descriptors::for_recipients();
    if possible < config.max_connections {
        tracing::warn!("MAX_CONNECTIONS is {}; the limit of open files (ulimit -n) allows {possible}", config.max_connections);
    }
    Bounds { connections: config.max_connections.min(possible), connections_per_address: config.max_connections_per_address }
}
