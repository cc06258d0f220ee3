//! The node's certificate, where we end TLS ourselves: asked of tailscaled, and asked again every day.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::localapi::{CertPair, LocalApi, LocalApiError};

/// How long a certificate must be good for when it is asked for: two days, since it is asked for every day.
const MIN_VALIDITY: Duration = Duration::from_secs(48 * 3600);
/// How often it is asked for. tailscaled answers out of its cache until two thirds of its time are over, and then renews it.
const RENEW_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After what pause, where it could not be had: a certificate authority counts failures.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// The longest pause that tailscaled may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// Takes a certificate into use.
pub type Install = Box<dyn Fn(&CertPair) -> Result<(), String> + Send + Sync>;

/// The certificate of the node's name.
#[derive(Debug)]
pub(super) struct Certificate {
    api: LocalApi,
    /// For which name it is asked or was had.
    name: Option<String>,
    /// Until when the one that was had is good at the least.
    good_until: Option<Instant>,
    trouble: Option<String>,
    asking: JoinSet<(String, Result<CertPair, LocalApiError>)>,
}

impl Certificate {
    pub(super) fn new(api: LocalApi) -> Self {
        Self { api, name: None, good_until: None, trouble: None, asking: JoinSet::new() }
    }

    /// Sees to it that there is a certificate for `name`.
    pub(super) fn want(&mut self, name: Option<&str>) {
        if self.name.as_deref() == name && !self.asking.is_empty() {
            return;
        }
        (self.good_until, self.trouble) = (None, None);
        self.name = name.map(str::to_owned);
        self.asking = JoinSet::new();
        self.ask_after(Duration::ZERO);
    }

    /// Returns whether it is there.
    ///
    /// # Errors
    /// Why it is not, as a sentence.
    pub(super) fn is_there(&self, name: Option<&str>) -> Result<(), String> {
        if self.is_good() && self.name.as_deref() == name {
            return Ok(());
        }
        Err(match &self.trouble {
            Some(trouble) => trouble.clone(),
            None => "the node's certificate is being made; the first one takes up to a minute".to_owned(),
        })
    }

    fn is_good(&self) -> bool {
        self.good_until.is_some_and(|until| Instant::now() < until)
    }

    /// Waits for an answer. May be dropped and called again.
    pub(super) async fn made(&mut self) -> Result<CertPair, LocalApiError> {
        loop {
            match self.asking.join_next().await {
                Some(Ok((name, pair))) if self.name.as_ref() == Some(&name) => return pair,
                // It was given up for another name.
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Takes an answer up; returns whether that makes a difference to who waits.
    pub(super) fn take(&mut self, pair: Result<CertPair, LocalApiError>, install: &Install) -> bool {
        let pause = match &pair {
            Err(LocalApiError::NotYet { wait: Some(wait), .. }) => (*wait).min(MAX_PAUSE),
            Ok(_) | Err(_) => RETRY_EVERY,
        };
        let installed = pair.map_err(|error| error.to_string()).and_then(|pair| install(&pair));
        let was_there = self.is_good();
        match installed {
            Ok(()) => {
                (self.good_until, self.trouble) = (Some(Instant::now() + MIN_VALIDITY), None);
                self.ask_after(RENEW_EVERY);
            }
            Err(error) => {
                tracing::warn!("No certificate for the node: {error}");
                self.trouble = Some(format!("there is no certificate for the node yet: {error}"));
                self.ask_after(pause);
            }
        }
        !was_there
    }

    fn ask_after(&mut self, pause: Duration) {
        let Some(name) = self.name.clone() else { return };
        let (api, at) = (self.api.clone(), Instant::now() + pause);
        self.asking.spawn(async move {
            sleep_until(at).await;
            let pair = api.cert_pair(&name, MIN_VALIDITY).await;
            (name, pair)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> CertPair {
        CertPair { chain: "chain".to_owned(), key: "key".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_for_at_once_again_after_a_failure_and_then_every_day() {
        let api = LocalApi::new("/nowhere/tailscaled.sock");
        let mut certificate = Certificate::new(api);
        certificate.want(Some("nas.ts.net"));
        assert!(certificate.is_there(Some("nas.ts.net")).unwrap_err().contains("being made"));
        let begun = Instant::now();
        let failed = certificate.made().await;
        assert!(begun.elapsed() < RETRY_EVERY / 2);
        let taken: Install = Box::new(|_| Ok(()));
        assert!(certificate.take(failed, &taken), "whoever waits is told why");
        assert!(certificate.is_there(Some("nas.ts.net")).unwrap_err().contains("tailscaled does not listen"));
        let begun = Instant::now();
        assert!(certificate.made().await.is_err());
        assert!(begun.elapsed() >= RETRY_EVERY);
        assert!(certificate.take(Ok(pair()), &taken));
        assert!(certificate.is_there(Some("nas.ts.net")).is_ok() && certificate.is_there(Some("other.ts.net")).is_err());
        let begun = Instant::now();
        let failed = certificate.made().await;
        assert!(begun.elapsed() >= RENEW_EVERY);
        assert!(!certificate.take(failed, &taken), "the one that is in use stays");
        assert!(certificate.is_there(Some("nas.ts.net")).is_ok());
        tokio::time::advance(MIN_VALIDITY - RENEW_EVERY).await;
        assert!(certificate.is_there(Some("nas.ts.net")).is_err(), "and is none when its time may be over");
    }

    #[tokio::test(start_paused = true)]
    async fn another_name_needs_another_certificate_and_one_that_is_of_no_use_is_none() {
        let mut certificate = Certificate::new(LocalApi::new("/nowhere/tailscaled.sock"));
        certificate.want(Some("a.ts.net"));
        let taken: Install = Box::new(|_| Ok(()));
        assert!(certificate.take(Ok(pair()), &taken));
        certificate.want(Some("b.ts.net"));
        assert!(certificate.is_there(Some("b.ts.net")).is_err());
        let refused: Install = Box::new(|_| Err("the key is of another certificate".to_owned()));
        certificate.take(Ok(pair()), &refused);
        assert!(certificate.is_there(Some("b.ts.net")).unwrap_err().contains("the key is of another certificate"));
    }
}
