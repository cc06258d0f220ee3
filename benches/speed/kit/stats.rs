//! Medians of interleaved rounds.

/// Returns the middle of the values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// Returns the value below which this part of them lies; of an even number, between two.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    assert!(!values.is_empty(), "something was measured");
    let place = part * (values.len() - 1) as f64;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// Measures every one of `count` in every round, who goes first in turn: a busy neighbour disturbs all of a round alike.
/// Returns for each round what each came to. A first round only warms up and is thrown away.
pub(crate) fn in_turns<T>(rounds: usize, count: usize, mut measure: impl FnMut(usize) -> T) -> Vec<Vec<T>> {
    for one in 0..count {
        measure(one);
    }
    (0..rounds)
        .map(|round| {
            let mut figures: Vec<(usize, T)> = (0..count).map(|step| (round + step) % count).map(|one| (one, measure(one))).collect();
            figures.sort_by_key(|(one, _)| *one);
            figures.into_iter().map(|(_, figure)| figure).collect()
        })
        .collect()
}

/// Returns the median of the rounds' own ratios of one to another, and writes it as a person reads it.
pub(crate) fn ratio<T>(rounds: &[Vec<T>], of: usize, to: usize, figure: impl Fn(&T) -> f64) -> String {
    let ratio = median(rounds.iter().map(|round| figure(&round[of]) / figure(&round[to])));
    // A short run may use less CPU than one tick; there is no ratio to nothing.
    if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() }
}
