//! The words of one language, as they stand in `web/words/`: the one list of what people read, for the pages that the server
//! writes and for those that the browser does. A file is strict JSON behind `export default`, so that both can read it.
//!
//! Only what the server itself says has a field here; the rest of a file is the pages'.

use std::fmt::Display;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::language::Language;

const ENGLISH: &str = include_str!("../../../web/words/en.js");
const GERMAN: &str = include_str!("../../../web/words/de.js");

static CATALOGUES: LazyLock<[Catalogue; 2]> = LazyLock::new(|| [Catalogue::parse(ENGLISH), Catalogue::parse(GERMAN)]);

/// The parts that no script of the owner's pages reads.
const OF_THE_SERVER: [&str; 4] = ["state", "policy", "reach", "recipient"];

/// A language's file.
struct Catalogue {
    /// All of it.
    all: Value,
    /// What the server says.
    words: Words,
}

impl Catalogue {
    fn parse(file: &str) -> Self {
        let json = file.trim().strip_prefix("export default").and_then(|rest| rest.strip_suffix(';'));
        let all: Value = serde_json::from_str(json.expect("a catalogue is a default export")).expect("a catalogue is JSON");
        let words = Words::deserialize(&all).expect("a catalogue has what the server says");
        Self { all, words }
    }
}

fn catalogue(language: Language) -> &'static Catalogue {
    match language {
        Language::English => &CATALOGUES[0],
        Language::German => &CATALOGUES[1],
    }
}

/// Returns what the server says in a language.
pub fn words(language: Language) -> &'static Words {
    &catalogue(language).words
}

/// Returns what the pages in the browser say in a language, as JSON: all but what the server alone does.
pub fn pages_words(language: Language) -> String {
    let mut words = catalogue(language).all.clone();
    if let Some(parts) = words.as_object_mut() {
        parts.retain(|part, _| !OF_THE_SERVER.contains(&part.as_str()));
    }
    words.to_string()
}

/// Returns a text by its dotted name, as `find.search`; `None` where there is none. For the pages' templates.
pub fn text_named(language: Language, name: &str) -> Option<&'static str> {
    name.split('.').try_fold(&catalogue(language).all, |value, part| value.get(part)).and_then(Value::as_str)
}

/// A text with places to be filled in, as `{name}`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Phrase(String);

impl Phrase {
    /// Returns the text as it stands.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Fills places in; a value that looks like a place is not filled in again.
    pub fn fill(&self, values: &[(&str, &dyn Display)]) -> String {
        let mut text = String::with_capacity(self.0.len() + 16);
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            text += before;
            match values.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => text += &value.to_string(),
                None => debug_assert!(false, "nothing to fill in for {name} in {}", self.0),
            }
            rest = after;
        }
        text + rest
    }
}

/// A text that reads otherwise for one.
#[derive(Debug, Deserialize)]
pub struct Counted {
    one: Phrase,
    other: Phrase,
}

impl Counted {
    /// Returns the texts for one and for any other number, as they stand.
    pub fn texts(&self) -> (&str, &str) {
        (self.one.text(), self.other.text())
    }

    /// Fills in the number as `{n}`.
    pub fn of(&self, n: u64) -> String {
        self.of_written(n, &n)
    }

    /// Fills in the number as it is written.
    pub fn of_written(&self, n: u64, written: &dyn Display) -> String {
        if n == 1 { &self.one } else { &self.other }.fill(&[("n", written)])
    }
}

/// What the server says.
#[derive(Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Words {
    pub units: Units,
    pub state: StateWords,
    pub policy: PolicyWords,
    pub reach: ReachWords,
    pub looks: LooksWords,
    pub recipient: RecipientWords,
}

macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $kind),* }
    };
    ($(#[$about:meta])* $name:ident: $($field:ident)*) => { section!($(#[$about])* $name { $($field: Phrase),* }); };
}

section! {
    /// Numbers, lengths of time, dates.
    Units {
        decimal: String, group: String, bytes: Counted, second: Counted, minute: Counted, hour: Counted, day: Counted,
        months: [String; 12], date: Phrase, date_of_year: Phrase, unknown_time: Phrase, less_than_a_minute: Phrase,
    }
}

section! {
    /// Where a share stands.
    StateWords:
        opens_at opens_soon lost opening closing ready some_delivered some_delivered_some_stopped any_delivered any_delivered_some_stopped
        works_again opened_once opened_times opened_often ending starting part part_sent download_of download downloads waiting waiting_more
        not_begun paused cut_off door_closes_at nothing_more delivered sent delivered_of sent_of delivered_once sent_once delivered_times
        sent_times all_of empty_file expired_unused expired_stopped expired_opened timed_out stalled closed_door closed_door_at closed
        closed_at nothing_sent number_of_delivered number_delivered all_delivered all_sent little_delivered little_sent percent_delivered
        percent_sent changed_while_sent changed failed_again failed few_seconds_left seconds_left minutes_left hours_left days_left
}

section! {
    /// By which rules it is shared.
    PolicyWords {
        downloads: Counted, any_downloads: Phrase, until: Phrase, from_until: Phrase, only_from: Phrase, or: Phrase, speed: Phrase,
        speed_each: Phrase, stall_closes: Phrase, stall_uses_up: Phrase, stall_reopens: Phrase,
    }
}

section! {
    /// Whether it is reached from the internet.
    ReachWords:
        reached shut still_answers not_yet name_unknown no_connection handshake_cut foreign_certificate no_answer other_answer off no_way_out
        busy
}

section! {
    /// Who looked at the page of its link.
    LooksWords { previews: Counted, once: Phrase, twice: Phrase, times: Phrase }
}

section! {
    /// The recipient's pages.
    RecipientWords {
        header: Phrase, title: Phrase, preview: Phrase, download: Phrase, works: Counted, works_often: Phrase, resumable: Phrase,
        open_for: Phrase, speed_limit: Phrase, from_sender: Phrase, details: Phrase, exact_size: Phrase, checksum: Phrase,
        command_line: Phrase, command_line_how: Phrase, another_link: Phrase, running: Counted, running_hint: Phrase,
        mine_starting: Phrase, mine_running: Phrase, mine_paused: Phrase, mine_cut: Phrase, mine_lost: Phrase, mine_hint: Phrase,
        mine_reload: Phrase, progress: Phrase, start: Phrase, from_the_start: Phrase, spends_nothing: Phrase, delivered: Phrase,
        delivered_hint: Phrase, sent: Phrase, sent_hint: Phrase, again_until: Phrase, again: Phrase, used: Phrase, used_hint: Phrase,
        expired: Phrase, expired_hint: Phrase, revoked: Phrase, stalled: Phrase, stalled_hint: Phrase, changed: Phrase,
        changed_hint: Phrase, not_yet: Phrase, not_yet_until: Phrase, not_yet_later: Phrase, not_here: Phrase, not_here_hint: Phrase,
        a_moment_title: Phrase, a_moment: Phrase, a_moment_hint: Phrase, nothing_used: Phrase, gone: Phrase,
        kind: KindWords, check: CheckWords,
    }
}

section! {
    /// What sort of file it is.
    KindWords: pdf image video audio text document table slides book archive disk program font file named
}

section! {
    /// Comparing a file with its checksum.
    CheckWords {
        title: Phrase, how: Phrase, choose: Phrase, checking: Phrase, cancel: Phrase, same: Phrase, missing: Counted, too_long: Counted,
        differs: Phrase, unreadable: Phrase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists every text of a catalogue with its dotted name.
    fn texts(value: &Value, name: &str, into: &mut Vec<(String, String)>) {
        match value {
            Value::String(text) => into.push((name.to_owned(), text.clone())),
            Value::Object(parts) => parts.iter().for_each(|(key, part)| texts(part, &format!("{name}.{key}"), into)),
            Value::Array(parts) => parts.iter().enumerate().for_each(|(key, part)| texts(part, &format!("{name}.{key}"), into)),
            _ => panic!("{name} is no text"),
        }
    }

    fn places(text: &str) -> Vec<&str> {
        let mut places: Vec<&str> = text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn every_language_says_the_same_things_with_the_same_places() {
        let [english, german] = &*CATALOGUES;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        texts(&english.all, "", &mut first);
        texts(&german.all, "", &mut second);
        let names = |texts: &[(String, String)]| texts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&first), names(&second));
        for ((name, first), (_, second)) in first.iter().zip(&second) {
            assert!(!second.trim().is_empty() || first.trim().is_empty(), "{name} is empty");
            // Who speaks of one thing may leave its number out.
            if !name.ends_with(".one") {
                assert_eq!(places(first), places(second), "{name}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let phrase = Phrase("{a} and {b}{a}".to_owned());
        assert_eq!(phrase.fill(&[("a", &"{b}"), ("b", &7)]), "{b} and 7{b}");
    }

    #[test]
    fn a_text_is_found_by_its_name() {
        assert_eq!(text_named(Language::German, "units.decimal"), Some(","));
        assert_eq!(text_named(Language::German, "units"), None);
        assert_eq!(text_named(Language::English, "units.nothing"), None);
    }
}
