//! Axes: where a value stands on them, and which values are named.

/// An axis from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    from: f64,
    to: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Logarithmic,
    /// Quantiles below 1, equal steps for each nine.
    Nines,
}

/// A line across the plot; named when it has a value to show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// Place on the axis, 0 to 1.
    pub at: f64,
    /// Value to be written there.
    pub named: Option<f64>,
}

/// Steps on a linear axis, about.
const STEPS: f64 = 6.0;

impl Scale {
    /// From 0 to a round number that holds all of `values`.
    pub fn linear(values: impl Iterator<Item = f64>) -> Scale {
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let step = step(most);
        Scale { from: 0.0, to: (most / step).ceil() * step, kind: Kind::Linear }
    }

    /// From 0 to exactly `to`.
    pub fn linear_to(to: f64) -> Scale {
        Scale { from: 0.0, to: to.max(f64::MIN_POSITIVE), kind: Kind::Linear }
    }

    /// From a decade or half of one below all of the positive `values` to one above.
    pub fn logarithmic(values: impl Iterator<Item = f64>) -> Scale {
        let positive = values.filter(|value| *value > 0.0 && value.is_finite());
        let (least, most) = positive.fold((f64::MAX, f64::MIN_POSITIVE), |(a, b), value| (a.min(value), b.max(value)));
        let (least, most) = if least > most { (1.0, 10.0) } else { (least, most) };
        let (from, to) = (below(least), above(most));
        let to = if to > from * 2.0 { to } else { from * 10.0 };
        Scale { from, to, kind: Kind::Logarithmic }
    }

    /// From 0 to the quantile that the slowest of `count` calls stands for.
    pub fn nines(count: u64) -> Scale {
        Scale { from: 0.0, to: (count.max(10) as f64).log10().ceil().min(7.0), kind: Kind::Nines }
    }

    /// Where `value` stands, 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let (from, to) = (self.from, self.to);
        let at = match self.kind {
            Kind::Linear => (value - from) / (to - from),
            Kind::Logarithmic => (value.max(from) / from).ln() / (to / from).ln(),
            Kind::Nines => -(1.0 - value).max(1e-9).log10() / to,
        };
        at.clamp(0.0, 1.0)
    }

    /// The lines across the plot.
    pub fn ticks(&self) -> Vec<Tick> {
        let tick = |value: f64, is_named: bool| Tick { at: self.place(value), named: is_named.then_some(value) };
        match self.kind {
            Kind::Linear => {
                let step = step(self.to);
                let steps = (self.to / step + 1e-9) as u32;
                (0..=steps).map(|n| tick(f64::from(n) * step, true)).collect()
            }
            Kind::Logarithmic => {
                let decades = (self.to / self.from).log10();
                let first = self.from.log10().floor() as i32;
                let all = (first..first + decades.ceil() as i32 + 2).flat_map(|power| (1..10).map(move |n| (n, power)));
                let values = all.map(|(n, power)| (n, f64::from(n) * 10f64.powi(power)));
                let within = values.filter(|(_, value)| *value >= self.from * 0.999 && *value <= self.to * 1.001);
                let named = |n: i32| n == 1 || decades < 3.2 && (n == 2 || n == 5);
                within.map(|(n, value)| tick(value, named(n))).collect()
            }
            Kind::Nines => {
                let nines = (1..=self.to as i32).map(|nines| 1.0 - 10f64.powi(-nines));
                [0.0, 0.5].into_iter().chain(nines).map(|quantile| tick(quantile, true)).collect()
            }
        }
    }
}

/// 1, 2 or 5 of a power of ten, so that about six make `most`.
fn step(most: f64) -> f64 {
    let least = most / STEPS;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= least * 0.999).unwrap_or(most)
}

const ROUND: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

fn below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    ROUND.map(|n| n * power).into_iter().rfind(|round| *round <= value).unwrap_or(power)
}

fn above(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    ROUND.map(|n| n * power).into_iter().find(|round| *round >= value).unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(scale: Scale) -> Vec<f64> {
        scale.ticks().into_iter().filter_map(|tick| tick.named).collect()
    }

    #[test]
    fn axes_are_round_and_hold_what_they_must() {
        let scale = Scale::linear([300.0, 743_000.0].into_iter());
        assert_eq!(named(scale), [0.0, 200_000.0, 400_000.0, 600_000.0, 800_000.0]);
        assert_eq!((scale.place(0.0), scale.place(400_000.0), scale.place(800_000.0)), (0.0, 0.5, 1.0));
        let scale = Scale::logarithmic([130.0, 9_000.0].into_iter());
        assert_eq!(named(scale), [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]);
        assert_eq!((scale.place(100.0), scale.place(10_000.0)), (0.0, 1.0));
        assert!((scale.place(1_000.0) - 0.5).abs() < 1e-9);
        assert_eq!(named(Scale::logarithmic([2.0, 70_000.0].into_iter())), [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]);
    }

    #[test]
    fn each_nine_takes_as_much_room() {
        let scale = Scale::nines(9_000);
        assert_eq!(scale.place(0.0), 0.0);
        assert!((scale.place(0.99) - 0.5).abs() < 1e-9 && (scale.place(0.9999) - 1.0).abs() < 1e-9);
        assert_eq!(scale.place(1.0), 1.0);
        assert_eq!(scale.ticks().len(), 6, "0, 50%, and four times nine");
    }

    #[test]
    fn nothing_to_show_is_no_reason_to_fail() {
        assert!(!named(Scale::linear(std::iter::empty())).is_empty());
        assert!(!named(Scale::logarithmic(std::iter::empty())).is_empty());
        assert!(!named(Scale::logarithmic([5.0, 5.0].into_iter())).is_empty());
    }
}
