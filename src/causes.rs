//! An error with everything that lies behind it, as one line.

use std::error::Error;
use std::fmt;
use std::iter;

/// Shows an error and its causes, each behind a colon, for the log: `the store is not available: disk full`. What says the same as the
/// cause before it is left out.
pub(crate) struct Causes<'e>(pub(crate) &'e (dyn Error + 'e));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        for cause in iter::successors(self.0.source(), |&cause| cause.source()) {
            let cause = cause.to_string();
            // Some errors end with their cause already.
            if !said.ends_with(&cause) {
                write!(f, ": {cause}")?;
            }
            said = cause;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Because(&'static str, #[source] Option<Box<Because>>);

    #[test]
    fn an_error_is_shown_with_each_of_its_causes_once() {
        let deep = |middle| Because("no store", Some(Box::new(Because(middle, Some(Box::new(Because("disk full", None)))))));
        assert_eq!(Causes(&deep("writing")).to_string(), "no store: writing: disk full");
        assert_eq!(Causes(&deep("disk full")).to_string(), "no store: disk full");
        assert_eq!(Causes(&deep("writing: disk full")).to_string(), "no store: writing: disk full");
        assert_eq!(Causes(&io::Error::other(deep("writing"))).to_string(), "no store: writing: disk full");
        assert_eq!(Causes(&io::Error::from_raw_os_error(2)).to_string(), "No such file or directory (os error 2)");
    }
}
