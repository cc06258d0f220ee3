//! What is counted, and how it is written down: every line is read back by the grammar of its format.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", Timestamp(1_700_000_000_250))
}

fn text(metrics: &Metrics, exposition: Exposition) -> String {
    metrics.write_down(&Snapshot::default(), exposition)
}

/// One sample: its name, its labels as they stand, its value.
type Samples = BTreeMap<(String, String), f64>;

/// Reads an exposition line by line and refuses whatever its format does not allow.
fn read(text: &str, exposition: Exposition) -> Samples {
    let mut samples = Samples::new();
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let is_name = |name: &str| {
        !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let open = exposition == Exposition::OpenMetrics;
    assert!(text.ends_with('\n'));
    for (number, line) in text.lines().enumerate() {
        if line == "# EOF" {
            assert!(open && number + 1 == text.lines().count(), "the end mark is the last line");
            continue;
        }
        if let Some(comment) = line.strip_prefix("# ") {
            let (what, rest) = comment.split_once(' ').expect(line);
            let (family, rest) = rest.split_once(' ').expect(line);
            assert!(is_name(family), "{line}");
            match what {
                "HELP" => assert!(helped.insert(family.to_owned()) && rest.ends_with('.') && rest.len() > 10, "{line}"),
                "TYPE" => assert!(types.insert(family.to_owned(), rest.to_owned()).is_none(), "{line}"),
                "UNIT" => assert!(open && family.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
            None => (sample, ""),
        };
        assert!(is_name(name), "{line}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').expect(line);
            assert!(is_name(key) && value.starts_with('"') && value.ends_with('"') && value.len() >= 2, "{line}");
        }
        let value: f64 = if value == "NaN" { f64::NAN } else { value.parse().expect(line) };
        let belongs = types.iter().any(|(family, kind)| match (kind.as_str(), name.strip_prefix(family.as_str())) {
            ("counter", Some(rest)) => rest == if open { "_total" } else { "" },
            ("gauge", Some(rest)) => rest.is_empty(),
            ("info", Some(rest)) => open && rest == "_info",
            ("histogram", Some(rest)) => ["_bucket", "_sum", "_count"].contains(&rest),
            (_, Some(_)) => panic!("{kind} is no type of {exposition:?}"),
            (_, None) => false,
        });
        assert!(belongs, "{line} follows no TYPE of its family");
        assert!(samples.insert((name.to_owned(), labels.to_owned()), value).is_none(), "{line} stands twice");
    }
    assert_eq!(helped, types.keys().cloned().collect(), "each family has a type and a sentence");
    assert_eq!(open, text.ends_with("# EOF\n"));
    samples
}

fn value(samples: &Samples, name: &str, labels: &str) -> f64 {
    *samples.get(&(name.to_owned(), labels.to_owned())).unwrap_or_else(|| panic!("{name}{{{labels}}} is not there: {samples:#?}"))
}

#[test]
fn both_formats_are_valid_and_say_the_same() {
    let metrics = metrics();
    metrics.happened(&Fact::Created);
    metrics.arrived(Evidence::Confirmed, 5);
    metrics.tunnel_opened(Duration::from_millis(30), true);
    let open = read(&text(&metrics, Exposition::OpenMetrics), Exposition::OpenMetrics);
    let plain = read(&text(&metrics, Exposition::Text), Exposition::Text);
    let show = |samples: &Samples| samples.iter().map(|(name, value)| format!("{name:?} {value}")).collect::<Vec<_>>();
    assert_eq!(show(&open), show(&plain));
    assert_eq!(value(&open, "portcullis_build_info", "version=\"1.2.3\""), 1.0);
    assert_eq!(value(&open, "process_start_time_seconds", ""), 1_700_000_000.25);
}

#[test]
fn what_can_happen_is_there_before_it_does() {
    let samples = read(&text(&metrics(), Exposition::Text), Exposition::Text);
    for outcome in OUTCOMES {
        assert_eq!(value(&samples, "portcullis_shares_closed_total", &format!("outcome=\"{}\"", outcome.as_str())), 0.0);
    }
    for result in REACHES {
        assert_eq!(value(&samples, "portcullis_probes_total", &format!("result=\"{result}\"")), 0.0);
    }
    assert_eq!(value(&samples, "portcullis_closed_doors_answering_total", ""), 0.0, "the alarm is there to be watched");
    for (_, word) in EVIDENCE {
        assert_eq!(value(&samples, "portcullis_delivered_bytes_total", &format!("evidence=\"{word}\"")), 0.0);
    }
    for reason in REASONS {
        assert_eq!(value(&samples, "portcullis_redeem_refusals_total", &format!("reason=\"{reason}\"")), 0.0);
    }
}

#[test]
fn what_happens_is_counted_once_and_under_its_name() {
    let metrics = metrics();
    let transfer = crate::share::TransferId::from_bytes([7; 16]);
    metrics.happened(&Fact::Created);
    metrics.happened(&Fact::Redeemed { transfer });
    metrics.happened(&Fact::Closing { outcome: Outcome::Completed });
    metrics.happened(&Fact::Closed { outcome: Outcome::Completed });
    metrics.arrived(Evidence::Acknowledged, 1000);
    metrics.arrived(Evidence::Acknowledged, 24);
    metrics.redeem_refused(&Refused::Spent);
    metrics.redeem_failed();
    metrics.tunnel_closed(Duration::from_secs(2), false);
    metrics.saved(Duration::from_millis(3), true);
    metrics.saved(Duration::from_secs(60), false);
    metrics.forgotten(3, 2, 1);
    for status in [200, 201, 404, 503, 999, 0] {
        metrics.owner_answered(status);
    }
    let samples = read(&text(&metrics, Exposition::Text), Exposition::Text);
    for (name, labels, expected) in [
        ("portcullis_events_written_total", "", 4.0),
        ("portcullis_shares_made_total", "", 1.0),
        ("portcullis_links_redeemed_total", "", 1.0),
        ("portcullis_shares_closed_total", "outcome=\"completed\"", 1.0),
        ("portcullis_delivered_bytes_total", "evidence=\"acknowledged\"", 1024.0),
        ("portcullis_delivered_bytes_total", "evidence=\"handed_over\"", 0.0),
        ("portcullis_redeem_refusals_total", "reason=\"spent\"", 1.0),
        ("portcullis_redeem_refusals_total", "reason=\"unavailable\"", 1.0),
        ("portcullis_tunnel_close_seconds_count", "", 1.0),
        ("portcullis_tunnel_close_seconds_bucket", "le=\"1.0\"", 0.0),
        ("portcullis_tunnel_close_seconds_bucket", "le=\"2.5\"", 1.0),
        ("portcullis_tunnel_failures_total", "action=\"close\"", 1.0),
        ("portcullis_store_write_seconds_count", "", 2.0),
        ("portcullis_store_write_seconds_bucket", "le=\"5.0\"", 1.0),
        ("portcullis_store_write_failures_total", "", 1.0),
        ("portcullis_store_forgotten_total", "kind=\"shares\"", 2.0),
        ("portcullis_owner_requests_total", "class=\"2xx\"", 2.0),
        ("portcullis_owner_requests_total", "class=\"5xx\"", 2.0),
    ] {
        assert_eq!(value(&samples, name, labels), expected, "{name} {labels}");
    }
}

#[test]
fn what_stands_is_of_the_instant_that_it_is_asked_for() {
    let metrics = metrics();
    let connection = metrics.connected();
    let now = Snapshot {
        shares: vec![State::Offered, State::Offered, State::Waiting],
        active_transfers: 1,
        open_requests: 4,
        checks: vec![("store", 0), ("disk", 1), ("files", 2)],
        event_streams: 2,
        store: Some((4096, 10, 3)),
        indexed_files: 12,
        free_bytes: Some(1 << 40),
    };
    let samples = read(&metrics.write_down(&now, Exposition::Text), Exposition::Text);
    for (name, labels, expected) in [
        ("portcullis_shares", "state=\"offered\"", 2.0),
        ("portcullis_shares", "state=\"closing\"", 0.0),
        ("portcullis_transfers_active", "", 1.0),
        ("portcullis_open_requests", "", 4.0),
        ("portcullis_event_streams", "", 2.0),
        ("portcullis_check_status", "check=\"store\"", 0.0),
        ("portcullis_check_status", "check=\"disk\"", 1.0),
        ("portcullis_check_status", "check=\"files\"", 2.0),
        ("portcullis_store_size_bytes", "", 4096.0),
        ("portcullis_indexed_files", "", 12.0),
        ("portcullis_state_free_bytes", "", (1_u64 << 40) as f64),
        ("portcullis_recipient_connections", "", 1.0),
    ] {
        assert_eq!(value(&samples, name, labels), expected, "{name} {labels}");
    }
    drop(connection);
    let samples = read(&text(&metrics, Exposition::Text), Exposition::Text);
    assert_eq!(value(&samples, "portcullis_recipient_connections", ""), 0.0);
    assert_eq!(value(&samples, "portcullis_shares", "state=\"offered\""), 0.0);
    assert!(value(&samples, "portcullis_store_size_bytes", "").is_nan(), "what is not known is no number");
}

#[test]
fn what_was_counted_in_a_log_goes_on_over_a_restart() {
    let metrics = metrics();
    let samples = read(&text(&metrics, Exposition::Text), Exposition::Text);
    for kind in LOG_MISHAPS {
        assert_eq!(
            value(&samples, "portcullis_nginx_log_mishaps_total", &format!("kind=\"{kind}\"")),
            0.0,
            "the alarm is there to be watched"
        );
    }
    // As a mark said when it was started, and then a batch later.
    let before = NginxLog { lines: 1000, foreign: 7, bytes: 1 << 40, oversized_lines: 1, truncations: 2, lost_files: 3 };
    metrics.log_followed(before, 4096);
    metrics.log_followed(NginxLog { lines: 1002, bytes: before.bytes + 5, ..before }, u64::MAX);
    let samples = read(&text(&metrics, Exposition::OpenMetrics), Exposition::OpenMetrics);
    for (name, labels, expected) in [
        ("portcullis_nginx_log_lines_total", "kind=\"ours\"", 1002.0),
        ("portcullis_nginx_log_lines_total", "kind=\"foreign\"", 7.0),
        ("portcullis_nginx_log_sent_bytes_total", "", (before.bytes + 5) as f64),
        ("portcullis_nginx_log_mishaps_total", "kind=\"oversized_line\"", 1.0),
        ("portcullis_nginx_log_mishaps_total", "kind=\"truncation\"", 2.0),
        ("portcullis_nginx_log_mishaps_total", "kind=\"lost_file\"", 3.0),
        ("portcullis_nginx_log_lag_bytes", "", i64::MAX as f64),
    ] {
        assert_eq!(value(&samples, name, labels), expected, "{name} {labels}");
    }
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Exposition::wanted(prometheus), Exposition::OpenMetrics);
    assert_eq!(Exposition::wanted("*/*"), Exposition::Text);
    assert_eq!(Exposition::wanted(""), Exposition::Text);
}
