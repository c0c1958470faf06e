//! Opening a store: recovery of log and tables, and the replicas they hold.

use super::alarms::Alarms;
use super::{DiskOf, Mailbox, Store, commit, conns, links, ship};
use crate::config::{Control, StoreConfig, StoreError};
use crate::counters::StoreCounters;
use crate::host::Host;
use crate::replica::{OWN_KEYSPACE, Replica, SESSIONS_KEY, sessions_piece_key};
use crate::witness::Witness;
use bytes::Bytes;
use ringkv_core::raft::{Raft, Restored};
use ringkv_core::sessions::Sessions;
use ringkv_storage::disk::Disk;
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::{Flushed, Tree};
use ringkv_storage::wal::{HardState, Log, LogOptions, Record, Recovered, RecoveredShard, ReplicaState, ShardState};
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Now, Position, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::ring::topology::ShardInfo;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Opens the store's files and makes its replicas. Nothing is served or voted before it returns.
pub(super) async fn open<H: Host>(host: H, config: StoreConfig, control: Control) -> Result<Store<H>, StoreError> {
    let disk = host.disk();
    let id = config.id;
    let failed = |source: StorageError| StoreError::Storage { store: id, source };
    disk.create_dir(&config.dir).await.map_err(|e| failed(e.into()))?;
    let options = engine_options(&config, host.random());
    let engine = Engine::open(disk.clone(), &config.dir, options).await.map_err(failed)?;
    let log_dir = format!("{}/log", config.dir);
    let (log, recovered) = Log::open(disk, &log_dir, log_options(&config)).await.map_err(failed)?;
    tracing::info!(store = %config.id, report = ?recovered.report, "log recovered");
    check_made(&config, &recovered)?;
    let mut counters = StoreCounters::recovered(&recovered.report);
    let mut found: BTreeMap<_, _> = recovered.shards.into_iter().map(|s| (s.state.shard, s)).collect();
    let (mut replicas, mut records) = (Vec::new(), Vec::new());
    for (at, info) in config.map.shards.iter().enumerate().filter(|(_, s)| s.replicas.contains(&config.id)) {
        let begin = Begin::new(&config, at, info, found.remove(&info.id));
        let replica = begin.replica(engine.tree(info.id), &log, &mut records, host.now(), host.random()).await;
        let replica = replica.map_err(failed)?;
        counters.redone += replica.raft.last_index() - replica.applied;
        replicas.push(replica);
    }
    check_placed(&config, found.keys().next())?;
    if !records.is_empty() {
        log.commit(records).await.map_err(failed)?;
    }
    let peers = peers_of(&config);
    let mailbox = Mailbox { host: host.clone(), queue: Rc::new(RefCell::new(VecDeque::new())) };
    let now = host.now();
    replicas.iter_mut().for_each(|replica| replica.flushed_ns = now.boot_ns);
    Ok(Store {
        witness: introduced(&control, &replicas),
        by_shard: replicas.iter().enumerate().map(|(slot, r): (usize, &Replica<DiskOf<H>>)| (r.shard, slot)).collect(),
        alarms: Alarms::new(replicas.iter().map(|r| r.raft.next_deadline_ns())),
        admitted: recovered.admitted || peers.is_empty(),
        links: links::Links::new(&peers, now),
        known_durably: recovered.peers.iter().map(|&(store, _)| store).collect(),
        known: recovered.peers.into_iter().collect(),
        commits: commit::Commits::new(),
        conns: conns::Conns::default(),
        ships: ship::Ships::default(),
        scrub: Default::default(),
        map_bytes: encoded_map(&config),
        host,
        config,
        control,
        mailbox,
        log,
        engine,
        replicas,
        dirty: Vec::new(),
        admitting: false,
        next_token: 1,
        disk_reads: 0,
        maintaining: false,
        disk_full: false,
        taken_bytes: 0,
        next_maintain_ns: now.boot_ns,
        maintain_from_ns: now.boot_ns,
        next_balance_ns: now.boot_ns + super::BALANCE_NS,
        next_early_flush_ns: 0,
        failed: None,
        stop_by_ns: None,
        events: Vec::new(),
        counters,
        last_turn_ns: now.boot_ns,
        wanted_turn_ns: now.boot_ns,
        delay_ns: 0,
        pacer: Default::default(),
    })
}

/// No shard may be left over that the map does not place here.
fn check_placed(config: &StoreConfig, left: Option<&ShardId>) -> Result<(), StoreError> {
    let Some(shard) = left else { return Ok(()) };
    let what = format!("its log holds shard {shard}, which the map does not place here: were the settings changed?");
    Err(StoreError::Config { store: config.id, what })
}

fn encoded_map(config: &StoreConfig) -> Bytes {
    let mut bytes = Vec::new();
    config.map.encode(&mut bytes);
    Bytes::from(bytes)
}

/// Who looks on, and has now seen what was opened.
fn introduced<D: Disk>(control: &Control, replicas: &[Replica<D>]) -> Option<Rc<dyn Witness>> {
    let witness = control.witness()?;
    replicas.iter().for_each(|replica| witness.opened(&replica.raft));
    Some(witness)
}

fn engine_options(config: &StoreConfig, seed: u64) -> EngineOptions {
    let (cache_bytes, table_bytes) = (config.budgets.cache_bytes, config.budgets.table_bytes);
    let (memtable_bytes, last_compression) = (config.budgets.memtables_most_bytes(), config.budgets.compression);
    EngineOptions { cache_bytes, memtable_bytes, table_bytes, last_compression, seed, ..EngineOptions::default() }
}

fn log_options(config: &StoreConfig) -> LogOptions {
    LogOptions {
        store_identity: config.log_identity(),
        segment_bytes: config.budgets.segment_bytes,
        keep_bytes: config.budgets.log_keep_bytes,
    }
}

/// A store that had a log and finds none must not begin anew: it may have voted and acknowledged.
fn check_made(config: &StoreConfig, recovered: &Recovered) -> Result<(), StoreError> {
    let holds = config.map.shards.iter().any(|s| s.replicas.contains(&config.id));
    if !config.made || !recovered.shards.is_empty() || !holds {
        return Ok(());
    }
    let path = format!("{}/log", config.dir);
    let (expected, got) = ("the log that this store had".into(), "none".into());
    let source = StorageError::Damaged { path, offset: 0, expected, got };
    Err(StoreError::Storage { store: config.id, source })
}

/// The stores with which this one shares a shard.
fn peers_of(config: &StoreConfig) -> Vec<StoreId> {
    let mine = config.map.shards.iter().filter(|s| s.replicas.contains(&config.id));
    let mut peers: Vec<StoreId> = mine.flat_map(|s| s.replicas.iter().copied()).filter(|&s| s != config.id).collect();
    peers.sort();
    peers.dedup();
    peers
}

/// What a replica begins with.
struct Begin<'a> {
    me: StoreId,
    info: &'a ShardInfo,
    arc: (Position, Position),
    found: Option<RecoveredShard>,
    session_bytes: usize,
}

impl<'a> Begin<'a> {
    /// `at` is the place of the shard in the map.
    fn new(config: &StoreConfig, at: usize, info: &'a ShardInfo, found: Option<RecoveredShard>) -> Begin<'a> {
        let (arc, session_bytes) = ((info.start, config.map.arc_end(at)), config.budgets.session_bytes);
        Begin { me: config.id, info, arc, found, session_bytes }
    }

    async fn replica<D: Disk>(
        self,
        tree: Tree<D>,
        log: &Log<D>,
        records: &mut Vec<Record>,
        now: Now,
        random: u64,
    ) -> Result<Replica<D>, StorageError> {
        let fresh = self.found.is_none();
        let (mut state, mut entries) = match self.found {
            Some(found) => (found.state, found.entries),
            None => (fresh_state(self.info), Vec::new()),
        };
        let at = tree.flushed().unwrap_or_default();
        check_reach(&state, &at)?;
        let ahead = tables_ahead(&state, &entries, &at);
        if ahead {
            // A snapshot was installed and the crash came before the floor was logged: the tables are the truth.
            entries.clear();
            (state.floor_index, state.floor_term) = (at.index, at.term);
            (state.config_index, state.config) = (at.config_index, at.config.clone());
        }
        state.flushed_index = at.index;
        if fresh || ahead {
            records.push(Record::ShardState(state.clone()));
        }
        log.note_flushed(self.info.id, at.index);
        let (sessions, unknown) = sessions_or_why(&tree, self.session_bytes).await?;
        let config = Configuration::decode(state.config.clone())
            .map_err(|e| damaged(state.shard, "a configuration", e.to_string()))?;
        let restored = Restored {
            me: self.me,
            shard: self.info.id,
            generation: self.info.generation,
            term: state.hard.term,
            vote: state.hard.vote,
            floor_index: state.floor_index,
            floor_term: state.floor_term,
            config: (state.config_index, config),
            applied: at.index,
            log_time_ms: at.log_time_ms,
            entries,
        };
        let preferred = self.info.replicas.first().copied().unwrap_or(self.me);
        let raft = Raft::new(restored, now, random);
        let (id, generation) = (self.info.id, self.info.generation);
        Ok(Replica::new(id, generation, self.arc, preferred, raft, (tree, &at), (sessions, unknown)))
    }
}

/// Without its session table a replica votes and appends, and applies nothing: its peers have the table.
async fn sessions_or_why<D: Disk>(
    tree: &Tree<D>,
    budget: usize,
) -> Result<(Sessions, Option<StorageError>), StorageError> {
    match load_sessions(tree, budget).await {
        Ok(sessions) => Ok((sessions, None)),
        Err(error) if error.is_damage() => Ok((Sessions::new(budget), Some(error))),
        Err(error) => Err(error),
    }
}

/// The tables must reach at least as far as the log says they do: what is behind its floor is nowhere else.
fn check_reach(state: &ShardState, at: &Flushed) -> Result<(), StorageError> {
    let least = state.floor_index.max(state.flushed_index);
    if at.index >= least {
        return Ok(());
    }
    Err(damaged(state.shard, &format!("tables up to index {least}"), format!("up to {}", at.index)))
}

fn damaged(shard: ShardId, expected: &str, got: String) -> StorageError {
    StorageError::Damaged { path: format!("shard {shard}"), offset: 0, expected: expected.to_owned(), got }
}

/// Whether the tables reflect something that the log does not hold and does not reach.
fn tables_ahead(state: &ShardState, entries: &[Entry], at: &Flushed) -> bool {
    if at.index <= state.floor_index {
        return false;
    }
    let there = entries.get((at.index - state.floor_index - 1) as usize);
    there.is_none_or(|entry| entry.term != at.term)
}

fn fresh_state(info: &ShardInfo) -> ShardState {
    let mut config = Vec::new();
    Configuration::of_voters(&info.replicas).encode(&mut config);
    ShardState {
        shard: info.id,
        generation: info.generation,
        state: ReplicaState::Voter,
        hard: HardState::default(),
        floor_index: 0,
        floor_term: 0,
        flushed_index: 0,
        acknowledged_index: 0,
        config_index: 0,
        config: Bytes::from(config),
    }
}

/// The session table that was sealed into the tree with its last flush.
pub(super) async fn load_sessions<D: Disk>(tree: &Tree<D>, budget: usize) -> Result<Sessions, StorageError> {
    let broken = |got: String| damaged(tree.shard(), "a session table", got);
    let Some(count) = tree.get(OWN_KEYSPACE, SESSIONS_KEY).await? else { return Ok(Sessions::new(budget)) };
    let count = <[u8; 4]>::try_from(&count.value[..]).map_err(|e| broken(e.to_string()))?;
    let mut bytes = Vec::new();
    for piece in 0..u32::from_le_bytes(count) {
        let found = tree.get(OWN_KEYSPACE, &sessions_piece_key(piece)).await?;
        let found = found.ok_or_else(|| broken(format!("no piece {piece}")))?;
        bytes.extend_from_slice(&found.value);
    }
    Sessions::decode(&bytes, budget).map_err(|e| broken(e.to_string()))
}
