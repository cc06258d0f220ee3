//! `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14).

use crate::share::ByteRange;

/// What a request's `Range` means for content of a known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: there is no range, or one that may be ignored (RFC 9110 14.2: another unit, several ranges, nonsense).
    Whole,
    /// A part.
    Part(ByteRange),
    /// A range that has no byte of it.
    Unsatisfiable,
}

/// Reads a `Range`. Several ranges are answered with the whole content, which section 14.2 allows: parts of a
/// `multipart/byteranges` could not be counted as bytes of the file.
pub(super) fn wanted(range: Option<&[u8]>, size_bytes: u64) -> Wanted {
    let Some(spec) = range.and_then(single_spec) else { return Wanted::Whole };
    match spec {
        // A suffix of zero bytes, or any range of nothing, has no byte of it.
        Spec::Suffix(length) if length == 0 || size_bytes == 0 => Wanted::Unsatisfiable,
        Spec::Suffix(length) => Wanted::Part(ByteRange::new(size_bytes.saturating_sub(length), size_bytes)),
        Spec::From { first, last } if last.is_some_and(|last| last < first) => Wanted::Whole,
        Spec::From { first, .. } if first >= size_bytes => Wanted::Unsatisfiable,
        Spec::From { first, last } => {
            Wanted::Part(ByteRange::new(first, last.map_or(size_bytes, |last| last.saturating_add(1).min(size_bytes))))
        }
    }
}

/// Returns whether the condition of an `If-Range` holds, so that the range counts: only for our own strong validator.
/// A date never holds, since we send none.
pub(super) fn if_range_holds(if_range: Option<&[u8]>, etag: &str) -> bool {
    if_range.is_none_or(|value| value.trim_ascii() == etag.as_bytes())
}

enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

fn single_spec(range: &[u8]) -> Option<Spec> {
    let text = std::str::from_utf8(range).ok()?.trim();
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    match (first, last) {
        ("", length) => Some(Spec::Suffix(number(length)?)),
        (first, "") => Some(Spec::From { first: number(first)?, last: None }),
        (first, last) => Some(Spec::From { first: number(first)?, last: Some(number(last)?) }),
    }
}

/// Reads digits and nothing else; what does not fit is as large as can be.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_range_means_what_the_standard_says() {
        let part = |start, end| Wanted::Part(ByteRange::new(start, end));
        for (range, size, expected) in [
            ("bytes=0-", 10, part(0, 10)),
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=3-5", 10, part(3, 6)),
            ("bytes=3-500", 10, part(3, 10)),
            ("bytes=9-", 10, part(9, 10)),
            ("bytes=-1", 10, part(9, 10)),
            ("bytes=-500", 10, part(0, 10)),
            ("BYTES = 2-3", 10, part(2, 4)),
            ("bytes=0-18446744073709551615", 10, part(0, 10)),
            ("bytes=0-99999999999999999999999", 10, part(0, 10)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-5", 0, Wanted::Unsatisfiable),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=0-1,4-5", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes", 10, Wanted::Whole),
            ("lines=1-2", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(range.as_bytes()), size), expected, "{range} of {size}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some(b"bytes=\xff-"), 10), Wanted::Whole);
    }

    #[test]
    fn only_the_strong_validator_itself_lets_a_range_count() {
        assert!(if_range_holds(None, "\"a\""));
        assert!(if_range_holds(Some(b" \"a\" "), "\"a\""));
        for other in [&b"W/\"a\""[..], b"\"b\"", b"a", b"Sat, 21 Nov 2026 07:00:00 GMT", b""] {
            assert!(!if_range_holds(Some(other), "\"a\""), "{other:?}");
        }
    }
}
