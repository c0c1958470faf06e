//! All figures of a comparison: medians, ratios, tables, lines of JSON, charts.

pub mod bars;
pub mod json;
pub mod number;
pub mod table;

use crate::figures::{Figures, METRICS, Metric, Spread};
use crate::peer::Engine;
use crate::row::Row;

/// What all turns have shown.
#[derive(Default)]
pub struct Report {
    turns: Vec<Figures>,
}

impl Report {
    /// Adds a turn.
    pub fn add(&mut self, figures: Figures) {
        self.turns.push(figures);
    }

    /// The rows that there are figures of, in the order in which they ran.
    pub fn rows(&self) -> Vec<Row> {
        distinct(self.turns.iter().map(|turn| turn.row))
    }

    /// The engines, the one that is compared with each other first.
    pub fn engines(&self) -> Vec<Engine> {
        distinct(self.turns.iter().map(|turn| turn.engine))
    }

    /// A figure of an engine in a row, over all runs.
    pub fn spread(&self, row: Row, engine: Engine, metric: &Metric) -> Option<Spread> {
        let of_both = self.turns.iter().filter(|turn| turn.row == row && turn.engine == engine);
        Spread::of(of_both.filter_map(metric.of).collect())
    }

    /// The figures that a row has, with those of each engine.
    fn metrics(&self, row: Row) -> impl Iterator<Item = (&'static Metric, Vec<Option<Spread>>)> {
        let engines = self.engines();
        let of = move |metric: &'static Metric| {
            let spreads: Vec<_> = engines.iter().map(|engine| self.spread(row, *engine, metric)).collect();
            (metric, spreads)
        };
        METRICS.iter().map(of).filter(|(_, spreads)| spreads.iter().any(Option::is_some))
    }
}

fn distinct<T: Ord + Copy>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<std::collections::BTreeSet<T>>().into_iter().collect()
}

/// The first engine's figure over another's.
fn ratio(first: Option<Spread>, other: Option<Spread>) -> Option<f64> {
    let (first, other) = (first?.median, other?.median);
    (other != 0.0).then(|| first / other)
}
