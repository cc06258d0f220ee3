//! Where a command writes, and what it may draw there.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use console::Term;
use tokio::sync::oneshot;

use super::text::{escaped_json, safe};

/// Takes everything written to a terminal's screen below the cursor away.
const CLEAR_BELOW: &str = "\u{1b}[J";
const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

/// What answers may be typed on.
pub(super) type Keyboard = Box<dyn BufRead + Send>;

/// Standard output and standard error, or what stands for them in a test.
///
/// Nothing is written past this: what comes from outside (names, answers) is made harmless here for whatever shows it.
pub(super) struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether a person watches standard error: a bar may move there.
    pub(super) is_watched: bool,
    /// What standard output shows on; a test may say.
    screen: Option<Screen>,
    /// Where a person can answer a question; none where there is nobody to ask.
    keyboard: Option<Keyboard>,
    /// How many lines of a table that is drawn over and over stand on the screen.
    drawn: usize,
}

/// The screen that standard output shows on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) has_colours: bool,
}

impl Terminal {
    pub(super) fn of_process() -> Self {
        let is_watched = io::stderr().is_terminal() && !console::is_dumb();
        let keyboard = (io::stderr().is_terminal() && io::stdin().is_terminal()).then(|| Box::new(BufReader::new(io::stdin())) as Keyboard);
        Self { keyboard, ..Self::new(Box::new(io::stdout()), Box::new(io::stderr()), is_watched) }
    }

    pub(super) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, is_watched: bool) -> Self {
        Self { out, err, is_watched, screen: None, keyboard: None, drawn: 0 }
    }

    #[cfg(test)]
    pub(super) fn with(self, screen: Option<Screen>, keyboard: Option<Keyboard>) -> Self {
        Self { screen, keyboard, ..self }
    }

    /// Returns the screen that standard output shows on, as large as it is at the moment; none where it goes to a pipe or a
    /// file.
    pub(super) fn screen(&self) -> Option<Screen> {
        if cfg!(test) {
            return self.screen;
        }
        let term = Term::stdout();
        let (rows, columns) = term.size_checked().filter(|_| !console::is_dumb())?;
        Some(Screen { rows: rows.into(), columns: columns.into(), has_colours: term.features().colors_supported() })
    }

    /// Writes a line of what the command is for.
    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", safe(line))?;
        self.out.flush()
    }

    /// Writes lines, each a line of what the command is for.
    pub(super) fn print_lines(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "{}", safe(line))?;
        }
        self.out.flush()
    }

    /// Writes a document of ours as it is: a manual page, a script for a shell.
    pub(super) fn print_document(&mut self, document: &[u8]) -> io::Result<()> {
        self.out.write_all(document)?;
        self.out.flush()
    }

    /// Writes JSON as one line, what is not harmless as `\u…` of JSON itself.
    pub(super) fn print_json(&mut self, json: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{}", escaped_json(json))?;
        self.out.flush()
    }

    /// Draws lines over those that were drawn before. Each must fit the screen's width.
    pub(super) fn redraw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut all = match self.drawn {
            0 => HIDE_CURSOR.to_owned(),
            drawn => format!("\u{1b}[{drawn}A\r"),
        };
        all += CLEAR_BELOW;
        for line in lines {
            all += &safe(line);
            all.push('\n');
        }
        self.drawn = lines.len();
        self.out.write_all(all.as_bytes())?;
        self.out.flush()
    }

    /// Leaves what was drawn on the screen and goes on below it.
    pub(super) fn end_drawing(&mut self) -> io::Result<()> {
        self.drawn = 0;
        self.out.write_all(SHOW_CURSOR.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line for the person beside the screen. If nobody can be told, the exit code still tells.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", safe(line));
    }

    /// Writes lines of our own drawing.
    pub(super) fn draw(&mut self, lines: &str) {
        let _ = write!(self.err, "{lines}").and_then(|()| self.err.flush());
    }

    /// Asks the person. The answer is a line without its end, or nothing where the keyboard was closed; without anybody to
    /// ask there is none to wait for.
    pub(super) fn ask(&mut self, question: &str) -> Option<oneshot::Receiver<Option<String>>> {
        let mut keyboard = self.keyboard.take()?;
        self.draw(&safe(question));
        let (told, answer) = oneshot::channel();
        // A thread of its own: a read from a terminal cannot be called off, and the program may end before it does.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = keyboard.read_line(&mut line);
            let _ = told.send(read.ok().filter(|bytes| *bytes > 0).map(|_| line.trim().to_owned()));
        });
        Some(answer)
    }

    /// Writes an error with everything that it rests on.
    pub(super) fn say_error(&mut self, error: &anyhow::Error) {
        // `ls | head` is no error.
        if error.downcast_ref::<io::Error>().is_none_or(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            self.say(&format!("portcullis: {error:#}"));
        }
    }
}
