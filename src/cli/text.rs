//! Words and numbers for people, and what they type.

use std::fmt::Write;
use std::time::Duration;

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
