//! What is shared: a path proven to lie below the root, and the one inode that it named when the link was minted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest path a catalog takes, in bytes: Linux's `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;
/// The longest single name, in bytes: `NAME_MAX` of every file system in use.
const MAX_NAME_BYTES: usize = 255;
/// Where the byte of a self-test lies, as a text: no file of the NAS is shared by this path.
pub const SELF_TEST_PATH: &str = ".portcullis/self-test.txt";
/// Bytes that are not UTF-8 are written as U+EF80..=U+EFFF in texts (the byte plus U+EF00), a private-use block.
const ESCAPE: u32 = 0xEF00;

/// Says why a text is no path of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It starts with a slash.
    #[error("the path must be relative to the shared folder: it may not start with `/`")]
    Absolute,
    /// One of its components is empty, `.` or `..`.
    #[error("the path may not contain empty, `.` or `..` parts")]
    Dots,
    /// It contains a NUL byte.
    #[error("the path may not contain a NUL character")]
    Nul,
    /// It, or one name in it, is longer than any file system takes.
    #[error("the path is too long: at most 255 bytes a name and 4096 in all")]
    TooLong,
}

/// A path relative to the catalog's root that cannot leave it: no empty, `.` or `..` component, no NUL.
///
/// Names are bytes. In JSON and in URLs a path is a text ([`CatalogPath::to_text`]); bytes that are not UTF-8 travel as
/// private-use characters there and come back as they were, so every file that can be listed can be shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogPath(Box<[u8]>);

impl CatalogPath {
    /// Returns the root itself, which is a folder and never a file.
    pub fn root() -> Self {
        Self(Box::new([]))
    }

    /// Returns the path under which the program itself has one byte, to try the whole way with.
    pub fn self_test() -> Self {
        Self(SELF_TEST_PATH.as_bytes().into())
    }

    /// Returns whether it is that path: what is shared by it is a self-test, and no share of an owner's.
    pub fn is_self_test(&self) -> bool {
        *self.0 == *SELF_TEST_PATH.as_bytes()
    }

    /// Parses the text form, as it stands in JSON. The empty text is the root.
    ///
    /// # Errors
    /// One of [`InvalidPath`], each a sentence for the owner.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            match escaped_byte(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Self::from_bytes(&bytes)
    }

    /// Checks the raw bytes of a relative path. Empty is the root.
    ///
    /// # Errors
    /// As [`CatalogPath::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.len() > MAX_PATH_BYTES {
            return Err(InvalidPath::TooLong);
        }
        if bytes.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        if bytes.first() == Some(&b'/') {
            return Err(InvalidPath::Absolute);
        }
        if !bytes.is_empty() {
            for name in bytes.split(|byte| *byte == b'/') {
                match name {
                    b"" | b"." | b".." => return Err(InvalidPath::Dots),
                    long if long.len() > MAX_NAME_BYTES => return Err(InvalidPath::TooLong),
                    _ => {}
                }
            }
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the path's raw bytes, components separated by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names on the way, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Returns the last name's bytes; empty for the root.
    pub fn name_bytes(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Returns the last name in text form; see [`CatalogPath::to_text`].
    pub fn name(&self) -> String {
        text_of(self.name_bytes())
    }

    /// Returns the last name for a person to read: control and direction characters and bytes that are not UTF-8 shown as `\u{FFFD}`.
    pub fn name_for_display(&self) -> String {
        for_display(self.name_bytes())
    }

    /// Returns the whole path for a person to read, as [`CatalogPath::name_for_display`].
    pub fn for_display(&self) -> String {
        for_display(&self.0)
    }

    /// Returns the text form, which [`CatalogPath::parse`] reads back to the same bytes.
    pub fn to_text(&self) -> String {
        text_of(&self.0)
    }

    /// Returns the path of `name` in this folder.
    ///
    /// # Errors
    /// As [`CatalogPath::parse`], where `name` is no single good name.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(InvalidPath::Dots);
        }
        if self.is_root() {
            return Self::from_bytes(name);
        }
        Self::from_bytes(&[&self.0, &b"/"[..], name].concat())
    }
}

impl fmt::Debug for CatalogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatalogPath(\"{}\")", self.0.escape_ascii())
    }
}

impl Serialize for CatalogPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for CatalogPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What tells one state of one file from every other.
///
/// Device, inode and size are not enough: an inode is used again at once, and a file can be rewritten in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device's number.
    pub device: u64,
    /// The inode's number on it.
    pub inode: u64,
    /// The size in bytes.
    pub size_bytes: u64,
    /// When the content last changed, in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// When content, name count or rights last changed, in nanoseconds since the Unix epoch.
    pub changed_ns: i64,
}

/// What a share offers: bytes of known length with a name, pinned to one identity when the link is minted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// Where it lies below the root.
    pub path: CatalogPath,
    /// Which state of which inode it is.
    pub identity: FileIdentity,
}

impl SharedFile {
    /// Returns whether it is the byte of a self-test, which no list of an owner's shares has.
    pub fn is_self_test(&self) -> bool {
        self.path.is_self_test()
    }

    /// Returns the length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.identity.size_bytes
    }
}

fn escaped_byte(character: char) -> Option<u8> {
    let byte = u32::from(character).checked_sub(ESCAPE)?;
    (0x80..=0xFF).contains(&byte).then_some(byte as u8)
}

fn escape(byte: u8) -> char {
    char::from_u32(ESCAPE + u32::from(byte)).expect("U+EF80..=U+EFFF are characters")
}

fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().is_ascii() {
            text.push_str(chunk.valid());
        } else {
            text_of_others(chunk.valid(), &mut text);
        }
        text.extend(chunk.invalid().iter().copied().map(escape));
    }
    text
}

fn text_of_others(valid: &str, text: &mut String) {
    for character in valid.chars() {
        if escaped_byte(character).is_some() {
            // A name that really holds such a character is written byte by byte, or it would read back as another.
            text.extend(character.encode_utf8(&mut [0; 4]).bytes().map(escape));
        } else {
            text.push(character);
        }
    }
}

/// Returns bytes for a person to read: what would act on a terminal or turn the reading direction, and what is no UTF-8,
/// shown as `\u{FFFD}`.
pub fn for_display(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if is_unsafe_to_show(c) { '\u{FFFD}' } else { c }).collect()
}

/// Returns whether a character would act on a terminal or turn the reading direction instead of being shown.
fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
        || matches!(u32::from(c), 0xE0000..=0xE007F)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_could_leave_the_root_are_no_paths() {
        for (text, why) in [
            ("/etc/passwd", InvalidPath::Absolute),
            ("..", InvalidPath::Dots),
            ("a/../b", InvalidPath::Dots),
            ("a/./b", InvalidPath::Dots),
            ("a//b", InvalidPath::Dots),
            ("a/", InvalidPath::Dots),
            ("a\0b", InvalidPath::Nul),
        ] {
            assert_eq!(CatalogPath::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(CatalogPath::parse(&"x".repeat(256)), Err(InvalidPath::TooLong));
        assert_eq!(CatalogPath::parse(&"x/".repeat(2049)), Err(InvalidPath::TooLong));
    }

    #[test]
    fn names_that_only_look_dangerous_are_fine() {
        for text in ["...", "..a", "-rf", "a b", "C:\\x", "%2e%2e", "a\nb", "\u{202E}gpj.exe", "ʻ", "café.txt"] {
            assert_eq!(CatalogPath::parse(text).unwrap().to_text(), text);
        }
    }

    #[test]
    fn only_one_path_is_that_of_a_self_test() {
        assert!(CatalogPath::self_test().is_self_test());
        assert_eq!(CatalogPath::parse(SELF_TEST_PATH), Ok(CatalogPath::self_test()));
        for other in
            ["", "self-test.txt", ".portcullis", ".portcullis/self-test", ".portcullis/self-test.txt/x", ".Portcullis/self-test.txt"]
        {
            assert!(!CatalogPath::parse(other).unwrap().is_self_test(), "{other}");
        }
    }

    #[test]
    fn display_shows_no_control_and_no_direction_characters() {
        let path = CatalogPath::parse("a\u{1b}[2J\u{202E}b\n").unwrap();
        assert_eq!(path.name_for_display(), "a\u{FFFD}[2J\u{FFFD}b\u{FFFD}");
    }

    proptest! {
        #[test]
        fn every_name_reads_back_from_its_text(bytes in proptest::collection::vec(1u8..=255, 1..80)) {
            if let Ok(path) = CatalogPath::from_bytes(&bytes) {
                let text = path.to_text();
                let back = CatalogPath::parse(&text).unwrap();
                prop_assert_eq!(back.as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn two_paths_never_share_a_text(a in "[\u{EF00}-\u{EFFF}a/]{1,6}", b in "[\u{EF00}-\u{EFFF}a/]{1,6}") {
            if let (Ok(a), Ok(b)) = (CatalogPath::from_bytes(a.as_bytes()), CatalogPath::from_bytes(b.as_bytes())) {
                prop_assert_eq!(a == b, a.to_text() == b.to_text());
            }
        }
    }
}
