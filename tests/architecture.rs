//! Holds the code to its map: which module may use which, and where each outside crate lives.
//!
//! `src/lib.rs` lists the modules lowest first; a module uses only what stands above it. `share/` does no I/O and reads
//! no clock. An outside crate with a home appears nowhere else. The public side and the owner side do not know each other.
//! What a log line says of an error it says with the error's causes.
//! `unsafe` stays at home and says why it is safe, and SECURITY.md names tests that there are.
//! The checker reads the source as text, without comments, literals and test code; its own tests feed it bad samples.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Outside crates, and the only places where each may appear, as paths below `src/`: a file, or a folder with its slash.
const HOMES: &[(&str, &[&str])] = &[
    ("rustls", &["delivery/", "tunnel/probe/"]),
    ("tokio_rustls", &["tunnel/probe/"]),
    ("rustls_native_certs", &["tunnel/probe/"]),
    ("webpki_roots", &["tunnel/probe/"]),
    ("rusqlite", &["store/sqlite.rs", "store/sqlite/"]),
    ("redis", &["store/redis.rs", "store/redis/"]),
    ("crc16", &["store/redis/scripts.rs"]),
    ("jsonwebtoken", &["token/"]),
    ("hmac", &["token/"]),
    ("h2", &["delivery/"]),
    ("httparse", &["delivery/"]),
    ("hyper", &["http/", "cli/", "tunnel/"]),
    ("hyper_util", &["http/", "cli/", "tunnel/"]),
    ("maud", &["http/recipient/", "http/owner/docs.rs", "http/assets.rs"]),
    ("rust_embed", &["http/assets.rs"]),
    ("mime_guess", &["catalog/", "http/assets.rs"]),
    ("fast_qr", &["http/", "cli/"]),
    ("axum_extra", &["http/"]),
    ("tower_http", &["http/"]),
    ("clap", &["config.rs", "config/", "cli/", "main.rs"]),
    ("indicatif", &["cli/"]),
    ("console", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("utoipa", &["http/"]),
    ("toml", &["config.rs", "config/"]),
    ("strsim", &["config.rs", "config/", "cli/"]),
    ("prometheus_client", &["metrics.rs"]),
    ("notify", &["meter/log_tail/follow.rs"]),
    ("sd_notify", &["app.rs", "app/", "shutdown.rs"]),
    ("socket2", &["delivery/", "http/owner/serve.rs", "app.rs"]),
    ("tracing_subscriber", &["telemetry.rs"]),
    ("getrandom", &["token/random.rs"]),
    ("uuid", &["token/random.rs", "share/ids.rs"]),
    ("libc", &["sys.rs"]),
    ("bollard", &["tunnel/tailscale/docker.rs"]),
    ("csv", &["http/owner/export.rs"]),
];

/// What the core may not name: I/O, tasks, clocks, randomness.
const NOT_IN_THE_CORE: &[&str] = &[
    "async ",
    ".await",
    "tokio",
    "futures_util",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "Instant",
    "SystemTime",
    "getrandom",
    "now_v7",
    "new_v4",
    "rustix",
    "libc",
];

/// How a log line says an error without what lies behind it: "the store is not available", and not that the disk is full.
const WITHOUT_CAUSES: &[&str] = &["%error", "?error", "= error as &dyn", "= &error as &dyn"];

/// Two sides that may not know each other: files, and the modules that they may not name in a path.
const SIDES: &[(&[&str], &[&str])] = &[
    (&["http/recipient/", "http/recipient.rs", "delivery/"], &["owner", "legacy", "auth", "assets"]),
    (&["http/owner/", "http/legacy.rs", "http/auth.rs", "http/assets.rs"], &["recipient"]),
];

/// The files that may say `unsafe`, as paths below the top level: the product's calls to the kernel, and what gives a simulation
/// its own randomness in place of the kernel's.
const UNSAFE_HOMES: &[&str] = &["src/sys.rs", "tests/sim/chance.rs"];
/// Where else code of ours lies that no `unsafe` may stand in.
const FOLDERS_OF_CODE: &[&str] = &["src", "tests", "benches", "fuzz"];

/// A source file: its path below `src/`, and its text without comments, literals and test code.
struct Source {
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: without_tests(&without_comments_and_literals(text)) }
    }

    /// Returns the top-level module that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place })
    }
}

/// Blanks comments, strings and characters; line breaks stay.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (here, next) = (chars[at], chars.get(at + 1).copied().unwrap_or('\0'));
        let end = match (here, next) {
            ('/', '/') => chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n),
            ('/', '*') => end_of_block_comment(&chars, at),
            ('"', _) => end_of_string(&chars, at),
            ('r', '"' | '#') if !at.checked_sub(1).is_some_and(|p| is_word(chars[p]) && chars[p] != 'b' && chars[p] != 'c') => {
                end_of_raw_string(&chars, at)
            }
            ('\'', _) => end_of_character(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(here);
            at += 1;
        } else {
            out.push(' ');
            out.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    out
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let rest = &chars[open + 1..];
    rest.windows(closing.len()).position(|w| w == closing).map_or(chars.len(), |n| open + 1 + n + closing.len())
}

/// A character literal ends with a quote soon; a lifetime does not.
fn end_of_character(chars: &[char], start: usize) -> usize {
    match chars.get(start + 1) {
        Some('\\') => chars[start + 3..].iter().take(12).position(|c| *c == '\'').map_or(start, |n| start + 3 + n + 1),
        Some(_) if chars.get(start + 2) == Some(&'\'') => start + 3,
        _ => start,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Drops every item behind `#[cfg(test)]`: up to its semicolon, or to the end of its block.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = skip_item(&rest[at + "#[cfg(test)]".len()..]);
    }
    out + rest
}

fn skip_item(code: &str) -> &str {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &code[at + 1..];
                }
            }
            ';' if depth == 0 => return &code[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Returns the modules that the code names behind `crate::` (or `portcullis::` in `main.rs`), groups taken apart.
fn used_modules(code: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, text) in code.match_indices(root) {
        if code[..at].ends_with(is_word) || code[..at].ends_with(':') {
            continue;
        }
        let behind = code[at + text.len()..].trim_start();
        match behind.strip_prefix('{') {
            None => found.push(word(behind).to_owned()),
            Some(group) => found.extend(heads_of_group(group)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

/// Returns the first word of each entry of a `use` group, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut expects) = (1, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects = true,
            c if expects && is_word(c) => {
                heads.push(word(&group[at..]).to_owned());
                expects = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Returns whether the code names an outside crate: as the first word of a path, or in a `use` of it alone.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = &code[..at];
        let behind = &code[at + name.len()..];
        let starts_path = !before.ends_with(is_word) && (!before.ends_with("::") || before.ends_with("use ::") || before.ends_with(" ::"));
        let alone = before.ends_with("use ") && (behind.starts_with(';') || behind.starts_with(" as "));
        starts_path && (behind.starts_with("::") || alone)
    })
}

/// Returns whether the code names a module as a part of a path: `owner::x`, `super::owner`, `http::{owner, …}`.
fn names_in_path(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&code[..at], &code[at + name.len()..]);
        if before.ends_with(is_word) || behind.starts_with(is_word) {
            return false;
        }
        let in_group = in_use(before) && (behind.starts_with([',', '}', ';']) || behind.starts_with("::") || behind.starts_with(" as "));
        in_group || behind.starts_with("::") || before.ends_with("::") && !behind.starts_with('(') && !before.ends_with("self::")
    })
}

/// Returns whether the text ends within a `use` item.
fn in_use(before: &str) -> bool {
    let item = before.rsplit(';').next().unwrap_or_default();
    item.trim_start().starts_with("use ") || item.contains("\nuse ") || item.contains("pub use ")
}

fn check_order(order: &[String], sources: &[Source]) -> Vec<String> {
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut faults = Vec::new();
    for source in sources {
        let own = match source.module() {
            // The thin binary stands above them all.
            "main" => order.len(),
            "lib" => continue,
            module => match place(module) {
                Some(place) => place,
                None => {
                    faults.push(format!("src/{} belongs to no module of src/lib.rs", source.path));
                    continue;
                }
            },
        };
        let mut used = used_modules(&source.code, "crate::");
        used.extend(used_modules(&source.code, "portcullis::"));
        for name in used {
            match place(&name) {
                Some(at) if at <= own => {}
                Some(_) => faults.push(format!("src/{} uses {name}, which stands below it in src/lib.rs", source.path)),
                None => faults.push(format!("src/{} uses crate::{name}, which is no module of src/lib.rs", source.path)),
            }
        }
    }
    faults
}

fn check_core(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.module() == "share") {
        for banned in NOT_IN_THE_CORE {
            let word_like = banned.ends_with(is_word) && !banned.starts_with('.');
            let found = source.code.match_indices(banned).any(|(at, text)| {
                !(source.code[..at].ends_with(is_word) || word_like && source.code[at + text.len()..].starts_with(is_word))
            });
            if found {
                faults.push(format!("src/{} names `{}`: the core takes values and returns values", source.path, banned.trim()));
            }
        }
    }
    faults
}

fn check_errors_in_lines(sources: &[Source]) -> Vec<String> {
    let names = |source: &&Source| WITHOUT_CAUSES.iter().any(|form| source.code.contains(form));
    sources
        .iter()
        .filter(names)
        .map(|source| format!("src/{} logs an error without its causes: error = %Causes(&error)", source.path))
        .collect()
}

fn check_homes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (name, homes) in HOMES {
            if !source.is_in(homes) && names_crate(&source.code, name) {
                faults.push(format!("src/{} uses {name}, whose home is {homes:?}", source.path));
            }
        }
    }
    faults
}

fn check_sides(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for (places, strangers) in SIDES {
        for source in sources.iter().filter(|s| s.is_in(places)) {
            for stranger in strangers.iter().filter(|name| names_in_path(&source.code, name)) {
                faults.push(format!("src/{} names {stranger}, which belongs to the other side", source.path));
            }
        }
    }
    faults
}

/// Finds `unsafe` outside its home, also in tests, and blocks at home that do not say why they are safe.
fn check_unsafe(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_literals(text);
    let is_said = |line: &str| names_word(line, "unsafe") && !line.contains("deny(") && !line.contains("allow(");
    let places: Vec<usize> = code.lines().enumerate().filter(|(_, line)| is_said(line)).map(|(number, _)| number).collect();
    if !UNSAFE_HOMES.contains(&path) {
        return places.iter().map(|line| format!("{path}:{}: `unsafe` outside {UNSAFE_HOMES:?}", line + 1)).collect();
    }
    let lines: Vec<&str> = text.lines().collect();
    // The comment stands directly above, or above the beginning of the statement.
    let leads = |line: &&&str| line.trim_start().starts_with("//") || line.trim_end().ends_with('=');
    let says_why = |line: usize| lines[..line].iter().rev().take_while(leads).any(|l| l.contains("// SAFETY: "));
    let blocks = places.iter().filter(|line| lines[**line].contains("unsafe {"));
    blocks.filter(|line| !says_why(**line)).map(|line| format!("{path}:{}: no SAFETY comment", line + 1)).collect()
}

fn names_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
}

/// Finds what the table of promises names and is no test: neither `a::b::test`, with the function `test` in a file below `a/b`, nor
/// a suite of `tests/run`. Only the last column of a table is looked at, and every promise must name something.
fn check_promises(text: &str, suites: &[String], files: &BTreeMap<String, String>) -> Vec<String> {
    let promises = text.lines().skip_while(|line| !line.starts_with("| Promise ")).skip(2).take_while(|line| line.starts_with('|'));
    let mut faults = Vec::new();
    for promise in promises {
        let shown_by = promise.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            faults.push(format!("nothing shows this promise: {promise}"));
        }
        let unknown = names.into_iter().filter(|name| !suites.iter().any(|suite| suite == name) && !is_test(name, files));
        faults.extend(unknown.map(|name| format!("there is no test {name}")));
    }
    faults
}

fn is_test(name: &str, files: &BTreeMap<String, String>) -> bool {
    let Some((modules, function)) = name.rsplit_once("::") else { return false };
    let place = modules.trim_end_matches("::tests").replace("::", "/");
    let declared = [format!("fn {function}("), format!("fn {function}<")];
    files.iter().any(|(path, text)| path.contains(&place) && declared.iter().any(|text_of_it| text.contains(text_of_it)))
}

/// Returns the suites that `tests/run` knows: the words of its arrays of suites.
fn suites(runner: &str) -> Vec<String> {
    let arrays = runner.lines().filter(|line| line.starts_with("readonly ") && line.contains("=(") && !line.contains("PACKAGES"));
    arrays.flat_map(|line| line.split(['(', ')']).nth(1).unwrap_or_default().split_whitespace()).map(str::to_owned).collect()
}

/// Returns the modules that `src/lib.rs` lists, in its order.
fn listed_modules(lib: &str) -> Vec<String> {
    let code = without_tests(&without_comments_and_literals(lib));
    let names = code.split(';').filter_map(|item| item.trim().rsplit_once("mod ").filter(|(before, _)| !before.contains('{')));
    names.map(|(_, name)| name.trim().to_owned()).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &mut files);
    let text_of =
        |path: &PathBuf| path.strip_prefix(&root).expect("it lies below src").to_str().expect("a path of ours is UTF-8").to_owned();
    let files: BTreeMap<String, String> = files.iter().map(|(path, text)| (text_of(path), text.clone())).collect();
    let only_tests: Vec<String> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test =
        |path: &str| only_tests.iter().any(|of| path.strip_prefix(of.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')));
    files.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| Source::new(path, text)).collect()
}

/// Returns the modules that a file declares for tests only, as paths without `.rs`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = match path.rsplit_once('/') {
        Some((folder, "mod.rs")) => format!("{folder}/"),
        None if matches!(path, "lib.rs" | "main.rs") => String::new(),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    };
    let code = without_comments_and_literals(text);
    let items = code.split("#[cfg(test)]").skip(1).filter_map(|rest| rest.split([';', '{']).next()?.trim().rsplit_once("mod "));
    items.map(|(_, name)| format!("{folder}{}", name.trim())).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            files.insert(path, text);
        }
    }
}

fn order() -> Vec<String> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs can be read");
    listed_modules(&lib)
}

#[track_caller]
fn assert_clean(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let order = order();
    assert!(order.len() >= 10 && order[0] == "share", "the list was read: {order:?}");
    assert_clean(&check_order(&order, &sources()));
}

#[test]
fn the_core_does_no_io_and_reads_no_clock() {
    let sources = sources();
    assert!(sources.iter().filter(|s| s.module() == "share").count() >= 5, "the core was read");
    assert_clean(&check_core(&sources));
}

#[test]
fn every_outside_crate_stays_at_home() {
    assert_clean(&check_homes(&sources()));
}

#[test]
fn an_error_goes_to_the_log_with_its_causes() {
    assert_clean(&check_errors_in_lines(&sources()));
}

#[test]
fn the_public_side_and_the_owner_side_do_not_know_each_other() {
    assert_clean(&check_sides(&sources()));
}

#[test]
fn unsafe_code_stays_at_home_and_says_why_it_is_safe() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    FOLDERS_OF_CODE.iter().map(|folder| top.join(folder)).filter(|folder| folder.exists()).for_each(|folder| collect(&folder, &mut files));
    let path_of =
        |path: &Path| path.strip_prefix(top).expect("it lies in the project").to_str().expect("a path of ours is UTF-8").to_owned();
    let home = files.get(&top.join(UNSAFE_HOMES[0])).expect("the product's file is there");
    assert!(home.matches("unsafe {").count() >= 3, "the product's file was read");
    assert_clean(&files.iter().flat_map(|(path, text)| check_unsafe(&path_of(path), text)).collect::<Vec<_>>());
}

#[test]
fn every_promise_of_security_md_names_tests_that_there_are() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(top.join(name)).unwrap_or_else(|e| panic!("{name} cannot be read: {e}"));
    let mut files = BTreeMap::new();
    ["src", "tests"].iter().for_each(|folder| collect(&top.join(folder), &mut files));
    let files = files.into_iter().map(|(path, text)| (path.strip_prefix(top).expect("it lies in the project").display().to_string(), text));
    let (promises, suites, files) = (read("SECURITY.md"), suites(&read("tests/run")), files.collect());
    assert!(promises.matches("| **").count() > 20 && suites.iter().any(|suite| suite == "race"), "both were read: {suites:?}");
    assert_clean(&check_promises(&promises, &suites, &files));
}

mod the_checker {
    use super::*;

    fn order() -> Vec<String> {
        ["share", "store", "http"].map(str::to_owned).to_vec()
    }

    fn faults(check: impl Fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
        check(&[Source::new(path, text)]).len()
    }

    #[test]
    fn sees_a_use_of_what_stands_below() {
        let check = |path, text| faults(|s| check_order(&order(), s), path, text);
        assert_eq!(check("store/mod.rs", "use crate::share::Share;"), 0);
        assert_eq!(check("store/mod.rs", "use crate::store::Save; pub(crate) fn f() {}"), 0);
        assert_eq!(check("share/mod.rs", "use crate::store::Save;"), 1);
        assert_eq!(check("share/a/b.rs", "fn f() { crate::http::serve(); }"), 1);
        assert_eq!(check("share/mod.rs", "use crate::{share::Share, store::{Save, http}, http};"), 2);
        assert_eq!(check("share/mod.rs", "use crate::nowhere::X;"), 1);
        assert_eq!(check("stray.rs", ""), 1);
        assert_eq!(check("main.rs", "fn main() { portcullis::http::serve() }"), 0);
        assert_eq!(check("share/mod.rs", "// use crate::store::Save;\n/* crate::http::x */ const S: &str = \"crate::http::x\";"), 0);
        assert_eq!(check("share/mod.rs", "#[cfg(test)]\nmod tests { use crate::store::Save; fn f() { {} } }"), 0);
        assert_eq!(check("share/mod.rs", "#[cfg(test)]\nmod tests { fn f() { {} } }\nuse crate::store::Save;"), 1);
        assert_eq!(check("share/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::store::Save;"), 1);
    }

    #[test]
    fn sees_an_error_in_a_line_without_its_causes() {
        let check = |text| faults(check_errors_in_lines, "store/mod.rs", text);
        for bad in ["warn!(%error, \"No\")", "warn!(?error, \"No\")", "warn!(error = &error as &dyn std::error::Error, \"No\")"] {
            assert_eq!(check(bad), 1, "{bad}");
        }
        assert_eq!(check("warn!(error = %Causes(&error), \"No %error\")"), 0);
    }

    #[test]
    fn sees_io_clocks_and_tasks_in_the_core() {
        let check = |text| faults(check_core, "share/mod.rs", text);
        for bad in [
            "async fn f() {}",
            "fn f() { g().await }",
            "use std::fs::File;",
            "use std::time::{Duration, Instant};",
            "fn f() { std::time::SystemTime::now(); }",
            "use tokio::sync::mpsc;",
            "let id = Uuid::now_v7();",
        ] {
            assert!(check(bad) > 0, "{bad}");
        }
        for good in [
            "use std::time::Duration;",
            "/// No async, no tokio.\nfn f() {}",
            "struct Instantly; fn tokionomics() {}",
            "const S: &str = \"std::fs\";",
        ] {
            assert_eq!(check(good), 0, "{good}");
        }
        assert_eq!(faults(check_core, "store/mod.rs", "use tokio::sync::mpsc;"), 0);
    }

    #[test]
    fn sees_a_crate_outside_its_home() {
        let check = |path, text| faults(check_homes, path, text);
        assert_eq!(check("store/sqlite.rs", "use rusqlite::Connection;"), 0);
        assert_eq!(check("store/mod.rs", "use rusqlite::Connection;"), 1);
        assert_eq!(check("http/mod.rs", "fn f() { ::rusqlite::Connection::open(); }"), 1);
        assert_eq!(check("http/mod.rs", "use rusqlite as sql;"), 1);
        assert_eq!(check("http/mod.rs", "use crate::store::rusqlite::x; // rusqlite::Connection"), 0);
        assert_eq!(check("http/mod.rs", "let x = my_rusqlite::y;"), 0);
        assert_eq!(check("delivery/mod.rs", "use hyper::Request;"), 1);
        assert_eq!(check("delivery/mod.rs", "let hyper = 1; hyper_fast::x();"), 0);
    }

    #[test]
    fn sees_one_side_name_the_other() {
        let check = |path, text| faults(check_sides, path, text);
        assert_eq!(check("http/recipient/mod.rs", "use crate::http::owner::router;"), 1);
        assert_eq!(check("http/recipient/mod.rs", "use super::super::owner;"), 1);
        assert_eq!(check("http/recipient/mod.rs", "use crate::http::{problem, owner};"), 1);
        assert_eq!(check("http/recipient/mod.rs", "use crate::http::auth::Auth;"), 1);
        assert_eq!(check("http/owner/shares.rs", "use crate::http::recipient::pages;"), 1);
        assert_eq!(check("http/owner/shares.rs", "use crate::share::Recipient; let recipient = t.recipient; f(recipient, 1);"), 0);
        assert_eq!(check("http/recipient/mod.rs", "/// The owner's side.\nlet owner = 1; struct Owner;"), 0);
        assert_eq!(check("http/mod.rs", "pub mod owner; pub mod recipient;"), 0);
    }

    #[test]
    fn sees_unsafe_code_away_from_home_and_without_a_reason() {
        let count = |path, text| check_unsafe(path, text).len();
        assert_eq!(count("src/a.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(count("src/a.rs", "#[cfg(test)]\nmod tests { unsafe fn f() {} }"), 1);
        assert_eq!(count("tests/it/a.rs", "unsafe impl Send for X {}"), 1);
        assert_eq!(count("src/a.rs", "// unsafe {\nconst S: &str = \"unsafe { }\"; fn is_unsafe_to_show() {}"), 0);
        assert_eq!(
            count(UNSAFE_HOMES[0], "fn f() {\n    // SAFETY: numbers only,\n    // and no more.\n    let x = unsafe { g() };\n}"),
            0
        );
        assert_eq!(count(UNSAFE_HOMES[0], "fn f() {\n    // It is fast.\n    unsafe { g() }\n}"), 1);
        assert_eq!(count(UNSAFE_HOMES[0], "// SAFETY: of another block\nfn f() {\n    unsafe { g() }\n}"), 1);
    }

    #[test]
    fn sees_a_promise_without_a_test() {
        let files = BTreeMap::from([("tests/it/race.rs".to_owned(), "fn one_wins() {}\nfn promise<const N: usize>() {}".to_owned())]);
        let faults = |shown_by: &str| {
            let text =
                format!("`not::looked_at`\n| Promise | How | What |\n| --- | --- | --- |\n| a | `b` | {shown_by} |\n\n`nor::this`\n");
            check_promises(&text, &["fmt".to_owned(), "deny".to_owned()], &files).len()
        };
        assert_eq!(faults("`race::one_wins` `race::promise` `deny`"), 0);
        assert_eq!(faults("`race::one_loses`"), 1);
        assert_eq!(faults("`crash::one_wins`"), 1);
        assert_eq!(faults("`one_wins` `allow`"), 2);
        assert_eq!(faults("it is obvious"), 1);
        assert_eq!(
            suites("readonly BLACK_BOX=(race names)\nreadonly SUITES=(fmt deny)\nreadonly PACKAGES=(curl)\n"),
            ["race", "names", "fmt", "deny"]
        );
    }

    #[test]
    fn knows_files_that_are_tests_only() {
        assert_eq!(test_modules("store/mod.rs", "mod a;\n#[cfg(test)]\npub(crate) mod contract;\nmod b;"), ["store/contract"]);
        assert_eq!(test_modules("share/lifecycle.rs", "#[cfg(test)]\nmod tests;"), ["share/lifecycle/tests"]);
        assert_eq!(test_modules("lib.rs", "#[cfg(test)]\nmod fake;\n#[cfg(test)]\nuse a::b;"), ["fake"]);
        assert!(test_modules("store/mod.rs", "// #[cfg(test)]\nmod contract;").is_empty());
    }

    #[test]
    fn reads_the_list_and_literals_as_the_compiler_does() {
        let lib = "//! Story; of pub mod fake;\n\npub mod share;\npub(crate) mod store;\nmod http;\n#[cfg(test)]\nmod only_tests;\n";
        assert_eq!(listed_modules(lib), ["share", "store", "http"]);
        let code = without_comments_and_literals("a('\"') /* x /* y */ z */ \"s\\\"t\" r#\"r\"q\"# 'l: loop { '\\u{1F600}' b\"b\" }");
        assert!(!code.contains(['x', 'y', 'z', 's', 't', 'q', 'F']), "{code}");
        assert!(code.contains("'l: loop {") && code.ends_with('}'), "{code}");
    }
}
