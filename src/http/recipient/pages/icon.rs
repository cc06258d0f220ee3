//! One quiet drawing for each state, 24 by 24, in the colour of the text around it. A page holds one.

/// What stands in `web/shared/logo.svg`; a page's style says how it is drawn.
pub(super) const LOGO: &str = "<path d=\"M3 21.5V11a9 9 0 0 1 18 0v10.5M9 3v13.5l-.8 2M15 3v13.5l.8 2M3 9h18M3 14.5h18\"/>";
/// A sheet of paper with an arrow down: a file that waits.
pub(super) const FILE: &str =
    "<path d=\"M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5M12 11v6m-2.5-2.5L12 17l2.5-2.5\"/>";
/// An arrow down into a tray: bytes move.
pub(super) const MOVING: &str = "<path d=\"M12 4v11m-4.5-4.5L12 15l4.5-4.5M4.5 19.5h15\"/>";
/// A tick in a ring: done.
pub(super) const DONE: &str = "<circle cx=\"12\" cy=\"12\" r=\"9\"/><path d=\"m8 12.3 2.8 2.7 5.2-6\"/>";
/// A link whose two halves are apart: it leads nowhere.
pub(super) const UNLINKED: &str =
    "<path d=\"m9.5 17.5-1 1a3.9 3.9 0 0 1-5.5-5.5l2-2m9.5-4.5 1-1A3.9 3.9 0 0 1 21 11l-2 2M8.5 3.5v2M3.5 8.5h2m10 12v-2m5-3h-2\"/>";
/// A clock.
pub(super) const CLOCK: &str = "<circle cx=\"12\" cy=\"12\" r=\"9\"/><path d=\"M12 7v5l3 2\"/>";
/// A lock that is shut.
pub(super) const LOCK: &str = "<rect x=\"5\" y=\"11\" width=\"14\" height=\"9.5\" rx=\"2\"/><path d=\"M8 11V7.5a4 4 0 0 1 8 0V11\"/>";
/// Two bars in a ring: nothing moves.
pub(super) const PAUSE: &str = "<circle cx=\"12\" cy=\"12\" r=\"9\"/><path d=\"M10 9v6m4-6v6\"/>";
/// A sheet of paper with an exclamation mark.
pub(super) const CHANGED: &str = "<path d=\"M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5M12 11v4m0 2.8v.1\"/>";
/// A globe that is crossed out.
pub(super) const ELSEWHERE: &str =
    "<circle cx=\"12\" cy=\"12\" r=\"9\"/><path d=\"M3 12h18M12 3c-3 3-3 15 0 18 3-3 3-15 0-18M4 4l16 16\"/>";
/// Three dots.
pub(super) const DOTS: &str = "<circle cx=\"12\" cy=\"12\" r=\"9\"/><path d=\"M8 12v.01m4-.01v.01m4-.01v.01\"/>";

#[cfg(test)]
mod tests {
    #[test]
    fn the_logo_is_that_of_the_owners_page() {
        assert!(include_str!("../../../../web/shared/logo.svg").contains(super::LOGO));
    }
}
