//! Randomness: the one home of it.

use uuid::Uuid;

use crate::share::{ShareId, TokenId, TransferId};

/// Returns random bytes from the kernel.
///
/// # Panics
/// Where the kernel has no randomness, which Linux never reports once it has booted.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has randomness");
    bytes
}

/// Returns a new share's id.
pub fn share_id() -> ShareId {
    ShareId::from_random(u64::from_le_bytes(bytes()))
}

/// Returns a new link's id.
#[expect(clippy::disallowed_methods, reason = "this is the home of ids")]
pub fn token_id() -> TokenId {
    TokenId(Uuid::new_v4())
}

/// Returns a new transfer's id.
pub fn transfer_id() -> TransferId {
    TransferId::from_bytes(bytes())
}

/// Returns a new request's id, for logs and for answers that report a problem.
#[expect(clippy::disallowed_methods, reason = "this is the home of ids")]
pub fn request_id() -> String {
    Uuid::now_v7().as_simple().to_string()
}

/// Returns a secret of 256 bits that a person can copy: 64 hexadecimal digits.
pub fn secret() -> String {
    bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}
