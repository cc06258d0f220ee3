//! The public way in: which backend, what runs behind it, and how it brings recipients.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{MAX_KEPT_BYTES, reachable};
use crate::clock::Clock;
use crate::config::{Config, ProbeKind, TunnelKind};
use crate::controller::Handle;
use crate::delivery::{Arrival, Certificates};
use crate::tunnel::direct::Direct;
use crate::tunnel::probe::guest::{Here, Public};
use crate::tunnel::probe::{By, Look, Probe};
use crate::tunnel::tailscale::certificate::Install;
use crate::tunnel::tailscale::cli::{Cli, CliOptions, Runs};
use crate::tunnel::tailscale::funnel::{Funnel, Options};
use crate::tunnel::tailscale::keeper::{self, Beats, Hold};
use crate::tunnel::tailscale::localapi::CertPair;
use crate::tunnel::tailscale::session::Session;
use crate::tunnel::tailscale::shape::{Shape, Way};
use crate::tunnel::{Doors, PublicUrl, Tunnel};

/// The file of the state folder in which the node's name is kept: after a restart links are shown before tailscaled has answered.
const NODE_NAME: &str = "tailscale.name";
/// The folder of the state folder's in which nodes of shares have their sockets.
#[cfg(feature = "docker")]
const NODES: &str = "nodes";
/// The file in it that has the key by which they log in, as it was set.
#[cfg(feature = "docker")]
const AUTH_KEY: &str = "authkey";
/// The program that runs, also where its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The public way in.
pub(super) struct WayIn {
    pub(super) tunnel: Arc<dyn Tunnel>,
    pub(super) behind: Behind,
    /// How it brings recipients.
    pub(super) arrival: Arrival,
    /// Whether it comes from this machine's loopback and says for whom: who else is there is trusted with more than addresses.
    pub(super) trusts_loopback: bool,
}

/// What runs behind a way in.
pub(super) struct Behind {
    /// What holds the session with tailscaled, where there is one.
    pub(super) session: Option<Session>,
    /// Whom to tell that we live.
    pub(super) beats: Box<dyn Fn() -> Vec<Beats> + Send + Sync>,
}

impl Behind {
    fn nothing() -> Self {
        Self { session: None, beats: Box::new(Vec::new) }
    }
}

impl WayIn {
    /// Makes the way in that the settings name; `own` is an owner's own certificate.
    ///
    /// # Errors
    /// What keeps it from being made, as a sentence.
    pub(super) async fn of(
        config: &Config,
        recipients: SocketAddr,
        own: Option<Certificates>,
        doors: Doors,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let target = config.tailscale.target.clone().unwrap_or_else(|| on_this_machine(recipients).to_string());
        match config.tunnel {
            TunnelKind::Direct => {
                let scheme = if own.is_some() { "https" } else { "http" };
                let base = config.base_url.clone().unwrap_or_else(|| format!("{scheme}://{}", reachable(recipients)));
                let arrival = own.map_or(Arrival::Plain, Arrival::Tls);
                let tunnel = Arc::new(Direct::new(PublicUrl::new(&base), doors));
                Ok(Self { tunnel, behind: Behind::nothing(), arrival, trusts_loopback: false })
            }
            TunnelKind::Tailscale => {
                let certificates = Certificates::none();
                let ours = certificates.clone();
                let install: Install = Box::new(move |pair: &CertPair| ours.set(&pair.chain, &pair.key).map_err(|error| error.to_string()));
                Ok(Self::by_funnel(config, Way::Passthrough, target, Some(install), doors, Arrival::Tunnelled(certificates)))
            }
            TunnelKind::TailscaleMount => Ok(Self::by_funnel(config, Way::Mount, target, None, doors, Arrival::Proxied)),
            TunnelKind::TailscaleCli => {
                let kept_at = config.state_dir.join(NODE_NAME);
                let socket = config.tailscale.is_socket_set.then(|| config.tailscale.socket.clone());
                let options = CliOptions {
                    runs: runs(config)?,
                    socket,
                    port: config.tailscale.port,
                    target,
                    last_name: kept_name(&kept_at),
                    on_name: keeps_name(kept_at),
                };
                let tunnel = Arc::new(Cli::new(options, doors)?);
                Ok(Self { tunnel, behind: Behind::nothing(), arrival: Arrival::Proxied, trusts_loopback: true })
            }
            TunnelKind::TailscaleNode => by_nodes(config, target, doors, clock).await,
        }
    }

    fn by_funnel(config: &Config, way: Way, target: String, install: Option<Install>, doors: Doors, arrival: Arrival) -> Self {
        let kept_at = config.state_dir.join(NODE_NAME);
        let options = Options {
            socket: config.tailscale.socket.clone(),
            shape: Shape { way, port: config.tailscale.port, target },
            hold: Hold::Child(PathBuf::from(THIS_PROGRAM)),
            install,
            last_name: kept_name(&kept_at),
            on_name: keeps_name(kept_at),
        };
        let (funnel, session) = Funnel::new(options, doors);
        let beats = funnel.beats();
        let behind = Behind { session: Some(session), beats: Box::new(move || vec![beats.clone()]) };
        Self { tunnel: Arc::new(funnel), behind, arrival, trusts_loopback: way == Way::Mount }
    }
}

#[cfg(feature = "docker")]
fn runs(config: &Config) -> anyhow::Result<Runs> {
    use crate::tunnel::tailscale::docker::Docker;
    Ok(match &config.tailscale.container {
        None => Runs::Here { program: PathBuf::from(&config.tailscale.program) },
        Some(container) => Runs::Container {
            docker: Docker::new(&config.tailscale.docker_host)?,
            container: container.clone(),
            program: config.tailscale.program.clone(),
        },
    })
}

#[cfg(not(feature = "docker"))]
fn runs(config: &Config) -> anyhow::Result<Runs> {
    anyhow::ensure!(config.tailscale.container.is_none(), "TAILSCALE_CONTAINER: this program was built without Docker");
    Ok(Runs::Here { program: PathBuf::from(&config.tailscale.program) })
}

#[cfg(feature = "docker")]
async fn by_nodes(config: &Config, target: String, doors: Doors, clock: Arc<dyn Clock>) -> anyhow::Result<WayIn> {
    use anyhow::Context;

    use crate::tunnel::TunnelError;
    use crate::tunnel::tailscale::docker::Docker;
    use crate::tunnel::tailscale::node::{Given, Image, NodeOptions, Nodes};

    let (settings, folder) =
        (&config.tailscale.nodes, std::path::absolute(&config.state_dir).context("finding the state folder")?.join(NODES));
    let folder_on_host = settings.state_on_host.as_ref().map(|state| state.join(NODES));
    let key = config.tailscale.auth_key.clone().context("TAILSCALE_AUTH_KEY: there is no key")?;
    let user = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = NodeOptions {
        docker: Docker::new(&config.tailscale.docker_host)?,
        image: Image { name: settings.image.clone(), may_pull: settings.may_pull },
        given: Given {
            auth_key_file: folder_on_host.as_ref().unwrap_or(&folder).join(AUTH_KEY),
            extra_args: settings.up_arguments.clone(),
            network: settings.network.clone(),
            user,
            ..Given::default()
        },
        folder: folder.clone(),
        folder_on_host,
        target,
        hold: Hold::Child(PathBuf::from(THIS_PROGRAM)),
        most: settings.most,
        max_life: config.limits.max_tunnel,
        clock,
    };
    let made = tokio::task::spawn_blocking(move || {
        let nodes = Nodes::new(options, doors)?;
        keep_key(&folder.join(AUTH_KEY), key.expose())
            .map_err(|error| TunnelError::NotPossible(format!("the key cannot be kept: {error}")))?;
        Ok::<_, TunnelError>(nodes)
    });
    let nodes = Arc::new(made.await.context("making the folder of nodes")??);
    let theirs = nodes.clone();
    let behind = Behind { session: None, beats: Box::new(move || theirs.beats()) };
    Ok(WayIn { tunnel: nodes, behind, arrival: Arrival::Proxied, trusts_loopback: true })
}

#[cfg(not(feature = "docker"))]
async fn by_nodes(_: &Config, _: String, _: Doors, _: Arc<dyn Clock>) -> anyhow::Result<WayIn> {
    anyhow::bail!("TUNNEL: tailscale-node needs Docker, and this program was built without it")
}

/// Writes the key where containers are given it: whole or not at all, for this account alone. Blocks.
#[cfg(feature = "docker")]
fn keep_key(path: &Path, key: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(key.as_bytes())?;
    fs::rename(&temporary, path)
}

/// Returns who looks at shares from outside; `None` with a way in that nobody can look at from here, as behind a router.
pub(super) fn looks(config: &Config) -> Option<Option<Arc<dyn Look>>> {
    if config.tunnel == TunnelKind::Direct {
        return None;
    }
    Some(looked_by(config).map(|by| Arc::new(Probe::new(by)) as Arc<dyn Look>))
}

/// Returns how the public address of a tunnel is found; `None` where nobody looks from outside.
fn looked_by(config: &Config) -> Option<By> {
    match (config.tailscale.probe, &config.tailscale.resolvers[..]) {
        (ProbeKind::Off, _) => None,
        (ProbeKind::At(address), _) => Some(By::Address(address)),
        (ProbeKind::Auto, []) => Some(By::default()),
        (ProbeKind::Auto, resolvers) => Some(By::PublicDns(resolvers.to_vec())),
    }
}

/// Returns how a guest of ours finds the way in: by the public name, and at our own listener.
pub(super) fn of_guests(config: &Config, recipients: SocketAddr, arrival: &Arrival) -> (Public, Here) {
    let public = match config.tunnel {
        TunnelKind::Direct => Public::System,
        _ => looked_by(config).map_or(Public::Nowhere, Public::By),
    };
    let here = Here {
        address: on_this_machine(recipients),
        is_tls: matches!(arrival, Arrival::Tls(_) | Arrival::Tunnelled(_)),
        is_tunnelled: matches!(arrival, Arrival::Tunnelled(_)),
    };
    (public, here)
}

/// Tells whoever holds our sessions that we live, as long as what decides here answers.
pub(super) async fn live_signs(beats: Box<dyn Fn() -> Vec<Beats> + Send + Sync>, controller: Handle, over: CancellationToken) {
    while !over.is_cancelled() {
        if controller.answers_within(keeper::PATIENCE / 2).await {
            beats().iter().for_each(Beats::beat);
        }
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(keeper::BEAT_EVERY) => {}
        }
    }
}

/// Reads the node's name as it was last known; one that is no name is none.
fn kept_name(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_KEPT_BYTES).read_to_string(&mut text).ok()?;
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_name.then_some(text)
}

/// Keeps the node's name. It is a hint for the next start; that it cannot be kept is no reason not to serve.
fn keeps_name(at: PathBuf) -> Box<dyn Fn(&str) + Send + Sync> {
    Box::new(move |name| {
        let (path, name) = (at.clone(), name.to_owned());
        drop(tokio::task::spawn_blocking(move || {
            let temporary = path.with_extension("new");
            fs::write(&temporary, name).and_then(|()| fs::rename(temporary, path))
        }));
    })
}

/// Returns where an address that we listen on is reached from this machine.
fn on_this_machine(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}
