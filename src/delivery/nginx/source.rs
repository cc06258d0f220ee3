//! Where nginx's lines come from, a file that is followed or a socket, and what each of them says.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::sync::mpsc;

use super::Nginx;
use super::desk::Finish;
use super::stamp::Stamp;
use crate::meter::access_log;
use crate::meter::log_tail::Batch;
use crate::meter::syslog::{self, Bound, MAX_PATH_BYTES};
use crate::token::LogKey;

/// How many batches of lines may wait to be counted: each has at most a megabyte of the log.
pub(super) const MAX_BATCHES: usize = 4;
/// How the setting begins where it names a socket.
const SYSLOG: &str = "syslog:";

/// Where nginx writes what it has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Into this file.
    File(PathBuf),
    /// To a socket of this path, which is bound here, by syslog.
    Syslog(PathBuf),
}

impl FromStr for AccessLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(SYSLOG) else { return Ok(Self::File(text.into())) };
        if !path.starts_with('/') {
            return Err("behind syslog: it needs the absolute path of a socket, as syslog:/run/portcullis/nginx.sock".to_owned());
        }
        if path.contains(',') {
            return Err("the path of the socket has a comma, where nginx would take it for over; give it another name".to_owned());
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(format!("the path of the socket is longer than {MAX_PATH_BYTES} bytes, and there can be none; use a shorter one"));
        }
        Ok(Self::Syslog(path.into()))
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Syslog(path) => write!(f, "{SYSLOG}{}", path.display()),
        }
    }
}

/// What a line of the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Of a request that we had nginx answer.
    Ours(Named),
    /// Of a request that we answered, or nobody did.
    Unnamed,
    /// It is no line of ours.
    Foreign,
}

/// A line about a request that we had nginx answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    pub(super) name: u64,
    pub(super) finish: Finish,
}

/// Reads a line.
pub(super) fn read(line: &[u8], key: &LogKey) -> Entry {
    match access_log::parse(line) {
        Ok(line) if line.request.is_empty() => Entry::Unnamed,
        Ok(line) => match Stamp::read(line.request, key) {
            Some(stamp) => Entry::Ours(Named { name: stamp.name, finish: Finish::of(&line) }),
            None => Entry::Foreign,
        },
        Err(_) => Entry::Foreign,
    }
}

/// Lines of nginx's that can be read.
pub enum Source {
    /// From a file, once it is known where to begin.
    File(PathBuf),
    /// From a socket: what comes gathers from here on.
    Socket(mpsc::Receiver<Batch<Entry>>, Bound),
}

impl Source {
    /// Gets ready to read. A socket is bound, so that nothing is lost of what comes before it is read.
    ///
    /// # Errors
    /// As [`syslog::listen`].
    pub fn open(log: &AccessLog, nginx: &Nginx) -> io::Result<Self> {
        match log {
            AccessLog::File(path) => Ok(Self::File(path.clone())),
            AccessLog::Syslog(path) => {
                let (sender, batches) = mpsc::channel(MAX_BATCHES);
                let key = nginx.key.clone();
                let bound = syslog::listen(path, move |line: &[u8]| read(line, &key), sender)?;
                Ok(Self::Socket(batches, bound))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_a_file_or_a_socket() {
        for (text, expected) in [
            ("/var/log/nginx/portcullis.log", AccessLog::File("/var/log/nginx/portcullis.log".into())),
            ("log", AccessLog::File("log".into())),
            ("syslog:/run/portcullis/nginx.sock", AccessLog::Syslog("/run/portcullis/nginx.sock".into())),
        ] {
            let log: AccessLog = text.parse().unwrap();
            assert_eq!((&log, log.to_string().as_str()), (&expected, text));
        }
        let long = format!("syslog:/{}", "x".repeat(MAX_PATH_BYTES));
        assert!(long[..long.len() - 1].parse::<AccessLog>().is_ok());
        for (text, word) in [
            ("syslog:", "absolute path"),
            ("syslog:nginx.sock", "absolute path"),
            ("syslog:server=unix:/run/nginx.sock", "absolute path"),
            ("syslog:/run/a,b", "comma"),
            (&long, "longer than 107 bytes"),
        ] {
            assert!(text.parse::<AccessLog>().unwrap_err().contains(word), "{text}");
        }
    }
}
