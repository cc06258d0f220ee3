//! The settings file: TOML, one key for each setting, its name in lower case.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Mistake;
use super::settings::{self, Form};
use super::values::shown;

/// The longest settings file: every setting with its comment is a tenth of that.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// What the file in the state folder is called.
pub(super) const DEFAULT_NAME: &str = "portcullis.toml";

/// What a settings file says.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    pub(super) path: PathBuf,
    values: BTreeMap<&'static str, (OsString, usize)>,
    /// Whether it may hold secrets: nobody else can read it.
    is_private: bool,
}

impl SettingsFile {
    /// Reads a file. What is wrong with it is told, and the rest of it holds.
    pub(super) fn read(path: &Path, mistakes: &mut Vec<Mistake>) -> Self {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        match contents(path) {
            Ok((text, mode)) => {
                file.is_private = mode & 0o077 == 0;
                file.take(&text, mistakes);
            }
            Err(why) => mistakes.push(Mistake::new("CONFIG_FILE", format!("the file {} cannot be read ({why})", shown_path(path)))),
        }
        file
    }

    /// Returns what it says of a setting, and in which line.
    pub(super) fn value(&self, name: &str) -> Option<(&OsString, usize)> {
        self.values.get(name).map(|(value, line)| (value, *line))
    }

    pub(super) fn take(&mut self, text: &str, mistakes: &mut Vec<Mistake>) {
        let line_of = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(span.start));
            mistakes.push(Mistake::new(self.place(line), format!("it is no TOML ({})", shown(error.message()))));
        }
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            (line_of(key.span().start), self.entry(key.get_ref(), value.get_ref()))
        };
        let mut found: Vec<_> = table.get_ref().iter().map(entry).collect();
        found.sort_by_key(|(line, _)| *line);
        for (line, entry) in found {
            match entry {
                Ok((name, value)) => drop(self.values.insert(name, (value, line))),
                Err(sentence) => mistakes.push(Mistake::new(self.place(line), sentence)),
            }
        }
    }

    fn entry(&self, key: &str, value: &DeValue<'_>) -> Result<(&'static str, OsString), String> {
        let Some((name, setting)) = settings::find(&key.to_uppercase()).filter(|_| key.to_lowercase() == key) else {
            let nearest = settings::nearest(&key.to_uppercase());
            let what = if value.is_table() { "there are no sections in this file, and no setting" } else { "there is no setting" };
            return Err(match nearest {
                Some(name) => format!("{what} {}; did you mean `{}`?", shown(key), name.to_lowercase()),
                None => format!("{what} {}; `portcullis config` shows them all", shown(key)),
            });
        };
        if name == "CONFIG_FILE" {
            return Err("a settings file cannot name another; use --config or CONFIG_FILE".to_owned());
        }
        if setting.form() == Form::Secret && name == setting.name && !self.is_private {
            let path = shown_path(&self.path);
            return Err(format!("`{key}` is a secret, and others may read this file; run `chmod 600 {path}`, or use `{key}_file`"));
        }
        let value = text_of(value, setting.form()).ok_or_else(|| wrong_kind(key, value, setting.form()))?;
        Ok((name, value.into()))
    }

    /// Returns where something stands, for whoever has to put it right.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}, line {line}", shown_path(&self.path))
    }
}

/// Returns a value as the variable of its setting would hold it.
fn text_of(value: &DeValue<'_>, form: Form) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Array(items) if form == Form::List => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str().filter(|text| !text.contains(','))).collect();
            Some(texts?.join(","))
        }
        DeValue::Array(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn wrong_kind(key: &str, value: &DeValue<'_>, form: Form) -> String {
    let wanted = if form == Form::List { "a list of strings, as [\"a\", \"b\"]" } else { "a string, a whole number, true or false" };
    match value {
        DeValue::Table(_) => format!("`{key}` has parts, and there are no sections in this file; it takes {wanted}"),
        _ => format!("`{key}` takes {wanted}"),
    }
}

fn contents(path: &Path) -> Result<(String, u32), String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok((String::from_utf8(bytes).map_err(|_| "it is not valid UTF-8".to_owned())?, mode))
}

/// Returns a path for a person to read, on one line.
pub(super) fn shown_path(path: &Path) -> String {
    crate::share::for_display(path.as_os_str().as_encoded_bytes()).replace(char::is_control, "\u{FFFD}")
}
