//! What strange bytes meet in a settings file. Its writer is no stranger, but a mistake in it must come back as a sentence.

use super::file::SettingsFile;
use super::settings::SETTINGS;
use super::values::{base_url, host, list, listen, network, shown, yes_or_no};

/// A settings file: each mistake is one line for a person, and what is taken belongs to a setting that there is.
pub(crate) fn settings_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut file, mut mistakes) = (SettingsFile::default(), Vec::new());
    file.take(text, &mut mistakes);
    for mistake in &mistakes {
        let line = mistake.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    for setting in SETTINGS {
        let Some((value, line)) = file.value(setting.name) else { continue };
        assert!(line >= 1 && line <= text.lines().count() + 1, "line {line}");
        assert!(value.to_str().is_some(), "a text stays one");
    }
}

/// Single values.
pub(crate) fn setting_values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sentences = [
        listen(text).err(),
        base_url(text).err(),
        list(text, host).err(),
        list(text, network).err(),
        yes_or_no(text).err(),
        Some(shown(text)),
    ];
    for sentence in sentences.into_iter().flatten() {
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }
    if let Ok(url) = base_url(text) {
        assert!(url.starts_with("http://") || url.starts_with("https://"), "{url:?}");
        assert!(url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.ends_with('/'), "{url:?} is no beginning of a link");
    }
}
