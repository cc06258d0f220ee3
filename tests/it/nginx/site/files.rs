//! The files that portcullis has nginx send.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use portcullis::meter::access_log;

use super::{Answer, Double, FILE_FIELDS, Nginx, field, say};

/// Names that a parser could stumble over.
const HARD_NAMES: &[&[u8]] = &[
    b"with space.txt",
    b"%41.txt",
    b"100%.txt",
    b"a#b?c.txt",
    b"quote\"s'.txt",
    b"line\nbreak.txt",
    b"tab\tand\x01.txt",
    b"caf\xc3\xa9 \xe2\x98\x83.txt",
    b"not utf-8 \xff\xfe.txt",
    b"plus+and;semi,colon.txt",
    b"back\\slash.txt",
    b"%2e%2e",
    b"...",
    b" .txt ",
    b"$request_uri.txt",
    b"*.txt",
];

/// Returns a path as portcullis names it to nginx: every byte that could mean something is encoded.
fn encoded(path: &[u8]) -> String {
    path.split(|byte| *byte == b'/').map(|part| percent_encode(part, NON_ALPHANUMERIC).to_string()).collect::<Vec<_>>().join("/")
}

#[test]
fn a_file_comes_with_everything_that_portcullis_says_about_it() {
    let nginx = Nginx::start(Double::of_files());
    nginx.put("folder/film.mkv", b"0123456789");
    for kind in ["part", "whole"] {
        let said = nginx.ask("GET", &format!("/{kind}/folder/film.mkv"), "");
        assert_eq!((said.status(), said.body()), (200, &b"0123456789"[..]));
        for line in FILE_FIELDS.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            let expected = (name != "X-Portcullis-Request").then_some(value);
            assert_eq!(said.field(name).as_deref(), expected, "{name}");
        }
        let rest = [("Last-Modified", None), ("Connection", Some("close")), ("Server", Some("nginx")), ("Content-Length", Some("10"))];
        for (name, value) in rest {
            assert_eq!(said.field(name).as_deref(), value, "{name}");
        }
        let head = nginx.ask("HEAD", &format!("/{kind}/folder/film.mkv"), "");
        assert_eq!((head.status(), head.body(), head.field("Content-Length").as_deref()), (200, &b""[..], Some("10")));
        assert_eq!(head.field("ETag"), said.field("ETag"));
        // A POST that is answered with the file gets it.
        assert_eq!(nginx.post(&format!("/{kind}/folder/film.mkv"), "").body(), b"0123456789");
    }
    // What is asked behind a file is answered behind it.
    let file = "GET /part/folder/film.mkv HTTP/1.1\r\nHost: x\r\n";
    let said = nginx.talk(format!("{file}\r\n{file}Connection: close\r\n\r\n").as_bytes());
    assert_eq!(String::from_utf8_lossy(&said).matches("\r\n\r\n0123456789").count(), 2);
    let log = nginx.log(8);
    let lines: Vec<_> = log.iter().map(|line| access_log::parse(line.as_bytes()).unwrap()).collect();
    assert!(lines.iter().all(|line| line.request == "a-request" && line.is_whole && line.file.is_some_and(|(_, size)| size == 10)));
}

#[test]
fn a_part_is_one_range_and_the_whole_is_all_of_it() {
    let nginx = Nginx::start(Double::of_files());
    let film = fs::File::open(nginx.put("film.mkv", b"0123456789")).unwrap();
    film.set_modified(UNIX_EPOCH + Duration::from_secs(946_684_800)).unwrap();
    let etag = nginx.ask("GET", "/part/film.mkv", "").field("ETag").unwrap();
    let ask = |kind: &str, fields: &str| nginx.ask("GET", &format!("/{kind}/film.mkv"), fields);
    let part = ask("part", "Range: bytes=2-4\r\n");
    assert_eq!((part.status(), part.body(), part.field("Content-Range").as_deref()), (206, &b"234"[..], Some("bytes 2-4/10")));
    assert_eq!(part.field("Repr-Digest").as_deref(), Some("sha-256=:AAAA:"));
    assert_eq!((ask("part", "Range: bytes=-3\r\n").body(), ask("part", "Range: bytes=7-\r\n").body()), (&b"789"[..], &b"789"[..]));
    for whole in [
        ask("part", "Range: bytes=2-4,6-7\r\n"),
        ask("part", "Range: bytes=2-4\r\nIf-Range: \"another\"\r\n"),
        ask("part", "Range: bytes=2-4\r\nIf-Range: Sat, 01 Jan 2000 00:00:00 GMT\r\n"),
        // What is no newer than that is sent all the same: only the ETag says that it is the same file.
        ask("part", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n"),
        ask("part", "If-Modified-Since: Sun, 02 Jan 2000 00:00:00 GMT\r\n"),
        ask("whole", "Range: bytes=2-4\r\n"),
        ask("whole", "Range: bytes=99-\r\n"),
        ask("whole", &format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n")),
    ] {
        assert_eq!((whole.status(), whole.body(), whole.field("Content-Range")), (200, &b"0123456789"[..], None));
        assert_eq!(whole.field("ETag").as_ref(), Some(&etag));
    }
    let resumed = ask("part", &format!("Range: bytes=5-\r\nIf-Range: {etag}\r\n"));
    assert_eq!((resumed.status(), resumed.body()), (206, &b"56789"[..]));
    assert_eq!(ask("part", &format!("If-Match: {etag}\r\n")).status(), 200);
    let behind = ask("part", "Range: bytes=10-\r\n");
    assert_eq!((behind.status(), behind.field("Content-Range").as_deref()), (416, Some("bytes */10")));
    assert_eq!((behind.body(), behind.field("X-Content-Type-Options").as_deref()), (&b"The file ends before that.\n"[..], Some("nosniff")));
    let other = ask("part", "If-Match: \"another\"\r\n");
    assert_eq!((other.status(), other.body()), (412, &b"It is not that file any more.\n"[..]));
}

#[test]
fn whatever_a_file_is_called_it_is_that_one_that_comes() {
    let nginx = Nginx::start(Double::of_files());
    for name in HARD_NAMES {
        let path = [b"folder ?/", *name].concat();
        nginx.put(OsStr::from_bytes(&path), name);
        for kind in ["part", "whole"] {
            let said = nginx.ask("GET", &format!("/{kind}/{}", encoded(&path)), "");
            assert_eq!((said.status(), said.body()), (200, *name), "{:?}", String::from_utf8_lossy(name));
        }
    }
}

#[test]
fn a_root_of_any_name_that_nginx_can_be_told_of_is_served() {
    for name in ["with space", "a;b", "a{b}c", "#hash", "quote\"s", "it's", "back\\slash\\n", "caf\u{e9} \u{2603}", "%2e", "~x*", "@PROOF@"]
    {
        let nginx = Nginx::with(Double::of_files(), |site| site.root = site.root.join(name));
        nginx.put(format!("{name}/film.mkv"), name.as_bytes());
        nginx.put(format!("{name}-neighbour"), b"secret");
        assert_eq!(nginx.ask("GET", "/part/film.mkv", "").body(), name.as_bytes(), "{name}");
        assert_eq!(nginx.ask("GET", "/part/-neighbour", "").status(), 503, "{name}");
    }
}

#[test]
fn what_cannot_be_had_is_said_in_a_sentence_and_never_by_a_page_of_nginxs() {
    let nginx = Nginx::start(Double::of_files());
    let film = nginx.put("film.mkv", b"0123456789");
    fs::create_dir(film.with_file_name("folder")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, film.with_file_name("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let outside = nginx.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    for (name, to) in [
        ("to-secret", outside.join("secret")),
        ("to-outside", outside.clone()),
        ("to-film", film.clone()),
        ("relative", "film.mkv".into()),
        ("to-folder", film.with_file_name("folder")),
        ("to-itself", film.with_file_name("to-itself")),
        ("to-proc", "/proc/self/root/etc/passwd".into()),
    ] {
        symlink(to, film.with_file_name(name)).unwrap();
    }
    fs::create_dir(film.with_file_name("deep")).unwrap();
    symlink(&outside, film.with_file_name("deep/er")).unwrap();
    for target in [
        "none",
        "folder",
        "folder/",
        "",
        "pipe",
        "to-secret",
        "to-outside/secret",
        "to-film",
        "relative",
        "to-folder/",
        "to-itself",
        "to-proc",
        "deep/er/secret",
        "../outside/secret",
        "%2e%2e/outside/secret",
        "..%2foutside%2fsecret",
        "film.mkv/",
        "film.mkv%00",
        "none/../../outside/secret",
    ] {
        for kind in ["part", "whole"] {
            let said = nginx.ask("GET", &format!("/{kind}/{target}"), "");
            // A path that leaves its place is none at all, and a folder's would be told by a redirection.
            if said.0.is_empty() {
                assert!(["..", "%2e", "%00"].iter().any(|part| target.contains(part)) || target == "folder", "{target}");
                continue;
            }
            assert_eq!(
                (said.status(), said.body()),
                (503, &b"The sender's storage does not answer. Try again in a moment.\n"[..]),
                "{target}"
            );
            let fields = [("Retry-After", "5"), ("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")];
            for (name, value) in fields {
                assert_eq!(said.field(name).as_deref(), Some(value), "{target}: {name}");
            }
            assert_eq!((said.field("ETag"), said.field("Accept-Ranges")), (None, None), "{target}");
        }
    }
    assert_eq!(nginx.ask("GET", "/part/film.mkv", "").body(), b"0123456789");
}

#[test]
fn a_name_that_is_swapped_for_a_link_never_leads_out() {
    const ASKED: usize = 1500;
    let nginx = Nginx::start(Double::of_files());
    let inside = nginx.put("folder/film", b"ours").parent().unwrap().to_owned();
    let outside = nginx.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("film"), b"secret").unwrap();
    let (link, aside) = (inside.with_file_name("link"), inside.with_file_name("aside"));
    let is_over = AtomicBool::new(false);
    let (mut ours, mut none) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            symlink(&outside, &link).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                for (from, to) in [(&inside, &aside), (&link, &inside), (&inside, &link), (&aside, &inside)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        for _ in 0..ASKED {
            let said = nginx.ask("GET", "/part/folder/film", "");
            match (said.status(), said.body()) {
                (200, b"ours") => ours += 1,
                (503, _) => none += 1,
                (status, body) => {
                    is_over.store(true, Ordering::Relaxed);
                    panic!("{status}: {}", String::from_utf8_lossy(body));
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(ours > 0 && none > 0, "both were seen: {ours} and {none}");
}

#[test]
fn a_limit_that_portcullis_names_holds() {
    const RATE: usize = 64 * 1024;
    let double = Double::new(|_, stream| {
        let fields = format!("X-Accel-Redirect: /_portcullis/part/film.mkv\r\nX-Accel-Limit-Rate: {RATE}\r\n");
        say(stream, "200 OK", &fields, "").unwrap();
    });
    let nginx = Nginx::start(double);
    nginx.put("film.mkv", &vec![7; 4 * RATE]);
    let begun = Instant::now();
    assert_eq!(nginx.ask("GET", "/film", "").body().len(), 4 * RATE);
    // The first second's worth leaves at once. A slow machine only takes longer.
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn what_http_says_for_others_changes_nothing_of_a_file() {
    let double = Double::new(|_, stream| {
        let fields =
            "X-Accel-Redirect: /_portcullis/part/page.html\r\nContent-Type: text/html\r\nX-Robots-Tag: noindex\r\nAccept-Ranges: none\r\n";
        say(stream, "200 OK", fields, "").unwrap();
    });
    let folder = super::folder();
    let site = super::site(folder.path(), double.address);
    fs::write(folder.path().join("recipient.conf"), site.conf(&super::key()).unwrap()).unwrap();
    let base = folder.path().display().to_string();
    let temp: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {base}/{kind}; ")).concat();
    let text = format!(
        "worker_processes 1; pid {base}/run/pid; events {{ }}\n\
         http {{ {temp} access_log {base}/others.log; gzip on; gzip_types *; gzip_min_length 1; gzip_static always; charset utf-8; ssi on; expires 1h; etag off;\n\
         open_file_cache max=100; open_file_cache_valid 1h; add_header X-Theirs 1 always; proxy_set_header X-Theirs 1; proxy_ignore_headers X-Accel-Redirect;\n\
         proxy_hide_header X-Robots-Tag; directio 1; sendfile off; proxy_next_upstream error; client_max_body_size 1m; error_page 404 /theirs; max_ranges 5;\n\
         server_tokens on; if_modified_since exact; keepalive_timeout 60s; include {base}/recipient.conf; }}"
    );
    let nginx = Nginx::run(double, folder, &site, &text, &mut std::process::Command::new(super::program()));
    let content = "<!--# echo var=\"date_local\" -->caf\u{e9}".repeat(100);
    nginx.put("page.html", content.as_bytes());
    nginx.put("page.html.gz", b"another file");
    let ask = || nginx.ask("GET", "/x", "Accept-Encoding: gzip\r\n");
    let said = ask();
    assert_eq!((said.status(), String::from_utf8_lossy(said.body()).into_owned()), (200, content));
    for (name, value) in [
        ("Content-Type", Some("text/html")),
        ("Content-Encoding", None),
        ("X-Robots-Tag", Some("noindex")),
        ("X-Theirs", None),
        ("Cache-Control", None),
        ("Expires", None),
        ("Connection", Some("close")),
        ("Server", Some("nginx")),
        ("Last-Modified", None),
    ] {
        assert_eq!(said.field(name).as_deref(), value, "{name}");
    }
    assert!(said.field("ETag").is_some());
    assert_eq!(field(&nginx.double.asked()[0], "X-Theirs"), None);
    // The file that has the name now, not the one that had it then.
    let next = nginx.folder.path().join("nas/next");
    fs::write(&next, b"replaced").unwrap();
    fs::rename(next, nginx.folder.path().join("nas/page.html")).unwrap();
    assert_eq!(ask().body(), b"replaced");
    assert!(Answer(nginx.talk(b"GET /_portcullis/part/page.html HTTP/1.1\r\nHost: x\r\n\r\n")).0.is_empty());
    assert_eq!(nginx.log(3).len(), 3, "our log has ours");
    assert_eq!(fs::read_to_string(nginx.folder.path().join("others.log")).unwrap(), "", "and theirs none of them");
}
