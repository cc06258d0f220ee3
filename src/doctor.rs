//! Tries what the settings name, without changing anything that stays.
//!
//! What can be tried beside a server is tried by [`examine`]; a server that runs looks at itself by [`examine_this_server`].
//!
//! * `tailscale.rs`: the node, where one is used. `nginx.rs`: nginx, where it sends the bytes and no server runs that asks it. `sharing.rs`: the Redis that is shared.

mod nginx;
mod sharing;
mod tailscale;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock::{Clock, SystemClock};
use crate::config::{AuthMode, Config, DeliveryKind, TlsFiles, TunnelKind};
use crate::delivery::Certificates;
use crate::descriptors;
use crate::http::owner::health::{LOW_DISK_BYTES, NO_DISK_BYTES, free_bytes_of};
use crate::http::words::{size_text, time_text};
use crate::share::Timestamp;
use crate::store::sqlite::{Look, look_at};
use crate::token::random;

/// How long the NAS may take for one answer; a mount whose server is gone hangs for minutes.
const NAS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a disk of this machine may take; it needs milliseconds.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take for all that it is asked: its first certificate may be waited for.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long before its end a certificate should have been renewed: authorities' tools do it at a third of its life, which is
/// 15 days before the end of the shortest.
const SOON_OVER: Duration = Duration::from_secs(10 * 24 * 3600);

/// When this program was made, at the earliest: 2026-01-01.
const EARLIEST: Timestamp = Timestamp(1_767_225_600_000);

/// What is known of a server with this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// None runs.
    None,
    /// One runs and is well.
    Running {
        /// Its version.
        version: String,
    },
    /// One runs, or ran, and something is wrong with it.
    Unwell {
        /// What.
        why: String,
    },
}

/// One thing that was looked at. Its sentence begins with the setting that it is about, where it is about one (`BASE_URL: …`), and what stands
/// behind its first semicolon is what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    sentence: String,
    /// What it is about, where the sentence names no setting.
    about: Option<&'static str>,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Fine,
    /// It works, and may not be what is meant.
    Odd,
    /// It will not work.
    Wrong,
}

/// The parts of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// What it is about, as `BASE_URL`; `None` where the sentence says it.
    pub about: Option<&'a str>,
    /// What is so.
    pub text: &'a str,
    /// What to do about it, where it is not as it should be.
    pub fix: Option<&'a str>,
}

impl Finding {
    /// Something is as it should be.
    pub fn fine(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, sentence: sentence.into(), about: None }
    }

    /// Something works, and may not be what is meant.
    pub fn odd(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Odd, sentence: sentence.into(), about: None }
    }

    /// Something will not work.
    pub fn wrong(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, sentence: sentence.into(), about: None }
    }

    /// Returns whether something will not work.
    pub fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Wrong
    }
}

impl Finding {
    /// Says what it is about, where its sentence names no setting.
    #[must_use]
    fn about(self, what: &'static str) -> Self {
        Self { about: Some(what), ..self }
    }

    /// Returns how it is.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes its sentence apart.
    pub fn parts(&self) -> Parts<'_> {
        let is_name = |text: &str| text == "Tailscale" || text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let (about, rest) = match self.sentence.split_once(": ") {
            Some((name, rest)) if is_name(name) => (Some(name), rest),
            Some(_) | None => (self.about, self.sentence.as_str()),
        };
        // What the node says goes on behind a colon, but for what tailscaled itself answered.
        let is_of_node = about.is_some_and(|name| matches!(name, "Tailscale" | "TAILSCALE_SOCKET"));
        let is_answer = ["tailscaled could not ", "tailscaled did not "].iter().any(|start| rest.starts_with(start));
        let advice = Some(()).filter(|()| is_of_node && !is_answer).and_then(|()| rest.split_once(": "));
        match advice.or_else(|| rest.split_once("; ")) {
            Some((text, fix)) if self.verdict != Verdict::Fine => Parts { about, text, fix: Some(fix) },
            Some(_) | None => Parts { about, text: rest, fix: None },
        }
    }

    /// Returns it as a line, with a sign or a word before it.
    pub fn line(&self, has_signs: bool) -> String {
        let (sign, word) = match self.verdict {
            Verdict::Fine => ('\u{2713}', "ok   "),
            Verdict::Odd => ('!', "note "),
            Verdict::Wrong => ('\u{2717}', "WRONG"),
        };
        if has_signs { format!("{sign}  {}", self.sentence) } else { format!("{word}  {}", self.sentence) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(false))
    }
}

/// Tries the folders, the ports and the server.
pub async fn examine(config: &Config, server: &Server) -> Vec<Finding> {
    let looks = Looks::default();
    let mut findings = vec![
        root(&config.root).await,
        state_folder(&config.state_dir, &looks).await,
        port("OWNER_LISTEN", config.owner_listen, server).await,
        match config.delivery {
            DeliveryKind::Embedded => port("RECIPIENT_LISTEN", config.recipient_listen, server).await,
            // The other port is nginx's own.
            DeliveryKind::Nginx => port("NGINX_UPSTREAM", config.nginx.upstream, server).await,
        },
        running(server),
        match config.redis {
            None => store(&config.state_dir).await,
            Some(_) => Finding::fine("the store is a Redis, which several controllers may share"),
        },
        disk(&config.state_dir).await,
        time(),
    ];
    if let Some(files) = &config.tls {
        findings.extend(certificate(files.clone(), config.base_url.clone(), &looks).await);
    }
    if config.delivery == DeliveryKind::Nginx && *server == Server::None {
        findings.extend(nginx::alone(config.recipient_listen, &config.nginx).await);
    }
    if config.delivery == DeliveryKind::Nginx {
        findings.extend(nginx::queue(&config.nginx));
    }
    let now = SystemClock::starting_after(None).now().wall;
    if let Some(redis) = &config.redis {
        findings.extend(sharing::look(redis, now).await);
    }
    findings.extend(tailscale::node(&config.tailscale, config.tunnel, *server != Server::None, now).await);
    findings.extend(doubtful_choices(config));
    findings
}

/// Where a server that runs is reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Where owners are served, where they are over TCP.
    pub owners: Option<SocketAddr>,
    /// Where recipients are, or nginx that serves them.
    pub recipients: SocketAddr,
}

/// Looks at what a server that runs leans on, from within: its ports and its socket are in use by itself. The store, the files and
/// what else its health says is not looked at here. Takes a quarter of a minute at the most.
pub async fn examine_this_server(config: &Config, addresses: Addresses, looks: &Looks) -> Vec<Finding> {
    let now = SystemClock::starting_after(None).now().wall;
    let mut findings: Vec<Finding> = config.doubts.iter().map(|doubt| Finding::odd(doubt.as_str()).about("environment")).collect();
    if let Some(owners) = addresses.owners {
        findings.push(Finding::fine(format!("OWNER_LISTEN: owners are served on {owners}")));
    }
    findings.push(Finding::fine(match config.delivery {
        DeliveryKind::Embedded => format!("RECIPIENT_LISTEN: recipients are served on {}", addresses.recipients),
        DeliveryKind::Nginx => format!("NGINX_UPSTREAM: nginx is answered on {}", addresses.recipients),
    }));
    findings.push(state_folder(&config.state_dir, looks).await);
    findings.push(time().about("clock"));
    if let Some(files) = &config.tls {
        findings.extend(certificate(files.clone(), config.base_url.clone(), looks).await);
    }
    if config.delivery == DeliveryKind::Nginx {
        findings.extend(nginx::queue(&config.nginx));
    }
    if let Some(redis) = &config.redis {
        findings.extend(sharing::look(redis, now).await);
    }
    let possible = descriptors::for_recipients();
    if possible < config.max_connections {
        findings.push(Finding::odd(format!(
            "MAX_CONNECTIONS: it is {}, and the limit of open files lets {possible} in; raise that limit (ulimit -n, LimitNOFILE=)",
            config.max_connections
        )));
    }
    match tokio::time::timeout(NODE_TIMEOUT, tailscale::node(&config.tailscale, config.tunnel, true, now)).await {
        Ok(of_node) => findings.extend(of_node),
        Err(_) => findings.push(Finding::wrong("TAILSCALE_SOCKET: tailscaled does not answer; start it again")),
    }
    findings.extend(doubtful_choices(config));
    findings
}

/// What works and may not be what is meant.
fn doubtful_choices(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.base_url.is_none() && config.tunnel == TunnelKind::Direct {
        findings.push(Finding::odd(
            "BASE_URL: it is not set, so links begin with an address of this machine; set it to what recipients can reach, as https://files.example.org",
        ));
    }
    if config.auth == AuthMode::None {
        let address = config.owner_listen;
        findings.push(Finding::odd(format!(
            "AUTH: it is none, so whoever reaches {address} can share every file; leave AUTH unset where others are in that network"
        )));
    }
    findings
}

/// Bounds looks at disks, which may hang for ever: one at a time, and who asks waits only so long.
#[derive(Debug)]
pub struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// Runs `look` on a blocking thread; `None` where it does not come back in time, or an earlier one has not yet.
    async fn run<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let held = self.0.clone().try_acquire_owned().ok()?;
        let look = tokio::task::spawn_blocking(move || {
            let _held_until_it_is_back = held;
            look()
        });
        tokio::time::timeout(DISK_TIMEOUT, look).await.ok()?.ok()
    }
}

async fn root(path: &Path) -> Finding {
    let named = format!("NAS_MOUNT_PATH: {}", path.display());
    let folder = path.to_owned();
    let look = tokio::task::spawn_blocking(move || std::fs::read_dir(folder).map(|mut names| names.next().transpose()));
    match tokio::time::timeout(NAS_TIMEOUT, look).await {
        Err(_) => Finding::wrong(format!("{named} does not answer within {} s; is the NAS reachable?", NAS_TIMEOUT.as_secs())),
        Ok(Err(_)) => Finding::wrong(format!("{named} could not be looked at")),
        Ok(Ok(Err(error) | Ok(Err(error)))) => {
            Finding::wrong(format!("{named} cannot be listed ({}); name the folder, as in `portcullis serve FOLDER`", reason(&error)))
        }
        Ok(Ok(Ok(Ok(None)))) => Finding::odd(format!("{named} is an empty folder; is the NAS mounted?")),
        Ok(Ok(Ok(Ok(Some(_))))) => Finding::fine(format!("{named} can be listed")),
    }
}

async fn state_folder(path: &Path, looks: &Looks) -> Finding {
    let (named, folder) = (format!("STATE_DIR: {}", path.display()), path.to_owned());
    match looks.run(move || try_to_write(&folder)).await {
        Some(Ok(None)) => Finding::fine(format!("{named} can be written")),
        Some(Ok(Some(parent))) => Finding::fine(format!("{named} does not exist yet and can be made in {}", parent.display())),
        Some(Err(error)) => {
            Finding::wrong(format!("{named} cannot be written ({}); make it this account's own, or name another", reason(&error)))
        }
        None => Finding::wrong(format!("{named} does not answer within {} s; is its disk well?", DISK_TIMEOUT.as_secs())),
    }
}

/// Writes a file that is gone at once, in the folder, or in the nearest one above it that exists: then that is returned.
fn try_to_write(folder: &Path) -> io::Result<Option<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    // A name of its own each time: what a check that was killed left must not stand in the way of the next, and in a container each has
    // the same process id.
    let probe = nearest.join(format!(".portcullis-check-{}", random::request_id()));
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?;
    std::fs::remove_file(&probe)?;
    Ok((nearest != folder).then(|| nearest.to_owned()))
}

async fn port(name: &str, address: SocketAddr, server: &Server) -> Finding {
    match TcpListener::bind(address).await {
        Ok(_) if matches!(server, Server::Running { .. }) => {
            Finding::odd(format!("{name}: {address} is free although a server runs; it was started with other settings"))
        }
        Ok(_) => Finding::fine(format!("{name}: {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && *server != Server::None => {
            Finding::fine(format!("{name}: {address} is in use, and a server runs"))
        }
        Err(error) => Finding::wrong(format!("{name}: {address} cannot be used ({}); set {name} to another", reason(&error))),
    }
}

fn running(server: &Server) -> Finding {
    match server {
        Server::None => Finding::fine("no server runs with this state folder"),
        Server::Running { version } => Finding::fine(format!("the server runs and is well (version {version})")),
        Server::Unwell { why } => Finding::wrong(format!("a server runs with this state folder, and something is wrong: {why}")),
    }
}

async fn store(folder: &Path) -> Finding {
    let look = folder.to_owned();
    match tokio::task::spawn_blocking(move || look_at(&look)).await {
        Ok(Ok(None)) => Finding::fine("the store is made at the first start"),
        Ok(Ok(Some(Look { is_older: false }))) => Finding::fine("the store can be read and is whole"),
        Ok(Ok(Some(Look { is_older: true }))) => {
            Finding::odd("the store is of an earlier version; the next start brings it up to date, and there is no way back but a backup")
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
            Finding::wrong(format!("{error}{cause}; it lies in {}", folder.display()))
        }
        Err(_) => Finding::wrong("the store could not be looked at"),
    }
}

/// Looks at an owner's own certificate: whether it can be used, for how long, and whether links lead to its name.
async fn certificate(files: TlsFiles, base_url: Option<String>, looks: &Looks) -> Vec<Finding> {
    let look = looks.run(move || {
        let certificates = Certificates::none();
        files.load(&certificates).map(|()| certificates.facts())
    });
    let facts = match look.await {
        Some(Ok(Some(facts))) => facts,
        Some(Err(mistake)) => return vec![Finding::wrong(mistake.to_string())],
        Some(Ok(None)) | None => return vec![Finding::wrong("TLS_CERT: it could not be looked at; is its disk well?")],
    };
    let named = if facts.names.is_empty() { "no host".to_owned() } else { facts.names.join(", ") };
    let now = SystemClock::starting_after(None).now().wall;
    let mut findings = vec![match facts.not_after {
        None => Finding::odd(format!("TLS_CERT: the certificate is for {named}, and until when cannot be read; make it anew")),
        Some(end) if end <= now => {
            Finding::wrong(format!("TLS_CERT: the certificate for {named} ended {}; browsers refuse it, so renew it", time_text(end, now)))
        }
        Some(end) if end <= now.plus(SOON_OVER) => {
            Finding::odd(format!("TLS_CERT: the certificate for {named} ends {}; is it being renewed?", time_text(end, now)))
        }
        Some(end) => Finding::fine(format!("TLS_CERT: the certificate is for {named}, until {}", time_text(end, now))),
    }];
    match base_url.as_deref().map(|url| url.split_once("://").unwrap_or(("", url))) {
        Some(("http", _)) => findings.push(Finding::odd(
            "BASE_URL: it begins with http://, and TLS_CERT is set; links that begin so get no answer unless a proxy is before it",
        )),
        Some((_, rest)) => {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            if !facts.is_for(host) {
                findings.push(Finding::odd(format!(
                    "BASE_URL: links lead to {host}, and the certificate is for {named}; give one of them the other's name"
                )));
            }
        }
        None => {}
    }
    findings
}

async fn disk(folder: &Path) -> Finding {
    let look = folder.to_owned();
    let free = tokio::task::spawn_blocking(move || {
        let folder = std::path::absolute(look).ok()?;
        folder.ancestors().find_map(free_bytes_of)
    });
    match free.await.ok().flatten() {
        None => Finding::odd("the free space of the state folder's disk cannot be known"),
        Some(free) if free < NO_DISK_BYTES => {
            Finding::wrong(format!("the state folder's disk has only {} left; make room, or move STATE_DIR", size_text(free)))
        }
        Some(free) if free < LOW_DISK_BYTES => Finding::odd(format!("the state folder's disk has only {} left", size_text(free))),
        Some(free) => Finding::fine(format!("the state folder's disk has {} left", size_text(free))),
    }
}

/// Looks at the clock: a machine that forgot the time (no battery, no network yet) would end every link at once or never.
fn time() -> Finding {
    let wall = SystemClock::starting_after(None).now().wall;
    if wall < EARLIEST {
        Finding::wrong("the clock of this machine stands before this program was made; set it, or wait for the network to")
    } else {
        Finding::fine("the clock of this machine can be right")
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is nothing of that name".to_owned(),
        io::ErrorKind::NotADirectory => "it is not a folder".to_owned(),
        io::ErrorKind::PermissionDenied => "this account may not".to_owned(),
        io::ErrorKind::AddrInUse => "another program uses it".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(folder: &Path) -> Config {
        let mut settings = Settings::default();
        settings.set("NAS_MOUNT_PATH", folder.join("nas"));
        settings.set("STATE_DIR", folder.join("a/b/state"));
        settings.set("OWNER_LISTEN", "127.0.0.1:0");
        settings.set("RECIPIENT_LISTEN", "127.0.0.1:0");
        settings.set("BASE_URL", "https://files.example.org");
        Config::load(&settings).unwrap()
    }

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[tokio::test]
    async fn a_good_house_is_found_good_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("nas")).unwrap();
        std::fs::write(folder.path().join("nas/film"), "").unwrap();
        let findings = examine(&config(folder.path()), &Server::None).await;
        // How full the disk is, is the machine's own business.
        assert_eq!(verdicts(&findings)[..6], [Verdict::Fine; 6], "{findings:?}");
        assert_eq!((findings.len(), findings[7].verdict), (8, Verdict::Fine));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["nas"]);
    }

    #[test]
    fn what_an_earlier_check_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let names = || -> Vec<_> { std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        let left = format!(".portcullis-check-{}", std::process::id());
        std::fs::write(folder.path().join(&left), "").unwrap();
        assert_eq!(try_to_write(folder.path()).unwrap(), None);
        assert_eq!(names(), [&*left], "and it leaves nothing itself");
    }

    #[tokio::test]
    async fn everything_wrong_is_found_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "a file where a folder should be").unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(folder.path());
        config.owner_listen = taken.local_addr().unwrap();
        config.recipient_listen = "192.0.2.1:8001".parse().unwrap();
        config.base_url = None;
        config.auth = AuthMode::None;
        let findings = examine(&config, &Server::None).await;
        use Verdict::{Fine, Odd, Wrong};
        assert_eq!(verdicts(&findings)[..5], [Wrong, Wrong, Wrong, Wrong, Fine], "{findings:?}");
        assert_eq!(verdicts(&findings)[8..], [Odd, Odd], "{findings:?}");
        assert!(findings[2].to_string().contains("another program uses it"));
        let beside = examine(&config, &Server::Running { version: "1.2.3".to_owned() }).await;
        assert_eq!(verdicts(&beside)[2], Fine);
        let unwell = examine(&config, &Server::Unwell { why: "it sleeps".to_owned() }).await;
        assert!(unwell[4].is_wrong());
    }

    #[tokio::test]
    async fn a_certificate_is_for_the_host_of_the_links_or_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let pair = crate::delivery::Authority::new().pair_for(&["files.example.org"]);
        let files = TlsFiles { cert: folder.path().join("cert"), key: folder.path().join("key") };
        std::fs::write(&files.cert, &pair.chain).unwrap();
        std::fs::write(&files.key, &pair.key).unwrap();
        let looks = Looks::default();
        let look = |base_url: Option<&str>| certificate(files.clone(), base_url.map(str::to_owned), &looks);
        for fine in [None, Some("https://files.example.org"), Some("https://files.example.org:8443/below")] {
            let findings = look(fine).await;
            assert_eq!(verdicts(&findings), [Verdict::Fine], "{findings:?}");
            assert!(findings[0].to_string().contains("for files.example.org, until 28 Feb 2049"), "{findings:?}");
        }
        for odd in ["https://other.example.org", "http://files.example.org"] {
            assert_eq!(verdicts(&look(Some(odd)).await), [Verdict::Fine, Verdict::Odd], "{odd}");
        }
        std::fs::write(&files.key, crate::delivery::Authority::new().pair_for(&["x.example"]).key).unwrap();
        assert!(look(None).await[0].to_string().contains("is another certificate's"));
    }

    #[tokio::test]
    async fn an_empty_root_is_odd() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("nas")).unwrap();
        assert_eq!(root(&folder.path().join("nas")).await.verdict, Verdict::Odd);
    }
}
