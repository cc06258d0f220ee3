//! Tries what the settings name, without changing anything that stays.
//!
//! * `tailscale.rs`: the node, where one is used. `nginx.rs`: nginx, where it sends the bytes and no server runs that asks it.

mod nginx;
mod tailscale;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::clock::{Clock, SystemClock};
use crate::config::{AuthMode, Config, DeliveryKind, TlsFiles, TunnelKind};
use crate::delivery::Certificates;
use crate::http::owner::health::{LOW_DISK_BYTES, NO_DISK_BYTES, free_bytes_of};
use crate::http::words::{size_text, time_text};
use crate::share::Timestamp;
use crate::store::sqlite::{Look, look_at};

/// How long the NAS may take for one answer; a mount whose server is gone hangs for minutes.
const NAS_TIMEOUT: Duration = Duration::from_secs(10);

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

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    sentence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It works, and may not be what is meant.
    Odd,
    Wrong,
}

impl Finding {
    /// Something is as it should be.
    pub fn fine(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, sentence: sentence.into() }
    }

    /// Something works, and may not be what is meant.
    pub fn odd(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Odd, sentence: sentence.into() }
    }

    /// Something will not work.
    pub fn wrong(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, sentence: sentence.into() }
    }

    /// Returns whether something will not work.
    pub fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Wrong
    }
}

impl Finding {
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
    let mut findings = vec![
        root(&config.root).await,
        state_folder(&config.state_dir).await,
        port("OWNER_LISTEN", config.owner_listen, server).await,
        match config.delivery {
            DeliveryKind::Embedded => port("RECIPIENT_LISTEN", config.recipient_listen, server).await,
            // The other port is nginx's own.
            DeliveryKind::Nginx => port("NGINX_UPSTREAM", config.nginx.upstream, server).await,
        },
        running(server),
        store(&config.state_dir).await,
        disk(&config.state_dir).await,
        time(),
    ];
    if let Some(files) = &config.tls {
        findings.extend(certificate(files.clone(), config.base_url.clone()).await);
    }
    if config.delivery == DeliveryKind::Nginx && *server == Server::None {
        findings.extend(nginx::alone(config.recipient_listen, &config.nginx).await);
    }
    if config.delivery == DeliveryKind::Nginx {
        findings.extend(nginx::queue(&config.nginx));
    }
    let now = SystemClock::starting_after(None).now().wall;
    findings.extend(tailscale::node(&config.tailscale, config.tunnel, *server != Server::None, now).await);
    if config.base_url.is_none() && config.tunnel == TunnelKind::Direct {
        findings.push(Finding::odd(
            "BASE_URL: it is not set, so links begin with an address of this machine; set it to what recipients can reach, as https://files.example.org",
        ));
    }
    if config.auth == AuthMode::None {
        findings.push(Finding::odd(format!("AUTH: it is none, so whoever reaches {} can share every file", config.owner_listen)));
    }
    findings
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

async fn state_folder(path: &Path) -> Finding {
    let (named, folder) = (format!("STATE_DIR: {}", path.display()), path.to_owned());
    match tokio::task::spawn_blocking(move || try_to_write(&folder)).await {
        Ok(Ok(None)) => Finding::fine(format!("{named} can be written")),
        Ok(Ok(Some(parent))) => Finding::fine(format!("{named} does not exist yet and can be made in {}", parent.display())),
        Ok(Err(error)) => {
            Finding::wrong(format!("{named} cannot be written ({}); make it this account's own, or name another", reason(&error)))
        }
        Err(_) => Finding::wrong(format!("{named} could not be looked at")),
    }
}

/// Writes a file that is gone at once, in the folder, or in the nearest one above it that exists: then that is returned.
fn try_to_write(folder: &Path) -> io::Result<Option<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let probe = nearest.join(format!(".portcullis-check-{}", std::process::id()));
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
async fn certificate(files: TlsFiles, base_url: Option<String>) -> Vec<Finding> {
    let look = tokio::task::spawn_blocking(move || {
        let certificates = Certificates::none();
        files.load(&certificates).map(|()| certificates.facts())
    });
    let facts = match look.await {
        Ok(Ok(Some(facts))) => facts,
        Ok(Err(mistake)) => return vec![Finding::wrong(mistake.to_string())],
        Ok(Ok(None)) | Err(_) => return vec![Finding::wrong("TLS_CERT: it could not be looked at")],
    };
    let named = if facts.names.is_empty() { "no host".to_owned() } else { facts.names.join(", ") };
    let now = SystemClock::starting_after(None).now().wall;
    let mut findings = vec![match facts.not_after {
        None => Finding::odd(format!("TLS_CERT: the certificate is for {named}; until when cannot be read")),
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
                findings.push(Finding::odd(format!("BASE_URL: links lead to {host}, and the certificate is for {named}")));
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
        let look = |base_url: Option<&str>| certificate(files.clone(), base_url.map(str::to_owned));
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
