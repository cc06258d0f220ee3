//! Where a command writes.

use std::io::{self, IsTerminal, Write};

use super::text::{escaped_json, safe};

/// Standard output and standard error, or what stands for them in a test.
///
/// Nothing is written past this: what comes from outside (names, answers) is made harmless here for whatever shows it.
pub(super) struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether a person watches standard error: a bar may move there.
    pub(super) is_watched: bool,
}

impl Terminal {
    pub(super) fn of_process() -> Self {
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), io::stderr().is_terminal())
    }

    pub(super) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, is_watched: bool) -> Self {
        Self { out, err, is_watched }
    }

    /// Writes a line of what the command is for.
    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", safe(line))?;
        self.out.flush()
    }

    /// Writes JSON as one line, what is not harmless as `\u…` of JSON itself.
    pub(super) fn print_json(&mut self, json: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{}", escaped_json(json))?;
        self.out.flush()
    }

    /// Writes a line for the person beside the screen. If nobody can be told, the exit code still tells.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", safe(line));
    }

    /// Writes lines of our own drawing.
    pub(super) fn draw(&mut self, lines: &str) {
        let _ = write!(self.err, "{lines}");
    }

    /// Writes an error with everything that it rests on.
    pub(super) fn say_error(&mut self, error: &anyhow::Error) {
        // `ls | head` is no error.
        if error.downcast_ref::<io::Error>().is_none_or(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            self.say(&format!("portcullis: {error:#}"));
        }
    }
}
