//! The middle of several runs, and how far they lie apart.

/// The median of some numbers, the least and the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

impl Spread {
    /// Of any numbers; `None` of none.
    pub fn of(mut numbers: Vec<f64>) -> Option<Spread> {
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let upper = *numbers.get(numbers.len() / 2)?;
        let lower = *numbers.get((numbers.len() - 1) / 2)?;
        let spread = Spread { median: (lower + upper) / 2.0, least, most };
        assert!(spread.least <= spread.median && spread.median <= spread.most, "{spread:?}");
        Some(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_counts() {
        let median = |numbers: &[f64]| Spread::of(numbers.to_vec()).map(|spread| spread.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(Spread::of(vec![5.0, 1.0, 9.0]), Some(Spread { median: 5.0, least: 1.0, most: 9.0 }));
    }
}
