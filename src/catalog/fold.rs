//! One spelling for names that a person takes for the same: no case, no accents, composed or not.
//!
//! macOS writes `é` as two characters, most others as one; `Ä` stands with `a` in every file manager. Folding makes them
//! equal for sorting and for searching; what is shown and opened are always the name's own bytes.

/// Characters of the text form that stand for a byte that is not UTF-8 (see `CatalogPath::to_text`).
const ESCAPED: std::ops::RangeInclusive<char> = '\u{EF80}'..='\u{EFFF}';

/// Returns the folded bytes of a name or of a part of one. Bytes that are not UTF-8 stay as they are.
pub(super) fn fold(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    fold_onto(name, &mut folded);
    folded
}

/// Appends the folded bytes of a name; see [`fold`].
pub(super) fn fold_onto(name: &[u8], folded: &mut Vec<u8>) {
    if name.is_ascii() {
        folded.extend(name.iter().map(u8::to_ascii_lowercase));
        return;
    }
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            fold_character(character, folded);
        }
        folded.extend_from_slice(chunk.invalid());
    }
}

/// A folded name that knows where each of its bytes comes from.
pub(super) struct Traced {
    /// As [`fold`] gives it.
    pub(super) folded: Vec<u8>,
    /// For each folded byte, which character of the name's text form it comes from.
    origin: Vec<usize>,
    /// How many characters the text form has.
    characters: usize,
}

impl Traced {
    /// Folds a name and keeps where each byte comes from.
    pub(super) fn new(name: &[u8]) -> Self {
        let mut traced = Self { folded: Vec::with_capacity(name.len()), origin: Vec::with_capacity(name.len()), characters: 0 };
        for chunk in name.utf8_chunks() {
            for character in chunk.valid().chars() {
                traced.push(character);
            }
            for byte in chunk.invalid() {
                traced.push_byte(*byte);
            }
        }
        traced
    }

    /// Returns which characters the folded bytes `start..end` come from, with the accents that belong to the last one.
    pub(super) fn characters(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.origin[start];
        let behind = self.origin.get(end).copied().unwrap_or(self.characters);
        (first, behind.max(self.origin[end - 1] + 1))
    }

    fn push(&mut self, character: char) {
        if ESCAPED.contains(&character) {
            // The text form writes such a character byte by byte.
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                self.push_byte(byte);
            }
            return;
        }
        fold_character(character, &mut self.folded);
        self.origin.resize(self.folded.len(), self.characters);
        self.characters += 1;
    }

    fn push_byte(&mut self, byte: u8) {
        self.folded.push(byte);
        self.origin.push(self.characters);
        self.characters += 1;
    }
}

fn fold_character(character: char, folded: &mut Vec<u8>) {
    for lower in character.to_lowercase() {
        if is_combining_mark(lower) {
            continue;
        }
        match base_letters(lower) {
            Some(base) => folded.extend_from_slice(base.as_bytes()),
            None => folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn is_combining_mark(character: char) -> bool {
    matches!(character, '\u{0300}'..='\u{036F}')
}

/// Returns the letters that a lower-case Latin letter with an accent, or a ligature, is sorted and searched as.
fn base_letters(character: char) -> Option<&'static str> {
    if character < 'ß' {
        return None;
    }
    Some(match character {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' | 'ạ'..='ặ' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ð' | 'ď' | 'đ' => "d",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ'..='ệ' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ǐ' | 'ỉ' | 'ị' => "i",
        'ĳ' => "ij",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' | 'ơ' | 'ǒ' | 'ọ'..='ợ' => "o",
        'œ' => "oe",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'þ' => "th",
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ư' | 'ǔ' | 'ụ'..='ự' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' | 'ỳ'..='ỹ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::share::CatalogPath;

    #[test]
    fn case_accents_and_composition_fold_away() {
        for (name, folded) in [
            ("Photo.JPG", "photo.jpg"),
            ("Çà et là", "ca et la"),
            ("STRASSE straße", "strasse strasse"),
            ("Łódź ŒUVRE Æon", "lodz oeuvre aeon"),
            ("e\u{301}te\u{301}", "ete"),
            ("İstanbul", "istanbul"),
            ("Tiếng Việt", "tieng viet"),
            ("日本語 ПРИВЕТ", "日本語 привет"),
        ] {
            assert_eq!(String::from_utf8(fold(name.as_bytes())).unwrap(), folded);
        }
        assert_eq!(fold(b"A\xFFB"), b"a\xFFb");
    }

    #[test]
    fn a_match_takes_the_accents_behind_it_along() {
        let traced = Traced::new("cafe\u{301} x".as_bytes());
        assert_eq!(traced.folded, b"cafe x");
        assert_eq!(traced.characters(0, 4), (0, 5));
        assert_eq!(traced.characters(5, 6), (6, 7));
        let ligature = Traced::new("aßb".as_bytes());
        assert_eq!(ligature.characters(1, 2), (1, 2));
        assert_eq!(ligature.characters(2, 4), (1, 3));
    }

    proptest! {
        #[test]
        fn tracing_folds_alike_and_counts_the_characters_of_the_text_form(name in proptest::collection::vec(1u8..=255, 1..40)) {
            let traced = Traced::new(&name);
            prop_assert_eq!(&traced.folded, &fold(&name));
            if let Ok(path) = CatalogPath::root().join(&name) {
                prop_assert_eq!(traced.characters, path.name().chars().count());
            }
        }

        #[test]
        fn private_use_characters_are_counted_as_the_text_form_writes_them(name in "[\u{EF00}-\u{EFFF}a]{1,8}") {
            let path = CatalogPath::root().join(name.as_bytes()).unwrap();
            prop_assert_eq!(Traced::new(name.as_bytes()).characters, path.name().chars().count());
        }

        #[test]
        fn folding_twice_changes_nothing(name in "\\PC{0,20}") {
            let once = fold(name.as_bytes());
            prop_assert_eq!(fold(&once), once);
        }
    }
}
