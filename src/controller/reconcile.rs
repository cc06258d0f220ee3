//! What the store says against what is really open (pure).

use std::collections::HashSet;

use crate::share::{Phase, ShareId};

/// What has to be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fix {
    /// A way in stands open that no living share wants.
    Close(ShareId),
    /// A living share's way in is gone.
    Lost(ShareId),
}

/// Compares the living shares with the ways in that stand `open`. A share is `settled` where nothing is being done about
/// its way in, and nothing was since the list of open ones was asked for.
pub(super) fn fixes<'a>(living: impl Iterator<Item = (ShareId, &'a Phase, bool)>, open: &HashSet<ShareId>) -> Vec<Fix> {
    let mut strays = open.clone();
    let mut fixes = Vec::new();
    for (id, phase, is_settled) in living {
        match phase {
            Phase::Open if is_settled && !open.contains(&id) => fixes.push(Fix::Lost(id)),
            // Its own effect closes it, or opens it and must not be disturbed.
            Phase::Open | Phase::Opening | Phase::Closing { .. } => {
                strays.remove(&id);
            }
            Phase::Scheduled | Phase::Closed { .. } => {}
        }
    }
    fixes.extend(strays.into_iter().map(Fix::Close));
    fixes.sort_unstable();
    fixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Outcome;

    fn id(n: u64) -> ShareId {
        ShareId::from_random(n)
    }

    fn fixed(living: &[(ShareId, Phase, bool)], open: &[ShareId]) -> Vec<Fix> {
        fixes(living.iter().map(|(id, phase, settled)| (*id, phase, *settled)), &open.iter().copied().collect())
    }

    #[test]
    fn what_agrees_is_left_alone() {
        assert_eq!(fixed(&[], &[]), []);
        assert_eq!(fixed(&[(id(1), Phase::Open, true), (id(2), Phase::Scheduled, true)], &[id(1)]), []);
    }

    #[test]
    fn a_way_in_without_a_share_that_wants_it_is_closed() {
        assert_eq!(fixed(&[(id(1), Phase::Open, true)], &[id(1), id(2)]), [Fix::Close(id(2))]);
        assert_eq!(fixed(&[(id(1), Phase::Scheduled, true)], &[id(1)]), [Fix::Close(id(1))]);
    }

    #[test]
    fn a_share_whose_way_in_is_gone_gets_it_again_unless_it_is_being_seen_to() {
        assert_eq!(fixed(&[(id(1), Phase::Open, true)], &[]), [Fix::Lost(id(1))]);
        assert_eq!(fixed(&[(id(1), Phase::Open, false)], &[]), []);
    }

    #[test]
    fn effects_under_way_are_not_disturbed() {
        let closing = Phase::Closing { outcome: Outcome::Revoked };
        assert_eq!(fixed(&[(id(1), Phase::Opening, true), (id(2), closing, true)], &[id(1), id(2)]), []);
    }
}
