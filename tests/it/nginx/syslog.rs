//! The product behind a real nginx whose lines come by syslog: what it is told completes a download, and what it is not told completes none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Instant;

use crate::harness::{SOON, Server, Setup, poll, put};

use super::product::{A_WHILE, FILM_BYTES, FOREIGN, OURS, Scene, assert_no_mishap, delivered, number};

fn socket_of(server: &Server) -> PathBuf {
    server.folder().join("nginx.sock")
}

/// Returns a product that is not started, whose nginx has one worker: the first line of each of them behind a start of ours is lost.
fn by_syslog() -> Server {
    let mut server = Setup::new().behind_nginx().workers(1).set("GRACE_PERIOD_SECONDS", 30).build(|_, _| ());
    server.set("NGINX_ACCESS_LOG", format!("syslog:{}", socket_of(&server).display()));
    server
}

fn started() -> Server {
    let mut server = by_syslog();
    server.start();
    wait_for_lines(&server);
    server
}

/// Waits until the product has seen that nginx's lines come.
fn wait_for_lines(server: &Server) {
    let said = || server.api("GET", "/health", None).text();
    poll(SOON, "nginx's lines come", || said().contains("its lines are read here"));
}

#[test]
fn a_download_completes_by_a_line_that_came_by_syslog() {
    let mut server = started();
    let path = socket_of(&server);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    assert!(!server.nginx_folder().join("access.log").exists());
    let content = put(&server, "film.mkv", 300_000);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    assert!(answer.body == content);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    assert_eq!(server.uses(&offer.id), 1);
    // The redeem and the file; the product's own look came before.
    assert!(number(&server, OURS) >= 3);
    assert_eq!((number(&server, FOREIGN), number(&server, "portcullis_nginx_log_sent_bytes_total")), (0, 300_000));
    assert_no_mishap(&server);

    // Who else may write there is told, and completes nothing.
    let other = UnixDatagram::unbound().unwrap();
    let line = r#"{"v":1,"t":"1.000","req":"AAAA","st":"200","body":"9","sent":"9","ok":"OK","etag":"","peer":"127.0.0.1 1","local":"127.0.0.1 2","conn":"1 1"}"#;
    for datagram in ["garbage", line, &format!("<190>Nov 22 06:59:18 portcullis: {line}")] {
        other.send_to(datagram.as_bytes(), &path).unwrap();
    }
    poll(SOON, "they are counted", || number(&server, FOREIGN) == 3);
    assert_eq!(number(&server, "portcullis_nginx_log_sent_bytes_total"), 300_000);
    assert!(server.stop().success());
    assert!(!path.exists(), "an orderly stop removes its socket");
}

#[test]
fn a_download_that_outlives_the_product_completes_by_its_line() {
    let mut scene = Scene::of(started());
    scene.server.kill();
    assert!(socket_of(&scene.server).exists(), "what was killed removes nothing");
    scene.server.start();
    wait_for_lines(&scene.server);
    scene.take_the_rest();
    scene.assert_delivered_once();
    assert_eq!(number(&scene.server, FOREIGN), 0);
}

#[test]
fn a_line_that_came_while_the_product_was_dead_is_lost_and_nothing_is_said_that_is_not_known() {
    let mut scene = Scene::of(started());
    let id = scene.offer.id.clone();
    let before = delivered(&scene.server.wait_for(&id, "some of it is counted", |share| delivered(share) > 0));
    scene.server.kill();
    scene.take_the_rest();
    assert_eq!(scene.got.len(), FILM_BYTES, "nginx goes on without us");
    scene.server.start();
    wait_for_lines(&scene.server);
    let share = scene.server.wait_for(&id, "it waits for a resume", |share| share["state"] == "waiting");
    assert!(delivered(&share) <= FILM_BYTES as u64 && share["state"] != "delivered", "{before}: {share:#}");
    let began = Instant::now();
    while began.elapsed() < A_WHILE {
        assert_eq!(scene.server.show(&id)["state"], "waiting");
    }
    // Whoever goes on where the product knows of completes it, in the same use.
    scene.got.truncate(delivered(&share) as usize);
    scene.resume();
    scene.assert_delivered_once();
}

#[test]
fn what_stands_where_the_socket_should_be_keeps_the_product_from_starting() {
    let mut server = by_syslog();
    let path = socket_of(&server);
    fs::write(&path, "precious").unwrap();
    assert!(!server.try_start().expect("it does not start").success());
    let log = server.log_text();
    assert!(log.contains("NGINX_ACCESS_LOG") && log.contains("what stands there is no socket"), "{log}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    // A socket that nobody listens on was left by an earlier run.
    drop(UnixDatagram::bind(&path).unwrap());
    server.start();
    wait_for_lines(&server);
}
