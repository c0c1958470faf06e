//! Percentile distributions as text, in the form of HdrHistogram's own tools, which plot it (`.hgrm`). Values in milliseconds.

use std::io;

use crate::latency::Latencies;

/// Lines for each halving of the distance to 100%.
const TICKS: u32 = 5;

/// Writes all of `latencies`.
pub fn write(latencies: &Latencies, mut to: impl io::Write) -> io::Result<()> {
    let histogram = latencies.histogram();
    let ms = |ns: f64| ns / 1e6;
    writeln!(to, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (ms(step.value_iterated_to() as f64), step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(to, "{value:12.6} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(to, "{value:12.6} {quantile:14.12} {count:10} {:>14}", "inf")?;
        }
    }
    let (mean, deviation, max) = (ms(histogram.mean()), ms(histogram.stdev()), ms(histogram.max() as f64));
    writeln!(to, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    writeln!(to, "#[Max     = {max:12.6}, Total count    = {:12}]", histogram.len())?;
    writeln!(to, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), histogram.distinct_values())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn values_rise_to_the_slowest_and_counts_to_all() {
        let mut latencies = Latencies::default();
        (1..=1_000).for_each(|us| latencies.record(Duration::from_micros(us)));
        let mut text = Vec::new();
        write(&latencies, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(lines.len() > 20 && lines.iter().all(|line| line.len() == 4), "{text}");
        assert!(lines.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        let last = lines.last().unwrap();
        assert_eq!((last[1], last[2], last[3]), (1.0, 1_000.0, f64::INFINITY));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
