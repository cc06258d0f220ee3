//! The path below which a proxy puts a side of ours. Some proxies take it off before they ask us and some leave it, so an
//! address is understood with it and without.

use http::Uri;
use http::uri::PathAndQuery;

/// A path as `/get` or `/nas/files`, without a slash at its end; empty where nothing is before us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Takes a path; a slash at its end is dropped.
    pub fn new(path: &str) -> Self {
        Self(path.trim_end_matches('/').to_owned())
    }

    /// Takes the path of a URL, which has no query.
    pub fn of_url(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        Self::new(rest.find('/').map_or("", |slash| &rest[slash..]))
    }

    /// Returns the path, empty or with a slash at its beginning and none at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns an address without the prefix; `None` where it does not stand below it.
    pub fn taken_off(&self, uri: &Uri) -> Option<Uri> {
        if self.0.is_empty() {
            return None;
        }
        let rest = uri.path_and_query()?.as_str().strip_prefix(&self.0)?;
        // What only begins with the same letters stands beside it.
        if !rest.starts_with('/') {
            return None;
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_below_it_loses_it() {
        let prefix = Prefix::new("/nas/files/");
        let off = |uri: &str| prefix.taken_off(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(off("/nas/files/").as_deref(), Some("/"));
        assert_eq!(off("/nas/files/a/b?c=/nas/files/d").as_deref(), Some("/a/b?c=/nas/files/d"));
        assert_eq!(off("/nas/files/nas/files/a").as_deref(), Some("/nas/files/a"), "once");
        assert_eq!(off("http://x.example/nas/files/a").as_deref(), Some("http://x.example/a"));
        for other in
            ["/", "/nas", "/nas/files", "/nas/files?a", "/nas/filesystem/a", "/NAS/files/a", "/a/nas/files/b", "/nas%2ffiles/a", "*"]
        {
            assert_eq!(off(other), None, "{other}");
        }
    }

    #[test]
    fn without_a_prefix_nothing_changes() {
        for none in [Prefix::default(), Prefix::new("/"), Prefix::of_url("https://files.example.org"), Prefix::of_url("http://x:80/")] {
            assert_eq!(none.as_str(), "");
            assert_eq!(none.taken_off(&"/a/b".parse().unwrap()), None);
        }
        assert_eq!(Prefix::of_url("https://files.example.org/get/it/").as_str(), "/get/it");
    }
}
