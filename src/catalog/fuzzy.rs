//! Whether a text can be spelt from the letters of a name, in their order, and how far apart they stand.

use memchr::{memchr, memmem, memrchr};

/// The letters may span this many times the text's length ...
const MAX_SPREAD: usize = 3;
/// ... and this many bytes more; what is spread wider was not meant.
const EXTRA_SPREAD: usize = 8;
/// What a run of letters costs that does not begin where a word does.
const INSIDE_A_WORD: usize = 2;
/// What each further run of letters costs.
const NEW_RUN: usize = 1;

/// How a text is spelt from a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spelt {
    /// The smaller, the better.
    pub(super) cost: u16,
    /// Which bytes of the name spell it.
    pub(super) ranges: Vec<(usize, usize)>,
}

/// Spells a text from a name, both folded; `None` where it cannot be done, or only from letters far apart.
///
/// The end is where the text can first be complete; from there back the letters are taken as late as possible, which gives the
/// closest spelling that ends there.
pub(super) fn spell(text: &[u8], name: &[u8]) -> Option<Spelt> {
    let mut end = 0;
    for letter in characters(text) {
        end += find(letter, &name[end..])? + letter.len();
    }
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut limit = end;
    for letter in characters(text).collect::<Vec<_>>().into_iter().rev() {
        let start = find_last(letter, &name[..limit])?;
        match ranges.last_mut() {
            Some(run) if run.0 == start + letter.len() => run.0 = start,
            _ => ranges.push((start, start + letter.len())),
        }
        limit = start;
    }
    ranges.reverse();
    let span = end - limit;
    if span > text.len() * MAX_SPREAD + EXTRA_SPREAD {
        return None;
    }
    let runs: usize = ranges.iter().map(|(start, _)| if is_word_start(name, *start) { NEW_RUN } else { NEW_RUN + INSIDE_A_WORD }).sum();
    Some(Spelt { cost: u16::try_from(span - text.len() + runs).unwrap_or(u16::MAX), ranges })
}

/// Returns whether a word begins at this byte of a folded name: behind what is no letter, or where letters and digits meet.
pub(super) fn is_word_start(name: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| name[before]) else { return true };
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte >= 0x80;
    match name.get(at) {
        Some(byte) if byte.is_ascii_digit() => !before.is_ascii_digit(),
        _ => !is_letter(before),
    }
}

/// Returns the bytes of each character; bytes that are not UTF-8 stand alone.
fn characters(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid();
        let whole = valid.char_indices().map(move |(start, character)| &valid.as_bytes()[start..start + character.len_utf8()]);
        whole.chain(chunk.invalid().chunks(1))
    })
}

fn find(letter: &[u8], name: &[u8]) -> Option<usize> {
    match letter {
        [byte] => memchr(*byte, name),
        bytes => memmem::find(name, bytes),
    }
}

fn find_last(letter: &[u8], name: &[u8]) -> Option<usize> {
    match letter {
        [byte] => memrchr(*byte, name),
        bytes => memmem::rfind(name, bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(text: &str, name: &str) -> Option<Vec<(usize, usize)>> {
        spell(text.as_bytes(), name.as_bytes()).map(|spelt| spelt.ranges)
    }

    #[test]
    fn letters_in_order_spell_and_others_do_not() {
        assert_eq!(ranges("hldy", "holiday.mp4"), Some(vec![(0, 1), (2, 3), (4, 5), (6, 7)]));
        assert_eq!(ranges("img24", "img_2024.jpg"), Some(vec![(0, 3), (6, 8)]));
        assert_eq!(ranges("ba", "ab"), None);
        assert_eq!(ranges("語", "日本語"), Some(vec![(6, 9)]));
        assert_eq!(ranges("日語", "日本語"), Some(vec![(0, 3), (6, 9)]));
    }

    #[test]
    fn the_closest_spelling_that_ends_first_is_taken() {
        assert_eq!(ranges("ab", "a_xaab"), Some(vec![(4, 6)]));
    }

    #[test]
    fn letters_far_apart_were_not_meant() {
        assert_eq!(ranges("ab", &format!("a{}b", "x".repeat(12))), Some(vec![(0, 1), (13, 14)]));
        assert_eq!(ranges("ab", &format!("a{}b", "x".repeat(13))), None);
    }

    #[test]
    fn words_begin_behind_what_is_no_letter() {
        let name = b"img_2024holiday x9";
        let starts: Vec<usize> = (0..name.len()).filter(|at| is_word_start(name, *at) && name[*at].is_ascii_alphanumeric()).collect();
        assert_eq!(starts, [0, 4, 8, 16, 17]);
    }

    proptest! {
        #[test]
        fn what_is_spelt_is_the_text(text in "[a-c0é]{1,5}", name in "[a-c0é_]{0,15}") {
            let can_be_spelt = {
                let mut rest = name.chars();
                text.chars().all(|wanted| rest.any(|character| character == wanted))
            };
            let spelt = ranges(&text, &name);
            if let Some(ranges) = &spelt {
                let taken: Vec<u8> = ranges.iter().flat_map(|(start, end)| name.as_bytes()[*start..*end].iter().copied()).collect();
                prop_assert_eq!(taken, text.as_bytes());
            }
            prop_assert!(can_be_spelt || spelt.is_none());
        }
    }
}
