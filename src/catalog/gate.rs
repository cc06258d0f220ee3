//! Keeps a NAS that hangs from taking the program with it.
//!
//! A system call on a dead NFS mount may never return, and nothing can be done about the thread that made it. So each call
//! runs on a blocking thread that holds one of a few permits until it is really back, and whoever asked waits only so long
//! for both. A dead NAS costs that many threads, and each question a "busy" in bounded time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::CatalogError;

/// Lets so many blocking calls run at once, and so long.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    patience: Duration,
}

impl Gate {
    pub(super) fn new(permits: usize, patience: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), patience }
    }

    /// Runs `call` on a blocking thread.
    ///
    /// # Errors
    /// [`CatalogError::Busy`] where no permit became free or the call did not come back in time. It may still run then.
    pub(super) async fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, CatalogError> {
        let permits = Arc::clone(&self.permits);
        let answer = async move {
            let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            tokio::task::spawn_blocking(move || {
                let _held_until_it_is_back = permit;
                call()
            })
            .await
        };
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(join)) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            // The runtime is shutting down.
            Ok(Err(_)) | Err(_) => Err(CatalogError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_call_that_hangs_keeps_its_permit_and_everybody_else_is_told() {
        let gate = Gate::new(1, Duration::from_millis(30));
        let (release, hangs) = mpsc::channel::<()>();
        assert!(matches!(gate.run(move || hangs.recv()).await, Err(CatalogError::Busy)));
        assert!(matches!(gate.run(|| 1).await, Err(CatalogError::Busy)), "the only permit is still with the call that hangs");
        drop(release);
        // The permit comes back as soon as the call does; waiting for a permit is what `run` does.
        let patient = Gate { permits: Arc::clone(&gate.permits), patience: Duration::from_secs(60) };
        assert_eq!(patient.run(|| 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn calls_run_at_once_up_to_the_bound() {
        let gate = Gate::new(2, Duration::from_secs(60));
        let (to_first, from_second) = mpsc::channel();
        let (first, second) = tokio::join!(gate.run(move || from_second.recv().unwrap()), gate.run(move || to_first.send(7).unwrap()));
        assert_eq!((first.unwrap(), second.unwrap()), (7, ()));
    }
}
