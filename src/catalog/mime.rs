//! What a name says about its content.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What any string of bytes is.
const UNKNOWN: &str = "application/octet-stream";

/// Returns the media type that a name suggests, as `video/mp4`; `application/octet-stream` where it suggests none.
///
/// It comes from a fixed table, so it is safe in a header whatever the name is.
pub fn mime_type(name: &[u8]) -> &'static str {
    mime_guess::from_path(Path::new(OsStr::from_bytes(name))).first_raw().unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_extension_decides_in_any_case() {
        for (name, expected) in [
            (&b"holiday.mp4"[..], "video/mp4"),
            (b"A.JPG", "image/jpeg"),
            (b"x.tar.gz", "application/gzip"),
            (b"\xFF\xFE.pdf", "application/pdf"),
            (b"README", UNKNOWN),
            (b".mp4", UNKNOWN),
            (b"x.", UNKNOWN),
            (b"x.\xFF", UNKNOWN),
            (b"x.mp4\r\nSet-Cookie: a", UNKNOWN),
            (b"", UNKNOWN),
        ] {
            assert_eq!(mime_type(name), expected, "{:?}", name.escape_ascii().to_string());
        }
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_header(stem in proptest::collection::vec(any::<u8>(), 0..9), extension in "[a-zA-Z0-9\r\n]{0,5}") {
            let answer = mime_type(&[&stem[..], b".", extension.as_bytes()].concat());
            prop_assert!(answer.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'"')), "{}", answer);
        }
    }
}
