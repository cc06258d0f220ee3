//! Puts links into the clipboard: by the programs that desktops have for it, and through the terminal, which works over SSH too.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::terminal::Terminal;

/// The programs of Wayland, X and macOS, each with what makes it take a text for the clipboard.
const PROGRAMS: [(&str, &[&str]); 3] = [("wl-copy", &[]), ("xclip", &["-selection", "clipboard"]), ("pbcopy", &[])];
/// How long one of them may take: they hand the text over and are done, or wait for a display that is not there.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether one is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest text that is sent through a terminal: the least that common ones take.
const MAX_SEQUENCE_BYTES: usize = 74_994;

/// Copies a text, and tells how that went. That it could not be copied is no error: it stands on standard output too.
pub(super) async fn copy(text: &str, terminal: &mut Terminal) {
    let owned = text.to_owned();
    let by_program = tokio::task::spawn_blocking(move || PROGRAMS.iter().any(|(program, arguments)| hand_to(program, arguments, &owned)));
    let is_copied = by_program.await.unwrap_or(false);
    let is_sent = terminal.is_watched && text.len() <= MAX_SEQUENCE_BYTES;
    if is_sent {
        // OSC 52: "this is the clipboard's content", for the terminal that the person sits at, however far away.
        terminal.draw(&format!("\u{1b}]52;c;{}\u{7}", BASE64_STANDARD.encode(text)));
    }
    terminal.say(match (is_copied, is_sent) {
        (true, _) => "Copied to the clipboard.",
        (false, true) => "Sent to your terminal's clipboard (not every terminal takes it).",
        (false, false) => "Not copied: there is no terminal here, and no wl-copy, xclip or pbcopy that works.",
    });
}

/// Hands a text to a program. Returns whether it took it.
fn hand_to(program: &str, arguments: &[&str], text: &str) -> bool {
    // It may go on in the background, to serve the clipboard, and must hold none of our pipes then.
    let started = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return false };
    let written = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(text.as_bytes()).is_ok());
    for _ in 0..PROGRAM_PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        match child.try_wait() {
            Ok(Some(status)) => return written && status.success(),
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
