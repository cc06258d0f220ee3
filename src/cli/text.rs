//! Words and numbers for people, and what they type.

use std::fmt::Write;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};

/// Returns a text without what acts on a terminal or turns the reading direction; each such character becomes `\u{FFFD}`.
pub(super) fn safe(text: &str) -> String {
    text.chars().map(|c| if acts(c) { '\u{FFFD}' } else { c }).collect()
}

/// Returns JSON as one line that no terminal acts on.
pub(super) fn escaped_json(json: &serde_json::Value) -> String {
    let mut line = String::new();
    // Outside of texts JSON has none of these characters, so each stands in a text and may be written as an escape.
    for c in json.to_string().chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(line, "\\u{unit:04x}").expect("a String takes everything");
            }
        } else {
            line.push(c);
        }
    }
    line
}

fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
        // Bytes of names that are not UTF-8 travel as these.
        || matches!(c, '\u{EF80}'..='\u{EFFF}')
        || matches!(u32::from(c), 0xE0000..=0xE007F)
}

/// Returns a size in the largest unit that leaves it at 1 or more, as `1.9 GB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded down: nothing is called larger than it is.
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 {
        (tenths, unit) = (tenths / 1000, unit + 1);
    }
    if tenths < 100 { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) } else { format!("{} {}", tenths / 10, UNITS[unit]) }
}

/// Returns a span of time in its two largest units, as `1 h 30 min`.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        if rest >= unit && parts.len() < 2 {
            parts.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Reads a span of time as people type it: `90` (seconds), `90s`, `10m`, `1h30m`, `2d`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    const HINT: &str = "write it as 90, 90s, 10m, 1h30m or 2d";
    let seconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| format!("this is longer than anything lasts; {HINT}"))?
    } else {
        let span: Span = text.parse().map_err(|_| format!("this is no span of time; {HINT}"))?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
        let duration = duration.map_err(|_| format!("months and years differ in length; {HINT}"))?;
        if duration.subsec_nanos() != 0 {
            return Err(format!("whole seconds only; {HINT}"));
        }
        u64::try_from(duration.as_secs()).map_err(|_| format!("it must lie ahead; {HINT}"))?
    };
    if seconds == 0 { Err(format!("it must be a second or more; {HINT}")) } else { Ok(Duration::from_secs(seconds)) }
}

/// Reads a size as people type it: `2000000`, `500kB`, `1.5MB`, `2MiB`, each with `/s` behind it or not.
pub(super) fn parse_speed(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("k", 1000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("b", 1),
    ];
    let wrong = || "this is no speed; write it as 500kB, 2MB or 1.5MiB (each second)".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let amount = lower.strip_suffix("/s").unwrap_or(&lower);
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((amount.strip_suffix(name)?, *unit))).unwrap_or((amount, 1));
    let (whole, tenths) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenths) || tenths.len() > 1 {
        return Err(wrong());
    }
    let (whole, tenths): (u64, u64) = (whole.parse().map_err(|_| wrong())?, tenths.parse().map_err(|_| wrong())?);
    whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(tenths * unit / 10)).ok_or_else(wrong)
}

/// How many people may download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Downloads {
    AtMost(u64),
    Unlimited,
}

/// Reads how many people may download: a number, or `unlimited`.
pub(super) fn parse_downloads(text: &str) -> Result<Downloads, String> {
    const MOST: u64 = crate::share::MAX_DOWNLOADS as u64;
    match text {
        "unlimited" => Ok(Downloads::Unlimited),
        _ => match text.parse() {
            Ok(downloads @ 1..=MOST) => Ok(Downloads::AtMost(downloads)),
            _ => Err(format!("write a number from 1 to {MOST}, or unlimited")),
        },
    }
}

/// A point in time as people type it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    /// A date, or a time with its zone, as it was typed.
    At(String),
    /// So far from now.
    Away(Duration),
}

/// Reads a point in time: `2026-11-01`, `2026-11-01T18:00:00Z`, or how far away it is, as `2h`.
pub(super) fn parse_when(text: &str) -> Result<When, String> {
    if text.parse::<jiff::Timestamp>().is_ok() || (text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()) {
        return Ok(When::At(text.to_owned()));
    }
    let is_span = text.ends_with(|last: char| last.is_ascii_alphabetic());
    match parse_span(text) {
        Ok(span) if is_span => Ok(When::Away(span)),
        _ => Err("write a date as 2026-11-01, a time as 2026-11-01T18:00:00Z, or how far away it is, as 2h or 30d".to_owned()),
    }
}

impl When {
    /// Returns the time as the API takes it; one that lies away lies in the past. `now` is the wall clock's.
    pub(super) fn before(&self, now: crate::share::Timestamp) -> String {
        self.moved(now, -1)
    }

    /// As [`When::before`], and one that lies away lies ahead.
    pub(super) fn ahead(&self, now: crate::share::Timestamp) -> String {
        match self {
            // A date alone is a day; something begins when the day does.
            Self::At(text) if text.len() == 10 => format!("{text}T00:00:00Z"),
            When::At(_) | When::Away(_) => self.moved(now, 1),
        }
    }

    fn moved(&self, now: crate::share::Timestamp, sign: i64) -> String {
        match self {
            Self::At(text) => text.clone(),
            Self::Away(span) => {
                let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX).saturating_mul(sign);
                let nearest = if sign < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
                jiff::Timestamp::from_second((now.0 / 1000).saturating_add(seconds)).unwrap_or(nearest).to_string()
            }
        }
    }
}

/// Writes a time of an answer to the minute, as `2026-11-01 18:00 UTC`; what is none stays as it is.
pub(super) fn time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Returns how many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Returns as much of a text as fits into so many columns; `…` stands for what does not.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut short = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(width_of(c)) else { break };
        left = rest;
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// Takes text to as many lines as its words need, none wider than `columns` where its words are not.
pub(super) fn wrapped(text: &str, columns: Option<usize>) -> Vec<String> {
    let columns = columns.unwrap_or(usize::MAX);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Characters that terminals draw over the one before, and those that they draw twice as wide (Unicode's East Asian Width
/// `W` and `F`, by blocks): a column more or less in a rare script is all that this can get wrong.
fn width_of(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05BD | 0x064B..=0x065F | 0x0E31 | 0x0E34..=0x0E3A | 0x0E47..=0x0E4E => 0,
        0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F => 0,
        0x1100..=0x115F | 0x2E80..=0x303E | 0x3041..=0xA4CF | 0xA960..=0xA97F | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF => 2,
        0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1F64F | 0x1F680..=0x1F6FF | 0x1F900..=0x1F9FF => 2,
        0x1FA70..=0x1FAFF | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_reaches_a_terminal() {
        assert_eq!(safe("a\u{1b}[2J\n\u{202E}b\u{EFFF}\u{9b}ö→😀"), "a\u{FFFD}[2J\u{FFFD}\u{FFFD}b\u{FFFD}\u{FFFD}ö→😀");
        let json = serde_json::json!({ "name\u{202E}": "a\u{9b}\n\u{EFFF}\u{E0041}ö" });
        let line = escaped_json(&json);
        assert!(!line.chars().any(acts), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), json);
    }

    #[test]
    fn sizes_are_short_and_never_too_large() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_999, "9.9 kB"),
            (10_000, "10 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (1_949_000_000, "1.9 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn speeds_counts_and_times_are_read() {
        for (text, bytes) in [("2000000", 2_000_000), ("500kB", 500_000), ("1.5MB/s", 1_500_000), ("2 MiB", 2 << 20), ("1g", 1_000_000_000)]
        {
            assert_eq!(parse_speed(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MB", "-1", "1.55MB", "1,5MB", "fast", "99999999999999999999", "18446744073709551615k", "1..2"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_downloads("3"), parse_downloads("unlimited")), (Ok(Downloads::AtMost(3)), Ok(Downloads::Unlimited)));
        for wrong in ["0", "1001", "-1", "all", ""] {
            assert!(parse_downloads(wrong).is_err(), "{wrong}");
        }
        let now = crate::share::Timestamp(1_700_000_000_000);
        for (text, before, ahead) in [
            ("2026-11-01", "2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T18:00:00+01:00", "2026-11-01T18:00:00+01:00", "2026-11-01T18:00:00+01:00"),
            ("2h", "2023-11-14T20:13:20Z", "2023-11-15T00:13:20Z"),
        ] {
            let when = parse_when(text).unwrap();
            assert_eq!((when.before(now), when.ahead(now)), (before.to_owned(), ahead.to_owned()));
        }
        assert!(parse_when("200000000000000d").is_err() || !parse_when("200000000000000d").unwrap().before(now).is_empty());
        for wrong in ["", "18:00", "2026-13-01", "yesterday", "90", "2026-11-01T18:00"] {
            assert!(parse_when(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("2026-11-01T18:00:59.123Z"), "2026-11-01 18:00 UTC");
    }

    #[test]
    fn what_is_too_wide_is_cut_and_says_so() {
        assert_eq!(
            (width("aä漢e\u{301}"), fitted("holiday.mp4", 11), fitted("holiday.mp4", 6)),
            (5, "holiday.mp4".into(), "holid…".into())
        );
        assert_eq!(
            (fitted("漢字漢字", 4), fitted("漢字漢字", 6), fitted("x", 0), fitted("xy", 1)),
            ("漢…".into(), "漢字…".into(), String::new(), "…".into())
        );
        assert_eq!(wrapped("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable x", Some(4)), ["unbreakable", "x"]);
        assert_eq!(wrapped("one two", None), ["one two"]);
    }

    #[test]
    fn spans_are_written_and_read() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (90, "1 min 30 s"), (3600, "1 h"), (5400, "1 h 30 min"), (90_061, "1 d 1 h")] {
            assert_eq!(span(seconds), text);
        }
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("1 h 30 min", 5400)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0", "0s", "-1h", "-5", "soon", "1.5s", "1mo", "2y", "1h ago", "99999999999999999999", "1e3", "NaN", "१"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
