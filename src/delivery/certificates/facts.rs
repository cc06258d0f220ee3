//! What a certificate says of itself: for whom it is and until when. As much of its encoding (X.509 in DER) as that takes.

use crate::share::Timestamp;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` in front of the fields, where it is not the first version.
const VERSION: u8 = 0xA0;
/// `[3]`, the extensions.
const EXTENSIONS: u8 = 0xA3;
/// `dNSName` among the names.
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17, `subjectAltName`.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];
/// The most names that are told of one certificate; those of public authorities have up to a hundred.
const MAX_NAMES: usize = 100;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFacts {
    /// The host names that it is for; none where they cannot be read.
    pub names: Vec<String>,
    /// Until when it holds; `None` where that cannot be read.
    pub not_after: Option<Timestamp>,
}

impl CertificateFacts {
    /// Reads what can be read.
    pub(in crate::delivery) fn of(der: &[u8]) -> Self {
        let Some(mut fields) = fields(der) else { return Self::default() };
        let mut facts = Self::default();
        // Serial number, algorithm, issuer, and then the validity: an optional version stands before them.
        if let Some((VERSION, _, rest)) = element(fields) {
            fields = rest;
        }
        let validity = nth(fields, 3).filter(|(tag, _)| *tag == SEQUENCE);
        facts.not_after = validity.and_then(|(_, times)| nth(times, 1)).and_then(|(tag, text)| time(tag, text));
        facts.names = each(fields).find(|(tag, _)| *tag == EXTENSIONS).map(|(_, list)| names(list)).unwrap_or_default();
        facts
    }

    /// Returns whether it is for a host: by its name, or by a `*` in place of the name's first part.
    pub fn is_for(&self, host: &str) -> bool {
        let rest = host.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => rest.is_some_and(|rest| rest.eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// Returns what stands inside the part that is signed.
fn fields(der: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, certificate, _) = element(der)? else { return None };
    let (SEQUENCE, signed, _) = element(certificate)? else { return None };
    Some(signed)
}

fn names(extensions: &[u8]) -> Vec<String> {
    let Some((SEQUENCE, list, _)) = element(extensions) else { return Vec::new() };
    let alternative = each(list).find_map(|(_, extension)| {
        let (tag, id) = nth(extension, 0)?;
        let is_it = tag == OID && id == ALTERNATIVE_NAMES;
        is_it.then(|| each(extension).find(|(tag, _)| *tag == OCTET_STRING)).flatten()
    });
    let Some((SEQUENCE, names, _)) = alternative.and_then(|(_, value)| element(value)) else { return Vec::new() };
    let texts = each(names).filter(|(tag, _)| *tag == DNS_NAME).filter_map(|(_, name)| std::str::from_utf8(name).ok());
    texts.filter(|name| name.is_ascii()).map(str::to_ascii_lowercase).take(MAX_NAMES).collect()
}

/// Reads one element: its tag, what stands in it and what stands behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7F)).filter(|(bytes, _)| (1..=4).contains(&bytes.len()))?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = behind;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn each(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(der)?;
        der = rest;
        Some((tag, content))
    })
}

fn nth(der: &[u8], n: usize) -> Option<(u8, &[u8])> {
    each(der).nth(n)
}

/// Reads `YYMMDDhhmmssZ`, or the same with four digits for the year.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        // RFC 5280 4.1.2.5.1: from 50 on it is the last century.
        (UTC_TIME, 12) => (number(&digits[..2]), &digits[2..]),
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let year = if tag == UTC_TIME { year + if year < 50 { 2000 } else { 1900 } } else { year };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    let is_good = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    is_good.then(|| Timestamp((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

/// Returns how many days a date lies behind 1970 began, in the calendar of today. A year is counted from March, so that the
/// day that comes every four years is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let ms = |tag, text: &str| time(tag, text.as_bytes()).map(|time| time.0);
        assert_eq!(ms(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(ms(UTC_TIME, "261121201500Z"), Some(1_795_292_100_000));
        assert_eq!(ms(GENERALIZED_TIME, "20000229235959Z"), Some(951_868_799_000));
        assert_eq!(ms(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799_000));
        for text in ["261321201500Z", "261121241500Z", "261121201500", "2611212015Z", "26112120150xZ", ""] {
            assert_eq!(ms(UTC_TIME, text), None, "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_one_part_of_a_name() {
        let facts = CertificateFacts { names: vec!["files.example.org".to_owned(), "*.example.net".to_owned()], not_after: None };
        assert!(facts.is_for("FILES.example.org") && facts.is_for("a.example.net"));
        for other in ["example.org", "a.files.example.org", "example.net", "a.b.example.net", ""] {
            assert!(!facts.is_for(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CertificateFacts::of(&bytes);
        }
    }
}
