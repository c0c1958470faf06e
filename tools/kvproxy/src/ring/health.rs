//! Whether a Redis server is well: a `PING` on a connection of its own, so that no long command makes it look ill.

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, PROBE_INTERVAL, PROBE_TIMEOUT, PROBES_MISSED_MAX};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is thought of a server: a pure function of what its probes found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// It serves its keys.
    pub up: bool,
    missed: u32,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It answers.
    Well,
    /// It does not answer in time, or answers that it cannot serve yet.
    Silent,
    /// Nobody listens there.
    Refused,
}

impl Health {
    /// After one more probe.
    pub fn after(self, found: Found) -> Health {
        let missed = self.missed.saturating_add(1);
        match found {
            Found::Well => Health { up: true, missed: 0 },
            Found::Silent => Health { up: self.up && missed < PROBES_MISSED_MAX, missed },
            Found::Refused => Health { up: false, missed },
        }
    }

    /// How long until the next probe. `chance` spreads the proxies of one server: 0.0 to 1.0.
    pub fn pause(self, chance: f64) -> Duration {
        if self.up {
            return PROBE_INTERVAL;
        }
        let doubled = BACKOFF_MIN * 2u32.saturating_pow(self.missed.saturating_sub(1).min(16));
        doubled.min(BACKOFF_MAX).mul_f64(0.75 + chance / 2.0)
    }
}

/// A connection for probes.
#[derive(Debug, Default)]
pub struct Probe {
    stream: Option<TcpStream>,
}

impl Probe {
    /// Asks once.
    pub async fn ask(&mut self, server: &str) -> Found {
        let asked = timeout(PROBE_TIMEOUT, self.ping(server)).await.map_err(io::Error::from).flatten();
        match asked {
            Ok(true) => Found::Well,
            Ok(false) => Found::Silent,
            Err(error) => {
                self.stream = None;
                // A connection that was lost is tried again at once: only a second failure tells something.
                if error.kind() == io::ErrorKind::ConnectionRefused { Found::Refused } else { Found::Silent }
            }
        }
    }

    /// Whether it answers `PONG`: one that is loading its data does not.
    async fn ping(&mut self, server: &str) -> io::Result<bool> {
        if let Some(stream) = &mut self.stream
            && let Ok(well) = exchange(stream).await
        {
            return Ok(well);
        }
        let mut stream = TcpStream::connect(server).await?;
        let well = exchange(&mut stream).await?;
        self.stream = Some(stream);
        Ok(well)
    }
}

async fn exchange(stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < 256 && !line.ends_with(b"\n") {
        stream.read_exact(&mut byte).await?;
        line.push(byte[0]);
    }
    Ok(line == b"+PONG\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(found: &[Found]) -> Health {
        found.iter().fold(Health::default(), |health, found| health.after(*found))
    }

    #[test]
    fn one_silence_is_forgiven_two_are_not_a_refusal_never() {
        use Found::{Refused, Silent, Well};
        for (found, up) in [
            (&[Well][..], true),
            (&[Well, Silent], true),
            (&[Well, Silent, Silent], false),
            (&[Well, Silent, Well, Silent], true),
            (&[Well, Refused], false),
            (&[Well, Refused, Silent], false),
            (&[Well, Refused, Well], true),
            (&[Silent], false),
        ] {
            assert_eq!(after(found).up, up, "{found:?}");
        }
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pauses: Vec<Duration> = (1..100).map(|n| after(&vec![Found::Refused; n]).pause(0.5)).collect();
        assert_eq!(pauses[0], BACKOFF_MIN);
        assert!(pauses.is_sorted() && pauses.last() == Some(&BACKOFF_MAX));
        assert!(after(&[Found::Refused; 50]).pause(1.0) < BACKOFF_MAX * 2);
        assert_eq!(after(&[Found::Well]).pause(0.9), PROBE_INTERVAL);
    }
}
