//! Who looked at a link's page: counters, and nothing that tells who.

use serde::{Deserialize, Serialize};

/// Who looks at a link's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looker {
    /// A program that fetches links ahead of people: a chat's preview, a mail's scanner, a browser that prefetches.
    Preview,
    /// A browser in somebody's hands, as far as its headers say.
    Person,
}

/// How often a link's page was looked at. Looking spends nothing and moves nothing, so this is no part of a share's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// By programs that fetch links ahead of people.
    pub previews: u32,
    /// By browsers.
    pub people: u32,
}

impl Looks {
    /// Counts what `now` counts more than `before` did: two who count apart add up.
    pub fn add_since(&mut self, before: Self, now: Self) {
        self.previews = self.previews.saturating_add(now.previews.saturating_sub(before.previews));
        self.people = self.people.saturating_add(now.people.saturating_sub(before.people));
    }

    /// Counts one more; past the largest number it stays there.
    pub fn add(&mut self, by: Looker) {
        let count = match by {
            Looker::Preview => &mut self.previews,
            Looker::Person => &mut self.people,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_count_apart_add_up() {
        let mut looks = Looks { previews: 5, people: u32::MAX };
        looks.add_since(Looks { previews: 1, people: 1 }, Looks { previews: 3, people: 2 });
        assert_eq!(looks, Looks { previews: 7, people: u32::MAX });
    }

    #[test]
    fn each_is_counted_apart_and_none_wraps_around() {
        let mut looks = Looks { previews: u32::MAX - 1, people: 0 };
        for by in [Looker::Preview, Looker::Preview, Looker::Preview, Looker::Person] {
            looks.add(by);
        }
        assert_eq!(looks, Looks { previews: u32::MAX, people: 1 });
    }
}
