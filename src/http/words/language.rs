//! Which language somebody reads: `Accept-Language` (RFC 9110 §12.5.4), which every browser sends.

use http::{HeaderMap, header};

/// A language that everything is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// What is spoken where nobody says otherwise, and by the command line.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// Returns its code of RFC 5646.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// Chooses the language that is wanted most among those that are there. Of languages wanted alike the first said wins.
    pub fn of(headers: &HeaderMap) -> Self {
        let said = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        let mut best = (0.0, Self::English);
        for (language, weight) in said.flat_map(|text| text.split(',')).filter_map(wish) {
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// Reads one wish, as `de-AT;q=0.8`.
fn wish(text: &str) -> Option<(Language, f32)> {
    let (range, weight) = text.split_once(';').map_or((text, "1"), |(range, rest)| (range, rest.trim().trim_start_matches("q=")));
    let primary = range.trim().split('-').next().unwrap_or_default();
    let language = match primary.to_ascii_lowercase().as_str() {
        "*" => Language::default(),
        code => Language::ALL.into_iter().find(|language| language.code() == code)?,
    };
    Some((language, weight.trim().parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight))?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_language_wanted_most_is_spoken() {
        for (said, code) in [
            ("", "en"),
            ("de", "de"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("en-GB,en;q=0.9,de;q=0.8", "en"),
            ("fr-FR, fr;q=0.9, de;q=0.5, en;q=0.4", "de"),
            ("fr", "en"),
            ("*", "en"),
            ("DE-ch", "de"),
            ("de;q=0", "en"),
            ("de;q=x", "en"),
            ("en;q=0.1,de; q=0.2", "de"),
            ("de;q=9, en;q=0.1", "en"),
            ("den", "en"),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, HeaderValue::from_str(said).unwrap())]);
            assert_eq!(Language::of(&headers).code(), code, "{said}");
        }
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
