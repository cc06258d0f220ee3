//! Asks the node what it is ready for: everything that keeps its files from being reached, and what to do about each.

use std::time::Duration;

use super::Finding;
use crate::config::{Tailscale, TunnelKind};
use crate::http::words::duration_text;
use crate::share::Timestamp;
use crate::tunnel::tailscale::localapi::{LocalApi, LocalApiError};
use crate::tunnel::tailscale::shape::{Foreign, Shape, Way};
use crate::tunnel::tailscale::status::Node;

/// How long the node's certificate may take here. The first one takes up to a minute; that is no mistake.
const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(10);
/// For how long a certificate is to be good.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How long before a node's key expires somebody should know: over a holiday.
const KEY_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Looks at the node, for a tunnel that uses one.
pub(super) async fn node(config: &Tailscale, tunnel: TunnelKind, has_server: bool, now: Timestamp) -> Vec<Finding> {
    let way = match tunnel {
        // A program or an engine is asked when something is opened; what is wrong is said then.
        TunnelKind::Direct | TunnelKind::TailscaleCli | TunnelKind::TailscaleNode => return Vec::new(),
        TunnelKind::Tailscale => Way::Passthrough,
        TunnelKind::TailscaleMount => Way::Mount,
    };
    let api = LocalApi::new(&config.socket);
    let (status, prefs) = match tokio::join!(api.status(), api.prefs()) {
        (Ok(status), Ok(prefs)) => (status, prefs),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::wrong(format!("TAILSCALE_SOCKET: {error}"))],
    };
    let node = Node::of(&status);
    let mut findings = vec![match &node.name {
        Some(name) => Finding::fine(format!("Tailscale: {name} answers (version {})", node.version)),
        None => Finding::fine(format!("Tailscale: the node answers (version {})", node.version)),
    }];
    let missing = node.missing(&prefs, config.port);
    findings.extend(missing.iter().map(|missing| Finding::wrong(format!("Tailscale: {missing}"))));
    findings.extend(rights(&api).await);
    findings.extend(key(&node, now));
    if !missing.is_empty() {
        return findings;
    }
    findings.push(Finding::fine(format!("Tailscale: the node may be reached from the internet on port {}", config.port)));
    let shape = Shape { way, port: config.port, target: String::new() };
    findings.extend(port(&api, &shape, has_server).await);
    if let Some(name) = &node.name {
        findings.push(certificate(&api, name).await);
    }
    findings
}

/// Looks whether this account may change what the node serves.
async fn rights(api: &LocalApi) -> Option<Finding> {
    match api.may_change().await {
        Err(error @ LocalApiError::Denied { .. }) => Some(Finding::wrong(format!("Tailscale: {error}"))),
        // Anything else says nothing of rights.
        Ok(()) | Err(_) => None,
    }
}

fn key(node: &Node, now: Timestamp) -> Option<Finding> {
    let left = Duration::from_millis(u64::try_from(node.key_expires?.0.saturating_sub(now.0)).ok()?);
    let advice = "switch key expiry off for it in the admin console, or its links stop working then";
    (left <= KEY_SOON).then(|| Finding::odd(format!("Tailscale: the node's key expires in {}: {advice}", duration_text(left))))
}

/// Looks who else serves on our port. A session there is that of the server that runs.
async fn port(api: &LocalApi, shape: &Shape, has_server: bool) -> Option<Finding> {
    let config = match api.serve_config().await {
        Ok(config) => config.json,
        Err(error) => return Some(Finding::wrong(format!("Tailscale: {error}"))),
    };
    let taken = format!("TAILSCALE_PORT: port {} of the node is served by somebody else already", shape.port);
    match shape.foreign(&config, "") {
        None => None,
        Some(Foreign::Session) if has_server => None,
        Some(Foreign::Kept) => {
            Some(Finding::wrong(format!("{taken} (`tailscale serve status` shows it): take that away, or set another port")))
        }
        Some(Foreign::Session) => {
            Some(Finding::wrong(format!("{taken}, as long as some program runs (`tailscale serve status --json` shows it)")))
        }
    }
}

async fn certificate(api: &LocalApi, name: &str) -> Finding {
    match tokio::time::timeout(CERTIFICATE_PATIENCE, api.cert_pair(name, CERTIFICATE_VALIDITY)).await {
        Ok(Ok(_)) => Finding::fine("Tailscale: the node has a certificate"),
        Ok(Err(error)) => Finding::wrong(format!("Tailscale: {error}")),
        Err(_) => Finding::odd("Tailscale: the node's first certificate is being made; that takes up to a minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};

    #[test]
    fn a_key_that_expires_is_told_of_in_time() {
        let now = Timestamp(1_800_000_000_000);
        let told = |after_ms: Option<i64>| key(&Node { key_expires: after_ms.map(|ms| Timestamp(now.0 + ms)), ..Node::default() }, now);
        assert_eq!(told(None), None);
        let day = 24 * 3600 * 1000;
        assert_eq!(told(Some(15 * day)), None);
        assert!(told(Some(13 * day)).unwrap().to_string().contains("expires in 13 d"));
        assert_eq!(told(Some(-day)), None, "that it has expired is said already");
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_one_finding() {
        let mut config = Config::load(&Settings::default()).unwrap().tailscale;
        config.socket = "/nowhere/tailscaled.sock".into();
        let findings = node(&config, TunnelKind::Tailscale, false, Timestamp(0)).await;
        assert_eq!(findings.len(), 1);
        assert!(findings[0].is_wrong() && findings[0].to_string().contains("/nowhere/tailscaled.sock: start it"), "{findings:?}");
        assert_eq!(node(&config, TunnelKind::Direct, false, Timestamp(0)).await, []);
    }
}
