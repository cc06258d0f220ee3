//! Shows an owner's own certificate, and the next one as soon as its files have changed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::config::TlsFiles;
use crate::delivery::Certificates;

/// How often it is looked whether the files changed. They are renewed every few weeks, days before the old one ends; what
/// renews them writes one after the other, and what does not fit together is looked at again then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a file was when it was looked at: size, time and which file it is.
type Trace = Option<(u64, Option<SystemTime>, u64)>;

/// What is known of files that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// They can be.
    None,
    /// They could not be when they were last read; once more may help.
    Once,
    /// The log has it.
    Told,
}

/// Follows the files of a certificate.
pub(super) struct Follow {
    pub(super) files: TlsFiles,
    pub(super) certificates: Certificates,
}

impl Follow {
    /// Looks now and then until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let (mut seen, mut doubt) = (self.traces().await, Doubt::None);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.traces().await;
            if now != seen || doubt == Doubt::Once {
                doubt = self.take(doubt).await;
            }
            seen = now;
        }
    }

    /// Reads the files. A pair that does not fit is told of when it still does not a while later: it may be half written.
    async fn take(&self, doubt: Doubt) -> Doubt {
        let (files, certificates) = (self.files.clone(), self.certificates.clone());
        match tokio::task::spawn_blocking(move || files.load(&certificates)).await {
            Ok(Ok(())) => {
                tracing::info!("Read the certificate anew: {}", in_words(&self.certificates));
                Doubt::None
            }
            Ok(Err(_)) if doubt == Doubt::None => Doubt::Once,
            Ok(Err(mistake)) => {
                tracing::warn!("The certificate stays as it was: {mistake}");
                Doubt::Told
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "The certificate stays as it was: reading it broke off");
                Doubt::Told
            }
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
