//! How lengths, times and numbers are written.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::catalogue::{Counted, Units};
use crate::share::Timestamp;

impl Units {
    /// Writes a length in decimal units as people do: `1 byte`, `412 MB`, `1.9 GB`; one decimal below 10.
    pub fn size(&self, bytes: u64) -> String {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if bytes < 1000 {
            return self.bytes.of(bytes);
        }
        let mut unit: u64 = 1000;
        for (index, name) in UNITS.iter().enumerate() {
            // In tenths, and rounded, so that 9.96 is written "10" and 999.6 moves on to the next unit.
            let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
            if tenths < 100 {
                return format!("{}{}{} {name}", tenths / 10, self.decimal, tenths % 10);
            }
            let whole = (u128::from(bytes) + u128::from(unit) / 2) / u128::from(unit);
            if whole < 1000 || index + 1 == UNITS.len() {
                return format!("{whole} {name}");
            }
            unit *= 1000;
        }
        unreachable!("the last unit takes whatever is left")
    }

    /// Writes a length of time in its one or two largest units: `45 seconds`, `5 minutes`, `1 hour 30 minutes`, `2 days`.
    pub fn duration(&self, duration: Duration) -> String {
        let seconds = duration.as_secs();
        let (first, second): ((u64, &Counted), (u64, &Counted)) = match seconds {
            0..60 => return self.second.of(seconds),
            60..3600 => ((seconds / 60, &self.minute), (seconds % 60, &self.second)),
            3600..86_400 => ((seconds / 3600, &self.hour), (seconds % 3600 / 60, &self.minute)),
            _ => ((seconds / 86_400, &self.day), (seconds % 86_400 / 3600, &self.hour)),
        };
        if second.0 == 0 { first.1.of(first.0) } else { format!("{} {}", first.1.of(first.0), second.1.of(second.0)) }
    }

    /// Writes what is left of a time for whoever does not need the seconds.
    pub fn rough_duration(&self, duration: Duration) -> String {
        match duration.as_secs() {
            0..60 => self.less_than_a_minute.text().to_owned(),
            seconds => self.duration(Duration::from_secs(seconds / 60 * 60)),
        }
    }

    /// Writes a time of day in UTC, with the date where it is not that of `now`.
    pub fn time(&self, at: Timestamp, now: Timestamp) -> String {
        let zoned = |time: Timestamp| jiff::Timestamp::from_millisecond(time.0).ok().map(|time| time.to_zoned(TimeZone::UTC));
        // Only a clock far outside of every calendar has none.
        let Some(at) = zoned(at) else { return self.unknown_time.text().to_owned() };
        let clock = at.strftime("%H:%M UTC");
        let month = usize::try_from(at.month() - 1).ok().and_then(|month| self.months.get(month)).map_or("", String::as_str);
        match zoned(now) {
            Some(now) if at.date() == now.date() => clock.to_string(),
            Some(now) if at.year() == now.year() => format!("{} {clock}", self.date.fill(&[("day", &at.day()), ("month", &month)])),
            _ => {
                let date = self.date_of_year.fill(&[("day", &at.day()), ("month", &month), ("year", &at.year())]);
                format!("{date} {clock}")
            }
        }
    }

    /// Writes a number with its digits in threes.
    pub fn number(&self, n: u64) -> String {
        let digits = n.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text += &self.group;
            }
            text.push(digit);
        }
        text
    }

    /// Writes a length to the byte: `1,912,345,678 bytes`.
    pub fn exact_size(&self, bytes: u64) -> String {
        self.bytes.of_written(bytes, &self.number(bytes))
    }
}
