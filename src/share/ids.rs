//! The ids, each a type of its own so that none can stand for another.
//!
//! They are made elsewhere (the core draws no random numbers) and only checked here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Steady;

/// Crockford's base 32 without its look-alikes, in lower case: what ids in URLs are written in.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Says that a text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidId(&'static str);

/// Names a share: ten letters of base 32 (50 random bits). It is no secret: the link's token is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareId([u8; Self::LENGTH]);

impl ShareId {
    /// How many letters a share's id has.
    pub const LENGTH: usize = 10;

    /// Makes an id of 50 bits out of `random`.
    pub fn from_random(random: u64) -> Self {
        let mut letters = [0; Self::LENGTH];
        for (index, letter) in letters.iter_mut().enumerate() {
            *letter = ALPHABET[(random >> (5 * index)) as usize & 31];
        }
        Self(letters)
    }

    /// Returns the id's letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an id is made of ASCII letters only")
    }
}

impl FromStr for ShareId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let letters: [u8; Self::LENGTH] = text.as_bytes().try_into().map_err(|_| InvalidId("share id"))?;
        if letters.iter().all(|letter| ALPHABET.contains(letter)) { Ok(Self(letters)) } else { Err(InvalidId("share id")) }
    }
}

/// Names a transfer: 128 random bits, in hexadecimal.
///
/// It is not the secret in the recipient's URL, which only the installation's key can derive from it (`token/`). Whoever
/// knows the id (the owner's page, the store, a backup) cannot fetch with it, so it may be shown and kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId([u8; 16]);

impl TransferId {
    /// Makes the id from random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Makes the id from the first half of 32 random bytes.
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(bytes)
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TransferId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("transfer id");
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(invalid);
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| invalid)?;
        }
        Ok(Self(bytes))
    }
}

/// Names one link of a share: the token's `jti`. A share that is opened again gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // One spelling only: a uuid has several, and single use is keyed by this value.
        let id = Uuid::try_parse(text).map_err(|_| InvalidId("token id"))?;
        if id.as_simple().to_string() == text { Ok(Self(id)) } else { Err(InvalidId("token id")) }
    }
}

/// Names one HTTP request for bytes of a transfer; unique among all that answer requests for it, and the greater the later it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl RequestId {
    /// Makes one that is unique among all controllers of a store, and greater than those that began earlier: the time in front (42 bits
    /// of milliseconds, until 2109), the controller's number (12), then a count within the millisecond (10).
    pub fn among(controller: ControllerNumber, now: Steady, count: u64) -> Self {
        let time = u64::try_from(now.0).unwrap_or(0) & ((1 << 42) - 1);
        Self(time << 22 | u64::from(controller.0 & 0xfff) << 10 | count & 0x3ff)
    }

    /// Returns which controller answers it; [`ControllerNumber::ALONE`] for one that shares its store with nobody, whose numbers count
    /// up from 1.
    pub fn controller(self) -> ControllerNumber {
        ControllerNumber(if self.0 >> 22 == 0 { 0 } else { (self.0 >> 10 & 0xfff) as u16 })
    }
}

/// The number of a controller since it began to share its store with others: from 1 on. None that lives has that of another; one that is
/// started again has another than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ControllerNumber(pub u16);

impl ControllerNumber {
    /// That of a controller that shares its store with nobody.
    pub const ALONE: Self = Self(0);
}

impl fmt::Display for ControllerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! text_forms {
    ($($id:ident),+) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($id))
            }
        }
        impl Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
text_forms!(ShareId, TransferId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_id_reads_back_and_has_one_spelling() {
        let id = ShareId::from_random(0x1234_5678_9abc_def0);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<ShareId>().is_err() || id.as_str().bytes().all(|b| b.is_ascii_digit()));
        for wrong in ["", "short", "waytoolong00", "il0o000000", "../../etc0", "aaaaaaaaa\n"] {
            assert!(wrong.parse::<ShareId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_id_has_one_spelling() {
        let simple = "0191e4a2b3c44d5e8f60718293a4b5c6";
        assert_eq!(simple.parse::<TokenId>().unwrap().to_string(), simple);
        for other in ["0191e4a2-b3c4-4d5e-8f60-718293a4b5c6", "0191E4A2B3C44D5E8F60718293A4B5C6", "{0191e4a2b3c44d5e8f60718293a4b5c6}"] {
            assert!(other.parse::<TokenId>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_transfer_id_reads_back() {
        let id = TransferId::from_digest(&[0xab; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("AB".repeat(16).parse::<TransferId>().is_err());
        assert!("é".repeat(16).parse::<TransferId>().is_err());
    }
}
