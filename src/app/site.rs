//! What nginx has to know, where it sends the bytes: the same for the server and for `portcullis nginx-config`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, absolute};

use anyhow::Context;

use super::kept_secret;
use crate::config::{Config, TunnelKind};
use crate::delivery::Bounds;
use crate::delivery::nginx::AccessLog;
use crate::delivery::nginx::site::{Site, SiteKey};
use crate::share::Network;

/// The file of the state folder in which the key is kept by which nginx is known.
const KEY_NAME: &str = "nginx.key";
/// Where a tunnel on this machine comes from.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// Returns what nginx has to know. The limit of open files is this process's own and nothing of nginx's, so the bounds are those
/// of the settings.
///
/// # Errors
/// Where the current folder is gone, in which a path begins.
pub fn nginx_site(config: &Config) -> anyhow::Result<Site> {
    let loopback = LOOPBACK.map(|address| address.parse::<Network>().expect("they are addresses"));
    let comes_from_here = match config.tunnel {
        TunnelKind::Direct | TunnelKind::Tailscale => false,
        TunnelKind::TailscaleMount | TunnelKind::TailscaleCli | TunnelKind::TailscaleNode => true,
    };
    Ok(Site {
        listen: config.recipient_listen,
        upstream: config.nginx.upstream,
        root: absolute(&config.root).context("finding the current folder")?,
        access_log: match &config.nginx.access_log {
            AccessLog::File(path) => AccessLog::File(absolute(path).context("finding the current folder")?),
            AccessLog::Syslog(path) => AccessLog::Syslog(path.clone()),
        },
        forwarders: config.trusted_proxies.iter().copied().chain(loopback.into_iter().filter(|_| comes_from_here)).collect(),
        bounds: Bounds { connections: config.max_connections, connections_per_address: config.max_connections_per_address },
    })
}

/// Returns the key by which nginx shows that its configuration was made here; on the first call it is made, in the state folder,
/// for this account alone. Blocks.
///
/// # Errors
/// Where the state folder cannot be read or written.
pub fn nginx_key(state_dir: &Path) -> anyhow::Result<SiteKey> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).with_context(|| format!("making {}", state_dir.display()))?;
    Ok(SiteKey::of(kept_secret(&state_dir.join(KEY_NAME))?.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn site(settings: &[(&str, &str)]) -> Site {
        let mut all = Settings::default();
        for (name, value) in [("DELIVERY", "nginx"), ("STATE_DIR", "/nowhere/at/all")].iter().chain(settings) {
            all.set(name, *value);
        }
        nginx_site(&Config::load(&all).unwrap()).unwrap()
    }

    #[test]
    fn a_tunnel_on_this_machine_is_believed_and_nobody_else_there_is() {
        let forwarders = |settings: &[(&str, &str)]| site(settings).forwarders.iter().map(Network::to_string).collect::<Vec<_>>();
        assert!(forwarders(&[]).is_empty());
        assert_eq!(forwarders(&[("TRUSTED_PROXIES", "10.0.0.0/8")]), ["10.0.0.0/8"]);
        for tunnel in ["tailscale-mount", "tailscale-cli"] {
            assert_eq!(forwarders(&[("TUNNEL", tunnel)]), ["127.0.0.1/32", "::1/128"]);
        }
    }

    #[test]
    fn paths_begin_where_the_command_was_given() {
        let site = site(&[("NAS_MOUNT_PATH", "nas"), ("NGINX_ACCESS_LOG", "/log")]);
        assert_eq!((site.root, site.access_log), (std::env::current_dir().unwrap().join("nas"), AccessLog::File("/log".into())));
    }

    #[test]
    fn the_key_is_made_once_in_a_folder_of_its_own() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        let proof = |key: &SiteKey| site(&[]).conf(key).unwrap();
        assert_eq!(proof(&nginx_key(&state).unwrap()), proof(&nginx_key(&state).unwrap()));
        assert_ne!(proof(&nginx_key(&state).unwrap()), proof(&nginx_key(&folder.path().join("other")).unwrap()));
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY_NAME), mode(".")), (0o600, 0o700));
        let left: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [KEY_NAME]);
    }
}
