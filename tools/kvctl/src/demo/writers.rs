//! Callers that write new keys without end and remember what was acknowledged; and the check of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use ringkv::{Client, Outcome};
use tokio::task::JoinHandle;

/// Callers at the same time.
pub const CALLERS: usize = 8;
/// Keys in one call.
const BATCH: usize = 16;
/// Keys in one call of the check.
const CHECK_BATCH: usize = 64;
/// Keys that one caller remembers, at most: then it rests.
const REMEMBERED_MAX: usize = 200_000;

type Pair = (Bytes, Bytes);

/// The callers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Written>>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Acknowledged: it must be there.
    pub acknowledged: Vec<Pair>,
    /// Not known: it may be there.
    pub unknown: Vec<Pair>,
    /// Refused: it must not be there.
    pub refused: Vec<Pair>,
}

impl Writers {
    /// Starts the callers.
    pub fn start(client: &Client) -> Writers {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |caller| tokio::spawn(write(client.clone(), caller, stop.clone(), acknowledged.clone()));
        let callers = (0..CALLERS).map(start).collect();
        Writers { stop, acknowledged, callers }
    }

    /// Keys acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends them.
    pub async fn stop(self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for caller in self.callers {
            let written = caller.await.context("a writer ended by a panic")?;
            all.acknowledged.extend(written.acknowledged);
            all.unknown.extend(written.unknown);
            all.refused.extend(written.refused);
        }
        Ok(all)
    }
}

async fn write(client: Client, caller: usize, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> Written {
    let mut written = Written::default();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) && written.acknowledged.len() < REMEMBERED_MAX {
        let mut pairs = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            number += 1;
            let key = format!("write/{caller}/{number}");
            let value = format!(
                "caller {caller} wrote this as number {number}, {}",
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            );
            pairs.push((Bytes::from(key), Bytes::from(value)));
        }
        let before = written.acknowledged.len();
        let answers = client.put_many(pairs.clone()).await;
        for (pair, answer) in pairs.into_iter().zip(answers) {
            match answer.map_err(|error| error.outcome()) {
                Ok(_) | Err(Outcome::Applied) => written.acknowledged.push(pair),
                Err(Outcome::Unknown) => written.unknown.push(pair),
                Err(Outcome::NotApplied) => written.refused.push(pair),
            }
        }
        acknowledged.fetch_add((written.acknowledged.len() - before) as u64, Ordering::Relaxed);
    }
    written
}

/// What a check found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// There, with the value that was written.
    pub right: u64,
    /// Not there.
    pub absent: u64,
    /// There with another value.
    pub different: u64,
    /// Could not be read.
    pub unreadable: u64,
}

impl Checked {
    /// Keys that are not what they should be.
    pub fn wrong(&self) -> u64 {
        self.absent + self.different + self.unreadable
    }
}

/// Reads every key and compares.
pub async fn check(client: &Client, pairs: &[Pair]) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let chunks = pairs.chunks(CHECK_BATCH).map(<[Pair]>::to_vec);
    // A few calls at the same time, in order.
    let mut under_way = std::collections::VecDeque::new();
    for chunk in chunks {
        let client = client.clone();
        under_way.push_back(tokio::spawn(async move { check_chunk(&client, chunk).await }));
        if under_way.len() == CALLERS
            && let Some(oldest) = under_way.pop_front()
        {
            checked.add(oldest.await.context("a reader ended by a panic")?);
        }
    }
    for chunk in under_way {
        checked.add(chunk.await.context("a reader ended by a panic")?);
    }
    Ok(checked)
}

async fn check_chunk(client: &Client, pairs: Vec<Pair>) -> Checked {
    let mut checked = Checked::default();
    let answers = client.get_many(pairs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()).await;
    for ((_, value), answer) in pairs.iter().zip(answers) {
        match answer {
            Ok(Some(found)) if found.value == *value => checked.right += 1,
            Ok(Some(_)) => checked.different += 1,
            Ok(None) => checked.absent += 1,
            Err(_) => checked.unreadable += 1,
        }
    }
    checked.unreadable += pairs.len() as u64 - (checked.right + checked.wrong());
    checked
}

impl Checked {
    fn add(&mut self, other: Checked) {
        self.right += other.right;
        self.absent += other.absent;
        self.different += other.different;
        self.unreadable += other.unreadable;
    }
}
