//! The targets, fed from the kept corpus and from seeded twists of it: without a fuzzer, on every machine.
//!
//! A twist is a function of the target's name and of a number, so a failure prints one line that makes it again.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::TARGETS;

/// How many twists each target gets where `FUZZ_INPUTS` does not say: a few hundred thousand in all within seconds.
const DEFAULT_INPUTS: u64 = 20_000;
/// The longest twist; the longest corpus entry is a head of 16 KiB.
const MAX_LENGTH: usize = 20 * 1024;

#[test]
#[expect(clippy::disallowed_methods, reason = "how much a test tries is no setting of the program")]
fn every_target_holds_on_its_corpus_and_on_twists_of_it() {
    let inputs = std::env::var("FUZZ_INPUTS").ok().map_or(DEFAULT_INPUTS, |text| text.parse().expect("FUZZ_INPUTS is a number"));
    let only = std::env::var("FUZZ_CASE").ok();
    let (only, number) = only.as_deref().map_or(("", None), |text| text.split_once(':').map_or((text, None), |(of, n)| (of, Some(n))));
    for (name, target) in TARGETS.iter().filter(|(name, _)| only.is_empty() || only == *name) {
        let kept = Kept::read(name);
        match number {
            Some(number) => feed(name, *target, &kept, number.parse().expect("FUZZ_CASE is a target, or target:number")),
            None => (0..kept.entries.len() as u64 + inputs).for_each(|number| feed(name, *target, &kept, number)),
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_an_entrance_for_libfuzzer() {
    for (name, _) in TARGETS {
        assert!(!Kept::read(name).entries.is_empty(), "fuzz/corpus/{name} is empty");
        let entrance = std::fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(entrance.contains(&format!("{name:?}")), "fuzz_targets/{name}.rs feeds another");
    }
    let sizes = TARGETS.iter().flat_map(|(name, _)| Kept::read(name).entries).map(|entry| entry.len());
    assert!(sizes.sum::<usize>() < 300 * 1024, "the corpus is kept small");
}

fn feed(name: &str, target: super::Target, kept: &Kept, number: u64) {
    let input = kept.input(name, number);
    let _telling = Telling { name, number, input: &input };
    target(&input);
}

/// Tells how to make a case again, where it panics.
struct Telling<'a> {
    name: &'a str,
    number: u64,
    input: &'a [u8],
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { name, number, input } = self;
            eprintln!("the input: {:?}", input.escape_ascii().to_string());
            eprintln!("again: FUZZ_CASE={name}:{number} cargo test --lib fuzz::tests::every_target_holds");
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What is kept for a target: whole inputs, and words that matter in them.
struct Kept {
    entries: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Kept {
    fn read(name: &str) -> Self {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder().join("corpus").join(name)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        let entries = files.iter().map(|path| std::fs::read(path).expect("the corpus can be read")).collect();
        let words = std::fs::read_to_string(folder().join(format!("dictionaries/{name}.dict"))).unwrap_or_default();
        Self { entries, words: words.lines().filter_map(word).collect() }
    }

    /// Returns the input of this number: first the corpus as it is, then twists.
    fn input(&self, name: &str, number: u64) -> Vec<u8> {
        if let Some(entry) = usize::try_from(number).ok().and_then(|at| self.entries.get(at)) {
            return entry.clone();
        }
        let mut dice = Dice(name.bytes().fold(number, |hash, byte| hash.wrapping_mul(0x100_0000_01B3) ^ u64::from(byte)));
        let mut input = if dice.below(16) == 0 { Vec::new() } else { dice.one_of(&self.entries).clone() };
        for _ in 0..=dice.below(6) {
            self.twist(&mut input, &mut dice);
        }
        input.truncate(MAX_LENGTH);
        input
    }

    fn twist(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        let (at, until) = dice.span(input.len());
        match dice.below(10) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = dice.telling_byte(),
            2 => input.insert(at, dice.telling_byte()),
            3 => drop(input.drain(at..until)),
            4 => {
                let copy = input[at..until].to_vec();
                let copies = copy.repeat(1 + dice.below(8));
                drop(input.splice(until..until, copies));
            }
            5 if !self.words.is_empty() => drop(input.splice(at..at, dice.one_of(&self.words).clone())),
            6 if !self.words.is_empty() => drop(input.splice(at..until, dice.one_of(&self.words).clone())),
            7 => {
                let other = dice.one_of(&self.entries);
                let (from, to) = dice.span(other.len());
                drop(input.splice(at..until, other[from..to].to_vec()));
            }
            8 => input.truncate(at),
            _ => {
                let number = dice.number();
                drop(input.splice(at..until, number.into_bytes()));
            }
        }
    }
}

/// Reads a line of libFuzzer's dictionaries: `"bytes\x0d"`, or a comment.
fn word(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.trim().strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut word = Vec::new();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            word.push(*byte);
        } else if let Some(digits) = rest.strip_prefix(b"x") {
            let text = std::str::from_utf8(&digits[..2]).expect("two digits");
            word.push(u8::from_str_radix(text, 16).expect("two hexadecimal digits"));
            rest = &digits[2..];
        } else {
            word.push(rest[0]);
            rest = &rest[1..];
        }
    }
    Some(word)
}

/// Randomness that repeats: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Returns a place and one at or behind it, near it more often than far.
    fn span(&mut self, length: usize) -> (usize, usize) {
        let at = self.below(length + 1);
        let most = if self.below(4) == 0 { length - at } else { (length - at).min(8) };
        (at, at + self.below(most + 1))
    }

    fn telling_byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\t\n\x0b\r\x1b \"#%&'()+,-./:;<=>?@[\\]_`{|}~\x7f\x80\xc0\xe2\xef\xff019aAzZ";
        if self.below(4) == 0 { self.roll() as u8 } else { *self.one_of(TELLING) }
    }

    fn number(&mut self) -> String {
        let edge = *self.one_of(&[0_i128, 1, 9, 10, 255, 1024, 65_535, 1 << 31, 1 << 32, 1 << 53, 1 << 63, 1 << 64, 1 << 100]);
        let mut text = (edge + self.below(3) as i128 - 1).to_string();
        if self.below(8) == 0 {
            let _ = write!(text, "e{}", self.below(400));
        }
        text
    }
}
