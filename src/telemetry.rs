//! Log lines on standard error: sentences for people, or JSON for machines.
//!
//! One event is one line, whatever stands in its fields: names of files and what clients call themselves come from
//! outside, and a newline or an escape sequence in one would let its author write the log.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::reload;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Says why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("it is no log filter ({0}); try `info`, or `info,portcullis=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else receives the events already.
    #[error("log lines go elsewhere already")]
    Installed(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The filter cannot be changed.
    #[error("the filter cannot be changed while the program ends")]
    Reload(#[from] reload::Error),
}

/// Returns whether a filter can be read.
///
/// # Errors
/// [`TelemetryError::Filter`] where it cannot.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    Ok(EnvFilter::try_new(filter).map(drop)?)
}

/// Sends the log lines that `filter` lets through to standard error; colours only where a person sees them, and wants them.
///
/// # Errors
/// [`TelemetryError`]; nothing is logged then.
pub fn install(filter: &str, format: LogFormat, colours: bool) -> Result<LogControl, TelemetryError> {
    let colours = colours && std::io::stderr().is_terminal();
    let (subscriber, control) = subscriber(filter, format, colours, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(control)
}

/// Changes which log lines are written, while they are.
pub struct LogControl(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogControl {
    /// Lets other lines through from here on.
    ///
    /// # Errors
    /// [`TelemetryError`]; the same lines are let through then.
    pub fn set_filter(&self, filter: &str) -> Result<(), TelemetryError> {
        Ok((self.0)(EnvFilter::try_new(filter)?)?)
    }
}

type Subscribing = (Box<dyn Subscriber + Send + Sync>, LogControl);

fn subscriber<W>(filter: &str, format: LogFormat, colours: bool, writer: W) -> Result<Subscribing, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(writer);
    Ok(match format {
        LogFormat::Text => {
            let fields = debug_fn(|line, field, value| {
                if field.name() != "message" {
                    write!(line, "{field}=")?;
                }
                write!(OneLine(line), "{value:?}")
            });
            let lines = lines.fmt_fields(fields.delimited(" ")).with_filter_reloading();
            let handle = lines.reload_handle();
            (Box::new(lines.finish()), LogControl(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (Box::new(lines.finish()), LogControl(Box::new(move |filter| handle.reload(filter))))
        }
    })
}

/// Lets nothing through that would end the line or act on a terminal.
struct OneLine<'w>(&'w mut dyn Write);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| if acts_on_a_terminal(c) { write!(self.0, "{}", c.escape_default()) } else { self.0.write_char(c) })
    }
}

fn acts_on_a_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    const HOSTILE: &str = "a\n2026-01-01T00:00:00Z ERROR portcullis: forged\r\u{1b}[2J\u{9b}31m\u{202E}\u{2028}z";

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        tracing::subscriber::with_default(subscriber(filter, format, false, move || sink.clone()).unwrap().0, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log_hostile_things() {
        let span = tracing::info_span!("share", id = %HOSTILE, other = HOSTILE);
        span.in_scope(|| tracing::info!(display = %HOSTILE, debug = ?HOSTILE, plain = HOSTILE, "Opened {HOSTILE}"));
    }

    #[test]
    fn a_hostile_name_cannot_forge_a_line() {
        let text = logged("info", LogFormat::Text, log_hostile_things);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end_matches('\n').chars().any(acts_on_a_terminal), "{text:?}");
        assert_eq!(text.matches("forged").count(), 6, "{text:?}");
        assert!(text.contains(r"Opened a\n2026"), "{text:?}");
    }

    #[test]
    fn as_json_a_line_is_one_object() {
        let text = logged("info", LogFormat::Json, log_hostile_things);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!((&line["display"], &line["message"]), (&HOSTILE.into(), &format!("Opened {HOSTILE}").into()));
    }

    #[test]
    fn the_fields_of_spans_stand_in_every_line() {
        let log = || {
            let span = tracing::info_span!("request", request.id = "4f1d", method = "POST");
            span.in_scope(|| tracing::info!(status = 201, "Answered"));
        };
        let text = logged("info", LogFormat::Text, log);
        assert!(text.contains(r#"request.id="4f1d""#) && text.contains(r#"method="POST""#) && text.contains("status=201"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged("info", LogFormat::Json, log)).unwrap();
        assert_eq!((&json["span"]["request.id"], &json["span"]["name"]), (&"4f1d".into(), &"request".into()), "{json}");
        assert_eq!((&json["status"], &json["message"]), (&201.into(), &"Answered".into()));
    }

    #[test]
    fn a_filter_can_be_changed_while_lines_are_written() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = Lines::default();
            let sink = lines.clone();
            let (subscriber, control) = subscriber("warn", format, false, move || sink.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::debug!("before");
                control.set_filter("debug").unwrap();
                tracing::debug!("after");
                assert!(control.set_filter("info,,=loud=").is_err());
                tracing::debug!("still");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("before") && text.contains("after") && text.contains("still"), "{text}");
        }
    }

    #[test]
    fn a_filter_lets_through_what_it_says() {
        let log = || {
            tracing::debug!("whispered");
            tracing::warn!("said");
        };
        let text = logged("warn", LogFormat::Text, log);
        assert!(text.contains("said") && !text.contains("whispered"), "{text}");
        assert!(check_filter("info,portcullis::store=trace").is_ok());
        assert!(check_filter("info,,=loud=").is_err());
    }
}
