//! Puts the program together: the one file that names backends.
//!
//! * `certificate.rs`: an owner's own certificate, followed. `operator.rs`: what the owner's side is told of settings and machine. `reload.rs`: the settings, read anew while it runs. `retention.rs`: forgets what is too old. `sharing.rs`: a Redis that several controllers share. `site.rs`: what nginx has to know, where it sends the bytes. `service_manager.rs`: what systemd is told.

mod certificate;
mod migrate;
mod operator;
mod service_manager;
mod reload;
mod retention;
mod sharing;
mod site;
mod way_in;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::{BoxFuture, FutureExt};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::certificate::Follow;
pub use self::migrate::{Direction, Migrated, migrate};
use self::operator::House;
use self::reload::Live;
pub use self::reload::Load;
use self::retention::Retention;
pub use self::site::{nginx_key, nginx_site};
use self::way_in::{WayIn, live_signs, of_guests};
use crate::catalog::{Catalog, CatalogOptions, DigestCache, Digests};
use crate::causes::Causes;
use crate::clock::{Clock, SystemClock};
use crate::config::{AuthMode, Config, DeliveryKind, Secret, TlsFiles};
use crate::controller::{Controller, Handle, Parts, Prober, Sharing};
use crate::delivery::nginx::{Accounts, Nginx, Probing, Source, end_left_over};
use crate::delivery::{self, Arrival, Certificates, Passes, Prefix, RecipientSide};
use crate::descriptors;
use crate::doctor::Addresses;
use crate::http::auth::{Auth, SecretDigest};
use crate::http::owner::{self, OwnerListener, OwnerSettings, OwnerSide};
use crate::http::recipient::{self, RecipientPages};
use crate::meter;
use crate::metrics::Metrics;
use crate::self_test::SelfTest;
use crate::share::{ControllerNumber, FileIdentity};
use crate::shutdown::{Hangup, Hangups, Signals};
use crate::store::Store;
use crate::store::sqlite::{FolderLock, SqliteStore};
use crate::telemetry::LogControl;
use crate::token::{Key, Keys, random};
use crate::tunnel::canary::Canaries;
use crate::tunnel::probe::guest::Guest;
use crate::tunnel::{Doors, Tunnel};

/// The socket in the state folder over which this machine's owner is served without a token.
pub const OWNER_SOCKET: &str = "owner.sock";
/// The socket in the state folder to which `tailscale serve` may lead, where logins of the tailnet are owners.
const TAILNET_SOCKET: &str = "tailnet.sock";
/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long the start waits for ways in that were open before: not for a tunnel that is away.
const MAX_REOPENING: Duration = Duration::from_secs(5);
/// How long the start waits for what a tunnel's links begin with.
const MAX_NAMING: Duration = Duration::from_secs(2);
/// What a self-test says of an nginx that sends the bytes.
const BYTE_PASSED_ON: &str =
    "nginx passed the byte on, which Portcullis has in its memory; that nginx can read the files of the NAS was not tried.";
/// The longest secret that is kept in a file of the state folder.
const MAX_KEPT_BYTES: u64 = 4096;

/// The program while it runs.
pub struct Running {
    /// Where the command line finds it.
    pub socket: PathBuf,
    /// Where the owner's page is; `None` where the owner side does not listen on TCP.
    pub owner_url: Option<String>,
    /// A link that signs a browser in; `None` where nobody needs to.
    pub sign_in_url: Option<String>,
    /// What every link begins with.
    pub public_url: String,
    tunnel: Arc<dyn Tunnel>,
    /// The folder whose files can be shared.
    pub root: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
    failed: CancellationToken,
    /// Held as long as it runs, where no store of the folder holds it.
    _lock: Option<FolderLock>,
}

impl Running {
    /// Closes every door, lets downloads end for a while and comes back when all is saved.
    pub async fn stop(self) {
        self.stop.cancel();
        self.stopped().await;
    }

    /// Returns what ends the program when it is cancelled.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Comes back when the program has ended, by a signal or because a part of it broke. Returns whether all is well.
    pub async fn stopped(&self) -> bool {
        self.tasks.wait().await;
        // It may be asked for again only by the next start, which makes its own.
        let _ = fs::remove_file(&self.socket);
        !self.failed.is_cancelled()
    }
}

/// Serves until a signal. `load` reads the settings again when a hangup asks for it; `log` then changes what is logged.
///
/// # Errors
/// Whatever keeps it from starting, as a sentence.
pub async fn serve(config: Config, load: Load, log: Option<LogControl>) -> anyhow::Result<ExitCode> {
    let signals = Signals::take().context("taking over the signals")?;
    let hangups = Hangups::take().context("taking over the signals")?;
    descriptors::raise_limit();
    for doubt in &config.doubts {
        tracing::warn!("{doubt}");
    }
    let auth = config.auth;
    let (running, live) = start_live(config).await?;
    running.spawn("service manager", service_manager::run(live.controller.clone(), running.stopper()));
    greet(&running, auth);
    tokio::select! {
        () = signals.watch(running.stopper()) => Ok(ExitCode::SUCCESS),
        () = obey(hangups, live, load, log, running.stopper()) => unreachable!("it waits for ever"),
        is_well = running.stopped() => Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// Does what hangups ask for, for ever.
async fn obey(mut hangups: Hangups, mut live: Live, load: Load, log: Option<LogControl>, stop: CancellationToken) {
    loop {
        match hangups.next().await {
            Hangup::Reload if stop.is_cancelled() => {}
            Hangup::Reload => live.reload(&load, log.as_ref()).await,
            Hangup::TerminalGone => {
                tracing::info!("Stopping: the terminal was closed");
                stop.cancel();
            }
        }
    }
}

fn greet(running: &Running, auth: AuthMode) {
    let mut out = io::stderr().lock();
    let mut lines = vec![
        String::new(),
        format!("  Portcullis shares files of {}", crate::share::for_display(running.root.as_os_str().as_encoded_bytes())),
    ];
    match (&running.sign_in_url, &running.owner_url) {
        (Some(link), _) => lines.push(format!("  Open your page:  {link}")),
        (None, Some(url)) => lines.push(format!("  Open your page:  {url}/")),
        (None, None) => {}
    }
    if auth == AuthMode::None {
        lines.push("  AUTH=none: everybody in your network can make and close shares.".to_owned());
    }
    match running.tunnel.trouble() {
        None => lines.push(format!("  Links begin with {}", running.public_url)),
        Some(trouble) => lines.push(format!("  No link works yet: {trouble}")),
    }
    lines.push("  Ctrl-C stops it and closes every door; a link that has time left works again at the next start.".to_owned());
    lines.push(String::new());
    // Nobody may be reading.
    let _ = out.write_all(lines.join("\n").as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Starts everything and comes back once it listens.
///
/// # Errors
/// Whatever keeps it from starting, as a sentence. Nothing is left running then.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    Ok(start_live(config).await?.0)
}

async fn start_live(config: Config) -> anyhow::Result<(Running, Live)> {
    let state = tokio::task::spawn_blocking(move || State::open(&config)).await.context("opening the state folder")?;
    let State { config, kept, catalog, secrets, transfer_secret, owner_token } = state?;
    let Opened { store, sharing, transfer_secret, lock } = kept.open(&config, &secrets, transfer_secret).await?;
    let keys = Keys::new(secrets, transfer_secret);

    let clock: Arc<dyn Clock> = Arc::new(match sharing.as_ref().and_then(|sharing| sharing.joined.steady) {
        Some(steady) => SystemClock::starting_at(steady),
        None => SystemClock::starting_after(store.latest_steady().await.context("reading the store")?),
    });
    let digests = Arc::new(Digests::new(catalog.clone(), Arc::new(StoreDigests(store.clone()))));

    let nginx = match config.delivery {
        DeliveryKind::Embedded => None,
        DeliveryKind::Nginx => Some(behind_nginx(&config, &keys).await?),
    };
    let (nginx, log_source) = nginx.unzip();
    let (listens_on, setting) =
        if nginx.is_some() { (config.nginx.upstream, "for nginx, NGINX_UPSTREAM") } else { (config.recipient_listen, "RECIPIENT_LISTEN") };
    let recipients = delivery::listen(listens_on).with_context(|| format!("listening for recipients on {listens_on} ({setting})"))?;
    let recipients_at = if nginx.is_some() { config.recipient_listen } else { recipients.local_addr().unwrap_or(listens_on) };
    let certificate = match config.tls.clone() {
        Some(files) => Some(shown(files).await?),
        None => None,
    };
    let own = certificate.as_ref().map(|follow| follow.certificates.clone());
    let (doors, passes) = (Doors::default(), if nginx.is_some() { Passes::for_nginx() } else { Passes::default() });
    let WayIn { tunnel, behind, arrival, trusts_loopback } = WayIn::of(&config, recipients_at, own, doors.clone(), clock.clone()).await?;
    let arrival = if nginx.is_some() { Arrival::Nginx } else { arrival };
    let (reports, incoming) = meter::channel();
    let metrics = Metrics::new(VERSION, clock.now().wall);
    let (side_clock, side_metrics, log_store) = (clock.clone(), metrics.clone(), store.clone());
    let among = sharing.as_ref().map_or(ControllerNumber::ALONE, |sharing| sharing.joined.number);
    let parts = Parts {
        store: store.clone(),
        sharing: sharing.clone(),
        catalog: catalog.clone(),
        digests: digests.clone(),
        tunnel: tunnel.clone(),
        clock: clock.clone(),
        keys: keys.clone(),
        passes: passes.clone(),
        metrics: metrics.clone(),
        limits: config.limits,
        drain: config.drain,
    };
    let (mut controller, handle) = Controller::load(parts, incoming).await.context("reading the shares that were open")?;
    let left_over = controller.take_left_over();
    let secrets: Vec<_> = left_over.iter().map(|one| keys.transfer_secret(one.carried.transfer)).collect();
    let told_of_left_over = reports.clone();

    let (public, here) = of_guests(&config, recipients_at, &arrival);
    let untried = nginx.is_some().then_some(BYTE_PASSED_ON);
    let self_test = Arc::new(SelfTest::new(handle.clone(), Guest::new(public, here), untried));
    let canaries = Canaries::new(doors.clone());
    // Where several controllers stand behind one address, any of them may be asked what one has put out.
    let is_alone = sharing.is_none() || !tunnel.opens_at_once();
    let prober = way_in::looks(&config).filter(|_| is_alone).map(|look| Prober::new(handle.clone(), canaries.clone(), look));
    let pages = RecipientPages { controller: handle.clone(), keys: Arc::new(keys), clock: clock.clone(), canaries };
    let proxies = Arc::new(RwLock::new(config.trusted_proxies.clone()));
    let (trusted, (bounds, bounds_now)) = (proxies.clone(), watch::channel(reload::bounds_of(&config)));
    let recipient_side = Arc::new(RecipientSide {
        passes,
        doors,
        reports,
        metrics: metrics.clone(),
        catalog: catalog.clone(),
        pages: recipient::router(pages),
        clock: clock.clone(),
        bounds: bounds_now,
        is_trusted_proxy: Box::new(move |address: IpAddr| {
            trusts_loopback && address.is_loopback()
                || trusted.read().expect("nobody panics while holding the proxies").iter().any(|range| range.contains(address))
        }),
        prefix: Prefix::of_url(config.base_url.as_deref().unwrap_or_default()),
        nginx: nginx.clone(),
        controller: among,
        catch_up: sharing.as_ref().map(|_| catch_up(handle.clone())),
    });

    let owners = if config.owner_tcp {
        let listener = TcpListener::bind(config.owner_listen).await;
        Some(listener.with_context(|| format!("listening for owners on {} (OWNER_LISTEN)", config.owner_listen))?)
    } else {
        None
    };
    let owner_url = owners.as_ref().map(|listener| {
        let address = reachable(listener.local_addr().unwrap_or(config.owner_listen));
        // Also without a proxy: the session's cookie holds below that path alone.
        format!("http://{address}{}", config.base_path.as_str())
    });
    let socket = config.state_dir.join(OWNER_SOCKET);
    let local = listen_locally(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    let tailnet = match config.tailnet_owners[..] {
        [] => None,
        [..] => {
            let socket = config.state_dir.join(TAILNET_SOCKET);
            Some(OwnerListener::Tailnet(listen_locally(&socket).with_context(|| format!("listening on {}", socket.display()))?))
        }
    };
    let auth = match config.auth {
        AuthMode::Token => Auth::Token,
        AuthMode::None => Auth::None,
    };
    let owners_at = owners.as_ref().map(|listener| listener.local_addr().unwrap_or(config.owner_listen));
    let addresses = Addresses { owners: owners_at, recipients: recipients.local_addr().unwrap_or(listens_on) };
    let house = Arc::new(House::new(config.clone(), addresses));
    let settings = OwnerSettings {
        auth,
        owner_token: SecretDigest::of(owner_token.expose()),
        hosts: config.owner_hosts.clone(),
        tailnet_owners: config.tailnet_owners.clone(),
        address: owner_url.clone().unwrap_or_default(),
        prefix: config.base_path.clone(),
        root: config.root.clone(),
        state_dir: config.state_dir.clone(),
        version: VERSION,
        store_kind: if config.redis.is_some() { "redis" } else { "embedded" },
        tunnel: tunnel.backend(),
        nginx: nginx.clone(),
        operator: house.clone(),
        self_test: self_test.clone(),
    };
    let (kept_for, kept_for_now) = watch::channel(config.retention);
    let retention = Retention { store: store.clone(), clock: clock.clone(), metrics, kept_for: kept_for_now };
    let owner_side = Arc::new(OwnerSide::new(handle.clone(), catalog.clone(), digests.clone(), store, clock, settings));
    let sign_in_url = match (config.auth, &owner_url) {
        (AuthMode::Token, Some(url)) => Some(format!("{url}{}", owner_side.new_sign_in_path())),
        (AuthMode::Token | AuthMode::None, _) => None,
    };

    let mut running = Running {
        socket,
        owner_url,
        sign_in_url,
        public_url: String::new(),
        tunnel: tunnel.clone(),
        root: fs::canonicalize(&config.root).unwrap_or_else(|_| config.root.clone()),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        failed: CancellationToken::new(),
        _lock: lock,
    };
    let router = owner::router(owner_side.clone());
    // The way in lives as long as there is somebody who shuts it.
    let over = CancellationToken::new();
    let deciding = controller.run(running.stop.clone());
    let is_over = over.clone();
    running.spawn("controller", async move {
        // Also where it panics: what goes on behind it must not keep the program from ending.
        let _over = is_over.drop_guard();
        deciding.await;
    });
    running.spawn("signs of life", live_signs(behind.beats, handle.clone(), over.clone()));
    if let Some(session) = behind.session {
        let mut changes = tunnel.changes();
        running.spawn("session with tailscaled", session.run(over));
        // What links begin with, and what is wrong, is told at the start where it can be.
        let ready = async { while tunnel.trouble().is_some() && changes.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(MAX_NAMING, ready).await;
    }
    running.public_url = tunnel.address().to_string();
    self_test.close_left_over().await;
    // Whoever comes back to a link after a restart waits in the kernel's queue until its way in is open again.
    handle.when_taken_up(MAX_REOPENING).await;
    let served = CancellationToken::new();
    if let Some((nginx, source)) = nginx.clone().zip(log_source) {
        let (listen, access_log) = (config.recipient_listen, config.nginx.access_log.clone());
        let probing = Probing { nginx: nginx.clone(), catalog: catalog.clone(), listen, upstream: config.nginx.upstream, access_log };
        running.spawn("look at nginx", probing.run(running.stop.clone()));
        let (side, is_served, clock, metrics) = (recipient_side.clone(), served.clone(), side_clock, side_metrics);
        let store = log_store;
        running.spawn("account of nginx's log", async move {
            // Whoever waits for a line is there before it is read.
            nginx.take_over(&side, secrets.into_iter().zip(left_over).collect());
            match Accounts::open(nginx, store, metrics, clock, source).await {
                Ok(accounts) => accounts.run(is_served).await,
                Err(error) => tracing::error!(error = %Causes(&error), "How far nginx's log was followed cannot be read"),
            }
        });
    } else {
        running.tasks.spawn(end_left_over(left_over, told_of_left_over, running.stop.clone()));
    }
    let serving = recipient_side.run(recipients, arrival, running.stop.clone());
    running.spawn("recipient side", async move {
        let _served = served.drop_guard();
        serving.await;
    });
    if let Some(follow) = certificate {
        running.spawn("certificate", follow.run(running.stop.clone()));
    }
    if let Some(prober) = prober {
        running.spawn("look from outside", prober.run(running.stop.clone()));
    }
    running.spawn("catalog", catalog.run(running.stop.clone()));
    running.spawn("checksums", digests.run(running.stop.clone()));
    for listener in [Some(OwnerListener::Unix(local)), tailnet, owners.map(OwnerListener::Tcp)].into_iter().flatten() {
        let serving = owner::serve(listener, router.clone(), running.stop.clone());
        running.spawn("owner side", async {
            if let Err(error) = serving.await {
                tracing::error!(error = %Causes(&error), "The owner side cannot listen any more");
            }
        });
    }
    running.spawn("retention", retention.run(running.stop.clone()));
    running.tasks.close();
    Ok((running, Live { config, controller: handle, owner_side, house, bounds, proxies, kept_for, nginx }))
}

/// Lets a recipient's request ask what other controllers have decided.
fn catch_up(handle: Handle) -> delivery::CatchUp {
    Box::new(move |share| {
        let handle = handle.clone();
        async move { handle.catch_up(share).await }.boxed()
    })
}

/// Makes what stands behind an nginx that sends the bytes.
async fn behind_nginx(config: &Config, keys: &Keys) -> anyhow::Result<(Arc<Nginx>, Source)> {
    let digest = nginx_site(config)?.digest().context("writing nginx's configuration")?;
    let folder = config.state_dir.clone();
    let key = tokio::task::spawn_blocking(move || nginx_key(&folder)).await.context("reading nginx's key")??;
    let nginx = Arc::new(
        Nginx::new(keys.log_key(), key, digest, config.recipient_listen.port())
            .context("asking the kernel about nginx's connections (DELIVERY=nginx)")?,
    );
    let log = &config.nginx.access_log;
    let source = Source::open(log, &nginx).with_context(|| format!("listening for nginx's lines on {log} (NGINX_ACCESS_LOG)"))?;
    if let Err(error) = nginx.hear_ends() {
        tracing::warn!(error = %Causes(&error), "The kernel does not tell how connections end; one that breaks off counts for what was seen of it");
    }
    // nginx's workers may have this very account: whoever breaks into one shall not look into this process, whose memory holds the keys.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("keeping other processes of this account out of this one's memory")?;
    if let Err(error) = nginx.may_end_connections() {
        tracing::warn!("Downloads that nginx sends can be ended only if its workers run as the account of this program: {error}");
    }
    tracing::info!("nginx serves recipients on {}; `portcullis nginx-config` prints its configuration", config.recipient_listen);
    Ok((nginx, source))
}

/// Shows an owner's own certificate.
async fn shown(files: TlsFiles) -> anyhow::Result<Follow> {
    let certificates = Certificates::none();
    let (read, into) = (files.clone(), certificates.clone());
    let loaded = tokio::task::spawn_blocking(move || read.load(&into)).await.context("reading the certificate")?;
    loaded.map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    tracing::info!("Recipients are shown a certificate: {}", certificate::in_words(&certificates));
    Ok(Follow { files, certificates })
}

impl Running {
    /// Runs a part of the program. One that ends before it was asked to brings the program down: half of it would be
    /// worse than none.
    fn spawn(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let part = std::panic::AssertUnwindSafe(part).catch_unwind();
        self.tasks.spawn(async move {
            let ended = part.await;
            if ended.is_err() || !stop.is_cancelled() {
                tracing::error!("The {name} ended by itself; stopping");
                failed.cancel();
                stop.cancel();
            }
        });
    }
}

/// What is opened before anything runs; all of it blocks.
struct State {
    config: Config,
    kept: Kept,
    catalog: Arc<Catalog>,
    secrets: Vec<Key>,
    transfer_secret: [u8; 32],
    owner_token: Secret,
}

/// Where state is kept.
enum Kept {
    /// In the state folder.
    Here(SqliteStore),
    /// In a Redis; of the folder this controller has its lock and its name.
    Shared(FolderLock, [u8; 16]),
}

/// A store, ready for use.
struct Opened {
    store: Arc<dyn Store>,
    sharing: Option<Sharing>,
    transfer_secret: [u8; 32],
    lock: Option<FolderLock>,
}

impl Kept {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.state_dir;
        if config.redis.is_none() {
            let store = SqliteStore::open(dir).with_context(|| format!("opening the store in {} (STATE_DIR)", dir.display()))?;
            return Ok(Self::Here(store));
        }
        let lock = FolderLock::take(dir).with_context(|| format!("opening the folder {} (STATE_DIR)", dir.display()))?;
        if FolderLock::has_store(dir) {
            tracing::warn!("With REDIS_URL the shares in {} are left alone: none of them can be reached", dir.display());
        }
        let id = dir.join("controller.id");
        Ok(Self::Shared(lock, sharing::folder_id(kept_secret(&id)?.expose(), &id)?))
    }

    async fn open(self, config: &Config, secrets: &[Key], transfer_secret: [u8; 32]) -> anyhow::Result<Opened> {
        match (self, &config.redis) {
            (Self::Shared(lock, folder), Some(redis)) => {
                let sharing::Shared { sharing, transfer_secret } = sharing::open(redis, folder, secrets, transfer_secret).await?;
                let store = sharing.store.clone().as_store();
                Ok(Opened { store, sharing: Some(sharing), transfer_secret, lock: Some(lock) })
            }
            (Self::Here(store), _) => Ok(Opened { store: Arc::new(store), sharing: None, transfer_secret, lock: None }),
            (Self::Shared(..), None) => unreachable!("it is shared where a Redis is set"),
        }
    }
}

impl State {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.state_dir;
        let kept = Kept::of(config)?;
        let is_mounted_elsewhere = config.redis.is_some();
        let options = CatalogOptions { show_hidden: config.show_hidden, excluded: vec![dir.clone()], is_mounted_elsewhere };
        let catalog = Catalog::new(&config.root, options)
            .with_context(|| format!("opening the folder {} (NAS_MOUNT_PATH)", config.root.display()))?;
        let (secrets, transfer_secret) = (secrets_of(config)?, transfer_secret_of(dir)?);
        let owner_token = kept_owner_token(config, dir)?;
        Ok(Self { config: config.clone(), kept, catalog: Arc::new(catalog), secrets, transfer_secret, owner_token })
    }
}

/// Returns what signs links, the one that signs first: of the settings, or the one that is kept in the state folder. Blocks.
fn secrets_of(config: &Config) -> anyhow::Result<Vec<Key>> {
    let kept = || kept_secret(&config.state_dir.join("jwt.key"));
    let signing: Vec<Secret> = if config.jwt_secrets.is_empty() { vec![kept()?] } else { config.jwt_secrets.clone() };
    signing.iter().map(|secret| Key::new(secret.expose())).collect::<Result<_, _>>().context("reading JWT_SECRET")
}

/// Returns what secrets of transfers are derived from. Blocks.
fn transfer_secret_of(state_dir: &Path) -> anyhow::Result<[u8; 32]> {
    let path = state_dir.join("transfer.key");
    let kept = kept_secret(&path)?;
    match kept.expose().strip_prefix(migrate::DERIVED) {
        Some(hex) => sharing::bytes_of(hex).with_context(|| format!("{} is damaged: put back the one that was there", path.display())),
        None => Ok(Sha256::digest(kept.expose()).into()),
    }
}

/// Returns the owner's token: the one of the settings, or the one that is kept in the state folder. Blocks.
fn kept_owner_token(config: &Config, state_dir: &Path) -> anyhow::Result<Secret> {
    config.owner_token.clone().map_or_else(|| kept_secret(&state_dir.join("owner.token")), Ok)
}

/// Reads a secret that is kept in the state folder, or makes it there on the first run: 0600, whole or not at all.
fn kept_secret(path: &Path) -> anyhow::Result<Secret> {
    match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(MAX_KEPT_BYTES).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
            let text = text.trim_end_matches('\n');
            anyhow::ensure!(
                text.len() >= 32,
                "{} is damaged: delete it to have another made; links made so far stop working then",
                path.display()
            );
            Ok(Secret::new(text.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = random::secret();
            let temporary = path.with_extension("new");
            let write = || -> io::Result<()> {
                let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
                writeln!(file, "{secret}")?;
                let owner = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
                if rustix::process::geteuid().is_root() && owner.uid() != 0 {
                    // A command that root gave writes for the service, which runs as another account.
                    std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
                }
                file.sync_all()?;
                fs::rename(&temporary, path)?;
                File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
            };
            write().with_context(|| format!("writing {}", path.display()))?;
            Ok(Secret::new(secret))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Listens on a socket that only this account can reach. The state folder's lock says that no other process does.
fn listen_locally(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Returns where an address that we listen on is reached: for "every address", the one that leads out of this machine.
fn reachable(listening: SocketAddr) -> SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    // Connecting a UDP socket sends nothing; it only makes the kernel choose a route. The address is TEST-NET-1 (RFC 5737).
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let ip = chosen.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    SocketAddr::new(if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip }, listening.port())
}

/// Keeps digests in the store.
struct StoreDigests(Arc<dyn Store>);

impl DigestCache for StoreDigests {
    fn load(&self, identity: FileIdentity) -> BoxFuture<'_, Option<[u8; 32]>> {
        async move { self.0.digest(identity).await.ok().flatten() }.boxed()
    }

    fn keep(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.0.put_digest(identity, sha256).await {
                tracing::debug!(error = %Causes(&error), "A checksum could not be kept");
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_this_account_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwt.key");
        let first = kept_secret(&path).unwrap();
        assert_eq!(first.expose(), kept_secret(&path).unwrap().expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Key::new(first.expose()).is_ok());
        fs::write(&path, "short").unwrap();
        assert!(kept_secret(&path).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_secret_that_root_makes_belongs_to_whoever_has_the_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12_345), Some(23_456)).unwrap();
        let path = dir.path().join("nginx.key");
        kept_secret(&path).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (12_345, 23_456, 0o600));
    }

    #[test]
    fn a_link_never_begins_with_an_address_that_means_every_address() {
        assert!(!reachable("0.0.0.0:8001".parse().unwrap()).ip().is_unspecified());
        assert_eq!(reachable("[::]:8001".parse().unwrap()).port(), 8001);
        assert_eq!(reachable("127.0.0.1:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
    }
}
