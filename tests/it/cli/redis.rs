//! How it starts with a Redis: which it takes, and what it says of one that it does not take.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{alone, check_code, exit, finish, run, said};
use crate::harness::{Server, Setup, put, sha256};

const SECRET: &str = "q8Zp3LfX0bWvT7yRm2NcKd5HsJ9gUeA1";
const OTHER_SECRET: &str = "Zx81mVbQ4tYpR0sLwEjK7nHdC3fGuA9i";
/// How long a start may take.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a Redis on a socket in a folder; `None`, and a word about it, where there is none to be had.
fn redis(folder: &Path, flush: &str) -> Option<Ends> {
    let mut command = Command::new("redis-server");
    command.current_dir(folder).args([
        "--port",
        "0",
        "--unixsocket",
        "redis.sock",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        flush,
    ]);
    let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        let thread = std::thread::current();
        let line = format!("\nLEFT OUT {}: redis-server is not installed\n", thread.name().unwrap_or("a test"));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    };
    wait_for(&folder.join("redis.sock"));
    Some(Ends(child))
}

fn wait_for(socket: &Path) {
    let begin = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(begin.elapsed() < FOR_EVER, "{} does not answer", socket.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes down a start with the Redis of a folder, as a controller with a state folder of its own.
fn serve(folder: &Path, name: &str, secret: &str) -> Command {
    let mut command = alone(folder);
    command.env("REDIS_URL", format!("unix://{}", folder.join("redis.sock").display())).env("JWT_SECRET", secret);
    command.env("STATE_DIR", folder.join(name)).env("NAS_MOUNT_PATH", folder).env("CONTROLLER_NAME", name).arg("serve");
    command
}

fn start(folder: &Path, name: &str, secret: &str, more: &[(&str, &str)]) -> Ends {
    let mut command = serve(folder, name, secret);
    command.envs(more.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Ends(command.spawn().unwrap());
    wait_for(&folder.join(name).join("owner.sock"));
    server
}

#[test]
fn a_redis_that_could_forget_is_refused_with_a_sentence_unless_that_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_redis) = redis(dir.path(), "everysec") else { return };
    let refused = finish(serve(dir.path(), "a", SECRET).spawn().unwrap());
    check_code(&refused, exit::ERROR);
    let text = said(&refused);
    assert!(text.contains("REDIS_URL: ") && text.contains("appendfsync is everysec") && text.contains("REDIS_ACCEPT_LOSS=yes"), "{text}");
    let accepted = start(dir.path(), "a", SECRET, &[("REDIS_ACCEPT_LOSS", "yes")]);
    // Its state lies in the Redis, and its folder is still its own.
    assert!(dir.path().join("a/controller.id").exists() && !dir.path().join("a/portcullis.db").exists());
    let second = finish(serve(dir.path(), "a", SECRET).env("REDIS_ACCEPT_LOSS", "yes").spawn().unwrap());
    check_code(&second, exit::ERROR);
    assert!(said(&second).contains("STATE_DIR"), "{}", said(&second));
    drop(accepted);
}

#[test]
fn controllers_that_share_a_redis_sign_alike_or_do_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_redis) = redis(dir.path(), "always") else { return };
    let _first = start(dir.path(), "a", SECRET, &[]);
    let refused = finish(serve(dir.path(), "b", OTHER_SECRET).spawn().unwrap());
    check_code(&refused, exit::ERROR);
    let text = said(&refused);
    assert!(text.contains("JWT_SECRET here is not that of the controllers that share this Redis; set the same for all"), "{text}");
    assert!(!text.contains(OTHER_SECRET) && !text.contains(SECRET));
    let _second = start(dir.path(), "b", OTHER_SECRET, &[("JWT_SECRET_PREVIOUS", SECRET)]);
    // Whoever has the new one alone may come, too, since somebody knew both.
    let _third = start(dir.path(), "c", OTHER_SECRET, &[]);
}

#[test]
fn a_redis_that_is_away_stops_the_start_and_its_password_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path(), "a", SECRET);
    let output = finish(command.env("REDIS_URL", "redis://:s3cret@127.0.0.1:1").env("LOG", "debug").spawn().unwrap());
    check_code(&output, exit::ERROR);
    let text = said(&output);
    assert!(text.contains("REDIS_URL") && text.contains("127.0.0.1:1") && !text.contains("s3cret"), "{text}");
    let checked = finish(
        alone(dir.path()).env("REDIS_URL", "redis://:s3cret@127.0.0.1:1").env("NAS_MOUNT_PATH", dir.path()).arg("check").spawn().unwrap(),
    );
    check_code(&checked, exit::ERROR);
    assert!(said(&checked).contains("REDIS_URL: 127.0.0.1:1") && !said(&checked).contains("s3cret"), "{}", said(&checked));
}

#[test]
fn what_was_open_goes_on_in_a_redis_and_back_and_what_was_used_stays_used() {
    let mut server = Setup::new().start();
    let Some(_redis) = redis(server.folder(), "always") else { return };
    let content = put(&server, "film.mkv", 1000);
    let [used, open, begun, late] = [(); 4].map(|()| server.share("film.mkv"));
    server.fetch("GET", &server.redeem(&used), &[]).expect("an answer").expect_status(200);
    let transfer = server.redeem(&begun);
    let url = format!("unix://{}", server.folder().join("redis.sock").display());
    let migrate = |server: &Server, from: &str, to: &str| {
        let mut command = server.command();
        finish(
            command
                .env("REDIS_URL", &url)
                .args(["migrate", "--from", from, "--to", to])
                .arg(&server.root)
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    };
    let refused = |output: &Output, why: &str| {
        check_code(output, exit::ERROR);
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{}", said(output));
    };
    refused(&migrate(&server, "sqlite", "redis"), "stop it first");
    check_code(&migrate(&server, "redis", "redis"), exit::USAGE);
    server.stop();
    let unnamed = run(&server, &["migrate", "--from", "sqlite", "--to", "redis"]);
    refused(&unnamed, "REDIS_URL");

    let moved = migrate(&server, "sqlite", "redis");
    check_code(&moved, exit::DONE);
    let text = String::from_utf8_lossy(&moved.stdout);
    assert!(text.contains("4 shares, 4 links,") && said(&moved).contains("portcullis.db.moved-1"), "{}", said(&moved));
    refused(&migrate(&server, "sqlite", "redis"), "there is no store in");
    server.set("REDIS_URL", &url);
    server.start();
    // The page with the button lives on, and so does the address behind it.
    let bytes = server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200).body;
    assert_eq!(sha256(&bytes), sha256(&content));
    let is_used = |server: &Server| server.fetch("POST", &used.redeem_path(), &[]).is_none_or(|answer| answer.status == 410);
    assert!(is_used(&server), "a used link works again");
    assert_eq!(server.show(&open.id)["state"], "offered");
    let late = server.redeem(&late);
    refused(&migrate(&server, "redis", "sqlite"), "stop it first");
    server.stop();

    // A folder that never had the key of transfers.
    std::fs::remove_file(server.state.join("transfer.key")).unwrap();
    let back = migrate(&server, "redis", "sqlite");
    check_code(&back, exit::DONE);
    refused(&finish(server.command().arg("serve").arg(&server.root).spawn().unwrap()), "were moved into a state folder");
    server.unset("REDIS_URL");
    server.start();
    assert!(is_used(&server), "a used link works again");
    for transfer in [late, server.redeem(&open)] {
        let bytes = server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200).body;
        assert_eq!(sha256(&bytes), sha256(&content));
    }
    check_code(&run(&server, &["audit", "verify"]), exit::DONE);
}
