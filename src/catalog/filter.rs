//! What is left of a list or a search: only some categories, sizes and times.

use super::EntryKind;
use super::mime::mime_type;
use crate::share::Timestamp;

/// What an entry is for a person: a folder, or a file by what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Category {
    /// A folder.
    Folder,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Music, speech.
    Audio,
    /// What is read: texts, tables, slides, books.
    Document,
    /// Several files in one, packed.
    Archive,
    /// All else.
    Other,
}

/// Each category and its name in the API.
pub const CATEGORIES: [(Category, &str); 7] = [
    (Category::Folder, "folder"),
    (Category::Image, "image"),
    (Category::Video, "video"),
    (Category::Audio, "audio"),
    (Category::Document, "document"),
    (Category::Archive, "archive"),
    (Category::Other, "other"),
];

/// How the media types of a category begin. The first line that fits decides; what fits none is `Other`.
const MEDIA_TYPES: &[(&str, Category)] = &[
    ("image/", Category::Image),
    ("video/", Category::Video),
    ("audio/", Category::Audio),
    ("text/", Category::Document),
    ("message/", Category::Document),
    ("application/pdf", Category::Document),
    ("application/msword", Category::Document),
    ("application/rtf", Category::Document),
    ("application/json", Category::Document),
    ("application/epub", Category::Document),
    ("application/postscript", Category::Document),
    ("application/x-tex", Category::Document),
    ("application/x-mobipocket-ebook", Category::Document),
    ("application/vnd.ms-excel", Category::Document),
    ("application/vnd.ms-powerpoint", Category::Document),
    ("application/vnd.ms-word", Category::Document),
    ("application/vnd.ms-xpsdocument", Category::Document),
    ("application/vnd.oasis.opendocument", Category::Document),
    ("application/vnd.openxmlformats-officedocument", Category::Document),
    ("application/vnd.apple.", Category::Document),
    ("application/zip", Category::Archive),
    ("application/gzip", Category::Archive),
    ("application/java-archive", Category::Archive),
    ("application/vnd.android.package-archive", Category::Archive),
    ("application/x-7z-compressed", Category::Archive),
    ("application/x-bzip", Category::Archive),
    ("application/x-compress", Category::Archive),
    ("application/x-rar", Category::Archive),
    ("application/x-tar", Category::Archive),
    ("application/x-xz", Category::Archive),
];

/// Endings of which the table of media types knows nothing, or something wrong (to it an `rpm` is music).
const ENDINGS: &[(&[u8], Category)] = &[
    (b"cab", Category::Archive),
    (b"deb", Category::Archive),
    (b"dmg", Category::Archive),
    (b"img", Category::Archive),
    (b"iso", Category::Archive),
    (b"rpm", Category::Archive),
    (b"zst", Category::Archive),
];

impl Category {
    /// Says what an entry of this kind and name is.
    pub fn of(kind: EntryKind, name: &[u8]) -> Self {
        if kind == EntryKind::Folder {
            return Self::Folder;
        }
        let by_ending = ending(name).and_then(|ending| ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)));
        if let Some((_, category)) = by_ending {
            return *category;
        }
        let media_type = mime_type(name);
        MEDIA_TYPES.iter().find(|(begin, _)| media_type.starts_with(begin)).map_or(Self::Other, |(_, category)| *category)
    }

    /// Reads its name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        CATEGORIES.iter().find(|(_, name)| *name == text).map(|(category, _)| *category)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the categories; none of them stands for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Categories(u8);

impl Categories {
    fn wants(self, category: Category) -> bool {
        self.0 & category.bit() != 0
    }
}

impl FromIterator<Category> for Categories {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        Self(categories.into_iter().fold(0, |bits, category| bits | category.bit()))
    }
}

/// Returns what stands behind the last dot of a name.
pub(super) fn ending(name: &[u8]) -> Option<&[u8]> {
    memchr::memrchr(b'.', name).map(|dot| &name[dot + 1..])
}

/// Which entries are wanted. What is not said lets everything pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only entries of these categories.
    pub categories: Categories,
    /// Only files of at least so many bytes. A folder has no size of its own and passes no filter by size.
    pub min_bytes: Option<u64>,
    /// Only files of at most so many bytes.
    pub max_bytes: Option<u64>,
    /// Only what changed at this time or later.
    pub changed_since: Option<Timestamp>,
}

impl Filter {
    /// Wants files only.
    pub fn of_files() -> Self {
        Self::of(CATEGORIES.iter().map(|(category, _)| *category).filter(|one| *one != Category::Folder))
    }

    /// Wants entries of these categories only.
    pub(super) fn of(categories: impl IntoIterator<Item = Category>) -> Self {
        Self { categories: categories.into_iter().collect(), ..Self::default() }
    }

    /// Returns whether everything passes.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether an entry passes; `size_bytes` is `None` for a folder. Asks for the category only where that decides.
    pub(super) fn passes(&self, size_bytes: Option<u64>, modified: Timestamp, category: impl FnOnce() -> Category) -> bool {
        let fits = |size: u64| self.min_bytes.is_none_or(|min| size >= min) && self.max_bytes.is_none_or(|max| size <= max);
        let wants_size = self.min_bytes.is_some() || self.max_bytes.is_some();
        (!wants_size || size_bytes.is_some_and(fits))
            && self.changed_since.is_none_or(|since| modified >= since)
            && (self.categories == Categories::default() || self.categories.wants(category()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(name: &str) -> &'static str {
        let of_it = Category::of(EntryKind::File, name.as_bytes());
        CATEGORIES.iter().find(|(category, _)| *category == of_it).unwrap().1
    }

    #[test]
    fn a_name_says_what_a_person_would_call_it() {
        for (expected, names) in [
            ("image", &["a.JPG", "a.heic", "a.svg", "a.avif", "a.cr2"][..]),
            ("video", &["a.mkv", "a.mp4", "a.MOV", "a.webm", "a.avi"]),
            ("audio", &["a.flac", "a.mp3", "a.m4b", "a.opus"]),
            ("document", &["a.pdf", "a.docx", "a.odt", "a.xls", "a.xlsx", "a.pptx", "a.txt", "a.md", "a.csv", "a.epub", "a.json", "a.eml"]),
            ("archive", &["a.zip", "a.tar.gz", "a.tgz", "a.7z", "a.rar", "a.xz", "a.bz2", "a.ISO", "a.deb", "a.rpm", "a.tar.zst"]),
            ("other", &["README", "a.bin", "a.exe", "a.", ".mp4", "film.mkv.part", "", "zip"]),
        ] {
            for name in names {
                assert_eq!(category(name), expected, "{name}");
            }
        }
        assert_eq!(Category::of(EntryKind::Folder, b"films.mkv"), Category::Folder);
    }

    #[test]
    fn each_category_is_read_by_its_name_and_has_a_bit_of_its_own() {
        let mut bits = 0;
        for (category, name) in CATEGORIES {
            assert_eq!(Category::parse(name), Some(category));
            assert_eq!(bits & category.bit(), 0, "{name}");
            bits |= category.bit();
        }
        assert_eq!((Category::parse("films"), Category::parse("Image"), Category::parse("")), (None, None, None));
    }

    #[test]
    fn all_filters_must_let_it_pass_and_a_folder_has_no_size() {
        let passes = |filter: Filter, size, at| filter.passes(size, Timestamp(at), || Category::Video);
        let open = Filter::default();
        assert!(open.is_open() && passes(open, None, i64::MIN) && passes(open, Some(0), 0));
        let sized = Filter { min_bytes: Some(10), max_bytes: Some(20), ..open };
        for (size, expected) in [(Some(9), false), (Some(10), true), (Some(20), true), (Some(21), false), (None, false)] {
            assert_eq!(passes(sized, size, 0), expected, "{size:?}");
        }
        assert!(!passes(Filter { max_bytes: Some(20), ..open }, None, 0));
        let since = Filter { changed_since: Some(Timestamp(5)), ..open };
        assert_eq!((passes(since, None, 4), passes(since, None, 5)), (false, true));
        let films = Filter::of([Category::Audio, Category::Video]);
        assert!(!films.is_open() && passes(films, Some(1), 0));
        assert!(!passes(Filter::of([Category::Image]), Some(1), 0));
        assert!(!passes(Filter { min_bytes: Some(2), ..films }, Some(1), 0));
        let files = Filter::of_files();
        assert!(passes(files, Some(1), 0) && !files.passes(None, Timestamp(0), || Category::Folder));
    }
}
