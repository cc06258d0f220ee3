//! The pages that recipients see, in their language: one card, one sentence, at most one button.
//!
//! Every page is whole by itself: no other file, nothing from another host, under [`MAX_PAGE_BYTES`], and it works without a
//! script. A link is fetched by chat previews and mail scanners too, so what they read (title and OpenGraph) never tells a
//! file's name. maud escapes whatever is put into a page; only the style, the script and the drawings, which are ours, are
//! written as they are.

mod icon;
mod inline;
mod kind;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use crate::http::words::{Counted, Language, Phrase, RecipientWords, Words, words};
use crate::share::{Outcome, Timestamp};

/// The most that a page may weigh as it is, with the longest name and message; over the wire it is less than half of that, since
/// every browser takes it compressed. It must show at once on a bad mobile connection. The tests hold it.
pub const MAX_PAGE_BYTES: usize = 18_000;

/// How often a page without a script asks again by itself, in seconds.
const ASK_AGAIN_SECONDS: u32 = 5;
/// So many digits of a checksum stand together, for whoever compares it by eye.
const DIGITS_OF_GROUP: usize = 8;

/// What a recipient's browser is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The whole document.
    pub html: String,
    /// In which language it is written.
    pub language: Language,
    /// Its `Content-Security-Policy`.
    pub policy: HeaderValue,
}

/// The file that a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, without control and direction characters.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256, where it is known.
    pub sha256: Option<[u8; 32]>,
}

/// What the page of a link that works tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it offers.
    pub file: File,
    /// When the link ends, by the wall clock.
    pub ends: Timestamp,
    /// How long that is from now.
    pub ends_in: Duration,
    /// What the sender has to say; plain text.
    pub message: Option<String>,
    /// How many people may download it; `None`: as many as come.
    pub downloads: Option<u32>,
    /// How fast it may go, in bytes per second.
    pub max_bytes_per_second: Option<u64>,
    /// Where the button leads: a relative URL.
    pub form_action: String,
}

/// What the reader is told of their own transfer while it is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// What they download.
    pub file: File,
    /// Where it stands, as the live stream says it.
    pub state: &'static str,
    /// The same in a sentence.
    pub title: String,
    /// How far it is, in words.
    pub text: String,
    /// How many bytes have arrived.
    pub delivered_bytes: u64,
    /// Where its bytes are: a relative URL.
    pub bytes: String,
    /// Where its progress is told: a relative URL.
    pub live: String,
}

/// What the reader is told of their own transfer once all of it has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// What they have.
    pub file: File,
    /// Whether a proxy took it and nobody knows more: it is called sent.
    pub is_only_sent: bool,
    /// Where, until when and from when on (the last is now) it may be fetched once more: a relative URL.
    pub again: Option<(String, Timestamp, Timestamp)>,
}

/// What is drawn above a sentence, and in which mood.
type Sign = (&'static str, Mood);

/// The colour of a page's sign.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Ready,
    Good,
    Quiet,
    Careful,
}

impl Mood {
    fn class(self) -> &'static str {
        match self {
            Self::Ready => "sign",
            Self::Good => "sign good",
            Self::Quiet => "sign quiet",
            Self::Careful => "sign careful",
        }
    }
}

/// Who reads a page: what is written depends on their language.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    language: Language,
    words: &'static Words,
}

impl Reader {
    /// Finds out from a request's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::in_language(Language::of(headers))
    }

    /// Somebody who reads this language.
    pub fn in_language(language: Language) -> Self {
        Self { language, words: words(language) }
    }

    /// Returns what is said in their language.
    pub fn words(self) -> &'static Words {
        self.words
    }

    fn says(self) -> &'static RecipientWords {
        &self.words.recipient
    }

    /// Offers the file with one button.
    pub fn ready(self, offer: &Offer) -> Page {
        let (says, units) = (self.says(), &self.words.units);
        let now = Timestamp(offer.ends.0.saturating_sub(i64::try_from(offer.ends_in.as_millis()).unwrap_or(i64::MAX)));
        let works = match offer.downloads {
            Some(n) => says.works.of(n.into()),
            None => says.works_often.text().to_owned(),
        };
        let open_for = says.open_for.fill(&[("duration", &units.rough_duration(offer.ends_in)), ("time", &HERE)]);
        let limit = offer.max_bytes_per_second.map(|bytes| says.speed_limit.fill(&[("speed", &units.size(bytes))]));
        let body = html! {
            (sign((icon::FILE, Mood::Ready)))
            (self.name_of(&offer.file))
            @if let Some(message) = &offer.message {
                blockquote { p.hint { (says.from_sender) } (message) }
            }
            form method="post" action=(offer.form_action) { button { (says.download) } }
            p { (works) " " (says.resumable) }
            p.hint { (with_time(&open_for, offer.ends, &units.time(offer.ends, now)))
                @if let Some(limit) = limit { " " (limit) }
            }
            details {
                summary { (says.details) }
                (self.facts_of(&offer.file))
                (self.check(&offer.file))
            }
        };
        self.page(200, says.title.text(), With::Script, &body)
    }

    /// Says that every use is taken and a download still runs, which is not the reader's.
    pub fn running(self, max_downloads: u32) -> Page {
        let says = self.says();
        self.notice(409, (icon::MOVING, Mood::Quiet), &says.running.of(max_downloads.into()), says.running_hint.text())
    }

    /// Shows the reader their own transfer, which is under way.
    pub fn mine(self, mine: &Mine) -> Page {
        let says = self.says();
        let has_begun = mine.state != "redeemed";
        let body = html! {
            (sign((icon::MOVING, Mood::Ready)))
            section data-live=(mine.live) data-lost=(says.mine_lost) {
                h1 tabindex="-1" { (mine.title) }
                p.file { bdi { (mine.file.name) } }
                progress max=(mine.file.size_bytes.max(1)) value=(mine.delivered_bytes) aria-label=(says.progress) {}
                p.line { (mine.text) }
                p.unseen role="status" {}
                noscript { p.hint { (says.mine_reload) } }
                // The script takes it away while the download runs.
                div.idle {
                    p.hint { (says.mine_hint) }
                    a.button.quiet href=(mine.bytes) data-later=(says.from_the_start) {
                        (if has_begun { &says.from_the_start } else { &says.start })
                    }
                    p.hint { (says.spends_nothing) }
                }
            }
        };
        self.page(200, says.title.text(), With::Script, &body)
    }

    /// Says that all of it has arrived.
    pub fn delivered(self, delivered: &Delivered) -> Page {
        let (says, units) = (self.says(), &self.words.units);
        let (sentence, hint) = if delivered.is_only_sent { (&says.sent, &says.sent_hint) } else { (&says.delivered, &says.delivered_hint) };
        let body = html! {
            (sign((icon::DONE, Mood::Good)))
            h1 tabindex="-1" { (sentence) }
            p.file { bdi { (delivered.file.name) } " · " (units.size(delivered.file.size_bytes)) }
            p { (hint) }
            (self.check(&delivered.file))
            @if let Some((url, until, now)) = &delivered.again {
                p.hint { (with_time(&says.again_until.fill(&[("time", &HERE)]), *until, &units.time(*until, *now))) }
                a.button.quiet href=(url) { (says.again) }
            }
            details {
                summary { (says.details) }
                (self.facts_of(&delivered.file))
            }
        };
        self.page(200, says.title.text(), With::Script, &body)
    }

    /// Says that every use is spent.
    pub fn used(self) -> Page {
        self.notice(410, (icon::DONE, Mood::Quiet), self.says().used.text(), self.says().used_hint.text())
    }

    /// Says how the share ended.
    pub fn ended(self, outcome: Outcome) -> Page {
        let says = self.says();
        let (sign, hint) = match outcome {
            Outcome::Completed => return self.used(),
            Outcome::Failed => return self.gone(),
            Outcome::Expired | Outcome::TimedOut => ((icon::CLOCK, Mood::Quiet), &says.expired_hint),
            Outcome::Stalled => ((icon::PAUSE, Mood::Careful), &says.stalled_hint),
            Outcome::Revoked => ((icon::LOCK, Mood::Quiet), &says.another_link),
            Outcome::SourceChanged => ((icon::CHANGED, Mood::Careful), &says.changed_hint),
        };
        self.notice(410, sign, self.outcome_text(outcome), hint.text())
    }

    /// Says in one sentence how a share ended.
    pub fn outcome_text(self, outcome: Outcome) -> &'static str {
        let says = self.says();
        match outcome {
            Outcome::Completed => &says.used,
            Outcome::Expired | Outcome::TimedOut => &says.expired,
            Outcome::Stalled => &says.stalled,
            Outcome::Revoked => &says.revoked,
            Outcome::SourceChanged => &says.changed,
            Outcome::Failed => &says.gone,
        }
        .text()
    }

    /// Says that the link begins to work later.
    pub fn not_yet(self, starts: Option<Timestamp>) -> Page {
        let says = self.says();
        let body = html! {
            (sign((icon::CLOCK, Mood::Ready)))
            h1 { (says.not_yet) }
            p {
                @match starts {
                    // The date always stands there: the page may be read much later than it was made.
                    Some(starts) => {
                        (with_time(&says.not_yet_until.fill(&[("time", &HERE)]), starts, &self.words.units.time(starts, Timestamp(i64::MIN))))
                    }
                    None => (says.not_yet_later),
                }
            }
        };
        self.page(403, says.not_yet.text(), if starts.is_some() { With::Script } else { With::Nothing }, &body)
    }

    /// Says that the link is for others. Nothing else is told of it.
    pub fn not_for_this_network(self) -> Page {
        self.notice(403, (icon::ELSEWHERE, Mood::Quiet), self.says().not_here.text(), self.says().not_here_hint.text())
    }

    /// Says that the file cannot be reached for a moment, and asks again by itself.
    pub fn a_moment(self) -> Page {
        let says = self.says();
        let body = html! {
            (sign((icon::DOTS, Mood::Quiet)))
            h1 { (says.a_moment) }
            p { (says.a_moment_hint) }
            p.hint { (says.nothing_used) }
        };
        self.page(503, says.a_moment_title.text(), With::Refresh, &body)
    }

    /// Says that the link does not work, without a reason.
    pub fn gone(self) -> Page {
        self.notice(410, (icon::UNLINKED, Mood::Quiet), self.says().gone.text(), self.says().another_link.text())
    }

    fn notice(self, status: u16, drawn: Sign, sentence: &str, hint: &str) -> Page {
        let body = html! {
            (sign(drawn))
            h1 tabindex="-1" { (sentence) }
            p { (hint) }
        };
        self.page(status, sentence, With::Nothing, &body)
    }

    /// The file's name, its length and what sort it is.
    fn name_of(self, file: &File) -> Markup {
        html! {
            h1 { bdi { (file.name) } }
            p.file { (kind::kind_text(self.words, &file.name)) " · " (self.words.units.size(file.size_bytes)) }
        }
    }

    /// What only some want to know.
    fn facts_of(self, file: &File) -> Markup {
        let says = self.says();
        let how = says.command_line_how.fill(&[("command", &HERE)]);
        let (before, behind) = how.split_once(HERE).unwrap_or((&how, ""));
        html! {
            dl {
                dt { (says.exact_size) }
                dd { (self.words.units.exact_size(file.size_bytes)) }
                @if let Some(digest) = &file.sha256 {
                    dt { (says.checksum) }
                    // Between the groups stands no space, so that what is copied is the checksum.
                    dd { code.sum { @for group in hexadecimal(digest).as_bytes().chunks(DIGITS_OF_GROUP) { i { (Digits(group)) } } } }
                }
                dt { (says.command_line) }
                dd { (before) code.command { "curl -OJ" } (behind) }
            }
        }
    }

    /// The place where the script offers to compare a file, with the words that it says; nothing where there is nothing to
    /// compare it with.
    fn check(self, file: &File) -> Markup {
        let says = &self.says().check;
        let (missing, too_long) = (texts(&says.missing), texts(&says.too_long));
        html! {
            @if let Some(digest) = &file.sha256 {
                section.check data-sha256=(hexadecimal(digest)) data-size=(file.size_bytes) data-title=(says.title) data-how=(says.how)
                    data-choose=(says.choose) data-checking=(says.checking) data-cancel=(says.cancel) data-same=(says.same)
                    data-missing=(missing) data-too-long=(too_long) data-differs=(says.differs) data-unreadable=(says.unreadable) {}
            }
        }
    }

    /// Puts `body` into the frame of every page. `title` must not tell a file's name.
    fn page(self, status: u16, title: &str, with: With, body: &Markup) -> Page {
        let says = self.says();
        let document = html! {
            (DOCTYPE)
            html lang=(self.language.code()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    meta name="robots" content="noindex, nofollow, noarchive";
                    meta name="referrer" content="no-referrer";
                    meta name="color-scheme" content="light dark";
                    meta name="format-detection" content="telephone=no";
                    meta property="og:title" content=(says.title);
                    meta property="og:description" content=(says.preview);
                    meta property="og:type" content="website";
                    @if with == With::Refresh { meta http-equiv="refresh" content=(ASK_AGAIN_SECONDS); }
                    style { (PreEscaped(&*inline::STYLE)) }
                }
                body {
                    main { (body) }
                    footer { svg viewBox="0 0 24 24" aria-hidden="true" { (PreEscaped(icon::LOGO)) } span { (says.header) } }
                    @if with == With::Script { script type="module" { (PreEscaped(&*inline::SCRIPT)) } }
                }
            }
        };
        let policy = inline::content_security_policy(with == With::Script);
        Page { status, html: document.into_string(), language: self.language, policy }
    }
}

/// What a page has beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Script,
    /// It asks again by itself.
    Refresh,
}

/// Stands in a sentence for what is marked up in it; no catalogue has it.
const HERE: char = '\u{0}';

impl Render for Phrase {
    fn render_to(&self, into: &mut String) {
        self.text().render_to(into);
    }
}

/// Some hexadecimal digits.
struct Digits<'a>(&'a [u8]);

impl Render for Digits<'_> {
    fn render_to(&self, into: &mut String) {
        into.extend(self.0.iter().copied().map(char::from));
    }
}

/// A sentence with a time in it, which the script shows in the reader's own zone.
fn with_time(sentence: &str, at: Timestamp, text: &str) -> Markup {
    let (before, behind) = sentence.split_once(HERE).unwrap_or((sentence, ""));
    let machine = jiff::Timestamp::from_millisecond(at.0).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    html! {
        (before)
        @match machine {
            Ok(machine) => time datetime=(machine) { (text) },
            // Only a clock far outside of every calendar has none.
            Err(_) => (text),
        }
        (behind)
    }
}

fn sign((drawing, mood): Sign) -> Markup {
    html! {
        svg class=(mood.class()) viewBox="0 0 24 24" aria-hidden="true" { (PreEscaped(drawing)) }
    }
}

/// Writes both forms of a text for the script, with a bar between them.
fn texts(counted: &Counted) -> String {
    let (one, other) = counted.texts();
    format!("{one}|{other}")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
