//! Shows an owner's own certificate, and the next one as soon as its files have changed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::config::TlsFiles;
use crate::delivery::Certificates;

/// How often it is looked whether the files changed. They are renewed every few weeks, days before the old one ends; what
/// renews them writes one after the other, and what does not fit together is looked at again then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a file was when it was looked at: size, time and which file it is.
type Trace = Option<(u64, Option<SystemTime>, u64)>;

/// Follows the files of a certificate.
pub(super) struct Follow {
    pub(super) files: TlsFiles,
    pub(super) certificates: Certificates,
}

impl Follow {
    /// Looks now and then until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut seen = self.traces().await;
        let mut complained = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.traces().await;
            if now == seen && !complained {
                continue;
            }
            let (files, certificates) = (self.files.clone(), self.certificates.clone());
            match tokio::task::spawn_blocking(move || files.load(&certificates)).await {
                Ok(Ok(())) => {
                    complained = false;
                    tracing::info!("Read the certificate anew: {}", in_words(&self.certificates));
                }
                // One of the two may not be written yet.
                Ok(Err(mistake)) if now != seen => tracing::debug!("The certificate cannot be read yet: {mistake}"),
                Ok(Err(mistake)) => {
                    if !complained {
                        tracing::warn!("The certificate stays as it was: {mistake}");
                    }
                    complained = true;
                }
                Err(error) => tracing::warn!(%error, "The certificate stays as it was: reading it broke off"),
            }
            seen = now;
        }
    }

    async fn traces(&self) -> [Trace; 2] {
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || [&files.cert, &files.key].map(|path| trace(path))).await.unwrap_or_default()
    }
}

fn trace(path: &Path) -> Trace {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.len(), found.modified().ok(), found.ino()))
}

/// Says for whom a certificate is.
pub(super) fn in_words(certificates: &Certificates) -> String {
    match certificates.facts() {
        Some(facts) if !facts.names.is_empty() => format!("it is for {}", facts.names.join(", ")),
        Some(_) | None => "it names no host".to_owned(),
    }
}
