//! Medians, and ratios of what was measured in one round.

/// The value that this many percent of all values do not exceed (nearest rank); 0 of none.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The median of the ratios of values measured in the same round: a machine that gets
/// slower for a while slows both of a pair.
pub(crate) fn paired_ratio(values: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(others).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&values), 3.0);
        assert_eq!(percentile(&values, 10), 1.0);
        assert_eq!(percentile(&values, 90), 5.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_is_of_pairs_not_of_medians() {
        // The machine was ten times slower in two of three rounds.
        assert_eq!(paired_ratio(&[1.0, 10.0, 10.0], &[2.0, 20.0, 40.0]), 0.5);
    }
}
