//! Names of files are data, whatever stands in them: on the wire, on the page, in JSON and in the log.

use std::path::Path;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Offer, Server, Setup, download_folder, put_bytes, sha256, sha256_of_file, tool};

/// Names that broke some other product, or could.
fn hostile_names() -> Vec<Vec<u8>> {
    let longest = "n".repeat(251) + ".bin";
    let longest_wide = "ü".repeat(127);
    let mut names: Vec<Vec<u8>> = [
        "plain.bin",
        "two words.bin",
        "line\nbreak.bin",
        "carriage\rreturn.bin",
        "both\r\nX-Injected: yes.bin",
        "\r\n\r\n<script>alert(1)<script>.html",
        "tab\there.bin",
        "bell\u{7}escape\u{1b}[31mred\u{1b}]0;title\u{7}.bin",
        "delete\u{7f}.bin",
        "next\u{85}line.bin",
        "line\u{2028}paragraph\u{2029}.bin",
        "double\"quote.bin",
        "back\\slash.bin",
        "\"; filename=\"other.exe",
        "semi;colon.bin",
        "single'quote.bin",
        "comma, comma.bin",
        "back`tick$(id)${HOME}.bin",
        "invoice\u{202e}fdp.exe",
        "\u{2066}isolate\u{2069}.bin",
        "\u{200f}mark.bin",
        "zero\u{200b}width\u{feff}.bin",
        "..hidden-twice.bin",
        "...",
        "....",
        ".env",
        "-rf",
        "--output=elsewhere",
        "%2e%2e",
        "%2e%2e%2fetc%2fpasswd",
        "%00.bin",
        "%0d%0aX-Injected: yes",
        "100% sure.bin",
        "a+b.bin",
        "a&b=c.bin",
        "question?.bin",
        "hash#tag.bin",
        "..\\..\\windows.ini",
        "C:\\autoexec.bat",
        "con.txt",
        "<script>alert(1)<script>",
        "<img src=x onerror=alert(1)>.png",
        "&lt;b&gt;&amp;.bin",
        "{{7*7}}{%print%}.bin",
        "' OR '1'='1.bin",
        "юникод.bin",
        "日本語.bin",
        "👩‍👩‍👧.bin",
        "e\u{301}.bin",
        "\u{e9}.bin",
        "private\u{e000}.bin",
        " leading and trailing ",
        "trailing dot.",
        "~",
        "get",
        "live",
        longest.as_str(),
        longest_wide.as_str(),
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend([
        b"latin1-\xe9.bin".to_vec(),
        b"\xff\xfe\x80.bin".to_vec(),
        b"cut-off-\xe2\x82".to_vec(),
        b"surrogate-\xed\xa0\x80.bin".to_vec(),
        // The text form's own escapes: as real characters they must come back as they were.
        "real-\u{ef80}-\u{efff}.bin".as_bytes().to_vec(),
        b"mix-\xee\xbe\x80-\x80.bin".to_vec(),
        b"\x01\x02\x03\x1f.bin".to_vec(),
        b"nl-in-latin1-\xe9\n.bin".to_vec(),
    ]);
    names
}

fn scene() -> Server {
    Setup::new().set("SHOW_HIDDEN", true).set("GRACE_PERIOD_SECONDS", 60).set("LOG", "debug").start()
}

/// Returns every file's text form, as the owner's page has it from the listing.
fn listed(server: &Server) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = server.api("GET", &format!("/api/v1/files?path=&limit=20{cursor}"), None).expect_status(200).json();
        entries.extend(answer["entries"].as_array().expect("entries").iter().cloned());
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC)),
            None => return entries,
        }
    }
}

#[test]
fn every_name_can_be_listed_shared_and_downloaded_and_changes_nothing_but_itself() {
    let server = scene();
    let names = hostile_names();
    let contents: Vec<Vec<u8>> = names.iter().map(|name| put_bytes(&server, name, 2000 + name.len())).collect();
    let entries = listed(&server);
    assert_eq!(entries.len(), names.len(), "every file is listed once");
    let mut found: Vec<&Vec<u8>> = Vec::new();
    for entry in &entries {
        let offer = server.share_with(&json!({ "path": entry["path"] }));
        check_link(&offer);
        let page = server.fetch("GET", &offer.link, &[BROWSER]).expect("a genuine link is answered").expect_status(200);
        check_page(&page);
        let transfer = server.redeem(&offer);
        let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
        let at = contents.iter().position(|content| *content == answer.body).unwrap_or_else(|| panic!("no such content: {entry}"));
        assert_eq!(entry["size_bytes"], contents[at].len());
        check_head(&answer, &names[at]);
        found.push(&names[at]);
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), names.len(), "every file was downloaded by its own link");
    check_log(&server);
}

/// A link is a URL that no messenger breaks: printable ASCII without what ends a link in a text.
fn check_link(offer: &Offer) {
    let odd = |c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c);
    assert!(!offer.url.contains(odd), "{}", offer.url);
    assert_eq!(offer.link.matches('/').count(), 3, "three parts: {}", offer.link);
}

fn check_page(page: &Answer) {
    let (html, script) =
        page.text().split_once("<script type=\"module\">").map(|(html, script)| (html.to_owned(), script.to_owned())).expect("ours");
    assert!(script.ends_with("</script></body></html>") && script.matches("</script").count() == 1, "it is the last, and whole: {script}");
    for marker in ["<script", "onerror=alert(1)>", "<b>", "<img"] {
        assert!(!html.to_lowercase().contains(marker), "{marker} came through: {html}");
    }
    assert!(!html.chars().any(|c| c.is_control() && c != '\n'), "control characters on a page: {html:?}");
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    assert!(!html.contains(bidi), "direction characters on a page: {html:?}");
    check_raw_head(page);
}

/// One status line, then header lines of printable characters; nothing that a name brought in.
fn check_raw_head(answer: &Answer) {
    let head = answer.head_text();
    assert!(!answer.headers.iter().any(|(name, _)| name == "x-injected"), "{head}");
    for line in answer.head.strip_suffix(b"\r\n\r\n").expect("a head's end").split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.iter().all(|b| (0x20..0x7f).contains(b)), "not printable: {}", line.escape_ascii());
    }
}

fn check_head(answer: &Answer, name: &[u8]) {
    check_raw_head(answer);
    let disposition = answer.header("content-disposition").expect("a download has a disposition");
    let (plain, extended) = parse_disposition(&disposition);
    assert!(!plain.contains(['/', '\\', '\0']), "{disposition}");
    assert!(plain != ".." && plain != "." && !plain.is_empty(), "{disposition}");
    let Some(extended) = extended else {
        assert_eq!(plain.as_bytes(), name, "a plain name alone must be the name: {disposition}");
        return;
    };
    let decoded: Vec<u8> = percent_decode_str(&extended).collect();
    let decoded = String::from_utf8(decoded).unwrap_or_else(|_| panic!("filename* is not UTF-8: {disposition}"));
    assert!(!decoded.contains(['/', '\0']), "{disposition}");
    // A name without characters that no file should carry away with it arrives as it is.
    let harmless = |c: char| c.is_alphanumeric() || " .-_+&=,'%#~()".contains(c);
    if let Ok(text) = std::str::from_utf8(name)
        && text.chars().all(harmless)
        && !text.starts_with(['.', ' ', '-'])
        && !text.ends_with(['.', ' '])
        && text != "~"
    {
        assert_eq!(decoded, text, "{disposition}");
    }
}

/// Parses `attachment; filename="…"; filename*=UTF-8''…` strictly.
fn parse_disposition(value: &str) -> (String, Option<String>) {
    let rest = value.strip_prefix("attachment; filename=\"").unwrap_or_else(|| panic!("no attachment with a name: {value}"));
    let mut plain = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next().unwrap_or_else(|| panic!("an unclosed quote: {value}")) {
            '"' => break,
            '\\' => plain.push(chars.next().expect("a character after a backslash")),
            c => plain.push(c),
        }
    }
    let rest = chars.as_str();
    if rest.is_empty() {
        return (plain, None);
    }
    let extended = rest.strip_prefix("; filename*=UTF-8''").unwrap_or_else(|| panic!("something else behind the name: {value}"));
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$&+-.^_`|~%".contains(c);
    assert!(extended.chars().all(token), "not RFC 8187: {value}");
    (plain, Some(extended.to_owned()))
}

/// The log keeps one line per event: what a name holds makes no line of its own and no control character.
fn check_log(server: &Server) {
    let log = server.log_bytes();
    for line in log.split(|b| *b == b'\n') {
        let line = String::from_utf8(line.to_vec()).unwrap_or_else(|_| panic!("not UTF-8: {}", line.escape_ascii()));
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "a control character in the log: {line:?}");
        assert!(!line.contains('\u{202e}'), "a direction character in the log: {line:?}");
        let forged = line.trim_start().starts_with("X-Injected") || line.starts_with("break.bin") || line.starts_with("<script>");
        assert!(!forged, "a name made a line of its own: {line:?}");
    }
}

#[test]
fn curl_stores_every_name_in_its_own_folder_and_nowhere_else() {
    let server = scene();
    for (n, name) in hostile_names().iter().enumerate() {
        let content = put_bytes(&server, &[format!("{n}/").as_bytes(), name].concat(), 3000 + n);
        let listing = server.api("GET", &format!("/api/v1/files?path={n}"), None).expect_status(200).json();
        let offer = server.share_with(&json!({ "path": listing["entries"][0]["path"] }));
        let around = download_folder(&server);
        let folder = around.join("inner");
        std::fs::create_dir(&folder).unwrap();
        let output = tool(&folder, "curl", &["-sS", "-q", "-OJ", &offer.url]);
        assert!(output.status.success(), "{}: {}", name.escape_ascii(), String::from_utf8_lossy(&output.stderr));
        let stored = files_of(&folder);
        assert_eq!((stored.len(), files_of(&around).len()), (1, 1), "{}: {stored:?}", name.escape_ascii());
        assert_eq!(sha256_of_file(&stored[0]), sha256(&content), "{}", name.escape_ascii());
    }
}

fn files_of(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let server = scene();
    std::fs::write(server.root.join("../secret.txt"), "secret").unwrap();
    std::fs::create_dir(server.root.join("folder")).unwrap();
    put_bytes(&server, b"folder/inside.bin", 10);
    std::os::unix::fs::symlink("../secret.txt", server.root.join("link-out")).unwrap();
    std::os::unix::fs::symlink("/etc", server.root.join("link-etc")).unwrap();
    std::os::unix::fs::symlink("folder", server.root.join("link-in")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", server.root.join("link-magic")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, server.root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for path in [
        "../secret.txt",
        "folder/../../secret.txt",
        "folder/../folder/inside.bin",
        "./folder/inside.bin",
        "folder//inside.bin",
        "folder/",
        "folder",
        "",
        "/etc/passwd",
        "//etc/passwd",
        "link-out",
        "link-etc/passwd",
        "link-in/inside.bin",
        "link-magic/etc/passwd",
        "pipe",
        "%2e%2e/secret.txt",
        "..\\secret.txt",
        "folder/inside.bin/",
        "folder/inside.bin\0",
        "absent.bin",
        "\u{ef2f}etc",
    ] {
        let answer = server.api("POST", "/api/v1/shares", Some(&json!({ "path": path })));
        assert!((400..500).contains(&answer.status), "{path:?}: {}\n{}", answer.head_text(), answer.text());
        check_sentence(&answer);
    }
    let list = server.api("GET", "/api/v1/shares?state=living", None).expect_status(200).json();
    assert_eq!(list["shares"], json!([]), "nothing was made");
    for path in ["../", "..", "/etc", "link-etc", "link-magic/etc", "folder/../..", "%2e%2e"] {
        let query: String = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC).to_string();
        let answer = server.api("GET", &format!("/api/v1/files?path={query}"), None);
        assert!((400..500).contains(&answer.status), "{path:?}: {}\n{}", answer.head_text(), answer.text());
    }
}

fn check_sentence(answer: &Answer) {
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.len() > 10, "an error says what is wrong: {}", answer.text());
}
