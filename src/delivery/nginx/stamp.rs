//! What a request is called in nginx's log: a line says by itself whose it is, and nobody else can write one.

use crate::share::{ShareId, TransferId};
use crate::token::LogKey;

/// A request that nginx answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Of which share, for whoever reads the log.
    pub(super) share: ShareId,
    /// Of which transfer.
    pub(super) transfer: TransferId,
    /// Which of all requests that ever were: random.
    pub(super) name: u64,
}

impl Stamp {
    /// Returns the text for the log: share, transfer, name and what proves them, with dots between.
    pub(super) fn text(&self, key: &LogKey) -> String {
        let text = self.unproven();
        format!("{text}.{:032x}", u128::from_be_bytes(key.mark(&text)))
    }

    /// Reads a text; `None` where it is not ours. It has one spelling.
    pub(super) fn read(text: &str, key: &LogKey) -> Option<Self> {
        let (unproven, mark) = text.rsplit_once('.')?;
        let mut parts = unproven.split('.');
        let stamp = Self {
            share: parts.next()?.parse().ok()?,
            transfer: parts.next()?.parse().ok()?,
            name: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        let mark = u128::from_str_radix(mark, 16).ok()?.to_be_bytes();
        (stamp.unproven() == unproven && text.len() == unproven.len() + 33 && key.proves(unproven, mark)).then_some(stamp)
    }

    fn unproven(&self) -> String {
        format!("{}.{}.{:016x}", self.share, self.transfer, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Key, Keys};

    fn key(secret: u8) -> LogKey {
        Keys::new(vec![Key::new("0f1e2d3c4b5a69788796a5b4c3d2e1f0").unwrap()], [secret; 32]).log_key()
    }

    #[test]
    fn what_one_of_us_wrote_is_read_and_nothing_else() {
        let stamp = Stamp { share: ShareId::from_random(7), transfer: TransferId::from_bytes([3; 16]), name: 0x00ab_cdef };
        let text = stamp.text(&key(1));
        assert_eq!(Stamp::read(&text, &key(1)), Some(stamp));
        assert_eq!(Stamp::read(&text, &key(2)), None, "another installation's");
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'1' { b'2' } else { b'1' };
            assert_eq!(Stamp::read(&String::from_utf8(other).unwrap(), &key(1)), None, "{at}");
        }
        for other in [text.to_uppercase(), format!("{text}0"), format!("0{text}"), text.replace('.', ""), String::new(), ".".to_owned()] {
            assert_eq!(Stamp::read(&other, &key(1)), None, "{other}");
        }
    }
}
