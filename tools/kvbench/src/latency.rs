//! Latencies, recorded in nanoseconds, told in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency told apart, ns: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// A histogram of latencies with three significant digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("these bounds are valid");
        Latencies { histogram }
    }
}

impl Latencies {
    /// Adds one. What lies beyond ten minutes counts as ten minutes.
    pub fn record(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(ns.clamp(1, LONGEST_NS));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The histogram, of nanoseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The usual percentiles; zeros when nothing was recorded.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        if self.histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            p99999: at(0.99999),
            mean: self.histogram.mean() / 1_000.0,
            max: self.histogram.max() as f64 / 1_000.0,
        }
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1,000 were faster.
    pub p999: f64,
    /// 9,999 of 10,000 were faster.
    #[serde(default)]
    pub p9999: f64,
    /// 99,999 of 100,000 were faster.
    #[serde(default)]
    pub p99999: f64,
    /// The mean.
    #[serde(default)]
    pub mean: f64,
    /// The slowest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::default();
        for us in 1..=1_000 {
            latencies.record(Duration::from_micros(us));
        }
        let mut more = Latencies::default();
        more.record(Duration::from_secs(3_600));
        latencies.merge(&more);
        let told = latencies.percentiles();
        assert_eq!(latencies.count(), 1_001);
        assert!((500.0..502.0).contains(&told.p50), "{told:?}");
        assert!((990.0..993.0).contains(&told.p99), "{told:?}");
        assert!((5.9e8..6.1e8).contains(&told.max), "{told:?}");
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }
}
