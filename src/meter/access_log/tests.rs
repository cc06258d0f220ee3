use super::*;

const LINE: &str = concat!(
    r#"{"v":1,"t":"1795305729.533","req":"ps8kkjt9ak.1-x","st":"206","body":"1000","sent":"1273","ok":"OK","etag":"\"6741a2f0-a00000\"","#,
    r#""peer":"192.0.2.7 51234","local":"::ffff:10.0.0.1 8001","conn":"17 3"}"#
);

fn line() -> Line<'static> {
    Line {
        at: Timestamp(1_795_305_729_533),
        request: "ps8kkjt9ak.1-x",
        status: 206,
        body_bytes: 1000,
        sent_bytes: 1273,
        is_whole: true,
        file: Some((0x6741_a2f0, 10_485_760)),
        peer: "192.0.2.7:51234".parse().unwrap(),
        local: "10.0.0.1:8001".parse().unwrap(),
        connection: (17, 3),
    }
}

#[test]
fn a_line_says_what_nginx_sent() {
    assert_eq!(parse(LINE.as_bytes()), Ok(line()));
}

#[test]
fn a_request_that_is_none_of_ours_was_cut_or_has_no_file_is_a_line_too() {
    let text = LINE.replace("ps8kkjt9ak.1-x", "").replace("OK", "").replace(r#"\"6741a2f0-a00000\""#, "").replace("206", "009");
    let other = Line { request: "", is_whole: false, file: None, status: 9, ..line() };
    assert_eq!(parse(text.as_bytes()), Ok(other));
}

#[test]
fn what_differs_in_one_byte_is_foreign() {
    for at in 0..LINE.len() {
        for byte in [b'"', b'\\', b'{', 0xff, 0] {
            let mut twisted = LINE.as_bytes().to_vec();
            twisted[at] = byte;
            if let Ok(read) = parse(&twisted) {
                // Any character that ends nothing may stand in what we called the request.
                assert!(
                    twisted == LINE.as_bytes() || Line { request: line().request, ..read } == line(),
                    "{}",
                    String::from_utf8_lossy(&twisted)
                );
            }
        }
        assert!(parse(&LINE.as_bytes()[..at]).is_err(), "cut at {at}");
    }
    for (good, bad) in [
        (r#""v":1"#, r#""v":2"#),
        ("1000", ""),
        ("1000", "-1"),
        ("1000", "18446744073709551616"),
        ("1795305729.533", "1795305729"),
        ("1795305729.533", "99999999999999999999.533"),
        ("206", "1206"),
        (r#""OK""#, r#""Ok""#),
        ("192.0.2.7 51234", "unix: "),
        ("192.0.2.7 51234", "192.0.2.7 65536"),
        ("17 3", "17"),
        ("}", "} "),
        ("6741a2f0-a00000", "6741a2f0"),
        ("6741a2f0", "+741a2f0"),
    ] {
        let text = LINE.replacen(good, bad, 1);
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
}
