//! The files of an owner's own certificate.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Mistake;
use super::source::Source;
use crate::delivery::Certificates;

/// The longest file that is read: a chain of ten certificates takes 20 KiB.
const MAX_PEM_BYTES: u64 = 256 * 1024;

/// Where an owner's own certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that vouch for it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both files and shows what they hold from now on. Blocks.
    ///
    /// # Errors
    /// What is wrong with which of them. What was shown before stays in use.
    pub fn load(&self, certificates: &Certificates) -> Result<(), Mistake> {
        let (cert, key) = (read("TLS_CERT", &self.cert)?, read("TLS_KEY", &self.key)?);
        certificates.set(&cert, &key).map_err(|bad| {
            let (name, path) = if bad.is_of_key() { ("TLS_KEY", &self.key) } else { ("TLS_CERT", &self.cert) };
            Mistake::new(name, format!("{path:?} cannot be used: {bad}"))
        })
    }
}

fn read(name: &'static str, path: &Path) -> Result<String, Mistake> {
    let wrong = |why: String| Mistake::new(name, format!("the file {path:?} cannot be read ({why})"));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_PEM_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MAX_PEM_BYTES { Err(wrong(format!("it is longer than {MAX_PEM_BYTES} bytes"))) } else { Ok(text) }
}

impl Source<'_> {
    /// Reads which files there are, and proves that they hold a certificate and its key.
    pub(super) fn tls_files(&mut self) -> Option<TlsFiles> {
        let [cert, key] = ["TLS_CERT", "TLS_KEY"].map(|name| self.raw(name).map(|(path, _)| PathBuf::from(path)));
        let files = match (cert, key) {
            (Some(cert), Some(key)) => TlsFiles { cert, key },
            (None, None) => return None,
            (Some(_), None) => {
                self.mistake("TLS_KEY", "it is not set, and TLS_CERT is; a certificate needs its key, so set both or neither".to_owned());
                return None;
            }
            (None, Some(_)) => {
                self.mistake("TLS_CERT", "it is not set, and TLS_KEY is; a key needs its certificate, so set both or neither".to_owned());
                return None;
            }
        };
        if let Err(mistake) = files.load(&Certificates::none()) {
            let name = if mistake.name == "TLS_KEY" { "TLS_KEY" } else { "TLS_CERT" };
            self.mistake(name, mistake.sentence);
        }
        Some(files)
    }
}
