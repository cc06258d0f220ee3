//! What hostile bytes meet behind a link's first slash: the token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Key, Keys, TransferSecret};
use crate::share::{ShareId, Timestamp};

const SECRET: &str = "q8Zp3LfX0bWvT7yRm2NcKd5HsJ9gUeA1";

/// A token's text: only the spelling that is minted verifies.
///
/// The first byte says what the others are: the text itself; what replaces a genuine token from some place on; or header and
/// claims, a zero byte between, which are signed with the right key, as a leaked key or a second program with it would.
pub(crate) fn token(data: &[u8]) {
    let keys = Keys::new(vec![Key::new(SECRET).expect("a good secret")], [7; 32]);
    let Some((way, rest)) = data.split_first() else { return };
    let text = match way % 3 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => spliced(&keys, rest),
        _ => signed(&keys, rest),
    };
    let Ok(verified) = keys.verify(&text) else { return };
    let parts: Vec<&str> = text.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("what verifies is base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("what verifies is JSON");
    let issued = claims["iat"].as_i64().expect("what verifies says when it was made");
    // Claims count whole seconds, and milliseconds of a time that far off do not fit.
    if let Some(issued) = issued.checked_mul(1000) {
        assert_eq!(keys.mint(verified.share, verified.link, Timestamp(issued), verified.expires), text, "a second spelling");
    }
    assert_eq!(parts.len(), 3);
    assert_eq!(claims.as_object().map(serde_json::Map::len), Some(5), "it says more than a link does: {claims}");
}

fn spliced(keys: &Keys, data: &[u8]) -> String {
    let link = "0191e4a2b3c44d5e8f60718293a4b5c6".parse().expect("an id");
    let genuine = keys.mint(ShareId::from_random(42), link, Timestamp(1_700_000_000_000), Timestamp(1_700_003_600_000));
    let Some((at, twist)) = data.split_first_chunk::<2>() else { return genuine };
    let at = usize::from(u16::from_le_bytes(*at)) % (genuine.len() + 1);
    let behind = (at + twist.len()).min(genuine.len());
    [&genuine.as_bytes()[..at], twist, &genuine.as_bytes()[behind..]].concat().iter().map(|byte| char::from(*byte)).collect()
}

fn signed(keys: &Keys, data: &[u8]) -> String {
    let zero = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (header, claims) = (&data[..zero], data.get(zero + 1..).unwrap_or_default());
    // The key's id is no secret: it stands in every link.
    let kid = keys.keys[0].kid.as_bytes();
    let header = match header.windows(3).position(|part| part == b"KID") {
        Some(at) => [&header[..at], kid, &header[at + 3..]].concat(),
        None => header.to_vec(),
    };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes a key of any length").chain_update(&message).finalize();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

/// The secret of a transfer: one spelling.
pub(crate) fn transfer_secret(data: &[u8]) {
    if let Some(secret) = TransferSecret::parse(data) {
        assert_eq!(secret.expose().as_bytes(), data);
    }
}
