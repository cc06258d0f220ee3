//! Finds names: first by what they contain, then by letters in order.
//!
//! Each word of the query must stand in the name or in the path. One scan of the buffer of folded names per word says which
//! names contain it; since a folder stands before what is in it, one more pass passes matches on from folders to their content.
//! What is left of the page is filled with names from which the query can be spelt.

use memchr::memmem::Finder;

use super::filter::Filter;
use super::fold::{Traced, fold};
use super::fuzzy;
use super::tree::{ROOT, Tree, letters};
use super::{CatalogError, Hit};
use crate::share::CatalogPath;

/// The longest query, in bytes: as long as a name can be.
const MAX_QUERY_BYTES: usize = 256;
/// The most words of a query: a bit each.
const MAX_WORDS: usize = 16;
/// Fuzzy matching with less than this would find everything.
const MIN_FUZZY_CHARACTERS: usize = 2;

/// How well one word matches a name; smaller is better.
const AT_START: u16 = 0;
const AT_WORD_START: u16 = 1;
const INSIDE: u16 = 2;
const IN_PATH: u16 = 4;
/// How well all of it matches where the name is the query, ...
const EXACT: u16 = 0;
/// ... or is the query and an extension.
const EXACT_STEM: u16 = 1;
/// All else comes behind.
const IN_PARTS: u16 = 2;

/// What is searched for.
#[derive(Debug)]
pub(super) struct Query {
    words: Vec<Word>,
    /// The folded words with one space between them.
    whole: Vec<u8>,
    /// The folded words without spaces, for fuzzy matching.
    squeezed: Vec<u8>,
}

/// One word, folded.
#[derive(Debug)]
struct Word {
    finder: Finder<'static>,
    /// The parts between slashes, where there are any: `2024/hol` finds `2024/holiday`.
    parts: Option<Vec<Vec<u8>>>,
}

impl Query {
    /// Reads what an owner typed.
    ///
    /// # Errors
    /// [`CatalogError::InvalidQuery`] where it is too long or holds what no name does.
    pub(super) fn parse(text: &str) -> Result<Self, CatalogError> {
        let invalid = |reason| Err(CatalogError::InvalidQuery { reason });
        if text.len() > MAX_QUERY_BYTES {
            return invalid("the search text is too long: at most 256 bytes");
        }
        if text.contains('\0') {
            return invalid("the search text may not contain a NUL character");
        }
        let words: Vec<Vec<u8>> = text.split_whitespace().map(|word| fold(&raw_bytes(word))).filter(|word| !word.is_empty()).collect();
        if words.len() > MAX_WORDS {
            return invalid("the search text has too many words: at most 16");
        }
        Ok(Self { whole: words.join(&b' '), squeezed: words.concat(), words: words.iter().map(|word| Word::new(word)).collect() })
    }
}

impl Word {
    fn new(folded: &[u8]) -> Self {
        let parts = folded.contains(&b'/').then(|| folded.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect());
        Self { finder: Finder::new(folded).into_owned(), parts }
    }
}

/// Returns the best `limit` hits that pass the filter, best first, and how many there are in all.
pub(super) fn search(tree: &Tree, query: &Query, filter: &Filter, limit: usize) -> (Vec<Hit>, usize) {
    if query.words.is_empty() {
        return (Vec::new(), 0);
    }
    let matches = Matches::of(tree, query);
    let mut best = matches.ranked(tree, query, filter);
    let mut total = best.len();
    keep_best(&mut best, limit);
    let mut hits: Vec<Hit> = best.iter().map(|ranked| hit(tree, ranked.index(), &word_ranges(query, tree, ranked.index()))).collect();
    if hits.len() < limit && query.squeezed.len() >= MIN_FUZZY_CHARACTERS {
        let mut spelt = spelt_from(tree, query, filter, &matches);
        total += spelt.len();
        keep_best(&mut spelt, limit - hits.len());
        hits.extend(spelt.iter().map(|ranked| {
            let ranges = fuzzy::spell(&query.squeezed, tree.folded_name(ranked.index())).map(|spelt| spelt.ranges).unwrap_or_default();
            hit(tree, ranked.index(), &ranges)
        }));
    }
    (hits, total)
}

/// Which words match where.
struct Matches {
    /// For each entry, the words that stand in its name: a bit each.
    in_name: Vec<u16>,
    /// For each entry, the words that stand in its path.
    in_path: Vec<u16>,
    /// For each entry, the sum of how well they match its name.
    quality: Vec<u16>,
    all: u16,
}

impl Matches {
    fn of(tree: &Tree, query: &Query) -> Self {
        let all = (1_u32 << query.words.len()) - 1;
        let all = u16::try_from(all).expect("there are at most MAX_WORDS words");
        let mut matches = Self { in_name: vec![0; tree.len()], in_path: Vec::new(), quality: vec![0; tree.len()], all };
        for (number, word) in query.words.iter().enumerate() {
            match &word.parts {
                None => matches.scan(tree, number, &word.finder),
                Some(parts) => matches.follow(tree, number, parts),
            }
        }
        matches.in_path = matches.in_name.clone();
        for index in tree.indexes() {
            matches.in_path[index as usize] |= matches.in_path[tree.parent(index) as usize];
        }
        matches
    }

    /// Finds the names that contain a word.
    fn scan(&mut self, tree: &Tree, number: usize, finder: &Finder<'_>) {
        let folded = tree.folded();
        let (mut from, mut index) = (0, ROOT);
        while let Some(found) = finder.find(&folded[from..]) {
            index = tree.entry_at(from + found, index);
            let name = tree.folded_name(index);
            let first = from + found - tree.folded_start(index);
            self.note(index, number, quality(name, first, finder));
            from = tree.folded_start(index) + name.len() + 1;
        }
    }

    /// Finds the paths in which names follow each other as the parts of a word with slashes do.
    fn follow(&mut self, tree: &Tree, number: usize, parts: &[Vec<u8>]) {
        for index in tree.indexes() {
            if path_ends_with(tree, index, parts) {
                self.note(index, number, AT_START);
            }
        }
    }

    fn note(&mut self, index: u32, number: usize, quality: u16) {
        self.in_name[index as usize] |= 1 << number;
        self.quality[index as usize] += quality;
    }

    fn ranked(&self, tree: &Tree, query: &Query, filter: &Filter) -> Vec<Ranked> {
        let fits = |index: &u32| self.matches(*index) && tree.passes(*index, filter);
        tree.indexes().filter(fits).map(|index| self.rank(tree, query, index)).collect()
    }

    fn matches(&self, index: u32) -> bool {
        self.in_path[index as usize] == self.all
    }

    fn rank(&self, tree: &Tree, query: &Query, index: u32) -> Ranked {
        let in_name = self.in_name[index as usize];
        if in_name == 0 {
            // Where only the path matches, a short name is no merit.
            return Ranked::new(IN_PARTS + IN_PATH * count(self.all), 0, index);
        }
        let name = tree.folded_name(index);
        let score = match name.strip_prefix(&query.whole[..]) {
            Some([]) => EXACT,
            Some([b'.', extension @ ..]) if !extension.contains(&b'.') => EXACT_STEM,
            _ => IN_PARTS + self.quality[index as usize] + IN_PATH * count(self.all & !in_name),
        };
        Ranked::new(score, name.len(), index)
    }
}

fn count(words: u16) -> u16 {
    u16::try_from(words.count_ones()).expect("16 bits have at most 16 ones")
}

/// Returns how well a word matches a name that contains it, first at `first`.
fn quality(name: &[u8], first: usize, finder: &Finder<'_>) -> u16 {
    if first == 0 {
        return AT_START;
    }
    let mut at = first;
    loop {
        if fuzzy::is_word_start(name, at) {
            return AT_WORD_START;
        }
        match finder.find(&name[at + 1..]) {
            Some(next) => at += 1 + next,
            None => return INSIDE,
        }
    }
}

/// Returns whether the names on the way to an entry end as `parts` say: the first part ends a folder's name, the last begins the
/// entry's own, those between are whole names.
fn path_ends_with(tree: &Tree, index: u32, parts: &[Vec<u8>]) -> bool {
    let Some((last, before)) = parts.split_last() else { return false };
    if !tree.folded_name(index).starts_with(last) {
        return false;
    }
    let mut at = index;
    for (place, part) in before.iter().enumerate().rev() {
        at = tree.parent(at);
        let name = tree.folded_name(at);
        let fits = if place == 0 { name.ends_with(part) } else { at != ROOT && name == &part[..] };
        if !fits {
            return false;
        }
    }
    true
}

/// Finds the names from which the query can be spelt and that are not found already.
fn spelt_from(tree: &Tree, query: &Query, filter: &Filter, matches: &Matches) -> Vec<Ranked> {
    let wanted = letters(&query.squeezed);
    tree.indexes()
        .filter(|index| wanted & !tree.letters(*index) == 0 && !matches.matches(*index) && tree.passes(*index, filter))
        .filter_map(|index| {
            let name = tree.folded_name(index);
            let spelt = fuzzy::spell(&query.squeezed, name)?;
            Some(Ranked::new(spelt.cost, name.len(), index))
        })
        .collect()
}

/// An entry and how well it matches, in one number: the smaller, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked(u64);

impl Ranked {
    /// Of two that match alike, the shorter name is better, then the one that stands higher up.
    fn new(score: u16, name_length: usize, index: u32) -> Self {
        let length = u16::try_from(name_length).unwrap_or(u16::MAX);
        Self(u64::from(score) << 48 | u64::from(length) << 32 | u64::from(index))
    }

    fn index(self) -> u32 {
        self.0 as u32
    }
}

/// Leaves the best `limit`, sorted.
fn keep_best(ranked: &mut Vec<Ranked>, limit: usize) {
    if limit == 0 {
        ranked.clear();
    } else if ranked.len() > limit {
        ranked.select_nth_unstable(limit - 1);
        ranked.truncate(limit);
    }
    ranked.sort_unstable();
}

/// Returns which bytes of a folded name the words of a query match.
fn word_ranges(query: &Query, tree: &Tree, index: u32) -> Vec<(usize, usize)> {
    let name = tree.folded_name(index);
    let of_word = |word: &Word| match &word.parts {
        None => word.finder.find(name).map(|start| (start, start + word.finder.needle().len())),
        Some(parts) if path_ends_with(tree, index, parts) => parts.last().map(|last| (0, last.len())),
        Some(_) => None,
    };
    query.words.iter().filter_map(of_word).filter(|(start, end)| start < end).collect()
}

fn hit(tree: &Tree, index: u32, ranges: &[(usize, usize)]) -> Hit {
    let traced = Traced::new(tree.name(index));
    let mut highlights: Vec<(usize, usize)> = ranges.iter().map(|(start, end)| traced.characters(*start, *end)).collect();
    highlights.sort_unstable();
    highlights.dedup_by(|next, before| {
        let touches = next.0 <= before.1;
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
    Hit { entry: tree.entry(index), highlights }
}

/// Returns the bytes that a word's text form stands for, so that a name can be pasted as it was shown.
fn raw_bytes(word: &str) -> Vec<u8> {
    word.split('/')
        .map(|part| CatalogPath::parse(part).map_or_else(|_| part.into(), |path| path.as_bytes().to_vec()))
        .collect::<Vec<_>>()
        .join(&b'/')
}

#[cfg(test)]
mod tests;
