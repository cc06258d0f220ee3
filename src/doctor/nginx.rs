//! Looks at nginx where no server runs that could see how it stands: whether it listens, with a configuration of ours, and whether
//! what it writes can be read here.
//!
//! An address of nginx's own is asked for, which it meets with silence, and its line must be in the log: so it is our configuration
//! and this log, and nothing behind nginx hears of it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Finding, reason};
use crate::config::Nginx;
use crate::delivery::nginx::AccessLog;
use crate::delivery::nginx::site::reached_at;
use crate::meter::log_tail::MAX_LINE_BYTES;
use crate::meter::{access_log, syslog};

/// How long nginx may take to say nothing; it needs a millisecond.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// What it is asked for, which it answers to nobody.
const ASKED: &[u8] = b"GET /_portcullis/ HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\r\n";
/// How often, and how far between, the log is looked at for the line; it is there within milliseconds.
const LOOKS: (usize, Duration) = (40, Duration::from_millis(50));
/// How often nginx is asked for a line that comes to a socket, and how long it is waited for each time.
const MAX_ASKED_FOR_A_LINE: usize = 4;
const LINE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of the log is read at each look: what a busy nginx writes meanwhile.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

/// Looks at nginx and at its log.
pub(super) async fn alone(listen: SocketAddr, nginx: &Nginx) -> Vec<Finding> {
    match &nginx.access_log {
        AccessLog::File(log) => with_file(listen, log).await,
        AccessLog::Syslog(path) => with_socket(listen, path).await,
    }
}

/// Says whether the kernel keeps enough lines for whoever listens on a socket.
pub(super) fn queue(nginx: &Nginx) -> Option<Finding> {
    match (&nginx.access_log, syslog::most_waiting()) {
        (AccessLog::Syslog(_), Some(most)) if most < syslog::MANY_WAITING => Some(Finding::odd(format!(
            "NGINX_ACCESS_LOG: the kernel keeps no more than {most} lines until they are read, and what comes beyond is lost; set net.unix.max_dgram_qlen to {} (sysctl), and start portcullis anew",
            syslog::MANY_WAITING
        ))),
        _ => None,
    }
}

/// Returns from where nginx was asked, which kept silent.
async fn listener(listen: SocketAddr) -> Result<SocketAddr, Finding> {
    let wrong = |why: String| Err(Finding::wrong(format!("RECIPIENT_LISTEN: {why}")));
    match timeout(SILENCE_TIMEOUT, met_with_silence(reached_at(listen))).await {
        Ok(Ok(Some(own))) => Ok(own),
        Ok(Ok(None)) => wrong(format!(
            "what listens on {listen} is no nginx with what `portcullis nginx-config` prints; put that there, or name another port"
        )),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            wrong(format!("nobody listens on {listen}; start nginx with what `portcullis nginx-config` prints"))
        }
        Ok(Err(error)) => wrong(format!("{listen} cannot be reached ({}); nginx should listen there", reason(&error))),
        Err(_) => wrong(format!("what listens on {listen} says nothing and stays; is it nginx, and does it run?")),
    }
}

fn silent(listen: SocketAddr) -> Finding {
    Finding::fine(format!("RECIPIENT_LISTEN: nginx keeps silent on {listen}, as it should where it is not portcullis who leads there"))
}

fn without_line(log: &AccessLog) -> Finding {
    Finding::wrong(format!(
        "NGINX_ACCESS_LOG: nginx wrote no line of ours into {log}; print its configuration anew with `portcullis nginx-config` and reload it, and let it share this network namespace",
    ))
}

async fn with_file(listen: SocketAddr, log: &Path) -> Vec<Finding> {
    let end = length(log).await;
    let own = match listener(listen).await {
        Ok(own) => own,
        Err(finding) => return vec![finding, of_log(log, end.map(drop))],
    };
    let found = match end {
        Ok(end) => its_line(log, end, own).await,
        // It is made when nginx starts, and was looked for before nginx was asked.
        Err(error) => Err(error),
    };
    let finding = match found {
        Ok(true) => Finding::fine(format!("NGINX_ACCESS_LOG: what nginx writes is read from {}", log.display())),
        Ok(false) => without_line(&AccessLog::File(log.to_owned())),
        Err(error) => of_log(log, Err(error)),
    };
    vec![silent(listen), finding]
}

/// Listens itself on the socket, since no server does.
async fn with_socket(listen: SocketAddr, path: &Path) -> Vec<Finding> {
    let named = format!("NGINX_ACCESS_LOG: {}", path.display());
    let at = path.to_owned();
    let bound = spawn_blocking(move || syslog::bind(&at)).await.map_err(io::Error::other).flatten();
    let bound = bound.and_then(|(socket, bound)| {
        socket.set_nonblocking(true)?;
        Ok((UnixDatagram::from_std(socket)?, bound))
    });
    let (socket, _bound) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            let why = format!("{named} cannot be listened on ({}); this account must be able to make a socket there", reason(&error));
            return vec![listener(listen).await.map_or_else(|finding| finding, |_| silent(listen)), Finding::wrong(why)];
        }
    };
    // The first line of each of nginx's workers may go to a socket that stood there before.
    for _ in 0..MAX_ASKED_FOR_A_LINE {
        let own = match listener(listen).await {
            Ok(own) => own,
            Err(finding) => return vec![finding, Finding::fine(format!("{named} can be listened on"))],
        };
        if timeout(LINE_TIMEOUT, its_datagram(&socket, own)).await.is_ok() {
            return vec![silent(listen), Finding::fine(format!("NGINX_ACCESS_LOG: what nginx writes comes to {}", path.display()))];
        }
    }
    vec![silent(listen), without_line(&AccessLog::Syslog(path.to_owned()))]
}

/// Comes back when the line of a connection has come.
async fn its_datagram(socket: &UnixDatagram, own: SocketAddr) {
    let mut buffer = vec![0; MAX_LINE_BYTES];
    loop {
        // What cannot be read is no line.
        let Ok(length) = socket.recv(&mut buffer).await else { return std::future::pending().await };
        let line = syslog::line_in(&buffer[..length]).and_then(|line| access_log::parse(line).ok());
        if line.is_some_and(|line| line.peer == own) {
            return;
        }
    }
}

fn of_log(log: &Path, opened: io::Result<()>) -> Finding {
    let named = format!("NGINX_ACCESS_LOG: {}", log.display());
    match opened {
        Ok(()) => Finding::fine(format!("{named} can be read")),
        Err(error) => Finding::wrong(format!(
            "{named} cannot be read ({}); nginx makes it when it starts, and this account must be able to read it",
            reason(&error)
        )),
    }
}

async fn length(log: &Path) -> io::Result<u64> {
    let log = log.to_owned();
    spawn_blocking(move || Ok(File::open(log)?.metadata()?.len())).await.map_err(io::Error::other)?
}

/// Asks for what nobody is answered. Returns from where, once the connection ends without a byte; `None` where one comes.
async fn met_with_silence(nginx: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let mut stream = TcpStream::connect(nginx).await?;
    let own = stream.local_addr()?;
    stream.write_all(ASKED).await?;
    match stream.read(&mut [0]).await {
        Ok(0) => Ok(Some(own)),
        Ok(_) => Ok(None),
        // It ends such a connection by a reset.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(own)),
        Err(error) => Err(error),
    }
}

/// Returns whether the line of a connection comes behind `end`.
async fn its_line(log: &Path, end: u64, own: SocketAddr) -> io::Result<bool> {
    for _ in 0..LOOKS.0 {
        let log = log.to_owned();
        if spawn_blocking(move || has_line(&log, end, own)).await.map_err(io::Error::other)?? {
            return Ok(true);
        }
        sleep(LOOKS.1).await;
    }
    Ok(false)
}

fn has_line(log: &Path, end: u64, own: SocketAddr) -> io::Result<bool> {
    let mut file = File::open(log)?;
    // It may have been turned meanwhile.
    let end = if file.metadata()?.len() < end { 0 } else { end };
    file.seek(SeekFrom::Start(end))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| access_log::parse(line).ok()).any(|line| line.peer == own))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::path::PathBuf;

    use super::*;

    /// Stands where nginx should, and does with one connection what it is told.
    fn instead(does: impl FnOnce(std::net::TcpStream, SocketAddr) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.read_exact(&mut [0; ASKED.len()]).unwrap();
            does(stream, peer);
        });
        address
    }

    async fn said(listen: SocketAddr, log: PathBuf) -> Vec<String> {
        let nginx = Nginx { upstream: "127.0.0.1:1".parse().unwrap(), access_log: AccessLog::File(log) };
        alone(listen, &nginx).await.iter().map(|finding| finding.line(false)).collect()
    }

    fn line_of(peer: SocketAddr) -> String {
        let ends = format!("\"peer\":\"{} {}\",\"local\":\"127.0.0.1 80\"", peer.ip(), peer.port());
        format!(
            "{{\"v\":1,\"t\":\"1.000\",\"req\":\"\",\"st\":\"444\",\"body\":\"0\",\"sent\":\"0\",\"ok\":\"\",\"etag\":\"\",{ends},\"conn\":\"1 1\"}}\n"
        )
    }

    #[tokio::test]
    async fn an_nginx_of_ours_keeps_silent_and_writes_it_down() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "an older line\n").unwrap();
        let into = log.clone();
        let ours = instead(move |_, peer| {
            let mut file = std::fs::OpenOptions::new().append(true).open(into).unwrap();
            write!(file, "garbage\n{}", line_of(peer)).unwrap();
        });
        let findings = said(ours, log.clone()).await;
        assert!(findings[0].starts_with("ok") && findings[1].starts_with("ok") && findings[1].contains("is read from"), "{findings:?}");
        // Another's line is not its line.
        let into = log.clone();
        let other = instead(move |_, peer| {
            std::fs::OpenOptions::new()
                .append(true)
                .open(into)
                .unwrap()
                .write_all(line_of(SocketAddr::new(peer.ip(), 1)).as_bytes())
                .unwrap();
        });
        let findings = said(other, log.clone()).await;
        assert!(findings[0].starts_with("ok") && findings[1].contains("wrote no line of ours"), "{findings:?}");
        let findings = said(instead(|_, _| ()), folder.path().join("none")).await;
        assert!(findings[0].starts_with("ok") && findings[1].contains("cannot be read (there is nothing of that name)"), "{findings:?}");
    }

    #[tokio::test]
    async fn another_server_or_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "").unwrap();
        let talkative = instead(|mut stream, _| stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap());
        let findings = said(talkative, log.clone()).await;
        assert!(findings[0].starts_with("WRONG  RECIPIENT_LISTEN: what listens on") && findings[1].contains("can be read"), "{findings:?}");
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let findings = said(nobody, log.with_file_name("none")).await;
        assert!(findings[0].contains("nobody listens") && findings[1].starts_with("WRONG  NGINX_ACCESS_LOG"), "{findings:?}");
    }
}
