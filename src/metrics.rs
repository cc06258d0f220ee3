//! What the program counts, for those who watch over it (Prometheus).
//!
//! Whoever lets something happen counts it here; what only stands at the moment (open shares, free space) is looked at
//! when somebody asks, and handed over as a [`Snapshot`]. Every label has a few values that are known beforehand: nothing
//! is labelled by share, path, token or address, so the page stays small and tells nothing about anybody.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::share::{Evidence, Fact, Outcome, Reach, Refused, State, Timestamp, TransferEnd};

/// Where ways in open and close: a local door takes microseconds, a tunnel seconds, and after 30 s we give up.
const TUNNEL_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// What a write that is on disk takes: a quarter of a millisecond on a good SSD, a second on a disk that wakes up.
const WRITE_BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

const EVIDENCE: [(Evidence, &str); 3] =
    [(Evidence::HandedOver, "handed_over"), (Evidence::Acknowledged, "acknowledged"), (Evidence::Confirmed, "confirmed")];
const STATES: [State; 7] =
    [State::Scheduled, State::Opening, State::Offered, State::Transferring, State::Waiting, State::Delivered, State::Closing];
const OUTCOMES: [Outcome; 7] =
    [Outcome::Completed, Outcome::Expired, Outcome::TimedOut, Outcome::Stalled, Outcome::Revoked, Outcome::SourceChanged, Outcome::Failed];
const ENDS: [TransferEnd; 5] =
    [TransferEnd::Completed, TransferEnd::Stalled, TransferEnd::NeverBegan, TransferEnd::Stopped, TransferEnd::Cut];
const REASONS: [&str; 11] =
    ["not_started", "not_open", "expired", "running", "spent", "crowded", "not_allowed", "closed", "replaced", "unavailable", "other"];
const REACHES: [&str; 3] = ["yes", "no", "not_probed"];
const LOG_LINES: [&str; 2] = ["ours", "foreign"];
const LOG_MISHAPS: [&str; 3] = ["oversized_line", "truncation", "lost_file"];
const CHECKS: [&str; 6] = ["store", "files", "index", "tunnel", "disk", "log"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type Label = [(&'static str, &'static str); 1];
type Float = Gauge<f64, AtomicU64>;

/// Everything that is counted. Cheap to clone; the clones count together.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Locked while a snapshot is put down and read out, so that an answer is of one instant.
    registry: Mutex<Registry>,
    made: Counter,
    closed: Family<Label, Counter>,
    redeemed: Counter,
    refused: Family<Label, Counter>,
    ended: Family<Label, Counter>,
    delivered: Family<Label, Counter>,
    events: Counter,
    opening: Histogram,
    closing: Histogram,
    tunnel_failures: Family<Label, Counter>,
    probes: Family<Label, Counter>,
    still_open: Counter,
    writes: Histogram,
    write_failures: Counter,
    owner_requests: Family<Label, Counter>,
    connections: Gauge,
    forgotten: Family<Label, Counter>,
    shares: Family<Label, Gauge>,
    active_transfers: Gauge,
    open_requests: Gauge,
    checks: Family<Label, Gauge>,
    streams: Gauge,
    store_bytes: Float,
    store_events: Float,
    store_shares: Float,
    indexed_files: Gauge,
    free_bytes: Float,
    log_lines: Family<Label, Counter>,
    log_bytes: Counter,
    log_mishaps: Family<Label, Counter>,
    log_lag_bytes: Gauge,
    started: Float,
}

/// What stands at the moment, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The states of the shares that live.
    pub shares: Vec<State>,
    /// How many transfers live.
    pub active_transfers: u64,
    /// How many requests for bytes run.
    pub open_requests: u64,
    /// How the checks of health stand, each by its name: 0 it works, 1 somebody should look, 2 it does not work.
    pub checks: Vec<(&'static str, u8)>,
    /// How many pages and scripts watch.
    pub event_streams: u64,
    /// How much the store holds: bytes on disk, lines of the event log, shares.
    pub store: Option<(u64, u64, u64)>,
    /// How many files the index knows.
    pub indexed_files: u64,
    /// How much the disk of the state folder has left, in bytes.
    pub free_bytes: Option<u64>,
}

/// What was counted in nginx's access log since it is followed, over restarts: counters that go on where they stood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NginxLog {
    /// How many lines were ours.
    pub lines: u64,
    /// How many were not.
    pub foreign: u64,
    /// How many bytes of bodies our lines tell of.
    pub bytes: u64,
    /// How many lines were dropped since they were too long.
    pub oversized_lines: u64,
    /// How often the log was truncated.
    pub truncations: u64,
    /// How often a file of it was gone before it was read.
    pub lost_files: u64,
}

/// How the numbers are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0, which Prometheus asks for by name.
    OpenMetrics,
    /// The older text format, which everything reads.
    Text,
}

impl Exposition {
    /// Returns what an `Accept` field asks for.
    pub fn wanted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Begins to count; `version` is this program's, `started` when it began.
    pub fn new(version: &'static str, started: Timestamp) -> Self {
        let inner = Inner {
            registry: Mutex::default(),
            made: Counter::default(),
            closed: known("outcome", OUTCOMES.map(Outcome::as_str)),
            redeemed: Counter::default(),
            refused: known("reason", REASONS),
            ended: known("end", ENDS.map(word_of_end)),
            delivered: known("evidence", EVIDENCE.map(|(_, word)| word)),
            events: Counter::default(),
            opening: Histogram::new(TUNNEL_BUCKETS),
            closing: Histogram::new(TUNNEL_BUCKETS),
            tunnel_failures: known("action", ["open", "close"]),
            probes: known("result", REACHES),
            still_open: Counter::default(),
            writes: Histogram::new(WRITE_BUCKETS),
            write_failures: Counter::default(),
            owner_requests: known("class", CLASSES),
            connections: Gauge::default(),
            forgotten: known("kind", ["events", "shares", "audit_lines"]),
            shares: known("state", STATES.map(State::as_str)),
            active_transfers: Gauge::default(),
            open_requests: Gauge::default(),
            checks: known("check", CHECKS),
            streams: Gauge::default(),
            store_bytes: Gauge::default(),
            store_events: Gauge::default(),
            store_shares: Gauge::default(),
            indexed_files: Gauge::default(),
            free_bytes: Gauge::default(),
            log_lines: known("kind", LOG_LINES),
            log_bytes: Counter::default(),
            log_mishaps: known("kind", LOG_MISHAPS),
            log_lag_bytes: Gauge::default(),
            started: Gauge::default(),
        };
        inner.started.set(started.0 as f64 / 1000.0);
        let registry = registry(&inner, version);
        *inner.registry.lock().expect("nobody else has it yet") = registry;
        Self(Arc::new(inner))
    }

    /// Counts what was saved to the event log.
    pub fn happened(&self, fact: &Fact) {
        let inner = &self.0;
        inner.events.inc();
        match fact {
            Fact::Created => drop(inner.made.inc()),
            Fact::Redeemed { .. } => drop(inner.redeemed.inc()),
            Fact::Ended { end, .. } => drop(of(&inner.ended, "end", word_of_end(*end)).inc()),
            Fact::Closed { outcome } => drop(of(&inner.closed, "outcome", outcome.as_str()).inc()),
            Fact::Opened
            | Fact::TunnelLost
            | Fact::Probed { .. }
            | Fact::Extended { .. }
            | Fact::Reopened
            | Fact::Undone
            | Fact::Delivered
            | Fact::Closing { .. }
            | Fact::Began { .. } => {}
        }
    }

    /// Counts bytes that a recipient has and had not before.
    pub fn arrived(&self, evidence: Evidence, bytes: u64) {
        let word = EVIDENCE.iter().find(|(known, _)| *known == evidence).map_or("", |(_, word)| word);
        of(&self.0.delivered, "evidence", word).inc_by(bytes);
    }

    /// Counts a link that could not be exercised.
    pub fn redeem_refused(&self, why: &Refused) {
        of(&self.0.refused, "reason", word_of_refusal(why)).inc();
    }

    /// Counts a link that could not be exercised because we could not decide or save it.
    pub fn redeem_failed(&self) {
        of(&self.0.refused, "reason", "unavailable").inc();
    }

    /// Counts a try to open a way in.
    pub fn tunnel_opened(&self, took: Duration, is_open: bool) {
        self.0.opening.observe(took.as_secs_f64());
        if !is_open {
            of(&self.0.tunnel_failures, "action", "open").inc();
        }
    }

    /// Counts a try to close a way in.
    pub fn tunnel_closed(&self, took: Duration, is_closed: bool) {
        self.0.closing.observe(took.as_secs_f64());
        if !is_closed {
            of(&self.0.tunnel_failures, "action", "close").inc();
        }
    }

    /// Counts a look at a share from outside, and those that were not taken.
    pub fn probed(&self, reach: Reach) {
        of(&self.0.probes, "result", reach.as_str()).inc();
    }

    /// Counts a door that answered from outside, and its share was closed.
    pub fn door_still_answers(&self) {
        self.0.still_open.inc();
    }

    /// Counts a write of the store, from the wish to the answer that it is on disk.
    pub fn saved(&self, took: Duration, is_saved: bool) {
        self.0.writes.observe(took.as_secs_f64());
        if !is_saved {
            self.0.write_failures.inc();
        }
    }

    /// Counts an answer of the owner's side.
    pub fn owner_answered(&self, status: u16) {
        let class = CLASSES[usize::from(status / 100).clamp(1, CLASSES.len()) - 1];
        of(&self.0.owner_requests, "class", class).inc();
    }

    /// Counts a connection of a recipient until what is returned is dropped.
    pub fn connected(&self) -> Connected {
        self.0.connections.inc();
        Connected(self.0.connections.clone())
    }

    /// Counts what was forgotten because its time was over.
    pub fn forgotten(&self, events: u64, shares: u64, audit_lines: u64) {
        for (kind, count) in [("events", events), ("shares", shares), ("audit_lines", audit_lines)] {
            of(&self.0.forgotten, "kind", kind).inc_by(count);
        }
    }

    /// Tells what was counted in nginx's access log in all, and how many bytes of it are still to be read.
    pub fn log_followed(&self, counted: NginxLog, lag_bytes: u64) {
        let NginxLog { lines, foreign, bytes, oversized_lines, truncations, lost_files } = counted;
        for (kind, count) in LOG_LINES.into_iter().zip([lines, foreign]) {
            set(&of(&self.0.log_lines, "kind", kind), count);
        }
        for (kind, count) in LOG_MISHAPS.into_iter().zip([oversized_lines, truncations, lost_files]) {
            set(&of(&self.0.log_mishaps, "kind", kind), count);
        }
        set(&self.0.log_bytes, bytes);
        self.0.log_lag_bytes.set(i64::try_from(lag_bytes).unwrap_or(i64::MAX));
    }

    /// Writes everything down, with what stands at the moment.
    pub fn write_down(&self, now: &Snapshot, exposition: Exposition) -> String {
        let inner = &self.0;
        let registry = inner.registry.lock().expect("nobody panics while writing the numbers down");
        for state in STATES {
            let count = now.shares.iter().filter(|share| **share == state).count();
            of(&inner.shares, "state", state.as_str()).set(count as i64);
        }
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        inner.active_transfers.set(whole(now.active_transfers));
        inner.open_requests.set(whole(now.open_requests));
        for &(check, stands) in &now.checks {
            of(&inner.checks, "check", check).set(i64::from(stands));
        }
        inner.streams.set(whole(now.event_streams));
        inner.indexed_files.set(whole(now.indexed_files));
        // Not a number: it is not known at the moment.
        let known = |number: Option<u64>| number.map_or(f64::NAN, |number| number as f64);
        inner.store_bytes.set(known(now.store.map(|(bytes, ..)| bytes)));
        inner.store_events.set(known(now.store.map(|(_, events, _)| events)));
        inner.store_shares.set(known(now.store.map(|(.., shares)| shares)));
        inner.free_bytes.set(known(now.free_bytes));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Text => as_text(&text),
        }
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes a family that shows each of its values from the start: a rate can be taken of what was 0, not of what was not there.
fn known<M: Clone + Default, const N: usize>(label: &'static str, values: [&'static str; N]) -> Family<Label, M> {
    let family = Family::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

fn of<M: Clone + Default>(family: &Family<Label, M>, label: &'static str, value: &'static str) -> M {
    family.get_or_create(&[(label, value)]).clone()
}

/// Lets a counter go on where it stood when the program ran last: whoever tells it keeps the count.
fn set(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn word_of_end(end: TransferEnd) -> &'static str {
    match end {
        TransferEnd::Completed => "completed",
        TransferEnd::Stalled => "stalled",
        TransferEnd::NeverBegan => "never_began",
        TransferEnd::Stopped => "stopped",
        TransferEnd::Cut => "cut",
    }
}

fn word_of_refusal(why: &Refused) -> &'static str {
    match why {
        Refused::NotStarted => "not_started",
        Refused::NotOpen => "not_open",
        Refused::Expired => "expired",
        Refused::Running { .. } => "running",
        Refused::Spent => "spent",
        Refused::Closed(_) => "closed",
        Refused::Replaced => "replaced",
        Refused::Crowded => "crowded",
        Refused::NotAllowed => "not_allowed",
        // What a redeem is never refused for.
        Refused::UnknownTransfer
        | Refused::TransferOver(_)
        | Refused::TooManyRequests
        | Refused::NotClosed
        | Refused::UndoTooLate
        | Refused::UndoAfterBytes
        | Refused::SelfTest => "other",
    }
}

/// Gives each number its name and its sentence. The encoder ends the sentence and the names of counters (`_total`).
fn registry(inner: &Inner, version: &'static str) -> Registry {
    let mut all = Registry::default();
    all.register_with_unit(
        "process_start_time",
        "When this process began, in seconds after 1970-01-01 UTC",
        Unit::Seconds,
        inner.started.clone(),
    );
    let ours = all.sub_registry_with_prefix("portcullis");
    ours.register("build", "Which version this is", Info::new([("version", version)]));

    ours.register("shares", "Shares that live at the moment, by state", inner.shares.clone());
    ours.register("shares_made", "Shares that were made", inner.made.clone());
    ours.register("shares_closed", "Shares that closed, by outcome", inner.closed.clone());
    ours.register("links_redeemed", "Links that were exercised", inner.redeemed.clone());
    ours.register("redeem_refusals", "Tries to exercise a genuine link that were refused, by reason", inner.refused.clone());
    ours.register("transfers_active", "Transfers that live at the moment", inner.active_transfers.clone());
    ours.register("transfers_ended", "Transfers that ended, by how they did", inner.ended.clone());
    ours.register("open_requests", "Requests for bytes that run at the moment", inner.open_requests.clone());
    ours.register_with_unit(
        "delivered",
        "Bytes of files that recipients have, each byte of a transfer once, by what is known of their arrival",
        Unit::Bytes,
        inner.delivered.clone(),
    );
    ours.register("recipient_connections", "Connections of recipients at the moment", inner.connections.clone());

    ours.register_with_unit("tunnel_open", "How long a try to open a way in took", Unit::Seconds, inner.opening.clone());
    ours.register_with_unit("tunnel_close", "How long a try to close a way in took", Unit::Seconds, inner.closing.clone());
    ours.register("tunnel_failures", "Tries to open or close a way in that failed", inner.tunnel_failures.clone());
    ours.register("probes", "Looks at shares from the internet, by whether anybody got in, closed shares among them", inner.probes.clone());
    ours.register(
        "closed_doors_answering",
        "Closed shares whose door still answered from the internet: must stay 0",
        inner.still_open.clone(),
    );

    ours.register_with_unit("store_write", "How long a decision took to be on disk", Unit::Seconds, inner.writes.clone());
    ours.register("store_write_failures", "Decisions that could not be saved", inner.write_failures.clone());
    ours.register_with_unit("store_size", "How much the store takes on disk", Unit::Bytes, inner.store_bytes.clone());
    ours.register("store_events", "Lines of the event log that are kept", inner.store_events.clone());
    ours.register("store_shares", "Shares that are kept, closed ones among them", inner.store_shares.clone());
    ours.register("store_forgotten", "What was forgotten because its time was over (RETENTION_DAYS)", inner.forgotten.clone());
    ours.register_with_unit("state_free", "Free space on the disk of the state folder", Unit::Bytes, inner.free_bytes.clone());
    ours.register("events_written", "Lines that were written to the event log", inner.events.clone());

    let lines = "Lines of nginx's access log that were read, by whether they are ours: a foreign one counts nothing";
    ours.register("nginx_log_lines", lines, inner.log_lines.clone());
    let bytes = "Bytes of bodies that nginx handed to the kernel, as its access log says";
    ours.register_with_unit("nginx_log_sent", bytes, Unit::Bytes, inner.log_bytes.clone());
    let mishaps = "What went wrong with nginx's access log: lines too long, truncations, files gone before they were read";
    ours.register("nginx_log_mishaps", mishaps, inner.log_mishaps.clone());
    let lag = "How much of nginx's access log is still to be read";
    ours.register_with_unit("nginx_log_lag", lag, Unit::Bytes, inner.log_lag_bytes.clone());

    let checks = "How each check of /health stands: 0 it works, 1 somebody should look, 2 it does not work";
    ours.register("check_status", checks, inner.checks.clone());
    ours.register("owner_requests", "Requests that the owner's side answered, by class of status", inner.owner_requests.clone());
    ours.register("event_streams", "Live streams (Server-Sent Events) that are open at the moment", inner.streams.clone());
    ours.register("indexed_files", "Files that the search index knows", inner.indexed_files.clone());
    all
}

/// Turns OpenMetrics into the older text format: there a counter's family carries the name of its sample, an `info` is a
/// gauge, and there are no units and no end mark.
fn as_text(open_metrics: &str) -> String {
    let is_counter = |family: &str| open_metrics.contains(&format!("\n# TYPE {family} counter\n"));
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let written = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(what), Some(family), Some(rest)) if is_counter(family) => {
                writeln!(text, "# {what} {family}_total {rest}")
            }
            (Some("#"), Some(what), Some(family), Some(rest)) if open_metrics.contains(&format!("\n# TYPE {family} info\n")) => {
                writeln!(text, "# {what} {family}_info {}", if what == "TYPE" { "gauge" } else { rest })
            }
            _ => writeln!(text, "{line}"),
        };
        written.expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests;
