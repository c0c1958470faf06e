//! Sets of faults of a run, by their ordinals: `3,7,9-20,40-`.

use std::fmt;
use std::str::FromStr;

/// A set of ordinals, as sorted ranges with gaps between them. Both ends belong to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinals(Vec<(u32, u32)>);

impl Ordinals {
    /// Whether `n` is one of them.
    pub fn contains(&self, n: u32) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&n))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All but `kept`.
    pub fn all_but(kept: &[u32]) -> Ordinals {
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        let (mut ranges, mut low) = (Vec::new(), 0u32);
        for n in kept {
            if n > low {
                ranges.push((low, n - 1));
            }
            low = low.max(n.saturating_add(1));
        }
        ranges.push((low, u32::MAX));
        Ordinals(ranges)
    }
}

impl FromIterator<(u32, u32)> for Ordinals {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Ordinals {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (low, high) in sorted {
            match joined.last_mut().filter(|last| low <= last.1.saturating_add(1)) {
                Some(last) => last.1 = last.1.max(high),
                None => joined.push((low, high)),
            }
        }
        Ordinals(joined)
    }
}

impl fmt::Display for Ordinals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, &(low, high)) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match high {
                _ if low == high => write!(f, "{comma}{low}")?,
                u32::MAX => write!(f, "{comma}{low}-")?,
                _ => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Ordinals {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Ordinals, Self::Err> {
        let range = |part: &str| match part.split_once('-') {
            Some((low, "")) => Ok((low.parse()?, u32::MAX)),
            Some((low, high)) => Ok((low.parse()?, high.parse()?)),
            None => part.parse().map(|n| (n, n)),
        };
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (text, normal) in [("", ""), ("3,7,9-20", "3,7,9-20"), ("9-20,5-8,40-", "5-20,40-"), ("2,1,0,1", "0-2")] {
            let set: Ordinals = text.parse().unwrap_or_default();
            assert_eq!(set.to_string(), normal, "{text}");
        }
        assert!("3,x".parse::<Ordinals>().is_err());
        let set: Ordinals = "3,9-20,40-".parse().unwrap_or_default();
        let held: Vec<u32> = (0..45).filter(|n| set.contains(*n)).collect();
        assert_eq!(held, [3, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 40, 41, 42, 43, 44]);
    }

    #[test]
    fn all_but_some_are_all_others() {
        assert_eq!(Ordinals::all_but(&[7, 0, 3, 7]).to_string(), "1-2,4-6,8-");
        assert_eq!(Ordinals::all_but(&[]).to_string(), "0-");
    }
}
