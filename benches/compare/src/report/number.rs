//! Numbers as people read them.

/// With three digits that count, thousands as `k`, millions as `M`.
pub fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 999_500.0 => format!("{}M", digits(number / 1e6)),
        n if n >= 999.5 => format!("{}k", digits(number / 1e3)),
        _ => digits(number),
    }
}

/// A ratio: `2.31x`.
pub fn times(ratio: f64) -> String {
    format!("{}x", digits(ratio))
}

fn digits(number: f64) -> String {
    // Rounded first: 0.9999 has as many places as 1.
    let number: f64 = format!("{number:.2e}").parse().unwrap_or(number);
    let places = if number == 0.0 { 0 } else { 2 - number.abs().log10().floor() as i32 };
    let places = places.clamp(0, 3) as usize;
    format!("{number:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let shown = [0.0, 0.123_4, 5.678, 43.21, 999.4, 1000.0, 252_345.0, 999_600.0, 0.999_9, 1_420_000.0].map(short);
        assert_eq!(shown, ["0", "0.123", "5.68", "43.2", "999", "1.00k", "252k", "1.00M", "1.00", "1.42M"]);
        assert_eq!([times(0.5), times(2.314), times(120.0)], ["0.500x", "2.31x", "120x"]);
    }
}
