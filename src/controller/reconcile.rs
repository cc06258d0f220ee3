//! What the store says against what is really open (pure).

use crate::share::{Phase, ShareId};
use crate::tunnel::Standing;

/// What has to be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fix {
    /// A way in stands open that no living share wants.
    Close(ShareId),
    /// A living share's way in is gone.
    Lost(ShareId),
    /// One looks gone, and cannot be judged yet.
    LookAgain,
    /// Somebody who may has taken a living share's way in away.
    Revoke(ShareId),
}

/// Compares the living shares with the ways in that stand. A share is `settled` where nothing is being done about
/// its way in, and nothing was since the list of open ones was asked for.
pub(super) fn fixes<'a>(living: impl Iterator<Item = (ShareId, &'a Phase, bool)>, standing: &Standing) -> Vec<Fix> {
    let Standing { open, removed } = standing;
    let mut strays = open.clone();
    let mut fixes = Vec::new();
    for (id, phase, is_settled) in living {
        if matches!(phase, Phase::Scheduled | Phase::Closed { .. }) {
            continue;
        }
        let (is_open, is_removed) = (strays.remove(&id), removed.contains(&id));
        match phase {
            Phase::Open if !is_settled && (is_removed || !is_open) => fixes.push(Fix::LookAgain),
            // Also where it is being opened again: it was open, or nobody could have taken it away.
            Phase::Open | Phase::Opening if is_removed => fixes.push(Fix::Revoke(id)),
            Phase::Open if !is_open => fixes.push(Fix::Lost(id)),
            // Its own effect opens it, or closes it, and must not be disturbed.
            _ => {}
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
        fixes(living.iter().map(|(id, phase, settled)| (*id, phase, *settled)), &Standing::open(open.iter().copied().collect()))
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
        assert_eq!(fixed(&[(id(1), Phase::Open, false)], &[]), [Fix::LookAgain]);
    }

    #[test]
    fn what_somebody_took_away_is_not_opened_again_behind_their_back() {
        let standing = Standing { removed: [id(1), id(2), id(3), id(4)].into(), ..Standing::default() };
        let closing = Phase::Closing { outcome: Outcome::Completed };
        let living = [(id(1), Phase::Open, true), (id(2), Phase::Open, false), (id(3), closing, true), (id(4), Phase::Opening, true)];
        let fixes = fixes(living.iter().map(|(id, phase, settled)| (*id, phase, *settled)), &standing);
        assert_eq!(fixes, [Fix::LookAgain, Fix::Revoke(id(1)), Fix::Revoke(id(4))]);
    }

    #[test]
    fn effects_under_way_are_not_disturbed() {
        let closing = Phase::Closing { outcome: Outcome::Revoked };
        assert_eq!(fixed(&[(id(1), Phase::Opening, true), (id(2), closing, true)], &[id(1), id(2)]), []);
    }
}
