//! The link's token: a JWT that says which share it opens and until when, and nothing else.
//!
//! The claims are `jti`, `sub` (the share), `aud`, `iat` and `exp`: no path, no name. HS256 is the only algorithm. A
//! token has exactly one spelling: what verifies is minted again from its claims and must come out letter for letter the
//! same, so no twist of base64, no reordered claim and no extra header field makes a second text of one link.
//!
//! Whether a link may still be used is not decided here: the share's state in the store says that, keyed by `jti`.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hs256;
pub mod random;

use std::fmt;
use std::hash::{Hash, Hasher};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::share::{ShareId, Timestamp, TokenId, TransferId};

/// Who a link's token is for; nothing else that this program or another signs has it.
const AUDIENCE: &str = "portcullis:link";
/// The longest text that is looked at as a token. A minted one has about 300 letters.
const MAX_TOKEN_BYTES: usize = 512;
/// The shortest secret that is taken: 256 bits as hexadecimal would be 64, as base64 43; 32 is what the original asks.
pub const MIN_SECRET_BYTES: usize = 32;
/// Secrets that stand in examples all over the world, among them the original's. Compared in lower case, as a part.
const WELL_KNOWN: &[&str] = &[
    "dev-secret-change-me",
    "change-me",
    "changeme",
    "change_me",
    "your-secret",
    "your_secret",
    "yoursecret",
    "your-256-bit-secret",
    "your-super-secret",
    "super-secret",
    "supersecret",
    "secret-key",
    "secretkey",
    "secret_key",
    "jwt-secret",
    "jwt_secret",
    "jwtsecret",
    "example",
    "placeholder",
    "replace-me",
    "replace_me",
    "replace-this",
    "insert-",
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789abcdef0123456789abcdef",
    "1234567890",
    "password",
];

/// Says why a secret is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Too short to resist guessing.
    #[error("it is too short: {MIN_SECRET_BYTES} characters or more (`openssl rand -base64 48` makes a good one)")]
    TooShort,
    /// It stands in an example that everybody can read.
    #[error("it is a well-known example value; make your own (`openssl rand -base64 48`)")]
    WellKnown,
    /// It repeats a few characters.
    #[error("it repeats a few characters; make a random one (`openssl rand -base64 48`)")]
    Repetitive,
}

/// One secret that signs or verifies links.
#[derive(Clone)]
pub struct Key {
    kid: String,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

impl Key {
    /// Takes a secret, given or generated.
    ///
    /// # Errors
    /// [`WeakSecret`] where anybody could guess it.
    pub fn new(secret: &str) -> Result<Self, WeakSecret> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(WeakSecret::TooShort);
        }
        let lower = secret.to_lowercase();
        if WELL_KNOWN.iter().any(|known| lower.contains(known)) {
            return Err(WeakSecret::WellKnown);
        }
        let mut seen = [false; 256];
        secret.bytes().for_each(|byte| seen[usize::from(byte)] = true);
        if seen.iter().filter(|seen| **seen).count() < 10 {
            return Err(WeakSecret::Repetitive);
        }
        // The id tells keys apart and gives nothing away: 32 bits of a digest with a prefix of its own.
        let digest = Sha256::new().chain_update(b"portcullis kid\0").chain_update(secret).finalize();
        let kid = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { kid, secret: secret.as_bytes().to_vec() })
    }
}

impl Key {
    /// Names this secret beside what it wraps, and gives nothing of it away: 16 hexadecimal digits of a digest of what only it can compute.
    pub fn wrap_id(&self) -> String {
        let digest = Sha256::digest(self.alone("portcullis transfer key id"));
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Wraps the key from which transfers' secrets are derived, so that only who holds this secret has it; or unwraps it.
    pub fn wrap(&self, key: &[u8; 32]) -> [u8; 32] {
        let mask = self.alone("portcullis transfer key");
        std::array::from_fn(|at| key[at] ^ mask[at])
    }

    /// Returns what nobody can compute for a purpose but who holds this secret.
    fn alone(&self, purpose: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// The keys of this installation: the first signs, all verify, so that links outlive a rotation.
#[derive(Debug, Clone)]
pub struct Keys {
    keys: Vec<Key>,
    transfer_secret: [u8; 32],
}

/// What stands in a genuine token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which share it opens.
    pub share: ShareId,
    /// Which link it is.
    pub link: TokenId,
    /// When it ended or ends, as it was minted. The owner may have extended the share since.
    pub expires: Timestamp,
}

/// Says that a text is no token of ours. It says no more: whoever forges learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a genuine link")]
pub struct Invalid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    jti: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: i64,
}

impl Keys {
    /// Takes the keys, the signing one first. `transfer_secret` is what the secrets of transfer URLs are derived from; it
    /// is not rotated, or running downloads would break.
    ///
    /// # Panics
    /// Where `keys` is empty.
    pub fn new(keys: Vec<Key>, transfer_secret: [u8; 32]) -> Self {
        assert!(!keys.is_empty(), "there is a key that signs");
        hs256::install();
        Self { keys, transfer_secret }
    }

    /// Mints the token of a link. The same arguments give the same text.
    pub fn mint(&self, share: ShareId, link: TokenId, issued: Timestamp, expires: Timestamp) -> String {
        // Whole seconds, the end rounded up: the share's own clock ends it to the millisecond.
        let claims = Claims {
            jti: link.to_string(),
            sub: share.to_string(),
            aud: AUDIENCE.to_owned(),
            exp: expires.0.div_euclid(1000) + i64::from(expires.0.rem_euclid(1000) > 0),
            iat: issued.0.div_euclid(1000),
        };
        encode(&self.keys[0], &claims)
    }

    /// Verifies a token's signature and shape. It does not look at the time: a genuine link that has ended gets a
    /// friendly answer, a forged one gets none.
    ///
    /// # Errors
    /// [`Invalid`] for everything that [`Keys::mint`] did not write.
    pub fn verify(&self, text: &str) -> Result<Verified, Invalid> {
        if text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(Invalid);
        }
        let kid = jsonwebtoken::decode_header(text).ok().and_then(|header| header.kid).ok_or(Invalid)?;
        let key = self.keys.iter().find(|key| key.kid == kid).ok_or(Invalid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(text, &DecodingKey::from_secret(&key.secret), &validation).map_err(|_| Invalid)?.claims;
        // One link, one spelling.
        if !bool::from(encode(key, &claims).as_bytes().ct_eq(text.as_bytes())) {
            return Err(Invalid);
        }
        Ok(Verified {
            share: claims.sub.parse().map_err(|_| Invalid)?,
            link: claims.jti.parse().map_err(|_| Invalid)?,
            expires: Timestamp(claims.exp.checked_mul(1000).ok_or(Invalid)?),
        })
    }

    /// Returns the secret that stands in a transfer's URL: 128 bits that only this installation can derive from the
    /// transfer's public id, so neither the store nor a backup holds it.
    pub fn transfer_secret(&self, transfer: TransferId) -> TransferSecret {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.transfer_secret).expect("HMAC takes a key of any length");
        mac.update(b"portcullis transfer\0");
        mac.update(transfer.as_bytes());
        let mut secret = [0; 16];
        secret.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        TransferSecret(secret)
    }
}

/// The key by which requests that another program answers are marked in its log.
#[derive(Clone)]
pub struct LogKey(Hmac<Sha256>);

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(…)")
    }
}

impl LogKey {
    /// Returns what proves that a text is ours: 128 bits.
    pub fn mark(&self, text: &str) -> [u8; 16] {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes()[..16].try_into().expect("a digest has 32 bytes")
    }

    /// Returns whether this proves that a text is ours; takes as long whether it does or not.
    pub fn proves(&self, text: &str, mark: [u8; 16]) -> bool {
        self.mark(text).ct_eq(&mark).into()
    }
}

impl Keys {
    /// Returns the key by which requests that another program answers are marked in its log.
    pub fn log_key(&self) -> LogKey {
        let key = vouch(&self.transfer_secret, "portcullis log", b"");
        LogKey(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
    }
}

/// Returns what nobody says of `message` but who holds `key`: 128 bits. Of another purpose it says something else.
pub fn vouch(key: &[u8; 32], purpose: &str, message: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [purpose.as_bytes(), b"\0", message] {
        mac.update(part);
    }
    let all = mac.finalize().into_bytes();
    std::array::from_fn(|at| all[at])
}

/// The secret in a transfer's URL: 32 hexadecimal digits. It is never logged.
#[derive(Clone, Copy, Eq)]
pub struct TransferSecret([u8; 16]);

impl PartialEq for TransferSecret {
    /// Takes as long whatever they have in common.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for TransferSecret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl TransferSecret {
    /// Reads the text that stands in a URL. It has one spelling.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut secret = [0; 16];
        if text.len() != 32 {
            return None;
        }
        for (index, byte) in secret.iter_mut().enumerate() {
            *byte = digit(text[2 * index])? << 4 | digit(text[2 * index + 1])?;
        }
        Some(Self(secret))
    }

    /// Returns the text for the URL.
    pub fn expose(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TransferSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransferSecret(…)")
    }
}

fn encode(key: &Key, claims: &Claims) -> String {
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&key.secret)).expect("HMAC signs any message with any key")
}

#[cfg(test)]
mod tests;
