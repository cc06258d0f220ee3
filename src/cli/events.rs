//! Server-Sent Events, read from bytes as they come.

/// The longest event that is read. One share with the most transfers stays far below it.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type, as `share`; `message` where it names none.
    pub(super) name: String,
    /// Its number in the event log, where it has one.
    pub(super) id: Option<u64>,
    /// What it carries.
    pub(super) data: String,
}

/// Says that an event is longer than any that is sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub(super) struct TooLong;

/// Puts events together from pieces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    name: String,
    id: Option<u64>,
    data: Option<String>,
}

impl Parser {
    /// Takes the next piece and returns the events that it ends.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, id) = (std::mem::take(&mut self.name), self.id.take());
            let data = self.data.take()?;
            return Some(Event { name: if name.is_empty() { "message".to_owned() } else { name }, id, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = value.parse().ok(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments (heartbeats) and fields that others may add.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        "retry: 2000\n\nevent: ready\nid: 7\ndata: {}\n\n:\n\nevent: share\r\ndata: {\"a\":\r\ndata: \"ö\"}\r\n\r\ndata:x\n\nevent: cut";

    fn event(name: &str, id: Option<u64>, data: &str) -> Event {
        Event { name: name.to_owned(), id, data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_come() {
        let expected = [event("ready", Some(7), "{}"), event("share", None, "{\"a\":\n\"ö\"}"), event("message", None, "x")];
        for size in 1..=STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> = STREAM.as_bytes().chunks(size).flat_map(|piece| parser.feed(piece).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let mut fed = (0..5).map(|_| parser.feed(&[b'x'; 1 << 20]));
        assert!(fed.any(|answer| answer == Err(TooLong)));
        let mut parser = Parser::default();
        assert!((0..100_000).any(|_| parser.feed(format!("data: {}\n", "y".repeat(100)).as_bytes()).is_err()));
    }
}
