//! A link as a QR code of half blocks: two modules one above the other in each character.

use fast_qr::{ECL, QRBuilder};

/// The empty border that readers need, in modules.
const QUIET: usize = 4;

/// Returns the code as lines, or nothing where the text is too long for one.
///
/// Light modules are drawn and dark ones left out, with the colours set to white on black: it can be read on a dark
/// terminal and on a light one. Without colours it is right on a dark terminal; on a light one it is inverted, which most
/// phones read too.
pub(super) fn draw(text: &str, has_colours: bool) -> Option<String> {
    let code = QRBuilder::new(text).ecl(ECL::L).build().ok()?;
    let is_light = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < code.size);
        match (inside(row), inside(column)) {
            (Some(row), Some(column)) => !code[row][column].value(),
            _ => true,
        }
    };
    let side = code.size + 2 * QUIET;
    let mut lines = String::new();
    for row in (0..side).step_by(2) {
        if has_colours {
            lines += "\u{1b}[97;40m";
        }
        for column in 0..side {
            lines.push(match (is_light(row, column), row + 1 < side && is_light(row + 1, column)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines += if has_colours { "\u{1b}[0m\n" } else { "\n" };
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the drawing back into modules: true is dark.
    fn modules(lines: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in lines.lines() {
            let line = line.trim_start_matches("\u{1b}[97;40m").trim_end_matches("\u{1b}[0m");
            rows.push(line.chars().map(|c| matches!(c, ' ' | '▄')).collect());
            rows.push(line.chars().map(|c| matches!(c, ' ' | '▀')).collect());
        }
        rows
    }

    #[test]
    fn the_drawing_is_the_code_with_a_quiet_border() {
        let link = "https://files.example.org/abcdefghjk/eyJhbGciOiJIUzI1NiIsImtpZCI6IjAwMDAwMDAwIn0.e30.c2ln/holiday.mp4";
        let drawn = modules(&draw(link, true).unwrap());
        let code = QRBuilder::new(link).ecl(ECL::L).build().unwrap();
        for (row, line) in drawn.iter().enumerate() {
            assert_eq!(line.len(), code.size + 2 * QUIET);
            for (column, dark) in line.iter().enumerate().filter(|_| row < code.size + 2 * QUIET) {
                let inside = |at: usize| at >= QUIET && at < QUIET + code.size;
                let expected = inside(row) && inside(column) && code[row - QUIET][column - QUIET].value();
                assert_eq!(*dark, expected, "row {row}, column {column}");
            }
        }
    }

    #[test]
    fn without_colours_there_is_no_escape_in_it() {
        assert!(!draw("https://files.example.org/x", false).unwrap().contains('\u{1b}'));
    }

    #[test]
    fn what_is_too_long_is_not_drawn() {
        assert!(draw(&"x".repeat(5000), true).is_none());
    }
}
