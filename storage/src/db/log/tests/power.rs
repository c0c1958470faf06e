//! A machine that loses its power: of what was not synced, any mix of sectors is there.

use super::rig::{Owned, Rig, SEGMENT_BYTES, files};
use crate::db::log::Position;
use crate::db::log::segment::{Segment, SyncPages};
use crate::sst::NEVER_MS;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const PAGE: usize = 4096;

/// What the disk holds for sure, per file name.
pub type Durable = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A running log, with what it wrote and what its disk holds.
pub struct Machine {
    pub dir: TempDir,
    pub rig: Rig,
    durable: Durable,
    /// Record n + 1 at n.
    pub written: Vec<Owned>,
    pub synced_seq: u64,
    pub flushed_seq: u64,
}

pub fn chance(rng: &mut ChaCha8Rng, one_in: u64) -> bool {
    rng.next_u64().is_multiple_of(one_in)
}

/// A sync that tells `durable` of the pages it wrote.
pub fn recording(dir: &Path, durable: &Durable) -> SyncPages {
    let (dir, durable) = (dir.to_owned(), Arc::clone(durable));
    Box::new(move |segment: &Segment, range: std::ops::Range<usize>| {
        let now = std::fs::read(dir.join(&segment.path))?;
        let name = segment.path.rsplit('/').next().expect("a name").to_owned();
        let mut durable = durable.lock().expect("no panic");
        let held = durable.entry(name).or_insert_with(|| vec![0; now.len()]);
        held.resize(now.len(), 0);
        let pages = range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE);
        held[pages.clone()].copy_from_slice(&now[pages]);
        Ok(())
    })
}

impl Machine {
    pub fn new() -> Machine {
        Machine::boot(tempfile::tempdir().expect("a directory"), Vec::new(), 0, 0)
    }

    /// Opens what is in `dir`: all that was synced of `written` must be there, and nothing else.
    pub fn boot(dir: TempDir, mut written: Vec<Owned>, synced_seq: u64, flushed_seq: u64) -> Machine {
        let durable = Durable::default();
        let (rig, found) = Rig::open_through(dir.path(), flushed_seq, recording(dir.path(), &durable)).expect("opened");
        let last = rig.next_seq - 1;
        assert!(last >= synced_seq.max(flushed_seq), "{last} of {synced_seq} and {flushed_seq}");
        written.truncate(last as usize);
        let expected: Vec<(u64, Owned)> = (1..).zip(written.clone()).skip(flushed_seq as usize).collect();
        assert_eq!(found, expected);
        assert_eq!(written.len() as u64, last);
        let machine = Machine { dir, rig, durable, written, synced_seq: last, flushed_seq };
        machine.all_is_durable();
        machine
    }

    /// Files that the disk does not know are whole on it: they were made, and synced, by the driver.
    fn new_files_are_durable(&self) {
        let mut durable = self.durable.lock().expect("no panic");
        let now: Vec<_> = files(self.dir.path());
        let names: Vec<String> = now.iter().map(|path| name(path)).collect();
        durable.retain(|name, _| names.contains(name));
        for (path, name) in now.iter().zip(names) {
            durable.entry(name).or_insert_with(|| std::fs::read(path).expect("read"));
        }
    }

    fn all_is_durable(&self) {
        self.durable.lock().expect("no panic").clear();
        self.new_files_are_durable();
    }

    pub fn append(&mut self, ops: &[Owned]) {
        self.rig.shared.prepare().expect("prepared");
        self.new_files_are_durable();
        self.rig.append(ops);
        self.written.extend_from_slice(ops);
    }

    pub fn sync(&mut self) {
        let last = self.rig.next_seq - 1;
        self.rig.shared.sync_to(Position(last)).expect("synced");
        self.synced_seq = last;
    }

    /// Tables hold all up to `seq`, durable.
    pub fn flush(&mut self, seq: u64) {
        self.flushed_seq = seq.max(self.flushed_seq);
        self.synced_seq = self.synced_seq.max(self.flushed_seq);
        self.rig.shared.release(self.flushed_seq).expect("released");
        self.new_files_are_durable();
    }

    /// One step of somebody's life.
    pub fn step(&mut self, rng: &mut ChaCha8Rng) {
        match rng.next_u64() % 20 {
            0..2 => self.sync(),
            2 if !self.written.is_empty() => {
                let seq = rng.next_u64() % (self.written.len() as u64 + 1);
                self.flush(seq);
            }
            3 => self.append(&[]),
            _ => {
                let count = if chance(rng, 5) { rng.next_u64() % 6 } else { 1 };
                let ops: Vec<Owned> = (0..count).map(|_| some_op(rng)).collect();
                self.append(&ops);
            }
        }
    }

    /// What is on the disk after a power cut: of each sector that was not synced, the old or the new one.
    pub fn crash_image(&self, rng: &mut ChaCha8Rng) -> TempDir {
        let image = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(image.path().join("log")).expect("made");
        let block = if chance(rng, 2) { PAGE } else { 512 };
        let keep = rng.next_u64() % 5;
        let durable = self.durable.lock().expect("no panic");
        for path in files(self.dir.path()) {
            let mut now = std::fs::read(&path).expect("read");
            let mut held = durable.get(&name(&path)).cloned().unwrap_or_default();
            held.resize(now.len(), 0);
            for (now, held) in now.chunks_mut(block).zip(held.chunks(block)) {
                if rng.next_u64() % 4 >= keep {
                    now.copy_from_slice(held);
                }
            }
            std::fs::write(image.path().join("log").join(name(&path)), now).expect("written");
        }
        image
    }

    /// The power goes and comes back.
    pub fn crash(self, rng: &mut ChaCha8Rng) -> Machine {
        let image = self.crash_image(rng);
        Machine::boot(image, self.written, self.synced_seq, self.flushed_seq)
    }

    /// The process is killed: all that was appended is there.
    pub fn kill(self) -> Machine {
        let all = self.written.len() as u64;
        drop(self.rig);
        Machine::boot(self.dir, self.written, all, self.flushed_seq)
    }
}

pub fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

pub fn some_op(rng: &mut ChaCha8Rng) -> Owned {
    let bytes = match rng.next_u64() % 20 {
        0 => rng.next_u64() % 3 * SEGMENT_BYTES / 2,
        1..5 => rng.next_u64() % 3000,
        _ => rng.next_u64() % 200,
    };
    let mut value = vec![0; bytes as usize];
    rng.fill_bytes(&mut value);
    let key = rng.next_u64().to_le_bytes()[..(rng.next_u64() % 9) as usize].to_vec();
    let value = (!chance(rng, 4)).then_some(value);
    let expiry_ms = if value.is_some() && chance(rng, 3) { rng.next_u64() >> 1 } else { NEVER_MS };
    Owned { keyspace: rng.next_u64() as u32, key, value, expiry_ms }
}

#[test]
fn what_was_synced_survives_power_cuts_and_nothing_void_comes_back() {
    for seed in 0..25 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut machine = Machine::new();
        for _ in 0..6 {
            for _ in 0..rng.next_u64() % 60 {
                machine.step(&mut rng);
            }
            machine = if chance(&mut rng, 4) { machine.kill() } else { machine.crash(&mut rng) };
        }
    }
}

#[test]
fn old_frames_of_a_file_used_again_never_come_back() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut machine = Machine::new();
    let put = |machine: &mut Machine| machine.append(&[Owned::put(b"key", &[5; 1000])]);
    // Frames of one size: those of each use stand where those of the last one stood.
    for round in 0..8 {
        for _ in 0..40 {
            put(&mut machine);
        }
        machine.sync();
        let seq = machine.synced_seq;
        machine.flush(seq);
        put(&mut machine);
        if round % 2 == 1 {
            machine = machine.crash(&mut rng);
        }
    }
    assert!(files(machine.dir.path()).len() <= 4, "files are used again");
}

#[test]
fn many_power_cuts_from_one_state_all_give_a_prefix() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut machine = Machine::new();
    for _ in 0..30 {
        machine.step(&mut rng);
    }
    machine.sync();
    for _ in 0..40 {
        let op = some_op(&mut rng);
        machine.append(&[op]);
    }
    let mut lasts = std::collections::BTreeSet::new();
    for _ in 0..150 {
        let image = machine.crash_image(&mut rng);
        let after = Machine::boot(image, machine.written.clone(), machine.synced_seq, machine.flushed_seq);
        lasts.insert(after.rig.next_seq);
    }
    assert!(lasts.len() > 5, "the cuts are of many kinds: {lasts:?}");
}

/// What stays must be known by its own head before those in front of it are used again.
#[test]
fn a_power_cut_after_a_release_finds_a_segment_in_use() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut machine = Machine::new();
    while machine.rig.shared.bytes() < 3 * SEGMENT_BYTES {
        machine.append(&[Owned::put(b"key", &[5; 1000])]);
    }
    let all = machine.written.len() as u64;
    machine.flush(all);
    // The spare becomes a segment that nobody uses yet.
    machine.append(&[]);
    for _ in 0..30 {
        let image = machine.crash_image(&mut rng);
        Machine::boot(image, machine.written.clone(), machine.synced_seq, machine.flushed_seq);
    }
}
