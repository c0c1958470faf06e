//! What clients ask: calls at a rate, whatever becomes of those before.

use crate::client::{Client, value};
use crate::cluster::KEYSPACE;
use crate::dice::Dice;
use crate::history::History;
use crate::net::Port;
use crate::plan::Options;
use bytes::Bytes;
use lincheck::Kind;
use ringkv_session::{Ask, Completion, ReadLevel};
use std::cell::Cell;
use std::rc::Rc;

const SECOND_NS: u64 = 1_000_000_000;
/// Operations of all clients that may be under way: beyond it calls wait, so that a cluster that answers nothing gathers no
/// heap of them.
const UNDER_WAY_MAX: u64 = 256;

/// The load of a whole run.
#[derive(Clone, Debug)]
pub struct Load {
    /// Operations per second of all clients together, when nothing holds them up.
    pub ops_per_s: u64,
    /// Clients, each with its own session.
    pub clients: usize,
    /// Keys.
    pub keys: u64,
    /// Half of all calls go to one key.
    pub hot: bool,
    /// No read may rest on a lease: clocks run beyond their bound.
    pub no_lease: bool,
    /// What a call may take, ms; by client, and again from the start when there are more.
    pub timeouts_ms: Vec<[u64; 4]>,
}

impl Load {
    /// A load by chance, as far as nothing fixes it.
    pub fn new(dice: &Dice, options: &Options) -> Load {
        let ordinary = [500, 2_000, 2_000, 10_000];
        let kinds = [ordinary, ordinary, [3_000, 5_000, 10_000, 30_000], [50, 100, 200, 400]];
        let rate = *dice.pick(&[65, 70, 80, 80, 100, 100, 150, 250]);
        Load {
            ops_per_s: options.ops_per_s.unwrap_or(rate),
            clients: (dice.between(1, 4) as usize).min(options.clients.unwrap_or(usize::MAX)),
            keys: *dice.pick(&[2, 8, 8, 40, 40, 1_000]),
            hot: dice.chance(1, 4),
            no_lease: false,
            timeouts_ms: (0..4).map(|_| *dice.pick(&kinds)).collect(),
        }
    }

    fn key(&self, dice: &Dice) -> u64 {
        if self.hot && dice.chance(1, 2) { 0 } else { dice.below(self.keys) }
    }

    fn several(&self, dice: &Dice) -> Vec<String> {
        let first = dice.below(self.keys);
        (0..dice.between(1, 5).min(self.keys)).map(|n| format!("k{}", (first + n) % self.keys)).collect()
    }
}

/// Calls through one client, recorded.
#[derive(Clone)]
pub struct Caller {
    /// The client.
    pub client: Client,
    /// Its number in the history.
    pub number: u64,
    /// Where it is recorded.
    pub history: Rc<History>,
}

impl Caller {
    /// Puts a fresh value of so many bytes beside its name. Whether it was acknowledged.
    pub async fn put(&self, key: &str, bytes: usize, timeout_ms: u64) -> bool {
        let name = self.history.name(self.number);
        let value = value(&name, bytes);
        let at = self.history.begin(self.number, key, Kind::Put, Some(name));
        let ask = Ask::Put { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()), value };
        let Completion::Written(result) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a put is answered as a put")
        };
        self.history.written(at, result)
    }

    /// Removes a key. Whether it was acknowledged.
    pub async fn delete(&self, key: &str, timeout_ms: u64) -> bool {
        let at = self.history.begin(self.number, key, Kind::Delete, None);
        let ask = Ask::Delete { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()) };
        let Completion::Written(result) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a delete is answered as a write")
        };
        self.history.written(at, result)
    }

    /// Reads a key. Whether it was answered.
    pub async fn get(&self, key: &str, timeout_ms: u64, level: ReadLevel) -> bool {
        let at = self.history.begin(self.number, key, Kind::Get, None);
        let ask = Ask::Get { keyspace: KEYSPACE, key: Bytes::copy_from_slice(key.as_bytes()) };
        let Completion::Got(result) = self.client.call(ask, timeout_ms, Some(level)).await else {
            unreachable!("a get is answered as a get")
        };
        self.history.got(at, result)
    }

    /// Puts fresh values under distinct keys.
    pub async fn put_many(&self, keys: &[String], timeout_ms: u64) {
        let (mut pairs, mut at) = (Vec::new(), Vec::new());
        for key in keys {
            let name = self.history.name(self.number);
            pairs.push((Bytes::copy_from_slice(key.as_bytes()), value(&name, 10)));
            at.push(self.history.begin(self.number, key, Kind::Put, Some(name)));
        }
        let ask = Ask::PutMany { keyspace: KEYSPACE, pairs };
        let Completion::WrittenMany(results) = self.client.call(ask, timeout_ms, None).await else {
            unreachable!("a put of many is answered as such")
        };
        for (at, result) in at.into_iter().zip(results) {
            self.history.written(at, result);
        }
    }

    /// Reads distinct keys. Whether each was answered.
    pub async fn get_many(&self, keys: &[String], timeout_ms: u64, level: ReadLevel) -> Vec<bool> {
        let at: Vec<usize> = keys.iter().map(|key| self.history.begin(self.number, key, Kind::Get, None)).collect();
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        let ask = Ask::GetMany { keyspace: KEYSPACE, keys };
        let Completion::GotMany(results) = self.client.call(ask, timeout_ms, Some(level)).await else {
            unreachable!("a get of many is answered as such")
        };
        at.into_iter().zip(results).map(|(at, result)| self.history.got(at, result)).collect()
    }

    /// Calls at random until `until_ns`, at this client's share of the rate; the calls run beside each other.
    pub async fn load(self, dice: Dice, load: Rc<Load>, until_ns: u64) {
        let host = self.client.host().clone();
        let (exec, clients) = (host.exec().clone(), load.clients as u64);
        // A call asks for 1.2 operations on average: two in twenty ask for up to five keys.
        let gap_ns = SECOND_NS * clients * 6 / (load.ops_per_s * 5).max(1);
        let timeouts_ms = load.timeouts_ms[(self.number % load.timeouts_ms.len() as u64) as usize];
        let under_way = Rc::new(Cell::new(0));
        let mut due_ns = exec.now_ns() + dice.between(0, gap_ns);
        loop {
            exec.sleep_until(due_ns).await;
            if exec.now_ns() >= until_ns {
                return;
            }
            // Now and then several at once; then a longer pause, so that the rate stays.
            let calls = if dice.chance(1, 16) { dice.between(2, 8) } else { 1 };
            due_ns += (0..calls).map(|_| dice.between(0, 2 * gap_ns)).sum::<u64>();
            for _ in 0..calls {
                if under_way.get() * clients < UNDER_WAY_MAX {
                    under_way.set(under_way.get() + 1);
                    let (caller, load, under_way) = (self.clone(), load.clone(), under_way.clone());
                    let call = dice.split();
                    let timeout_ms = *dice.pick(&timeouts_ms);
                    exec.spawn(host.group(), async move {
                        caller.one(&call, &load, timeout_ms).await;
                        under_way.set(under_way.get() - 1);
                    });
                }
            }
        }
    }

    async fn one(&self, dice: &Dice, load: &Load, timeout_ms: u64) {
        let lease = if load.no_lease { ReadLevel::ReadIndex } else { ReadLevel::Linearizable };
        let key = format!("k{}", load.key(dice));
        match dice.below(20) {
            0..=7 => drop(self.put(&key, size(dice), timeout_ms).await),
            8..=9 => drop(self.delete(&key, timeout_ms).await),
            10..=15 => drop(self.get(&key, timeout_ms, lease).await),
            16..=17 => drop(self.get(&key, timeout_ms, ReadLevel::ReadIndex).await),
            18 => self.put_many(&load.several(dice), timeout_ms).await,
            _ => drop(self.get_many(&load.several(dice), timeout_ms, lease).await),
        }
    }
}

fn size(dice: &Dice) -> usize {
    let most = *dice.pick(&[16, 16, 16, 16, 100, 100, 100, 1_000, 4_000]);
    let most = if dice.chance(1, 100) { 30_000 } else { most };
    let most = if dice.chance(1, 2_000) { 600_000 } else { most };
    dice.between(0, most) as usize
}
