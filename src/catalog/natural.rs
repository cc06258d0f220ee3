//! The order in which a person expects names: numbers by their value, letters whatever their case or accent.
//!
//! A name becomes a key of bytes whose plain order is the natural one, so a folder of 100 000 names is sorted by comparing
//! bytes. Names with equal keys (`A` and `a`, `1` and `01`) are told apart by their own bytes, so the order is total.

use std::cmp::Ordering;

use super::fold::fold_onto;

/// Stands before each number in a key, where a digit would: numbers sort among other characters as digits do.
const NUMBER: u8 = b'0';

/// Returns the key of a name; its bytes compare as the name sorts.
pub(super) fn key(name: &[u8]) -> Vec<u8> {
    let mut keys = Keys::default();
    keys.of(name);
    keys.key
}

/// Makes one key after the other in the same memory.
#[derive(Debug, Default)]
pub(super) struct Keys {
    folded: Vec<u8>,
    key: Vec<u8>,
}

impl Keys {
    /// Returns the key of a name.
    pub(super) fn of(&mut self, name: &[u8]) -> &[u8] {
        self.folded.clear();
        self.key.clear();
        fold_onto(name, &mut self.folded);
        let mut rest = &self.folded[..];
        while !rest.is_empty() {
            let letters = rest.iter().position(u8::is_ascii_digit).unwrap_or(rest.len());
            self.key.extend_from_slice(&rest[..letters]);
            rest = &rest[letters..];
            let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            if digits > 0 {
                push_number(&mut self.key, &rest[..digits]);
            }
            rest = &rest[digits..];
        }
        &self.key
    }
}

/// Returns the order of `count` names that are ranked before they are compared; `at` tells a name and its rank. Most comparisons
/// see no more than eight bytes of the keys, behind what all begin with, which lie beside the numbers.
pub(super) fn order<'n>(count: usize, at: impl Fn(usize) -> (u8, &'n [u8])) -> Vec<usize> {
    let (mut bytes, mut ends, mut keys) = (Vec::with_capacity(count * 32), vec![0], Keys::default());
    for index in 0..count {
        bytes.extend_from_slice(keys.of(at(index).1));
        ends.push(bytes.len());
    }
    let key = |index: usize| &bytes[ends[index]..ends[index + 1]];
    let alike = |length, index| key(0).iter().zip(key(index)).take(length).take_while(|(a, b)| a == b).count();
    let common = (0..count).fold(usize::MAX, alike);
    let sign = |index: usize| {
        let (mut sign, rest) = ([0; 8], &key(index)[common..]);
        let length = rest.len().min(sign.len());
        sign[..length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(sign)
    };
    let mut order: Vec<(u8, u64, usize)> = (0..count).map(|index| (at(index).0, sign(index), index)).collect();
    order.sort_unstable_by(|a, b| {
        let rest = || (key(a.2), at(a.2).1).cmp(&(key(b.2), at(b.2).1));
        (a.0, a.1).cmp(&(b.0, b.1)).then_with(rest)
    });
    order.into_iter().map(|(.., index)| index).collect()
}

/// Compares two names.
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

/// A number with more digits is larger, so its length goes first; zeros in front do not count.
fn push_number(key: &mut Vec<u8>, digits: &[u8]) {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    for block in number_blocks(&digits[zeros..]) {
        key.push(NUMBER);
        key.push(u8::try_from(block.len()).expect("a block has at most 255 digits"));
        key.extend_from_slice(block);
    }
}

/// A name has at most 255 bytes, so one block it is; a longer text only costs the exact value of a number beyond 255 digits.
fn number_blocks(digits: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = digits.is_empty().then_some(digits);
    empty.into_iter().chain(digits.chunks(255))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
        names
    }

    #[test]
    fn numbers_sort_by_value_and_letters_whatever_their_case() {
        assert_eq!(sorted(vec!["b10", "B9", "b1", "a", "C"]), ["a", "b1", "B9", "b10", "C"]);
        assert_eq!(sorted(vec!["v1.10", "v1.9", "v1"]), ["v1", "v1.9", "v1.10"]);
        assert_eq!(sorted(vec!["x 02 b", "x 2 a", "x 10"]), ["x 2 a", "x 02 b", "x 10"]);
        assert_eq!(sorted(vec!["0", "00", "1", "000a"]), ["0", "00", "000a", "1"]);
        assert_eq!(
            sorted(vec!["99999999999999999999999", "100000000000000000000000"]),
            ["99999999999999999999999", "100000000000000000000000"]
        );
    }

    #[test]
    fn accents_stand_with_their_letters_however_they_are_written() {
        assert_eq!(sorted(vec!["zoo", "Ärger", "apfel", "bar"]), ["apfel", "Ärger", "bar", "zoo"]);
        assert_eq!(key("café".as_bytes()), key("cafe\u{301}".as_bytes()));
    }

    #[test]
    fn a_name_of_nothing_but_digits_has_a_key() {
        let nines = [b'9'; 255];
        let mut more = [b'9'; 254];
        more[0] = b'1';
        assert_eq!(compare(&more, &nines), Ordering::Less);
    }

    proptest! {
        #[test]
        fn many_are_ordered_as_two_are_compared(names in proptest::collection::vec("(IMG_|img_|a|1|0)?[aAbB012é_]{0,4}", 0..40)) {
            let at = |index: usize| (u8::from(index.is_multiple_of(5)), names[index].as_bytes());
            let mut expected: Vec<usize> = (0..names.len()).collect();
            expected.sort_by(|a, b| at(*a).0.cmp(&at(*b).0).then_with(|| compare(at(*a).1, at(*b).1)));
            let told = |order: Vec<usize>| order.into_iter().map(at).collect::<Vec<_>>();
            prop_assert_eq!(told(order(names.len(), at)), told(expected));
        }

        #[test]
        fn the_order_is_total(
            a in proptest::collection::vec(any::<u8>(), 0..12),
            b in proptest::collection::vec(any::<u8>(), 0..12),
            c in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn numbers_in_equal_surroundings_sort_by_value(before in "[a-z._-]{0,4}", behind in "[a-z._-]{0,4}", a: u64, b: u64) {
            let (x, y) = (format!("{before}{a}{behind}"), format!("{before}{b}{behind}"));
            prop_assert_eq!(compare(x.as_bytes(), y.as_bytes()), a.cmp(&b));
        }

        #[test]
        fn case_decides_only_between_equals(a in "[a-zA-Z0-9]{1,6}", b in "[a-zA-Z0-9]{1,6}") {
            let (low_a, low_b) = (a.to_lowercase(), b.to_lowercase());
            if key(low_a.as_bytes()) != key(low_b.as_bytes()) {
                prop_assert_eq!(compare(a.as_bytes(), b.as_bytes()), compare(low_a.as_bytes(), low_b.as_bytes()));
            }
        }
    }
}
