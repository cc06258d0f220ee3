//! Watching, and being asked when it is broken off.

use super::*;

const SCREEN: Screen = Screen { rows: 10, columns: 60, has_colours: false };

fn once_shown(server: &Arc<Server>) -> Interrupts {
    let server = Arc::clone(server);
    Interrupts::when(stream::once(async move { server.shown().await }).chain(stream::pending()))
}

async fn interrupted(typed: &'static str) -> (Ran, Arc<Server>) {
    let server = Arc::new(Server::start());
    let file = server.file();
    let keyboard: Keyboard = Box::new(std::io::Cursor::new(typed));
    let ran = run_on(server.folder.path(), &["share", &file, "--wait"], once_shown(&server), None, Some(keyboard)).await;
    (ran, server)
}

#[tokio::test]
async fn ctrl_c_asks_and_closes_unless_told_not_to() {
    for typed in ["\n", "y\n", "Yes\n", "what?\n", ""] {
        let (ran, server) = interrupted(typed).await;
        assert_eq!((ran.exit, server.asked("DELETE /api/v1/shares/abcdefghjk").len()), (Exit::Interrupted, 1), "{typed:?}");
        assert!(ran.err.contains("[Y/n]") && ran.err.ends_with("Closed the share: its link no longer works.\n"), "{}", ran.err);
    }
    for typed in ["n\n", "No\n"] {
        let (ran, server) = interrupted(typed).await;
        assert_eq!((ran.exit, server.asked("DELETE /api/v1/shares/abcdefghjk").len()), (Exit::Interrupted, 0), "{typed:?}");
        assert!(ran.err.contains("portcullis watch abcdefghjk") && ran.err.contains("portcullis close abcdefghjk"), "{}", ran.err);
    }
}

/// A keyboard on which nobody types.
struct Silent;

impl std::io::Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn a_second_ctrl_c_closes_without_an_answer() {
    let server = Arc::new(Server::start());
    let file = server.file();
    let shown = Arc::clone(&server);
    let interrupts = Interrupts::when(stream::once(async move { shown.shown().await }).chain(stream::iter([()])).chain(stream::pending()));
    let keyboard: Keyboard = Box::new(std::io::BufReader::new(Silent));
    let ran = run_on(server.folder.path(), &["share", &file, "--wait"], interrupts, None, Some(keyboard)).await;
    assert_eq!((ran.exit, server.asked("DELETE /api/v1/shares/abcdefghjk").len()), (Exit::Interrupted, 1));
}

#[tokio::test]
async fn watching_a_share_prints_each_state_once_and_ends_with_it() {
    let server = Server::start();
    let story = async {
        server.shown().await;
        server.shown().await;
        server.send_share(&share("transferring", "5 B of 10 B", None));
        server.send_share(&share("transferring", "6 B of 10 B", None));
        let mut other = share("closed", "Not this one.", Some("failed"));
        other["id"] = json!("0123456789");
        server.send_share(&other);
        server.send_share(&share("closed", "Over.", Some("stalled")));
    };
    let line = ["watch", ID];
    let (ran, ()) = tokio::join!(server.run(&line), story);
    assert_eq!(ran.exit, Exit::Stalled);
    let lines: Vec<&str> = ran.out.lines().collect();
    let expected = ["abcdefghjk  5 B of 10 B  holi\u{FFFD}day.mp4", "abcdefghjk  Over.  holi\u{FFFD}day.mp4"];
    assert!(lines.ends_with(&expected), "{lines:?}");
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
}

#[tokio::test]
async fn on_a_screen_the_table_is_drawn_in_place_and_fits() {
    let server = Server::start();
    let story = async {
        server.shown().await;
        server.shown().await;
        server.send_share(&share("transferring", "5 B of 10 B · 1 B/s · about 5 seconds left, and much more to say", None));
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.send_share(&share("closed", "Over.", Some("completed")));
    };
    let line = ["watch", ID];
    let watching = run_on(server.folder.path(), &line, Interrupts::when(stream::pending()), Some(SCREEN), None);
    let (ran, ()) = tokio::join!(watching, story);
    assert_eq!(ran.exit, Exit::Done);
    let drawings: Vec<&str> = ran.out.split("\u{1b}[J").skip(1).collect();
    assert!(drawings.len() >= 2 && drawings.last().unwrap().contains("Over."), "{:?}", ran.out);
    assert!(ran.out.contains("\u{1b}[2A") && ran.out.ends_with("\u{1b}[?25h"), "{:?}", ran.out);
    for line in drawings.iter().flat_map(|drawing| drawing.lines()).filter(|line| !line.starts_with('\u{1b}')) {
        assert!(text::width(line) <= SCREEN.columns, "{line}");
    }
}

#[tokio::test]
async fn as_json_each_line_of_the_log_is_printed_also_over_a_lost_connection() {
    let server = Server::start();
    let story = async {
        server.shown().await;
        server.shown().await;
        server.send_log(7, &json!({ "seq": 7, "share": ID, "type": "transfer.redeemed", "odd": "\u{9b}" }));
        server.send_log(8, &json!({ "seq": 8, "share": "0123456789", "type": "share.closed", "outcome": "revoked" }));
        server.send("");
        // It comes back and says how far it got; meanwhile another line was written.
        while server.asked("GET /api/v1/events/stream after 8").is_empty() {
            tokio::task::yield_now().await;
        }
        while server.state.events.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        server.send_log(9, &json!({ "seq": 9, "share": ID, "type": "share.closed", "outcome": "expired" }));
    };
    let line = ["watch", ID, "--json"];
    let (ran, ()) = tokio::join!(server.run(&line), story);
    assert_eq!(ran.exit, Exit::Expired, "{ran:?}");
    let seqs: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
    assert_eq!(seqs, [7, 9]);
    assert!(!ran.out.contains('\u{9b}'));
}

#[tokio::test]
async fn ctrl_c_ends_watching_and_changes_nothing() {
    let server = Arc::new(Server::start());
    let ran = run_on(server.folder.path(), &["watch", ID], once_shown(&server), None, None).await;
    assert_eq!((ran.exit, server.asked("DELETE /api/v1/shares/abcdefghjk").len()), (Exit::Done, 0));
    let unknown = server.run(&["watch", "0123456789"]).await;
    assert_eq!((unknown.exit, unknown.out.as_str()), (Exit::Error, ""));
}
