//! Looks after one request that nginx answers: how far it has got, that it ends when it must, and what came of it.
//!
//! Three tell of it. The kernel, when asked, how much of the connection was acknowledged; nginx's log, that it has handed all or a part
//! to the kernel, and how long its head was; and the kernel again, how much had been acknowledged when it let go of the connection.
//! Only what was acknowledged counts: a line that says "all" is written while the last of it still lies in a buffer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::super::send::{self, MAX_SILENCE, SAMPLE_EVERY};
use super::super::{Elsewhere, Entered, RecipientSide};
use super::Nginx;
use super::desk::{Finish, Place, Told};
use crate::catalog::OpenFile;
use crate::causes::Causes;
use crate::meter::{Request, Sighting};
use crate::share::{ByteRange, Carrier, Evidence};

/// How long the head of nginx's answer is at the most: ours has a name of at most 255 bytes in two spellings and a digest, and nginx adds
/// a few lines. So much is taken off while it is not known; the line says it.
const MAX_HEAD_BYTES: u64 = 4096;
/// How long the line of a request whose connection is over is waited for: nginx writes it before it closes, and a log is read within
/// milliseconds. One that was killed writes none.
const LINE_WAIT: Duration = Duration::from_secs(2);
/// How long a log that is far behind, as after a restart, may take to be read until then.
const CATCH_UP_WAIT: Duration = Duration::from_secs(60);
/// How long the kernel's last word of a connection is waited for once it is gone. It comes within milliseconds, and on a machine of two cores with
/// sixteen thousand ends a second within a fifth of a second; without it a download that is whole is not known to be.
const END_WAIT: Duration = Duration::from_secs(2);
/// How long where it broke off: whoever comes back at once waits a second at the most to be let in again (`Handle::rejoin`).
const BROKEN_END_WAIT: Duration = Duration::from_millis(300);
/// The first and the longest pause between two looks once nginx has handed everything to the kernel.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// How soon a NAS that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a NAS that does not answer is asked whether the file is still what it was.
const PROOF_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that nginx answers.
pub(super) struct Guard {
    pub(super) side: Arc<RecipientSide>,
    pub(super) nginx: Arc<Nginx>,
    pub(super) threads: Arc<Semaphore>,
    pub(super) place: Place,
    pub(super) entered: Entered,
    pub(super) request: Request,
    /// Not where the recipient has everything already.
    pub(super) is_counted: bool,
    pub(super) range: ByteRange,
    pub(super) carrier: Carrier,
    pub(super) file: Arc<OpenFile>,
    /// Whether an earlier process of ours began it, so that nobody saw how it went.
    pub(super) is_taken_over: bool,
    /// Until nginx sends nothing more of it.
    pub(super) elsewhere: Option<Elsewhere>,
}

/// How a connection looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// So many bytes of it were acknowledged, and so many more written.
    Alive { acked: u64, written: u64 },
    /// All that was written was acknowledged, and it is over.
    Drained,
    /// It is no more.
    Gone,
}

/// What ended a wait.
enum Cause {
    Cut,
    Line(Finish),
    /// The connection is over, and nginx says nothing.
    NoLine,
    Changed,
}

/// What of a request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrived {
    /// How much of the body, from its beginning.
    bytes: u64,
    /// How much was sent, as far as is known.
    sent: u64,
    /// Whether that is the whole answer, its head with it.
    is_all: bool,
    evidence: Evidence,
}

impl Guard {
    /// Looks after it until it is over and what came of it is saved.
    pub(super) async fn run(mut self) {
        let mut seen = Progress::default();
        let (cause, told) = self.watch(&mut seen).await;
        let over = match cause {
            Cause::Line(finish) => match self.settle(finish, &mut seen).await {
                Some(arrived) => Some((arrived, Some(finish))),
                None => self.end_now(&mut seen).await,
            },
            Cause::NoLine => Some((self.as_seen(&seen), None)),
            Cause::Cut => self.end_now(&mut seen).await,
            Cause::Changed => {
                self.source_changed().await;
                self.end_now(&mut seen).await
            }
        };
        let Some((arrived, finish)) = over else {
            // It goes on behind a program that stops; the next one finds it again.
            return self.elsewhere.map_or((), Elsewhere::keep);
        };
        self.elsewhere = None;
        let arrived = match finish {
            Some(finish) => self.proven(arrived, finish).await,
            None => Some(arrived),
        };
        let is_saved = self.tell(arrived).await;
        if let Some(told) = told {
            told.tell_saved(is_saved);
        }
    }

    /// Waits for whatever ends it, and tells meanwhile how far it has got.
    async fn watch(&mut self, seen: &mut Progress) -> (Cause, Option<Told>) {
        let cut = self.entered.0.cut.clone();
        let mut looks = interval(SAMPLE_EVERY);
        let (mut over_since, mut last) = (None::<Instant>, (0, Instant::now()));
        loop {
            let deadline = over_since.map(|since: Instant| since + LINE_WAIT);
            tokio::select! {
                biased;
                () = cut.cancelled() => return (Cause::Cut, None),
                told = &mut self.place.line => {
                    // Its sender is dropped only with a line in it.
                    let Ok(told) = told else { return (Cause::NoLine, None) };
                    return (Cause::Line(told.finish), Some(told));
                }
                () = async { if let Some(at) = deadline { sleep_until(at).await } }, if deadline.is_some() => {
                    self.hear_the_end(seen, BROKEN_END_WAIT).await;
                    return (Cause::NoLine, None);
                }
                _ = looks.tick() => {}
            }
            match self.look() {
                Look::Alive { acked, written } => {
                    seen.saw(acked, written);
                    self.sample(seen);
                    if acked != last.0 {
                        last = (acked, Instant::now());
                    } else if !self.is_counted && last.1.elapsed() > MAX_SILENCE {
                        return (Cause::Cut, None);
                    }
                    if self.file.is_local && self.is_file_changed().await {
                        return (Cause::Changed, None);
                    }
                }
                Look::Drained | Look::Gone if over_since.is_none() => {
                    // A log that is far behind is not waited for by the clock of one that is not.
                    let _ = timeout(CATCH_UP_WAIT, self.nginx.caught_up()).await;
                    over_since = Some(Instant::now());
                }
                Look::Drained | Look::Gone => {}
            }
        }
    }

    /// Waits until what nginx handed to the kernel was acknowledged, as long as that goes on, and tells how far it has got: for somebody
    /// slow that takes minutes. `None` where it is cut.
    async fn settle(&mut self, finish: Finish, seen: &mut Progress) -> Option<Arrived> {
        let sent = finish.body_bytes.min(self.range.len());
        let end = self.carrier.begins_at + finish.sent_bytes;
        let (mut pause, mut last, mut told_at) = (LOOKS.0, (0, Instant::now()), Instant::now());
        let (evidence, mut is_gone) = (self.evidence(), false);
        loop {
            let acked = match self.look() {
                Look::Alive { acked, written } => {
                    seen.saw(acked, written);
                    seen.acked
                }
                Look::Drained => return Some(Arrived { bytes: sent, sent, is_all: true, evidence }),
                Look::Gone => {
                    self.hear_the_end(seen, if finish.is_whole { END_WAIT } else { BROKEN_END_WAIT }).await;
                    is_gone = true;
                    if self.is_taken_over && finish.is_whole && !seen.is_end_known {
                        // It was over before anybody looked. nginx says that it sent all.
                        return Some(Arrived { bytes: sent, sent, is_all: true, evidence: Evidence::HandedOver });
                    }
                    seen.acked
                }
            };
            let head = finish.sent_bytes.saturating_sub(finish.body_bytes);
            let bytes = acked.saturating_sub(self.carrier.begins_at + head).min(sent);
            if acked >= end || is_gone {
                return Some(Arrived { bytes, sent, is_all: acked >= end, evidence });
            }
            // Whoever is counted may pause as long as a share may: a stall cuts them. Nobody else does.
            if acked != last.0 {
                last = (acked, Instant::now());
            } else if !self.is_counted && last.1.elapsed() > MAX_SILENCE {
                return None;
            }
            if told_at.elapsed() >= SAMPLE_EVERY {
                told_at = Instant::now();
                self.sample(seen);
            }
            if timeout(pause, self.entered.0.cut.cancelled()).await.is_ok() {
                return None;
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Returns what arrived if nginx answered what it was told to, with the file that was pinned.
    async fn proven(&self, arrived: Arrived, finish: Finish) -> Option<Arrived> {
        let pass = &self.entered.0;
        let identity = pass.file.identity;
        let pinned = (identity.modified_ns.div_euclid(1_000_000_000).cast_unsigned(), identity.size_bytes);
        // However much of another file it was.
        if finish.file.is_some_and(|file| file != pinned) {
            self.source_changed().await;
            return None;
        }
        let is_the_answer = matches!(finish.status, 200 | 206)
            && finish.body_bytes <= self.range.len()
            && (!finish.is_whole || finish.body_bytes == self.range.len());
        // What was sent and cannot be counted was sent all the same: nobody gets the use back for it.
        let uncounted = Arrived { bytes: 0, is_all: false, ..arrived };
        if !is_the_answer {
            tracing::warn!(share.id = %pass.share, status = finish.status, bytes = finish.body_bytes, "nginx did not answer a request as it was told to; nothing of it counts");
            return matches!(finish.status, 200 | 206).then_some(uncounted);
        }
        match self.is_the_pinned_file().await {
            Some(true) => Some(arrived),
            Some(false) => {
                self.source_changed().await;
                None
            }
            None => Some(uncounted),
        }
    }

    /// Returns whether the path still leads to the file that was pinned; `None` where nobody can say.
    async fn is_the_pinned_file(&self) -> Option<bool> {
        let pass = &self.entered.0;
        let ask = async {
            loop {
                match self.side.open_pinned(pass).await {
                    Ok(file) => return file.is_some(),
                    Err(error) => tracing::debug!(share.id = %pass.share, error = %Causes(&error), "Could not look at a shared file"),
                }
                sleep(AGAIN).await;
            }
        };
        let answer = timeout(PROOF_TIMEOUT, ask).await;
        if answer.is_err() {
            tracing::warn!(share.id = %pass.share, "Could not see whether a shared file is still what it was; what was sent of it does not count");
        }
        answer.ok()
    }

    async fn is_file_changed(&self) -> bool {
        let pass = &self.entered.0;
        send::identity(&self.file, pass, &self.threads).await.is_ok_and(|identity| identity != pass.file.identity)
    }

    async fn source_changed(&self) {
        self.side.reports.source_changed(self.entered.0.share).await;
    }

    /// Ends the connection, and returns what had arrived, without a line. `None` where it cannot be ended, and the program stops.
    async fn end_now(&mut self, seen: &mut Progress) -> Option<(Arrived, Option<Finish>)> {
        let pass = &self.entered.0;
        tracing::debug!(transfer.id = %pass.transfer, "Ending a connection of nginx's");
        let saw = |sighting: &Sighting| seen.saw(sighting.bytes_acked, sighting.written());
        if !self.nginx.connections.end(pass.share, &self.carrier, saw).await {
            return None;
        }
        self.elsewhere = None;
        self.hear_the_end(seen, BROKEN_END_WAIT).await;
        Some((self.as_seen(seen), None))
    }

    /// Waits so long at the most for the kernel's last word of a connection that is gone.
    async fn hear_the_end(&self, seen: &mut Progress, most: Duration) {
        let heard = async {
            loop {
                if let Some(acked) = self.place.acked_at_end.get() {
                    return *acked;
                }
                sleep(LOOKS.0).await;
            }
        };
        if let Ok(acked) = timeout(most, heard).await {
            seen.saw(acked, acked);
            seen.is_end_known = true;
        }
    }

    /// Returns what is known without a line: how long the head was is not.
    fn as_seen(&self, seen: &Progress) -> Arrived {
        // That all of it was sent is known by a line alone, and so is that it was of the file that is shared: until then nothing is complete.
        let most = self.range.len().saturating_sub(1);
        let begins_at = self.carrier.begins_at;
        let bytes = seen.acked.saturating_sub(begins_at + MAX_HEAD_BYTES).min(most);
        let sent = seen.written.saturating_sub(begins_at).min(most).max(bytes);
        Arrived { bytes, sent, is_all: false, evidence: self.evidence() }
    }

    fn sample(&self, seen: &Progress) {
        let bytes = self.as_seen(seen).bytes;
        if self.is_counted && bytes > 0 {
            self.side.reports.arrived(self.request, ByteRange::new(self.range.start, self.range.start + bytes), self.evidence());
        }
    }

    /// Tells the end, and comes back when it is saved, or never will be: it says which.
    async fn tell(self, arrived: Option<Arrived>) -> bool {
        self.tell_end(arrived).await;
        let Self { side, request, entered, place, .. } = self;
        // A share that is closing waits for its requests, and with its closing this is saved.
        drop(entered);
        let is_saved = side.reports.saved(request.share).await;
        place.leave(is_saved);
        is_saved
    }

    async fn tell_end(&self, arrived: Option<Arrived>) {
        if !self.is_counted {
            return self.side.reports.ended(self.request, None, self.evidence(), None).await;
        }
        let nothing = Arrived { bytes: 0, sent: 0, is_all: false, evidence: Evidence::HandedOver };
        let Arrived { bytes, sent, is_all, evidence } = arrived.unwrap_or(nothing);
        let to = self.range.start + bytes;
        let in_doubt = Some(ByteRange::new(to, self.range.start + sent)).filter(|range| !range.is_empty());
        // An empty file arrived when its head did.
        let has_arrived = bytes > 0 || self.range.is_empty() && is_all;
        let range = has_arrived.then(|| ByteRange::new(self.range.start, to));
        self.side.reports.ended(self.request, range, evidence, in_doubt).await;
    }

    fn evidence(&self) -> Evidence {
        if self.carrier.is_proxied { Evidence::HandedOver } else { Evidence::Acknowledged }
    }

    fn look(&self) -> Look {
        match self.nginx.connections.sight(&self.carrier) {
            Ok(Some(sighting)) if sighting.state.has_its_fin_acknowledged() => Look::Drained,
            Ok(Some(sighting)) => Look::Alive { acked: sighting.bytes_acked, written: sighting.written() },
            Ok(None) => Look::Gone,
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "Could not look at a connection of nginx's");
                // Nothing new is known of it; above all not that it is over.
                Look::Alive { acked: 0, written: 0 }
            }
        }
    }
}

/// The most that was seen of a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    acked: u64,
    written: u64,
    /// Whether the kernel said how much it was at the end.
    is_end_known: bool,
}

impl Progress {
    fn saw(&mut self, acked: u64, written: u64) {
        (self.acked, self.written) = (self.acked.max(acked), self.written.max(written));
    }
}
