//! What a token may say in place of what ours says, header and claims, so that nothing but the twist is wrong with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::OTHER_SECRET;

/// What a validly signed token may say in place of ours.
pub(super) fn twisted_claims(claims: &str, other_share: &str, other_link: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(claims).unwrap();
    let mut all = Vec::new();
    let strange = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(""),
        json!(" "),
        json!([]),
        json!({}),
        json!([value["jti"]]),
        json!({ "$ne": null }),
        json!("' OR '1'='1"),
        json!("../../etc/passwd"),
        json!("\u{0}"),
        json!("0".repeat(300)),
        json!("\u{202e}"),
    ];
    for name in ["jti", "sub", "aud", "exp", "iat"] {
        for strange in &strange {
            // A time may be any whole number: see `the_share_and_not_the_link_says_when_it_ends`.
            if !(matches!(name, "exp" | "iat") && strange.is_i64()) {
                let mut other = value.clone();
                other[name] = strange.clone();
                all.push(other.to_string());
                // In our own order, so that nothing else is wrong.
                all.push(claims.replacen(&value[name].to_string(), &strange.to_string(), 1));
            }
        }
        let own = value[name].to_string();
        let field = format!("\"{name}\":{own}");
        all.extend([
            claims.replacen(&format!("{field},"), "", 1).replacen(&format!(",{field}"), "", 1),
            claims.replacen(&field, &format!("{field},{field}"), 1),
            claims.replacen(&field, &format!("\"{name}\":\"x\",{field}"), 1),
            claims.replacen(&field, &format!("\"{}\":{own}", name.to_uppercase()), 1),
            claims.replacen(&field, &format!("\"\\u00{:02x}{}\":{own}", name.as_bytes()[0], &name[1..]), 1),
            claims.replacen(&field, &format!("\"{name} \":{own}"), 1),
            claims.replacen(&field, &format!("\"{name}\" :{own}"), 1),
            claims.replacen(&field, &format!("\"{name}\": {own}"), 1),
            claims.replacen(&field, &format!("{field},\"extra\":1"), 1),
        ]);
    }
    for (name, number) in [("exp", value["exp"].to_string()), ("iat", value["iat"].to_string())] {
        for twisted in [
            format!("{number}.0"),
            format!("{number}e0"),
            format!("{number}.9"),
            format!("0{number}"),
            format!("+{number}"),
            format!("\"{number}\""),
            format!("[{number}]"),
            "1e9".into(),
            "1e400".into(),
            "-0".into(),
            "-0.0".into(),
            "9223372036854775807".into(),
            "9223372036854775808".into(),
            "18446744073709551615".into(),
            "18446744073709551616".into(),
            "-9223372036854775808".into(),
            "-9223372036854775809".into(),
            "9".repeat(200),
            "NaN".into(),
            "Infinity".into(),
            "0x7fffffff".into(),
            "\"never\"".into(),
            "9223372036854776".into(),
            "1_000".into(),
        ] {
            // A whole number that can be a time is the same link; what overflows one is none.
            let is_time = twisted.parse::<i64>().is_ok_and(|n| n.checked_mul(1000).is_some() && n.to_string() == twisted)
                || (name == "iat" && twisted.parse::<i64>().is_ok_and(|n| n.to_string() == twisted));
            if !is_time {
                all.push(claims.replacen(&number, &twisted, if name == "exp" { 1 } else { 9 }));
            }
        }
    }
    for extra in [
        "\"nbf\":9999999999",
        "\"nbf\":0",
        "\"iss\":\"evil\"",
        "\"path\":\"../x\"",
        "\"max\":1000",
        "\"admin\":true",
        "\"kid\":\"x\"",
        "\"cnf\":{}",
        "\"scope\":\"admin\"",
        "\"__proto__\":{}",
    ] {
        all.push(claims.replacen('{', &format!("{{{extra},"), 1));
        all.push(claims.replacen('}', &format!(",{extra}}}"), 1));
    }
    for audience in [
        "portcullis",
        "portcullis:link ",
        " portcullis:link",
        "portcullis:LINK",
        "portcullis:session",
        "portcullis:link,other",
        "portcullis:link\\u0000",
        "portcullis\\u003alink",
        "portcullis:\\u006cink",
        "*",
    ] {
        all.push(claims.replacen("portcullis:link", audience, 1));
    }
    all.push(claims.replacen("\"portcullis:link\"", "[\"portcullis:link\"]", 1));
    all.push(claims.replacen("\"portcullis:link\"", "[\"other\",\"portcullis:link\"]", 1));
    let (jti, sub) = (value["jti"].as_str().unwrap(), value["sub"].as_str().unwrap());
    for id in [
        jti.to_uppercase(),
        format!("{{{jti}}}"),
        format!("urn:uuid:{jti}"),
        format!("{}-{}-{}-{}-{}", &jti[..8], &jti[8..12], &jti[12..16], &jti[16..20], &jti[20..]),
        format!(" {jti}"),
        format!("{jti} "),
        jti[1..].to_owned(),
        format!("{jti}0"),
        "0".repeat(32),
        other_link.to_owned(),
    ] {
        all.push(claims.replacen(jti, &id, 1));
    }
    for id in [
        sub.to_uppercase(),
        format!("{sub} "),
        format!("{sub}0"),
        sub[1..].to_owned(),
        "0".repeat(10),
        other_share.to_owned(),
        format!("../{sub}"),
        format!("{sub}/../{sub}"),
        sub.replace(&sub[..1], &format!("\\u00{:02x}", sub.as_bytes()[0])),
    ] {
        all.push(claims.replacen(sub, &id, 1));
    }
    all.extend([
        format!(" {claims}"),
        format!("{claims} "),
        format!("{claims}\n"),
        format!("{claims}\0"),
        format!("\u{feff}{claims}"),
        format!("{claims}{claims}"),
        format!("[{claims}]"),
        format!("\"{}\"", claims.replace('"', "\\\"")),
        claims.replace(',', ", "),
        claims.replace('"', "'"),
        claims.replacen('}', ",}", 1),
        format!("/**/{claims}"),
        format!("{{\"a\":{claims}}}"),
        "{}".into(),
        "[]".into(),
        "null".into(),
        "0".into(),
        "\"\"".into(),
        String::new(),
        "[".repeat(300),
        "{\"a\":".repeat(80),
    ]);
    all
}

/// What a validly signed token may have for a header in place of ours.
pub(super) fn twisted_headers(header: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(header).unwrap();
    let kid = value["kid"].as_str().unwrap();
    let mut all = Vec::new();
    for algorithm in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "ES256",
        "ES384",
        "ES256K",
        "EdDSA",
        "hs256",
        "Hs256",
        "HS256 ",
        " HS256",
        "HS-256",
        "HMAC-SHA256",
        "dir",
        "A128KW",
        "",
        "\\u0048S256",
        "null",
        "HS256\\u0000",
        "HS1",
        "SHA256",
    ] {
        all.push(header.replacen("HS256", algorithm, 1));
    }
    all.extend(["null", "0", "[]", "{}", "[\"HS256\"]", "true"].map(|it| header.replacen("\"HS256\"", it, 1)));
    let long = "k".repeat(200);
    for other in [
        "",
        " ",
        "../../../../dev/null",
        "/dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "file:///dev/null",
        "http://127.0.0.1/key",
        "' UNION SELECT 'x' --",
        "x' OR '1'='1",
        "|id",
        "$(id)",
        "`id`",
        "0",
        "null",
        "%00",
        "\\u0000",
        "a;b",
        &long,
        "deadbeef",
        &kid.to_uppercase(),
        &format!("{kid} "),
        &format!("{kid}\\u0000"),
        &kid[1..],
        &kid.replacen(&kid[..1], &format!("\\u00{:02x}", kid.as_bytes()[0]), 1),
    ] {
        if other != kid {
            all.push(header.replacen(kid, other, 1));
        }
    }
    all.extend(["null", "0", "[]", "{}", "true"].map(|it| header.replacen(&format!("\"{kid}\""), it, 1)));
    let key = URL_SAFE_NO_PAD.encode(OTHER_SECRET);
    for extra in [
        format!("\"jwk\":{{\"kty\":\"oct\",\"k\":\"{key}\"}}"),
        "\"jku\":\"http://127.0.0.1/jwks\"".into(),
        "\"x5u\":\"http://127.0.0.1/x\"".into(),
        "\"x5c\":[\"AAAA\"]".into(),
        "\"x5t\":\"AAAA\"".into(),
        "\"crit\":[\"exp\"]".into(),
        "\"crit\":[]".into(),
        "\"crit\":[\"b64\"],\"b64\":false".into(),
        "\"b64\":true".into(),
        "\"zip\":\"DEF\"".into(),
        "\"cty\":\"JWT\"".into(),
        "\"enc\":\"A256GCM\"".into(),
        "\"alg\":\"HS256\"".into(),
        "\"alg\":\"none\"".into(),
        "\"typ\":\"JWT\"".into(),
        format!("\"kid\":\"{kid}\""),
        "\"extra\":1".into(),
        "\"epk\":{}".into(),
        "\"p2c\":2147483647".into(),
    ] {
        all.push(header.replacen('{', &format!("{{{extra},"), 1));
        all.push(header.replacen('}', &format!(",{extra}}}"), 1));
    }
    for typ in ["jwt", "JWS", "JWE", "at+jwt", "application/jwt", "", "J\\u0057T"] {
        all.push(header.replacen("JWT", typ, 1));
    }
    all.extend([
        header.replace(',', ", "),
        header.replace(':', ": "),
        format!(" {header}"),
        format!("{header} "),
        format!("[{header}]"),
        "{}".into(),
        "[]".into(),
        "null".into(),
        String::new(),
        header.replace('"', "'"),
        format!("{header}{header}"),
        format!("\u{feff}{header}"),
        json!({ "kid": kid, "alg": "HS256", "typ": "JWT" }).to_string(),
        json!({ "alg": "HS256", "kid": kid }).to_string(),
        json!({ "alg": "HS256", "typ": "JWT" }).to_string(),
    ]);
    all
}
