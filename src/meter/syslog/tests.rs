use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;

/// How long a line may take that should come.
const PATIENCE: Duration = Duration::from_secs(20);
const LINE: &str = r#"{"v":1}"#;

fn number(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn datagram(line: impl std::fmt::Display) -> Vec<u8> {
    format!("<190>Nov 22 06:59:18 portcullis: {line}").into_bytes()
}

/// Binds as `bind` does where nothing stands in the way.
fn bound() -> (tempfile::TempDir, PathBuf, UnixDatagram, Bound) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.sock");
    let (socket, bound) = bind(&path).unwrap();
    (folder, path, socket, bound)
}

#[test]
fn a_line_stands_behind_each_form_of_nginxs_header() {
    for header in [
        "<190>Nov 22 06:59:18 portcullis: ",
        "<190>Mar  5 00:00:00 portcullis: ",
        "<0>Dec 31 23:59:60 portcullis: ",
        // Without `nohostname`.
        "<190>Nov 22 06:59:18 nas.example portcullis: ",
        "<190>Nov 22 06:59:18 portcullis portcullis: ",
    ] {
        assert_eq!(line_in(format!("{header}{LINE}").as_bytes()), Some(LINE.as_bytes()), "{header}");
        assert_eq!(line_in(header.as_bytes()), Some(&[][..]), "{header}");
        for end in 0..header.len() {
            assert_eq!(line_in(&header.as_bytes()[..end]), None, "{header}, {end} bytes of it");
        }
    }
    // What looks like a header within a line is a part of the line.
    let within = datagram("x portcullis: y");
    assert_eq!(line_in(&within), Some(&b"x portcullis: y"[..]));
}

#[test]
fn what_is_written_otherwise_is_no_line() {
    for datagram in [
        LINE,
        "",
        "<190>",
        "<>Nov 22 06:59:18 portcullis: {}",
        "<1900>Nov 22 06:59:18 portcullis: {}",
        "<1x0>Nov 22 06:59:18 portcullis: {}",
        "190>Nov 22 06:59:18 portcullis: {}",
        "<190> Nov 22 06:59:18 portcullis: {}",
        "<190>Nov 22 06:59:18portcullis: {}",
        "<190>2026-11-22T06:59:18Z portcullis: {}",
        "<190>Nov 22 06-59-18 portcullis: {}",
        "<190>Nov 22 06:59:18 nginx: {}",
        "<190>Nov 22 06:59:18 portcullis:{}",
        "<190>Nov 22 06:59:18 portcullis {}",
        "<190>Nov 22 06:59:18 a b portcullis: {}",
        "<190>Nov 22 06:59:18 nginx-portcullis: {}",
    ] {
        assert_eq!(line_in(datagram.as_bytes()), None, "{datagram}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_line_only_behind_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0..60_usize) {
        prop_assert!(line_in(&bytes).is_none_or(|line| bytes.ends_with(line) && bytes.len() - line.len() >= 31));
        // One byte of a good one is another.
        let mut twisted = datagram(LINE);
        let at = at % twisted.len();
        twisted[at] = bytes.first().copied().unwrap_or_default();
        prop_assert!(line_in(&twisted).is_none_or(|line| line.len() == LINE.len()));
    }
}

#[test]
fn a_socket_that_was_left_is_replaced_and_one_that_is_in_use_is_not() {
    let (_folder, path, socket, bound) = bound();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "nginx may write into it, whatever the umask");
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    // As a process that was killed leaves it.
    std::mem::forget(bound);
    drop(socket);
    assert!(path.exists());
    let (socket, bound) = bind(&path).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
    drop(bound);
    assert!(!path.exists(), "an orderly end removes it");
}

#[test]
fn another_files_name_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.sock");
    let refused = || {
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("is no socket"), "{error}");
    };
    fs::write(&path, "precious").unwrap();
    refused();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    refused();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    // Somebody listens there in another way.
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    assert_eq!(bind(&folder.path().join("none/nginx.sock")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_has_taken_the_name_meanwhile_is_left_there() {
    let (_folder, path, _socket, bound) = bound();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(bound);
    assert!(path.exists());
}

/// Takes batches until so many lines have come; returns them, and what went wrong.
async fn lines(batches: &mut mpsc::Receiver<Batch<Option<u64>>>, count: usize) -> (Vec<Option<u64>>, Mishaps) {
    let (mut lines, mut mishaps) = (Vec::new(), Mishaps::default());
    while lines.len() < count {
        let batch = tokio::time::timeout(PATIENCE, batches.recv()).await.expect("more comes").expect("it goes on");
        assert_eq!((batch.checkpoint, batch.trouble, batch.left), (None, None, 0));
        lines.extend(batch.lines);
        mishaps = batch.mishaps;
    }
    (lines, mishaps)
}

#[tokio::test]
async fn lines_come_and_what_is_none_or_too_long_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.sock");
    let (sender, mut batches) = mpsc::channel(4);
    let bound = listen(&path, number, sender).unwrap();
    let first = batches.recv().await.expect("that it begins is told before anything is read");
    assert!(first.lines.is_empty() && first.checkpoint.is_none() && first.mishaps == Mishaps::default());
    let nginx = UnixDatagram::unbound().unwrap();
    nginx.connect(&path).unwrap();
    nginx.send(&datagram(7)).unwrap();
    nginx.send(b"garbage").unwrap();
    // As long as a line may be, and a byte longer; and one that finds no room at all.
    for zeros in [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 2 * MAX_LINE_BYTES] {
        nginx.send(&datagram(format!("{}8", "0".repeat(zeros)))).unwrap();
    }
    nginx.send(&datagram(9)).unwrap();
    let (lines, mishaps) = lines(&mut batches, 4).await;
    assert_eq!(lines, [Some(7), None, Some(8), Some(9)]);
    assert_eq!(mishaps, Mishaps { oversized_lines: 2, ..Mishaps::default() });
    drop(bound);
    assert!(!path.exists());
}

#[tokio::test]
async fn lines_wait_for_whoever_takes_them_on_and_past_a_bound_nginx_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.sock");
    let (sender, mut batches) = mpsc::channel(1);
    let _bound = listen(&path, number, sender).unwrap();
    let nginx = UnixDatagram::unbound().unwrap();
    nginx.connect(&path).unwrap();
    // Whoever waits for room in the kernel's queue waits for the thread alone.
    let kept = MAX_GATHERED as u64 / 2;
    for n in 0..kept {
        nginx.send(&datagram(n)).unwrap();
    }
    let (first, _) = lines(&mut batches, kept as usize).await;
    assert!(first.into_iter().eq((0..kept).map(Some)), "nothing is lost, and all is in order");
    // Nobody takes any more, and nginx does not wait.
    nginx.set_nonblocking(true).unwrap();
    let mut written = 0_u64;
    let mut refused = 0;
    let mut tries = 0;
    while refused < 1000 || written < MAX_GATHERED as u64 {
        tries += 1;
        assert!(tries < 10 * MAX_GATHERED, "only {written} were taken in, and no more");
        match nginx.send(&datagram(written)) {
            Ok(_) => (written, refused) = (written + 1, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let (rest, _) = lines(&mut batches, written as usize).await;
    assert!(rest.into_iter().eq((0..written).map(Some)), "what was taken in comes");
    nginx.send(&datagram(1)).unwrap();
    assert_eq!(lines(&mut batches, 1).await.0, [Some(1)]);
}

#[tokio::test]
async fn the_thread_ends_when_nobody_takes_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.sock");
    let (sender, batches) = mpsc::channel(1);
    let _bound = listen(&path, number, sender).unwrap();
    drop(batches);
    let refused = || UnixDatagram::unbound().unwrap().send_to(b"x", &path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    let mut looks = 0;
    while !refused() {
        looks += 1;
        assert!(looks < 1000, "it goes on");
        std::thread::sleep(TICK / 10);
    }
}
