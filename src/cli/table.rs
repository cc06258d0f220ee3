//! Tables that fit the terminal.
//!
//! Where they are not shown on a screen nothing is cut: whoever reads a pipe wants all of it. On a screen the columns that
//! hold text give way first, then those that are of least use are left out, and what still does not fit is cut.

use super::text::{fitted, safe, width};

/// The space between two columns.
const GAP: usize = 2;
/// What a column that holds text keeps at least: less is not worth reading.
const LEAST: usize = 10;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    is_number: bool,
    /// Holds text that may be cut.
    is_text: bool,
    /// Left out where there is no room: the highest first; 0 never.
    leave_out: u8,
}

impl Column {
    /// A column that is always whole.
    pub(super) const fn new(title: &'static str) -> Self {
        Self { title, is_number: false, is_text: false, leave_out: 0 }
    }

    /// A column of numbers, aligned at their ends.
    pub(super) const fn number(title: &'static str) -> Self {
        Self { is_number: true, ..Self::new(title) }
    }

    /// A column of text that may be cut.
    pub(super) const fn text(title: &'static str) -> Self {
        Self { is_text: true, ..Self::new(title) }
    }

    /// Lets the column be left out where there is no room; of several the highest `rank` goes first.
    pub(super) const fn unless_narrow(self, rank: u8) -> Self {
        Self { leave_out: rank, ..self }
    }
}

/// A table, as it is filled.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(columns: [Column; N]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. What stands in it is made harmless.
    ///
    /// # Panics
    /// Where it has more or fewer cells than there are columns.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells.iter().map(|cell| safe(cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines, the titles first, none wider than `columns` where that is given.
    pub(super) fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let natural: Vec<usize> = (0..self.columns.len()).map(|at| self.natural_width(at)).collect();
        let widths = columns.map_or_else(|| natural.iter().copied().map(Some).collect(), |columns| self.widths(&natural, columns));
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        let lines = std::iter::once(&titles).chain(&self.rows).map(|row| self.line(row, &widths));
        lines.map(|line| columns.map_or_else(|| line.clone(), |columns| fitted(&line, columns))).collect()
    }

    fn natural_width(&self, at: usize) -> usize {
        let cells = self.rows.iter().map(|row| width(&row[at]));
        cells.max().unwrap_or(0).max(width(self.columns[at].title))
    }

    /// Returns how wide each column is; one that is left out has no width.
    fn widths(&self, natural: &[usize], room: usize) -> Vec<Option<usize>> {
        let mut widths: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
        loop {
            let taken: usize = widths.iter().flatten().sum::<usize>() + GAP * widths.iter().flatten().count().saturating_sub(1);
            let Some(excess) = taken.checked_sub(room).filter(|excess| *excess > 0) else { return widths };
            let widest = (0..widths.len()).filter(|at| self.columns[*at].is_text).max_by_key(|at| widths[*at].unwrap_or(0));
            let could_give: usize =
                (0..widths.len()).filter(|at| self.columns[*at].is_text).map(|at| widths[at].unwrap_or(0).saturating_sub(LEAST)).sum();
            let next_out = (0..widths.len()).filter(|at| widths[*at].is_some() && self.columns[*at].leave_out > 0);
            match (widest, next_out.max_by_key(|at| self.columns[*at].leave_out)) {
                (Some(at), _) if could_give >= excess => widths[at] = widths[at].map(|width| width - 1),
                (_, Some(at)) => widths[at] = None,
                // The texts as narrow as they may be, and the line is cut.
                (Some(at), None) if could_give > 0 => widths[at] = widths[at].map(|width| width - 1),
                (_, None) => return widths,
            }
        }
    }

    fn line(&self, row: &[String], widths: &[Option<usize>]) -> String {
        let mut line = String::new();
        for (at, (cell, room)) in row.iter().zip(widths).enumerate() {
            let Some(room) = *room else { continue };
            if !line.is_empty() {
                line += &" ".repeat(GAP);
            }
            let cell = fitted(cell, room);
            let padding = " ".repeat(room - width(&cell));
            line += &if self.columns[at].is_number { padding + &cell } else { cell + &padding };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::new("ID"),
            Column::number("SIZE").unless_narrow(1),
            Column::text("STATE").unless_narrow(2),
            Column::text("FILE"),
        ]);
        table.row(["abc".into(), "1.9 GB".into(), "Ready. Nobody has opened it yet.".into(), "film/漢字.mp4".into()]);
        table.row(["d".into(), "5 B".into(), "Expired unused.".into(), "a very long name of a file that never ends.bin\u{1b}".into()]);
        table
    }

    #[test]
    fn without_a_screen_nothing_is_cut() {
        let lines = table().lines(None);
        assert_eq!(lines[0], "ID     SIZE  STATE                             FILE");
        assert_eq!(lines[1], "abc  1.9 GB  Ready. Nobody has opened it yet.  film/漢字.mp4");
        assert_eq!(lines[2], "d       5 B  Expired unused.                   a very long name of a file that never ends.bin\u{FFFD}");
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for columns in 1..120 {
            for line in table().lines(Some(columns)) {
                assert!(width(&line) <= columns, "{columns}: {line}");
            }
        }
        assert_eq!(table().lines(Some(40))[1], "abc  1.9 GB  Ready. Nobod…  film/漢字.m…");
        assert_eq!(table().lines(Some(28))[1], "abc  1.9 GB  film/漢字.mp4");
        assert_eq!(table().lines(Some(16))[2], "d    a very lon…");
    }
}
