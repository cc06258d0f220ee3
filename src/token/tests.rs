use super::*;

const SECRET: &str = "q8Zp3LfX0bWvT7yRm2NcKd5HsJ9gUeA1";
const SECOND: &str = "Zx81mVbQ4tYpR0sLwEjK7nHdC3fGuA9i";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn keys(secrets: &[&str]) -> Keys {
    Keys::new(secrets.iter().map(|secret| Key::new(secret).unwrap()).collect(), [7; 32])
}

fn minted(keys: &Keys) -> (String, Verified) {
    let share = ShareId::from_random(42);
    let link = TokenId(uuid::Uuid::from_u128(7));
    let text = keys.mint(share, link, Timestamp(1_700_000_000_123), Timestamp(1_700_003_600_123));
    (text, Verified { share, link, expires: Timestamp(1_700_003_601_000) })
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (index, byte)| word | u32::from(*byte) << (16 - 8 * index));
        for index in 0..=chunk.len() {
            text.push(char::from(BASE64[(word >> (18 - 6 * index)) as usize & 63]));
        }
    }
    text
}

/// Signs any header and any claims with a good key: what a leaked library or another service of the owner's could do.
fn signed(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&message).finalize();
    format!("{message}.{}", base64(&mac.into_bytes()))
}

#[test]
fn what_is_minted_verifies_and_holds_no_more_than_it_says() {
    let keys = keys(&[SECRET]);
    let (text, verified) = minted(&keys);
    assert_eq!(keys.verify(&text), Ok(verified));
    assert_eq!(text, minted(&keys).0);
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    let claims = jsonwebtoken::decode::<serde_json::Map<String, serde_json::Value>>(&text, &key, &validation).unwrap().claims;
    let mut names: Vec<_> = claims.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iat", "jti", "sub"]);
}

#[test]
fn a_key_is_wrapped_for_whoever_holds_the_secret_and_named_without_telling_it() {
    let (one, other) = (Key::new(SECRET).unwrap(), Key::new(SECOND).unwrap());
    let wrapped = one.wrap(&[7; 32]);
    assert!(wrapped != [7; 32] && one.wrap(&wrapped) == [7; 32] && other.wrap(&wrapped) != [7; 32]);
    let id = one.wrap_id();
    assert!(id.len() == 16 && id != other.wrap_id() && id == Key::new(SECRET).unwrap().wrap_id());
    // The name is no part of what wraps, nor of the name that tokens carry.
    let hex: String = one.wrap(&[0; 32]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!hex.contains(&id) && !id.starts_with(&one.kid));
}

#[test]
fn a_token_has_one_spelling() {
    let keys = keys(&[SECRET]);
    let (text, _) = minted(&keys);
    // Every other letter at every place, which covers base64's spare bits.
    for index in 0..text.len() {
        for other in BASE64.iter().chain(b".=%+/ \n\0") {
            let mut changed = text.clone().into_bytes();
            if changed[index] != *other {
                changed[index] = *other;
                assert_eq!(keys.verify(&String::from_utf8(changed).unwrap()), Err(Invalid), "place {index}, {:?}", *other as char);
            }
        }
    }
    for twist in [format!("{text}="), format!(" {text}"), format!("{text}\n"), format!("{text}.x"), text.replace('.', "%2E"), String::new()]
    {
        assert_eq!(keys.verify(&twist), Err(Invalid), "{twist:?}");
    }
}

#[test]
fn a_good_signature_alone_is_not_enough() {
    let keys = keys(&[SECRET]);
    let kid = &keys.keys[0].kid;
    let header = format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{kid}"}}"#);
    let jti = "00000000000000000000000000000007";
    let sub = ShareId::from_random(42).to_string();
    let good = format!(r#"{{"jti":"{jti}","sub":"{sub}","aud":"portcullis:link","exp":1700003601,"iat":1700000000}}"#);
    assert_eq!(signed(&header, &good, SECRET), minted(&keys).0, "the test writes tokens as the product does");
    for claims in [
        good.replace("portcullis:link", "portcullis:admin"),
        good.replace("1700003601", "\"1700003601\""),
        good.replace("1700003601", "1700003601.0"),
        good.replace("1700003601", "1e400"),
        good.replace("1700003601", "99999999999999999999"),
        good.replace("1700003601", "null"),
        good.replace(&format!(r#""jti":"{jti}","#), ""),
        good.replace(jti, "00000000-0000-0000-0000-000000000007"),
        good.replace(&sub, "../../etc"),
        good.replace(r#""iat""#, r#""path":"film.mp4","iat""#),
        good.replace(r#""iat":1700000000"#, r#""iat":1700000000,"iat":1700000000"#),
        good.replace(',', ", "),
        "[]".to_owned(),
        "{}".to_owned(),
    ] {
        assert_eq!(keys.verify(&signed(&header, &claims, SECRET)), Err(Invalid), "{claims}");
    }
    for wrong in [
        header.replace("HS256", "none"),
        header.replace("HS256", "HS512"),
        header.replace("HS256", "RS256"),
        header.replace("HS256", "hs256"),
        header.replace(kid, "../../../dev/null"),
        header.replace(kid, ""),
        header.replace(r#","kid""#, r#","jku":"https://example.org/k","kid""#),
        header.replace(r#","kid""#, r#","crit":["x"],"kid""#),
        r#"{"typ":"JWT","alg":"HS256"}"#.to_owned(),
    ] {
        assert_eq!(keys.verify(&signed(&wrong, &good, SECRET)), Err(Invalid), "{wrong}");
    }
    let (head, _) = minted(&keys).0.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(keys.verify(&format!("{head}.")), Err(Invalid));
    assert_eq!(keys.verify(&signed(&header, &good, SECOND)), Err(Invalid));
}

#[test]
fn links_outlive_a_rotation_and_die_with_their_key() {
    let (old, verified) = minted(&keys(&[SECRET]));
    assert_eq!(keys(&[SECOND, SECRET]).verify(&old), Ok(verified));
    assert_eq!(keys(&[SECOND]).verify(&old), Err(Invalid));
    assert_ne!(minted(&keys(&[SECOND, SECRET])).0, old);
}

#[test]
fn weak_secrets_are_refused() {
    assert_eq!(Key::new("short").unwrap_err(), WeakSecret::TooShort);
    assert_eq!(Key::new("dev-secret-change-me-dev-secret-change-me").unwrap_err(), WeakSecret::WellKnown);
    assert_eq!(Key::new("Your-Super-Secret-JWT-Key-Change-In-Production").unwrap_err(), WeakSecret::WellKnown);
    assert_eq!(Key::new(&"a".repeat(64)).unwrap_err(), WeakSecret::Repetitive);
    assert!(Key::new(&random::secret()).is_ok());
}

#[test]
fn another_installation_derives_other_secrets_from_the_same_transfer() {
    let transfer = random::transfer_id();
    let secret_of = |key: [u8; 32]| Keys::new(vec![Key::new(SECRET).unwrap()], key).transfer_secret(transfer);
    assert_eq!(secret_of([1; 32]), secret_of([1; 32]), "also after a restart");
    assert_ne!(secret_of([1; 32]), secret_of([2; 32]));
}

#[test]
fn a_transfers_secret_is_its_own_and_reads_back() {
    let keys = keys(&[SECRET]);
    let (a, b) = (random::transfer_id(), random::transfer_id());
    assert_ne!(keys.transfer_secret(a), keys.transfer_secret(b));
    let text = keys.transfer_secret(a).expose();
    assert_eq!(TransferSecret::parse(text.as_bytes()), Some(keys.transfer_secret(a)));
    assert_eq!(TransferSecret::parse(text.to_uppercase().as_bytes()).is_some(), text.bytes().all(|b| b.is_ascii_digit()));
    assert!(!format!("{:?}", keys.transfer_secret(a)).contains(&text));
}
