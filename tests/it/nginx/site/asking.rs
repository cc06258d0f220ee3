//! How nginx is asked, and what of it portcullis hears.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use portcullis::delivery::nginx::site;
use portcullis::meter::access_log;

use super::{Answer, Double, Nginx, field, key, read_all, say};

/// What is met with silence whoever is asked: nginx says nothing of its own.
const NOT_SPOKEN: &[&[u8]] = &[
    b"GET /page\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT nas.example:443 HTTP/1.1\r\nHost: nas.example:443\r\n\r\n",
    b"TRACE /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PUT /page HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"DELETE /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PROPFIND /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GETX /page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /page HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /page HTTP/3.0\r\nHost: x\r\n\r\n",
    b"GET /page HTTP/1.1\r\n\r\n",
    b"GET page HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n",
    b"\0\0\0\0\r\n\r\n",
    b"\xff\xfe\xfd\r\n\r\n",
    b" GET /page HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// The ways to nginx's own names that somebody might try.
const OUTSIDE: &[&str] = &[
    "/_portcullis",
    "/_portcullis/",
    "/_portcullis/silence",
    "/_portcullis/part/film.mkv",
    "/_portcullis/whole/film.mkv",
    "/_portcullis/part/",
    "/_portcullis/part/none",
    "/_portcullis/other/film.mkv",
    "//_portcullis/part/film.mkv",
    "/_portcullis//part///film.mkv",
    "/%5fportcullis/part/film.mkv",
    "/_portcullis%2fpart%2ffilm.mkv",
    "/x/../_portcullis/part/film.mkv",
    "/x/%2e%2e/_portcullis/part/film.mkv",
    "/./_portcullis/./part/film.mkv",
    "/_portcullis/whole/../part/film.mkv",
    "/_portcullis/part/film.mkv?x=1",
    "/_portcullis/part/film.mkv#x",
    "http://nas.example/_portcullis/part/film.mkv",
];

#[test]
fn what_is_no_get_head_or_post_of_http_1_gets_not_a_byte_and_portcullis_does_not_hear_of_it() {
    let nginx = Nginx::start(Double::of_files());
    nginx.put("film.mkv", b"secret");
    let huge = [b"GET /page HTTP/1.1\r\nHost: x\r\nX: ", &[b'x'; 20_000][..], b"\r\n\r\n"].concat();
    let long = [b"GET /", &[b'x'; 20_000][..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    for raw in NOT_SPOKEN.iter().copied().chain([&huge[..], &long[..]]) {
        let said = nginx.talk(raw);
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(80)]).into_owned();
        assert!(said.is_empty(), "{shown:?} was answered: {}", String::from_utf8_lossy(&said));
    }
    for target in OUTSIDE {
        for method in ["GET", "HEAD", "POST"] {
            let said = nginx.ask(method, target, "");
            if *target != "/_portcullis" {
                assert!(said.0.is_empty(), "{method} {target} was answered: {}", said.text());
            }
        }
    }
    // The name without its slash is nothing of nginx's, and portcullis's to answer.
    let asked = nginx.double.asked();
    assert!(asked.iter().all(|head| head.contains(" /_portcullis HTTP/1.1")), "{asked:?}");
    assert_eq!(nginx.ask("GET", "/page", "").body(), b"/page", "nginx goes on");
}

#[test]
fn a_head_as_long_as_portcullis_reads_itself_is_passed_on() {
    // As much as our own reader takes (16 KiB), but for what nginx adds to it.
    const LONG: usize = 15_500;
    let nginx = Nginx::start(Double::of_files());
    let cookie = format!("Cookie: {}\r\n", "c".repeat(LONG));
    let two = format!("A: {0}\r\nB: {0}\r\n", "c".repeat(LONG / 2));
    let many: String = (0..LONG / 1000).map(|n| format!("A-{n}: {}\r\n", "c".repeat(990))).collect();
    for fields in [cookie, two, many] {
        assert_eq!(nginx.ask("GET", "/page", &fields).body(), b"/page", "{} bytes of fields", fields.len());
        assert!(nginx.double.asked().last().unwrap().contains(&fields));
    }
    let target = format!("/page?{}", "q".repeat(LONG));
    assert_eq!(nginx.ask("GET", &target, "").body(), target.as_bytes());
}

#[test]
fn silence_is_not_a_byte_also_where_portcullis_is_not_there() {
    let tries = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&tries);
    let double = Double::new(move |target, stream| match target {
        "/silence" => say(stream, "200 OK", "X-Accel-Redirect: /_portcullis/silence\r\nX-Portcullis-Request: r\r\n", "").unwrap(),
        "/elsewhere" => say(stream, "200 OK", "X-Accel-Redirect: /_portcullis/none\r\n", "").unwrap(),
        // It goes without a word.
        _ => *counted.lock().unwrap() += 1,
    });
    let nginx = Nginx::start(double);
    for target in ["/silence", "/elsewhere", "/gone"] {
        for said in [nginx.ask("GET", target, ""), nginx.ask("HEAD", target, ""), nginx.post(target, "x")] {
            assert!(said.0.is_empty(), "{target} was answered: {}", said.text());
        }
    }
    assert_eq!(*tries.lock().unwrap(), 3, "nothing is asked twice");
    let unreachable = Nginx::with(Double::of_files(), |site| site.upstream = "127.0.0.1:1".parse().unwrap());
    assert!(unreachable.ask("GET", "/page", "").0.is_empty());
    let log = nginx.log(9);
    let lines: Vec<_> = log.iter().map(|line| access_log::parse(line.as_bytes()).unwrap()).collect();
    assert!(lines.len() == 9 && lines.iter().all(|line| line.sent_bytes == 0 && !line.is_whole), "{lines:?}");
}

#[test]
fn a_links_address_is_its_key_and_stands_in_no_log() {
    const KEY: &str = "eyJhbGciOiJIUzI1NiJ9";
    let nginx =
        Nginx::with(Double::of_files(), |site| (site.upstream, site.bounds.connections_per_address) = ("127.0.0.1:1".parse().unwrap(), 1));
    // Nobody answers, too much is asked, and what is asked makes no sense.
    (0..20).for_each(|_| drop(nginx.ask("GET", &format!("/{KEY}"), "")));
    nginx.post(&format!("/{KEY}"), &"x".repeat(5000));
    nginx.talk(format!("GET /{KEY}/%zz HTTP/1.1\r\nHost: {KEY}\r\nReferer: {KEY}\r\n\r\n").as_bytes());
    let files = Nginx::start(Double::of_files());
    files.ask("GET", &format!("/part/{KEY}"), "");
    // It shrinks while it is sent, which nginx finds alarming.
    let film = files.put(KEY, &vec![0; 32 * 1024 * 1024]);
    let mut stream = files.connect();
    write!(stream, "GET /part/{KEY} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    std::fs::OpenOptions::new().write(true).open(film).unwrap().set_len(1000).unwrap();
    read_all(&mut stream);
    files.log(2);
    nginx.log(22);
    for nginx in [nginx, files] {
        for file in ["run/error.log", "stderr", "access.log"] {
            let log = std::fs::read_to_string(nginx.folder.path().join(file)).unwrap();
            assert!(!log.contains(KEY), "{file}: {log}");
        }
    }
}

#[test]
fn portcullis_hears_who_asks_on_which_connection_and_with_which_configuration() {
    let nginx = Nginx::with(Double::of_files(), |site| site.forwarders = vec!["127.0.0.1".parse().unwrap()]);
    let mut stream = nginx.connect();
    let own = stream.local_addr().unwrap();
    for n in 1..=2 {
        // What a client says of itself in nginx's place is not passed on, however it spells the names.
        let forged = "X-Portcullis-Nginx: v1.0\r\nx-portcullis-connection: 1\r\nX_Portcullis_Nginx: v1.0\r\nX-Portcullis-Request: r\r\n";
        let request =
            format!("GET /page?n={n} HTTP/1.1\r\nHost: nas.example:81\r\n{forged}X-Forwarded-For: 203.0.113.9\r\nRange: bytes=1-\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut some = [0; 4096];
        let length = stream.read(&mut some).unwrap();
        assert!(some[..length].starts_with(b"HTTP/1.1 200 OK"));
        let asked = nginx.double.asked();
        let head = &asked[n - 1];
        assert!(head.starts_with(&format!("GET /page?n={n} HTTP/1.1\r\n")), "{head}");
        let connection = field(head, "X-Portcullis-Connection").unwrap();
        let parts: Vec<&str> = connection.split(' ').collect();
        assert_eq!(parts[..4].join(" "), format!("{} {} {} {}", own.ip(), own.port(), nginx.address.ip(), nginx.address.port()));
        assert_eq!((parts[4].parse::<u64>().is_ok(), &parts[5..]), (true, &[n.to_string().as_str(), "."][..]), "{connection}");
        let proof = field(head, "X-Portcullis-Nginx").unwrap();
        assert!(site::verify(proof.as_bytes(), &key()).is_some(), "{proof}");
        for (name, value) in [
            ("Host", Some("nas.example:81")),
            ("Connection", Some("close")),
            ("X-Forwarded-For", Some("203.0.113.9")),
            ("Range", Some("bytes=1-")),
            ("X-Portcullis-Request", None),
            ("X_Portcullis_Nginx", None),
            ("Content-Length", None),
        ] {
            assert_eq!(field(head, name).as_deref(), value, "{name} of {head}");
        }
    }
    // Two at once over one connection: the second is marked.
    let mut stream = nginx.connect();
    stream.write_all(&b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2)).unwrap();
    crate::harness::poll(crate::harness::SOON, "both are asked", || nginx.double.asked().len() == 4);
    assert!(field(&nginx.double.asked()[3], "X-Portcullis-Connection").unwrap().ends_with(" 2 p"));
    // HTTP/1.0 has no Host, and gets one.
    let said = Answer(nginx.talk(b"GET /page HTTP/1.0\r\n\r\n"));
    assert_eq!((said.status(), field(&nginx.double.asked()[4], "Host").as_deref()), (200, Some("portcullis")));
    // The log says the socket's own address, by which the kernel knows the connection.
    let line = nginx.log(1)[0].clone();
    assert_eq!(access_log::parse(line.as_bytes()).unwrap().peer, own);
}

#[test]
fn a_body_of_the_forms_size_is_passed_on_and_a_longer_one_is_refused_before_portcullis_hears_of_it() {
    let nginx = Nginx::start(Double::of_files());
    assert_eq!(nginx.post("/redeem", &"x".repeat(1024)).status(), 200);
    assert!(nginx.double.asked()[0].ends_with(&format!("\r\n\r\n{}", "x".repeat(1024))));
    let chunked = "POST /redeem HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(Answer(nginx.talk(chunked.as_bytes())).status(), 200);
    let head = nginx.double.asked().pop().unwrap();
    assert!(head.ends_with("\r\n\r\nabc") && field(&head, "Content-Length").as_deref() == Some("3"), "{head}");
    assert_eq!(field(&head, "Transfer-Encoding"), None);
    let before = nginx.double.asked().len();
    for size in [1025, 100_000] {
        let raw = format!("POST /redeem HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size));
        let said = Answer(nginx.talk(raw.as_bytes()));
        assert_eq!((said.status(), said.body()), (413, &b"Nothing is taken in here.\n"[..]), "{size}");
        assert_eq!(said.field("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(nginx.double.asked().len(), before);
}

#[test]
fn what_portcullis_answers_itself_comes_through_as_it_is() {
    let double = Double::new(|target, stream| {
        let status = target.trim_start_matches('/').replace('-', " ");
        let fields = "Content-Type: text/html\r\nX-Portcullis-Request: r\r\nLocation: http://portcullis_controller/x\r\nSet-Cookie: a=b\r\nRetry-After: 7\r\n";
        say(stream, &status, fields, "<p>our words</p>").unwrap();
    });
    let nginx = Nginx::start(double);
    for status in [
        "200-OK",
        "303-See-Other",
        "400-Bad",
        "404-Gone",
        "410-Gone",
        "412-No",
        "416-No",
        "429-Busy",
        "500-Broken",
        "502-Broken",
        "503-Later",
        "504-Late",
    ] {
        let said = nginx.ask("GET", &format!("/{status}"), "");
        assert_eq!((said.status(), said.body()), (status[..3].parse().unwrap(), &b"<p>our words</p>"[..]), "{status}");
        for (name, value) in [
            ("Content-Type", "text/html"),
            ("Location", "http://portcullis_controller/x"),
            ("Set-Cookie", "a=b"),
            ("Retry-After", "7"),
            ("Server", "nginx"),
        ] {
            assert_eq!(said.field(name).as_deref(), Some(value), "{status}: {name}");
        }
        assert_eq!(said.field("X-Portcullis-Request"), None);
    }
}

#[test]
fn a_stream_that_says_so_comes_line_by_line() {
    let (go_on, waits) = mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let double = Double::new(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}data: 1\n\n").as_bytes()).unwrap();
        waits.lock().unwrap().recv().unwrap();
        stream.write_all(b"data: 2\n\n").unwrap();
    });
    let nginx = Nginx::start(double);
    let mut stream = nginx.connect();
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("data: 1") {
        let mut some = [0; 1024];
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "the first line comes before the second is written");
        said.extend_from_slice(&some[..length]);
    }
    go_on.send(()).unwrap();
    assert!(String::from_utf8_lossy(&read_all(&mut stream)).contains("data: 2"));
}

/// Asks for a file over a connection that takes nothing, and returns that.
fn hold(nginx: &Nginx, fields: &str) -> TcpStream {
    let mut stream = nginx.connect();
    write!(stream, "GET /part/big HTTP/1.1\r\nHost: x\r\n{fields}\r\n").unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    stream
}

#[test]
fn each_visitor_has_a_few_connections_and_a_proxy_that_names_its_visitors_has_none_of_its_own() {
    const BIG: usize = 32 * 1024 * 1024;
    let bound = |site: &mut site::Site| (site.bounds.connections_per_address, site.bounds.connections) = (2, 6);
    let busy = |said: Answer| {
        assert_eq!((said.status(), said.body()), (429, &b"Too many at once. Try again in a moment.\n"[..]));
        assert_eq!(said.field("Retry-After").as_deref(), Some("5"));
    };
    let nginx = Nginx::with(Double::of_files(), bound);
    nginx.put("big", &vec![0; BIG]);
    let held = [hold(&nginx, ""), hold(&nginx, "")];
    // What somebody says about where they come from is nothing, where no proxy says it.
    busy(nginx.ask("GET", "/page", "X-Forwarded-For: 203.0.113.9\r\n"));
    drop(held);

    let nginx = Nginx::with(Double::of_files(), |site| {
        bound(site);
        site.forwarders = vec!["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    });
    nginx.put("big", &vec![0; BIG]);
    let of = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let _one = [hold(&nginx, &of("203.0.113.9")), hold(&nginx, &of("203.0.113.9"))];
    busy(nginx.ask("GET", "/page", &of("203.0.113.9")));
    // What they say themselves stands before what the proxies say.
    busy(nginx.ask("GET", "/page", &of("198.51.100.1, 203.0.113.9, 10.1.2.3")));
    let _other = hold(&nginx, &of("203.0.113.10"));
    // The proxy itself stands for any number, up to the bound of all.
    let _own = [hold(&nginx, ""), hold(&nginx, ""), hold(&nginx, "")];
    busy(nginx.ask("GET", "/page", &of("203.0.113.11")));
}

#[test]
fn whoever_asks_too_often_is_told_to_wait() {
    let nginx = Nginx::with(Double::of_files(), |site| site.bounds.connections_per_address = 1);
    // Eight at once and four a second; nobody is so slow that a thousand do not go beyond that.
    let statuses: Vec<u16> = (0..1000).map(|_| nginx.ask("GET", "/page", "").status()).take_while(|status| *status == 200).collect();
    assert!((9..1000).contains(&statuses.len()), "{}", statuses.len());
}
