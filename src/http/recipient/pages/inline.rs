//! What stands in the pages themselves, the style and the script, and the policy that allows exactly these two.

use std::sync::LazyLock;

use base64::Engine;
use http::HeaderValue;
use sha2::{Digest, Sha256};

/// The style of every page.
pub(super) static STYLE: LazyLock<String> = LazyLock::new(|| {
    lean(&[include_str!("../../../../web/shared/tokens.css"), include_str!("../../../../web/recipient/page.css")], separates_in_style)
});
/// The script of the pages that have a use for one: modules, one behind the other.
pub(super) static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let modules = [
        include_str!("../../../../web/recipient/sha256.js"),
        include_str!("../../../../web/recipient/verdict.js"),
        include_str!("../../../../web/recipient/page.js"),
    ];
    lean(&modules, separates_in_script)
});

/// The policy of a page without a script, and of one with it.
static POLICIES: LazyLock<[HeaderValue; 2]> = LazyLock::new(|| {
    let digest = |text: &str| format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)));
    let (style, script) = (digest(&STYLE), digest(&SCRIPT));
    let of = |script: &str| {
        let policy = format!("default-src 'none'; style-src {style};{script} form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
        HeaderValue::try_from(policy).expect("a digest is of letters")
    };
    [of(""), of(&format!(" script-src {script}; connect-src 'self';"))]
});

/// Returns the value of `Content-Security-Policy`: the inline style and, where there is one, the inline script by their digests;
/// forms and the script's own requests to where the page came from; and nothing else.
pub(super) fn content_security_policy(has_script: bool) -> HeaderValue {
    POLICIES[usize::from(has_script)].clone()
}

/// Joins files, without what only a reader of them needs: comments on lines of their own and of JSDoc, spaces, ends of lines, and
/// the lines that fetch one of the other files. Statements of a script end with semicolons. It knows no regular expressions and no text over several lines; the files have none.
fn lean(files: &[&str], needs_space: fn(char, char) -> bool) -> String {
    let is_needed = |line: &&str| !line.is_empty() && !["//", "/*", "*", "import "].iter().any(|start| line.starts_with(start));
    let mut text = String::new();
    for line in files.iter().flat_map(|file| file.lines()).map(str::trim).filter(is_needed) {
        let mut line = line.strip_prefix("export ").unwrap_or(line);
        while let Some((before, behind)) = line.split_once("/** ") {
            push_lean(&mut text, before, needs_space);
            line = behind.split_once("*/ ").map_or("", |(_, behind)| behind);
        }
        push_lean(&mut text, line, needs_space);
        // What ends otherwise may need the end of its line.
        if !text.ends_with([';', ',', '{', '}', '(']) {
            text.push('\n');
        }
    }
    text
}

fn push_lean(text: &mut String, line: &str, needs_space: fn(char, char) -> bool) {
    let (mut before, mut quote) = (' ', None);
    let mut rest = line.chars().peekable();
    while let Some(letter) = rest.next() {
        quote = match quote {
            None if matches!(letter, '"' | '\'' | '`') => Some(letter),
            Some(open) if open == letter => None,
            unchanged => unchanged,
        };
        // No statement and no declaration needs to be ended where its block ends.
        if quote.is_none() && letter == '}' && text.ends_with(';') {
            text.pop();
        }
        if quote.is_some() || letter != ' ' || rest.peek().is_some_and(|behind| needs_space(before, *behind)) {
            text.push(letter);
            before = letter;
        }
    }
}

/// Returns whether a space of a style sheet separates something, as in `.check .button` and `1px solid`.
fn separates_in_style(before: char, behind: char) -> bool {
    !matches!(before, '{' | '}' | ';' | ',' | ':') && !matches!(behind, '{' | '}' | ',')
}

/// Returns whether a space of a script separates something, as in `new Set` and `1 - -1`.
fn separates_in_script(before: char, behind: char) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
    (is_word(before) && is_word(behind)) || (matches!(before, '+' | '-') && matches!(behind, '+' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_readers_of_a_script_need_is_left_out() {
        let file = "// A comment\n/**\n * Says something.\n */\nexport function a(/** @type {number} */ b, /** @type {number} */ c) {\n  \
                    return b - -c + ' a , b ';\n}\n\nimport { b } from './b.js';\n";
        assert_eq!(
            lean(&[file, "const x = new A(1, `c = ${d} `);"], separates_in_script),
            "function a(b,c){return b- -c+' a , b '}const x=new A(1,`c = ${d} `);"
        );
    }

    #[test]
    fn what_only_readers_of_a_style_need_is_left_out() {
        let file = "/* A comment */\n.a .b:hover, .c > d { color: #fff; border: 1px solid; content: \" : \"; }\n@media (min-width: 1px) and (a) { b { c: d e; } }\n";
        let lean = lean(&[file], separates_in_style);
        assert_eq!(lean, ".a .b:hover,.c > d{color:#fff;border:1px solid;content:\" : \"}@media (min-width:1px) and (a){b{c:d e}}");
    }

    #[test]
    fn nothing_in_it_ends_it() {
        for text in [&*STYLE, &*SCRIPT] {
            assert!(!text.contains("</") && !text.contains("<!--"), "{text}");
            assert!(!text.contains("://") && !text.contains("url("), "{text}");
        }
    }
}
