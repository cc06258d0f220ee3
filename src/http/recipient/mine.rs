//! The reader's own transfer: the cookie by which they are known when they come back to the link, and what they are told of it.
//!
//! The redeem's answer sets the cookie. It holds the transfer's secret, which whoever was led to the transfer has anyway. It
//! names no path, so a browser sends it to the folder of the link alone, under whatever prefix a proxy puts before us. A cookie
//! that is no transfer of the share is as none.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use super::RecipientPages;
use super::pages::{Delivered, File, Mine, Page, Reader};
use crate::controller::{View, name_in_link};
use crate::http::words::{self, eta_text};
use crate::share::{Evidence, Moment, Outcome, Refused, Share, Transfer, TransferEnd};
use crate::token::TransferSecret;

const COOKIE: &str = "portcullis-transfer";
/// How many cookies of that name are looked at: a browser has one for the link and one for its folder.
const MAX_COOKIES: usize = 4;

/// Returns the header that gives a browser the cookie. `Secure` where the link is one of HTTPS.
pub(super) fn cookie(secret: TransferSecret, is_https: bool) -> HeaderValue {
    let secure = if is_https { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{COOKIE}={}; HttpOnly; SameSite=Lax{secure}", secret.expose())).expect("it is hexadecimal")
}

/// Returns whether a browser brings a cookie of ours.
pub(super) fn has_cookie(headers: &HeaderMap) -> bool {
    secrets(headers).next().is_some()
}

fn secrets(headers: &HeaderMap) -> impl Iterator<Item = TransferSecret> + '_ {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let ours = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == COOKIE).take(MAX_COOKIES);
    ours.filter_map(|(_, value)| TransferSecret::parse(value.as_bytes()))
}

/// What a transfer means to the one whose it is; what is of most use to them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It is under way, or all of it has arrived and it may be fetched once more.
    MayFetch,
    /// It may go on in a moment.
    Soon,
    /// It is over.
    Over,
}

fn standing(share: &Share, transfer: &Transfer, now: Moment) -> Standing {
    match share.may_fetch(transfer.id, now) {
        Ok(()) | Err(Refused::TooManyRequests) => Standing::MayFetch,
        Err(Refused::NotOpen) if transfer.is_active() => Standing::Soon,
        Err(_) => Standing::Over,
    }
}

impl RecipientPages {
    /// Returns the transfer of a share whose secret the reader's browser keeps, the secret, and where it stands at `now`. A browser sends
    /// the cookie of the longest path first, and that may be of a transfer that came to nothing: so what goes on is taken before what is
    /// over, and what arrived before what did not.
    fn mine<'view>(&self, view: &'view View, headers: &HeaderMap, now: Moment) -> Option<(&'view Transfer, TransferSecret, Standing)> {
        // By their keys, and not by what may be fetched now: so it is known also when it is over, and after a restart.
        let of = |secret: TransferSecret| {
            let transfer = view.share.transfers.iter().find(|transfer| self.keys.transfer_secret(transfer.id) == secret)?;
            Some((transfer, secret, standing(&view.share, transfer, now)))
        };
        let is_delivered = |transfer: &Transfer| transfer.ended.is_some_and(|(end, _)| end == TransferEnd::Completed);
        secrets(headers)
            .filter_map(of)
            .min_by_key(|(transfer, _, standing)| (*standing, *standing == Standing::Over && !is_delivered(transfer)))
    }

    /// Returns the transfer that the reader may fetch from already, so that they need not redeem the link again.
    pub(super) fn goes_on(&self, view: &View, headers: &HeaderMap) -> Option<TransferSecret> {
        let (_, secret, standing) = self.mine(view, headers, self.clock.now())?;
        (standing == Standing::MayFetch).then_some(secret)
    }

    /// Returns the page about the reader's own transfer, where they have one and it says more than the link's own page. `may`
    /// is whether the link may be redeemed; `up` leads from the asked URL to the link's folder.
    pub(super) fn page_of_mine(
        &self,
        reader: Reader,
        view: &View,
        may: Result<(), Refused>,
        headers: &HeaderMap,
        up: &str,
    ) -> Option<Page> {
        // Whoever may not have it is told nothing of it.
        if let Err(Refused::NotAllowed | Refused::Replaced | Refused::NotStarted) = may {
            return None;
        }
        let now = self.clock.now();
        let (transfer, secret, standing) = self.mine(view, headers, now)?;
        let bytes = || bytes_url(up, &view.share, secret);
        match (standing, transfer.ended) {
            (Standing::MayFetch, None) => {
                let live = format!("{up}live/{}", secret.expose());
                let Told { title, text } = told(reader, view, transfer);
                let state = words::transfer_state(transfer);
                let delivered_bytes = transfer.coverage.covered_bytes();
                Some(reader.mine(&Mine { file: file(view), state, title, text, delivered_bytes, bytes: bytes(), live }))
            }
            (Standing::MayFetch, Some(_)) => {
                let until = transfer.grace_end(&view.share.policy.limits).map_or(Duration::ZERO, |end| end.since(now.steady));
                Some(reader.delivered(&delivered(view, transfer, Some((bytes(), now.wall.plus(until), now.wall)))))
            }
            (Standing::Soon, _) => Some(reader.a_moment()),
            (Standing::Over, Some((TransferEnd::Completed, _))) if may.is_err() => Some(reader.delivered(&delivered(view, transfer, None))),
            (Standing::Over, Some((TransferEnd::Stopped, _))) if may.is_err() => Some(reader.ended(Outcome::Revoked)),
            (Standing::Over, Some((TransferEnd::Stalled, _))) if may.is_err() && view.share.outcome().is_none() => {
                Some(reader.ended(Outcome::Stalled))
            }
            (Standing::Over, _) => None,
        }
    }
}

/// Returns where a transfer's bytes are, relative to the asked URL.
pub(super) fn bytes_url(up: &str, share: &Share, secret: TransferSecret) -> String {
    format!("{up}get/{}/{}", secret.expose(), name_in_link(share))
}

/// What a page tells of a transfer that completed; `again`: where and until when it may be fetched once more, and now.
pub(super) fn delivered(
    view: &View,
    transfer: &Transfer,
    again: Option<(String, crate::share::Timestamp, crate::share::Timestamp)>,
) -> Delivered {
    Delivered { file: file(view), is_only_sent: is_only_sent(transfer), again }
}

fn is_only_sent(transfer: &Transfer) -> bool {
    transfer.coverage.weakest_evidence() == Some(Evidence::HandedOver)
}

pub(super) fn file(view: &View) -> File {
    let file = &view.share.file;
    File { name: file.path.name_for_display(), size_bytes: file.size_bytes(), sha256: view.sha256 }
}

/// Where a transfer stands, for the one whose it is.
pub(super) struct Told {
    /// In a sentence.
    pub(super) title: String,
    /// How far it is: `412 MB of 1.9 GB · 11 MB/s · about 2 min left`.
    pub(super) text: String,
}

pub(super) fn told(reader: Reader, view: &View, transfer: &Transfer) -> Told {
    let (words, says) = (reader.words(), &reader.words().recipient);
    let speed = speed(view, transfer);
    let title = match transfer.ended.map(|(end, _)| end) {
        None if !transfer.begun => says.mine_starting.text(),
        None if transfer.open_requests() == 0 => says.mine_cut.text(),
        None if speed == 0 && transfer.coverage.covered_bytes() > 0 => says.mine_paused.text(),
        None => says.mine_running.text(),
        Some(TransferEnd::Completed) if is_only_sent(transfer) => says.sent.text(),
        Some(TransferEnd::Completed) => says.delivered.text(),
        Some(TransferEnd::Stalled) => says.stalled.text(),
        Some(TransferEnd::Stopped) => says.revoked.text(),
        Some(TransferEnd::Cut | TransferEnd::NeverBegan) => {
            view.share.outcome().map_or(says.gone.text(), |outcome| reader.outcome_text(outcome))
        }
    };
    let size_bytes = view.share.file.size_bytes();
    let (bytes, size) = (words.units.size(transfer.coverage.covered_bytes()), words.units.size(size_bytes));
    let mut text = words.state.part.fill(&[("bytes", &bytes), ("size", &size)]);
    if transfer.is_active() && speed > 0 {
        text += &format!(" · {}/s", words.units.size(speed));
        if let Some(seconds) = eta_seconds(view, transfer) {
            text += &format!(" · {}", eta_text(words, Duration::from_secs(seconds)));
        }
    }
    Told { title: title.to_owned(), text }
}

/// Returns how fast bytes arrive at the moment, in bytes per second.
pub(super) fn speed(view: &View, transfer: &Transfer) -> u64 {
    if transfer.is_active() { view.speeds.get(&transfer.id).copied().unwrap_or(0) } else { 0 }
}

/// Returns how long a transfer still takes at its speed, in seconds; `None` where nothing arrives.
pub(super) fn eta_seconds(view: &View, transfer: &Transfer) -> Option<u64> {
    let speed = speed(view, transfer);
    let left = view.share.file.size_bytes().saturating_sub(transfer.coverage.covered_bytes());
    (left + speed.saturating_sub(1)).checked_div(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets_of(cookies: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        secrets(&headers).map(|secret| secret.expose().to_string()).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others_and_nonsense_is_none() {
        let (a, b) = ("0123456789abcdef0123456789abcdef", "f".repeat(32));
        let ours = |value: &str| format!("portcullis-transfer={value}");
        assert_eq!(secrets_of(&[]), [""; 0]);
        assert_eq!(secrets_of(&[&ours(a)]), [a]);
        assert_eq!(secrets_of(&[&format!("x=1; {}; y=2", ours(a)), &ours(&b)]), [a, &b]);
        for nonsense in [
            "",
            ";",
            "=",
            "portcullis-transfer",
            &ours(""),
            &ours("x"),
            &ours(&a.to_uppercase()),
            &ours(&a[1..]),
            &ours(&format!("\"{a}\"")),
        ] {
            assert_eq!(secrets_of(&[nonsense]), [""; 0], "{nonsense}");
        }
        assert_eq!(secrets_of(&[&format!("xportcullis-transfer={a}; portcullis-transferx={a}")]), [""; 0]);
        assert_eq!(secrets_of(&[&vec![ours(a); 9].join(";")]).len(), MAX_COOKIES);
    }

    #[test]
    fn the_cookie_is_for_the_links_own_folder_and_for_no_script() {
        let secret = TransferSecret::parse(&[b'7'; 32]).unwrap();
        assert_eq!(cookie(secret, false), "portcullis-transfer=77777777777777777777777777777777; HttpOnly; SameSite=Lax");
        assert_eq!(cookie(secret, true), "portcullis-transfer=77777777777777777777777777777777; HttpOnly; SameSite=Lax; Secure");
    }
}
