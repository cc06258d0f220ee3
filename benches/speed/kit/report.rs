//! What was found: tables for a person, and the marked sections of `benches/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use super::plot::Plot;

/// Collects what the benchmarks found. A full run writes it into the README.
pub(crate) struct Report {
    /// Where the README and the plots are; `None` where nothing is written.
    home: Option<PathBuf>,
}

/// A table in Markdown.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.head.len(), "a cell for each column");
        self.rows.push(cells.to_vec());
    }

    fn text(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", " --- |".repeat(self.head.len()));
        line(&self.head) + &rule + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}

impl Report {
    pub(crate) fn new(home: Option<PathBuf>) -> Self {
        Self { home }
    }

    /// Tells what came of a benchmark: its table, and what it means.
    pub(crate) fn tell(&mut self, name: &str, title: &str, table: &Table, words: &str) {
        self.section(name, &format!("### {title}\n\n{}\n{words}\n", table.text()));
    }

    /// As [`Report::tell`], with plots under the table.
    pub(crate) fn tell_with(&mut self, name: &str, title: &str, table: &Table, words: &str, plots: &[Plot]) {
        let mut text = format!("### {title}\n\n{}\n{words}\n", table.text());
        for (index, plot) in plots.iter().enumerate() {
            let file = format!("{name}-{}.svg", index + 1);
            text += &format!("\n![{}]({file})\n", plot.title);
            if let Some(home) = &self.home {
                fs::write(home.join(file), plot.svg()).expect("the plot is written");
            }
        }
        self.section(name, &text);
    }

    /// Puts text between the marks of a section.
    pub(crate) fn section(&mut self, name: &str, text: &str) {
        println!("{text}");
        let Some(home) = &self.home else { return };
        let path = home.join("README.md");
        let readme = fs::read_to_string(&path).expect("the README is there");
        fs::write(path, replaced(&readme, name, text)).expect("the README is written");
    }
}

fn replaced(readme: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = readme.find(&begin).unwrap_or_else(|| panic!("the README has no section {name}")) + begin.len();
    let to = from + readme[from..].find(&end).unwrap_or_else(|| panic!("the section {name} has no end"));
    format!("{}\n{}\n{}", &readme[..from], text.trim_end(), &readme[to..])
}

/// Returns the folder of the benchmarks.
pub(crate) fn home() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches"))
}
