use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// Says one thing to whoever connects, and keeps what they said.
struct Double {
    _folder: tempfile::TempDir,
    api: LocalApi,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

/// What a double does behind its answer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Stay,
}

impl Double {
    fn saying(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tailscaled.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), answer.into());
        let mut tasks = JoinSet::new();
        let kept = asked.clone();
        tasks.spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 64 * 1024];
                let mut n = stream.read(&mut request).await.unwrap();
                // hyper may send a body behind its head.
                while request[..n].starts_with(b"POST") && !has_all(&request[..n]) {
                    n += stream.read(&mut request[n..]).await.unwrap();
                }
                kept.lock().unwrap().push(String::from_utf8(request[..n].to_vec()).unwrap());
                stream.write_all(&answer).await.unwrap();
                if then == Then::Stay {
                    open.push(stream);
                }
            }
        });
        Self { api: LocalApi::new(socket), _folder: folder, asked, _task: tasks }
    }

    fn answering(status: &str, headers: &str, body: &str) -> Self {
        let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        Self::saying(text, Then::Close)
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn has_all(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()));
    body.len() >= length.unwrap_or(0)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const BUS: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_question_names_the_socket_and_nothing_that_a_browser_would_send() {
    let double = Double::answering("200 OK", "", r#"{"BackendState":"Running","New":{"Field":1}}"#);
    let status = double.api.status().await.unwrap();
    assert_eq!(status["New"]["Field"], 1, "what is not known is not lost");
    let asked = double.asked().to_ascii_lowercase();
    assert!(asked.starts_with("get /localapi/v0/status?peers=false http/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: local-tailscaled.sock\r\n"), "{asked}");
    assert!(!asked.contains("referer") && !asked.contains("origin"), "tailscaled refuses both: {asked}");
}

#[tokio::test]
async fn an_edit_carries_the_etag_as_it_came_and_every_field() {
    let etag = "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b";
    let double = Double::answering("200 OK", &format!("Etag: {etag}\r\n"), "null");
    let config = double.api.serve_config().await.unwrap();
    assert_eq!(config.json, Value::Null);
    let new = json!({ "Foreground": { "df16b397a48601e8": {} }, "Unknown": [1, 2] });
    double.api.set_serve_config(&new, &config.etag).await.unwrap();
    let asked = double.asked();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains(&format!("if-match: {etag}")), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), new);
}

#[tokio::test]
async fn a_configuration_without_an_etag_is_none_that_could_be_edited() {
    let double = Double::answering("200 OK", "", "{}");
    assert!(matches!(double.api.serve_config().await, Err(LocalApiError::Broken { .. })));
}

#[tokio::test]
async fn each_way_to_say_no_is_told_apart_and_says_what_to_do() {
    let etag = Etag(HeaderValue::from_static("aa"));
    for (status, headers, body, expected, is_retryable) in [
        ("412 Precondition Failed", "", "etag mismatch", "somebody else changed tailscaled's configuration meanwhile", true),
        (
            "403 Forbidden",
            "",
            "serve config denied",
            "make it the operator (tailscale set --operator=NAME); it says: serve config denied",
            false,
        ),
        ("401 Unauthorized", "", "must be a Windows local admin", "does not let this account change what it serves", false),
        (
            "500 Internal Server Error",
            "",
            r#"{"error":"updating config: disk full"}"#,
            "(500 Internal Server Error): updating config: disk full",
            true,
        ),
        (
            "405 Method Not Allowed",
            "",
            "only GET and POST\nallowed\u{1b}[2J",
            "(405 Method Not Allowed): only GET and POST allowed [2J",
            false,
        ),
        ("429 Too Many Requests", "Retry-After: 61\r\n", "rate limited", "tailscaled could not change what it serves: rate limited", true),
    ] {
        let double = Double::answering(status, headers, body);
        let error = double.api.set_serve_config(&json!({}), &etag).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
        assert_eq!(error.is_retryable(), is_retryable, "{status}");
        if let LocalApiError::NotYet { wait, .. } = error {
            assert_eq!(wait, Some(Duration::from_secs(61)));
        }
    }
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tailscaled.sock");
    let api = LocalApi::new(&socket);
    assert!(matches!(api.status().await, Err(LocalApiError::NotRunning { .. })), "there is none");
    drop(UnixListener::bind(&socket).unwrap());
    let error = api.status().await.unwrap_err();
    assert!(matches!(error, LocalApiError::NotRunning { .. }), "it was left behind: {error}");
    assert!(error.is_retryable() && error.to_string().contains(socket.to_str().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_not_waited_for_without_end() {
    let double = Double::saying("HTTP/1.1 200 OK\r\n", Then::Stay);
    let error = double.api.status().await.unwrap_err();
    assert!(matches!(error, LocalApiError::Slow { after: ANSWER_TIMEOUT, .. }), "{error}");
    assert!(matches!(double.api.watch().await, Err(LocalApiError::Slow { .. })));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let body = "x".repeat(MAX_ANSWER_BYTES + 1);
    let double = Double::answering("200 OK", "", &body);
    assert!(matches!(double.api.status().await, Err(LocalApiError::Broken { .. })));
}

#[tokio::test]
async fn the_bus_names_its_session_first_and_then_tells_line_by_line_however_it_is_cut() {
    let first = "{\"Version\":\"1.102.3\",\"SessionID\":\"df16b397a48601e8\",\"State\":6}\n";
    let parts = [chunk(&first[..10]), chunk(&first[10..]), chunk("{\"State\":4}\n{\"Sta"), chunk("te\":2}\n"), "0\r\n\r\n".to_owned()];
    let double = Double::saying(format!("{BUS}{}", parts.concat()), Then::Stay);
    let mut bus = double.api.watch().await.unwrap();
    assert!(double.asked().starts_with("GET /localapi/v0/watch-ipn-bus?mask=130 "), "{}", double.asked());
    assert_eq!(bus.session(), "df16b397a48601e8");
    assert_eq!(bus.next().await.unwrap().unwrap()["State"], 4);
    assert_eq!(bus.next().await.unwrap().unwrap()["State"], 2);
    assert!(bus.next().await.unwrap().is_none(), "the session is over");
}

#[tokio::test]
async fn a_bus_whose_other_side_dies_has_ended() {
    let double = Double::saying(format!("{BUS}{}", chunk("{\"SessionID\":\"df16b397a48601e8\"}\n")), Then::Close);
    let mut bus = double.api.watch().await.unwrap();
    assert!(bus.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_bus_without_a_session_is_none() {
    for first in ["{}\n", "{\"SessionID\":\"../../etc/passwd\"}\n", "no json\n"] {
        let double = Double::saying(format!("{BUS}{}", chunk(first)), Then::Stay);
        assert!(matches!(double.api.watch().await, Err(LocalApiError::Broken { .. })), "{first}");
    }
}

#[tokio::test]
async fn a_message_without_end_ends_the_session() {
    let first = chunk("{\"SessionID\":\"df16b397a48601e8\"}\n");
    let double = Double::saying(format!("{BUS}{first}{}", chunk(&"x".repeat(MAX_LINE_BYTES + 1))), Then::Stay);
    let mut bus = double.api.watch().await.unwrap();
    assert!(matches!(bus.next().await, Err(LocalApiError::Broken { .. })));
}

#[tokio::test]
async fn a_bus_that_is_dropped_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tailscaled.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let api = LocalApi::new(socket);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let _ = stream.read(&mut bytes).await.unwrap();
        stream.write_all(format!("{BUS}{}", chunk("{\"SessionID\":\"df16b397a48601e8\"}\n")).as_bytes()).await.unwrap();
        stream
    };
    let (mut stream, bus) = tokio::join!(serve, api.watch());
    drop(bus.unwrap());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_pair_is_told_apart_and_its_key_is_not_shown() {
    let (key, chain) = (
        "-----BEGIN EC PRIVATE KEY-----\nsecretsecret\n-----END EC PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\ntwo\n-----END CERTIFICATE-----\n",
    );
    let double = Double::answering("200 OK", "", &format!("{key}{chain}"));
    let pair = double.api.cert_pair("node.tail1234.ts.net", Duration::from_secs(86_400)).await.unwrap();
    assert_eq!((pair.key.as_str(), pair.chain.as_str()), (key, chain));
    assert!(!format!("{pair:?}").contains("secret"));
    assert!(
        double.asked().starts_with("GET /localapi/v0/cert/node%2Etail1234%2Ets%2Enet?type=pair&min_validity=86400s "),
        "{}",
        double.asked()
    );
    for wrong in ["", chain, key, "-----BEGIN CERTIFICATE-----"] {
        let double = Double::answering("200 OK", "", wrong);
        assert!(matches!(double.api.cert_pair("a", Duration::ZERO).await, Err(LocalApiError::Broken { .. })), "{wrong}");
    }
}

#[tokio::test]
async fn whoever_is_not_of_the_tailnet_is_nobody() {
    let double = Double::answering("404 Not Found", "", "no match for IP:port");
    assert_eq!(double.api.whois("[2001:db8::1]:443".parse().unwrap()).await.unwrap(), None);
    assert!(double.asked().starts_with("GET /localapi/v0/whois?proto=tcp&addr=%5B2001%3Adb8%3A%3A1%5D%3A443 "), "{}", double.asked());
}
