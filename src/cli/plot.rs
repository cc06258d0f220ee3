//! Small plots of block characters.

const EIGHTHS_ACROSS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const EIGHTHS_UP: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns a bar as long as `value` is of `most`, which takes so many columns. What is not nothing is seen.
pub(super) fn bar(value: u64, most: u64, columns: usize) -> String {
    let eighths = steps(value, most, columns * 8);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|at| EIGHTHS_ACROSS[at]));
    bar
}

/// Values as columns beside each other.
pub(super) struct Columns {
    /// From the top down.
    pub(super) rows: Vec<String>,
    pub(super) width: usize,
    /// How many values each column sums up.
    pub(super) per_column: usize,
    /// The highest column's sum.
    pub(super) most: u64,
}

/// Draws values in order, as high as `rows`; so many that they do not fit are summed up by twos, threes and so on.
pub(super) fn columns(values: &[u64], room: usize, rows: usize) -> Columns {
    let per_column = values.len().div_ceil(room.max(1)).max(1);
    let sums: Vec<u64> = values.chunks(per_column).map(|some| some.iter().fold(0, |sum: u64, value| sum.saturating_add(*value))).collect();
    let most = sums.iter().copied().max().unwrap_or(0);
    // Few values stand broader, so that they are seen.
    let breadth = (room / sums.len().max(1)).clamp(1, 2);
    let row = |row: usize| {
        let below = (rows - 1 - row) * 8;
        let cells = sums.iter().map(|sum| match steps(*sum, most, rows * 8).saturating_sub(below) {
            0 => ' ',
            eighths => EIGHTHS_UP[eighths.min(8) - 1],
        });
        cells.flat_map(|cell| std::iter::repeat_n(cell, breadth)).collect()
    };
    Columns { rows: (0..rows).map(row).collect(), width: sums.len() * breadth, per_column, most }
}

fn steps(value: u64, most: u64, all: usize) -> usize {
    if value == 0 || most == 0 {
        return 0;
    }
    let steps = u128::from(value.min(most)) * all as u128 / u128::from(most);
    usize::try_from(steps).expect("no more than all").clamp(1.min(all), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_nothing_small_vanishes() {
        assert_eq!([bar(0, 8, 4), bar(8, 8, 4), bar(4, 8, 4), bar(1, 1000, 4)], ["", "████", "██", "▏"]);
        assert_eq!(
            (bar(u64::MAX, u64::MAX, 2), bar(3, 16, 2), bar(5, 0, 3), bar(5, 5, 0)),
            ("██".into(), "▍".into(), String::new(), String::new())
        );
    }

    #[test]
    fn columns_stand_beside_each_other() {
        let plot = columns(&[0, 1, 8, 16], 4, 2);
        assert_eq!((plot.rows, plot.width, plot.per_column, plot.most), (vec!["   █".to_owned(), " ▁██".to_owned()], 4, 1, 16));
        let summed = columns(&[1; 9], 4, 1);
        assert_eq!((summed.per_column, summed.most, summed.rows), (3, 3, vec!["███".to_owned()]));
        assert_eq!(columns(&[5], 60, 1).rows, ["██"]);
        assert_eq!(columns(&[], 60, 2).rows, ["", ""]);
    }
}
