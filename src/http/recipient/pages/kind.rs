//! What sort of file it is, in words: from its media type, which its name suggests.

use crate::catalog::mime_type;
use crate::http::words::{Phrase, Words};

/// The longest extension that is shown: longer ones are parts of names.
const MAX_EXTENSION_BYTES: usize = 5;

/// Says what sort of file has this name, as `Video (MKV)`.
pub(super) fn kind_text(words: &Words, name: &str) -> String {
    let kinds = &words.recipient.kind;
    let kind = kind_of(words, name);
    let extension = name.rsplit_once('.').map_or("", |(stem, extension)| if stem.is_empty() { "" } else { extension });
    let is_shown = (1..=MAX_EXTENSION_BYTES).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_shown && !std::ptr::eq(kind, &raw const kinds.pdf) {
        kinds.named.fill(&[("kind", &kind.text()), ("extension", &extension.to_ascii_uppercase())])
    } else {
        kind.text().to_owned()
    }
}

fn kind_of<'words>(words: &'words Words, name: &str) -> &'words Phrase {
    let kinds = &words.recipient.kind;
    let media_type = mime_type(name.as_bytes());
    let (family, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
    let says = |parts: &[&str]| parts.iter().any(|part| subtype.contains(part));
    match family {
        // Of these the media type says nothing, or something else.
        _ if ends_with_any(name, &[".iso", ".img", ".dmg"]) => &kinds.disk,
        _ if ends_with_any(name, &[".exe", ".msi", ".deb", ".rpm", ".appimage"]) => &kinds.program,
        "image" => &kinds.image,
        "video" => &kinds.video,
        "audio" => &kinds.audio,
        "font" => &kinds.font,
        "text" => &kinds.text,
        _ if subtype == "pdf" => &kinds.pdf,
        _ if says(&["spreadsheet", "ms-excel"]) => &kinds.table,
        _ if says(&["presentation", "powerpoint"]) => &kinds.slides,
        _ if says(&["msword", "wordprocessing", "opendocument.text", "rtf"]) => &kinds.document,
        _ if says(&["epub", "mobipocket"]) => &kinds.book,
        _ if says(&["zip", "-tar", "7z", "rar-", "bzip", "-xz", "zstd", "compress"]) => &kinds.archive,
        _ if says(&["android.package", "java-archive", "msdownload", "x-sh"]) => &kinds.program,
        _ => &kinds.file,
    }
}

fn ends_with_any(name: &str, ends: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::words::{Language, words};

    #[test]
    fn a_file_is_called_what_people_call_it() {
        for (name, english, german) in [
            ("film.mkv", "Video (MKV)", "Video (MKV)"),
            ("a.PDF", "PDF document", "PDF-Dokument"),
            ("a.jpeg", "Image (JPEG)", "Bild (JPEG)"),
            ("a.flac", "Audio (FLAC)", "Audio (FLAC)"),
            ("a.txt", "Text (TXT)", "Text (TXT)"),
            ("a.docx", "Document (DOCX)", "Dokument (DOCX)"),
            ("a.odt", "Document (ODT)", "Dokument (ODT)"),
            ("a.xlsx", "Spreadsheet (XLSX)", "Tabelle (XLSX)"),
            ("a.ods", "Spreadsheet (ODS)", "Tabelle (ODS)"),
            ("a.pptx", "Presentation (PPTX)", "Präsentation (PPTX)"),
            ("a.epub", "E-book (EPUB)", "E-Book (EPUB)"),
            ("a.tar.gz", "Archive (GZ)", "Archiv (GZ)"),
            ("a.zip", "Archive (ZIP)", "Archiv (ZIP)"),
            ("a.7z", "Archive (7Z)", "Archiv (7Z)"),
            ("a.rar", "Archive (RAR)", "Archiv (RAR)"),
            ("a.iso", "Disk image (ISO)", "Datenträgerabbild (ISO)"),
            ("a.exe", "Program (EXE)", "Programm (EXE)"),
            ("A.RPM", "Program (RPM)", "Programm (RPM)"),
            ("a.apk", "Program (APK)", "Programm (APK)"),
            ("a.xyzzy", "File (XYZZY)", "Datei (XYZZY)"),
            ("README", "File", "Datei"),
            (".profile", "File", "Datei"),
            ("a.", "File", "Datei"),
            ("a.not an extension", "File", "Datei"),
            ("a.\u{202e}b", "File", "Datei"),
            ("", "File", "Datei"),
        ] {
            assert_eq!(kind_text(words(Language::English), name), english, "{name}");
            assert_eq!(kind_text(words(Language::German), name), german, "{name}");
        }
    }
}
