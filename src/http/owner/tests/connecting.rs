//! The loop that accepts connections, over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::*;

/// How long anything here may take that should be quick.
const SOON: Duration = Duration::from_secs(10);

async fn listen(scene: &Scene) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = TaskTracker::new().spawn(serve(OwnerListener::Tcp(listener), scene.router.clone(), shutdown.clone()));
    (address, shutdown, serving)
}

async fn read_to_end<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(6 * SOON, stream.read_to_end(&mut text)).await.expect("the connection is closed some day");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let scene = scene().await;
    let (address, ..) = listen(&scene).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = |last: &str| format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n{last}\r\n");
    stream.write_all((request("") + &request("") + &request("Connection: close\r\n")).as_bytes()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test]
async fn over_the_local_socket_we_are_known() {
    let scene = scene().await;
    let path = scene.folder.path().join("sub/owner.sock");
    let listener = UnixListener::bind(&path).unwrap();
    TaskTracker::new().spawn(serve(OwnerListener::Unix(listener), scene.router.clone(), CancellationToken::new()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /api/v1/shares HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_a_dribbling_and_an_idle_client_are_sent_away() {
    let scene = scene().await;
    let (address, ..) = listen(&scene).await;
    let idle = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n");
    for opening in ["", "GET /livez HTTP/1.1\r\nHo", &idle] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        stream.write_all(opening.as_bytes()).await.unwrap();
        let _ = read_to_end(&mut stream).await;
        assert!(begun.elapsed() <= Duration::from_secs(15), "{opening:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_in_words_and_not_by_a_reset() {
    let scene = scene().await;
    let (address, ..) = listen(&scene).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = 10 * 1024 * 1024;
    let head = format!(
        "POST /api/v1/shares HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n",
        scene.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; length]).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn stopping_ends_streams_and_idle_connections_at_once() {
    let scene = scene().await;
    let (address, shutdown, serving) = listen(&scene).await;
    let mut watching = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /api/v1/events/stream HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {}\r\n\r\n", scene.token);
    watching.write_all(head.as_bytes()).await.unwrap();
    let mut seen = vec![0; 4096];
    while !String::from_utf8_lossy(&seen).contains("event: ready") {
        let more = watching.read(&mut seen).await.unwrap();
        assert!(more > 0, "the stream begins");
    }
    let _idle = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    shutdown.cancel();
    tokio::time::timeout(SOON, serving).await.expect("it ends soon").unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(address).await.is_err(), "nobody comes in any more");
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let scene = scene().await;
    let (address, ..) = listen(&scene).await;
    let mut crowd = Vec::new();
    for _ in 0..128 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    let mut one_too_many = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_to_end(&mut one_too_many).await, "");
    drop(crowd);
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        // It may be closed before it is read.
        let _ = stream.write_all(request.as_bytes()).await;
        if read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 OK") {
            return;
        }
    }
    panic!("places that are given back are free again");
}
