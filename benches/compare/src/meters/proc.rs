//! What the kernel says of this process.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// What this process has used up so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time of all its threads, in user and kernel mode.
    pub cpu: Duration,
    /// Bytes of pages that it made dirty: those of a file that is deleted before they are written count too.
    pub write_bytes: u64,
    /// Bytes that were read from the disk for it.
    pub read_bytes: u64,
}

impl Usage {
    /// Until now.
    pub fn now() -> Usage {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        Usage {
            cpu: Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32),
            write_bytes: number_behind(&io, "write_bytes:").unwrap_or_default(),
            read_bytes: number_behind(&io, "read_bytes:").unwrap_or_default(),
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            write_bytes: self.write_bytes - before.write_bytes,
            read_bytes: self.read_bytes - before.read_bytes,
        }
    }
}

/// The most memory that was resident at once, pages of mapped files with it.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Resident memory that is no file's.
pub fn anonymous_bytes() -> u64 {
    status_bytes("RssAnon:")
}

fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    number_behind(&status, name).unwrap_or_default() * 1024
}

fn number_behind(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_names() {
        let text = "cancelled_write_bytes: 3\nwrite_bytes: 4096\nVmHWM:\t  2048 kB\n";
        assert_eq!(number_behind(text, "write_bytes:"), Some(4096));
        assert_eq!(number_behind(text, "VmHWM:"), Some(2048));
        assert_eq!(number_behind(text, "read_bytes:"), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(peak_rss_bytes() > anonymous_bytes() && anonymous_bytes() > 0);
        assert!(Usage::now().cpu > Duration::ZERO);
    }
}
