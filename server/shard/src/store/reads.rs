//! Reads: one grant per shard and turn, then from memory, or from the disk by a job.

use super::conns::BACKLOG_BUSY_BYTES;
use super::{Done, Store};
use crate::host::Host;
use crate::replica::{Asker, PendingRead};
use bytes::Bytes;
use ringkv_core::effects::ReadGrant;
use ringkv_core::raft::Input;
use ringkv_storage::tree::{Lookup, Sought};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::ids::Now;
use ringkv_wire::limits;
use ringkv_wire::msg::client::{
    ReadKeys, ReadLevel, ReadRequest, ReadResult, STATUS_HEADER_BYTES, StatusHeader, put_found, put_read_result,
};
use ringkv_wire::status::Status;

/// Requests of one store that may wait for the disk at once.
const DISK_READS_MAX: usize = 128;
/// Values of one reply, bytes: what does not fit is asked again.
const REPLY_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - (1 << 20);

/// What became of a read that was tried without the disk.
enum Memory {
    Answered,
    /// A key is not this shard's.
    Misplaced(Status),
    /// A block must be read.
    Disk,
}

impl<H: Host> Store<H> {
    pub(super) fn read(&mut self, asker: Asker, body: Bytes) {
        let Ok(request) = ReadRequest::decode(body) else { return self.refuse(asker, Status::Malformed) };
        let header = request.header;
        let slot = match self.serving(header.shard, header.generation) {
            Ok(slot) => slot,
            Err((slot, status)) => return self.refuse_with(asker, self.header(slot, status)),
        };
        let class = usize::from(request.level == ReadLevel::ReadIndex);
        self.replicas[slot].reads_new[class].push(PendingRead { asker, keys: request.keys, lease: false });
        self.touch(slot);
    }

    /// One question to Raft for all reads of a shard that arrived in this turn.
    pub(super) fn ask_reads(&mut self, now: Now) {
        for at in 0..self.dirty.len() {
            let slot = self.dirty[at];
            for class in 0..2 {
                let reads = std::mem::take(&mut self.replicas[slot].reads_new[class]);
                if reads.is_empty() {
                    continue;
                }
                let token = self.token();
                self.replicas[slot].reads_asked.insert(token, reads);
                self.step(slot, now, Input::Read { token, read_index: class == 1 });
            }
        }
    }

    pub(super) fn granted(&mut self, slot: usize, grant: ReadGrant) {
        let Some(mut reads) = self.replicas[slot].reads_asked.remove(&grant.token) else { return };
        match grant.index {
            Ok(at) => {
                reads.iter_mut().for_each(|read| read.lease = at.lease);
                self.replicas[slot].reads_granted.push((at.index, reads));
            }
            Err(refusal) => {
                for read in reads {
                    self.refuse_by(slot, read.asker, refusal);
                }
            }
        }
    }

    /// Answers what is granted up to the applied index.
    pub(super) fn answer_granted(&mut self, slot: usize) {
        let replica = &mut self.replicas[slot];
        if replica.reads_granted.is_empty() || replica.installing {
            return;
        }
        if let Some(status) = self.withheld(slot) {
            let waiting = std::mem::take(&mut self.replicas[slot].reads_granted);
            for read in waiting.into_iter().flat_map(|(_, reads)| reads) {
                self.refuse_with(read.asker, self.header(Some(slot), status));
            }
            return;
        }
        let replica = &mut self.replicas[slot];
        let applied = replica.applied;
        let waiting = std::mem::take(&mut replica.reads_granted);
        for (index, reads) in waiting {
            if index > applied {
                self.replicas[slot].reads_granted.push((index, reads));
                continue;
            }
            for read in reads {
                self.answer_read(slot, read);
            }
        }
    }

    fn answer_read(&mut self, slot: usize, read: PendingRead) {
        let mut header = self.header(Some(slot), Status::Ok);
        header.level = if read.lease { 1 } else { 2 };
        header.store_us = read.asker.waited_us(self.host.now());
        self.counters.reads += read.keys.len() as u64;
        if self.conns.unread_bytes(&self.host, read.asker.conn) > BACKLOG_BUSY_BYTES {
            header.status = Status::Busy;
            return self.refuse_with(read.asker, header);
        }
        match self.answer_from_memory(slot, &header, &read) {
            Memory::Answered => return,
            Memory::Misplaced(status) => {
                header.status = status;
                return self.refuse_with(read.asker, header);
            }
            Memory::Disk => {}
        }
        if self.disk_reads >= DISK_READS_MAX {
            header.status = Status::Busy;
            return self.refuse_with(read.asker, header);
        }
        self.read_from_disk(slot, header, read.asker, read.keys);
    }

    /// Answers straight into the connection's buffer, unless a key needs the disk or belongs elsewhere.
    fn answer_from_memory(&mut self, slot: usize, header: &StatusHeader, read: &PendingRead) -> Memory {
        let (replica, map) = (&self.replicas[slot], &self.config.map);
        let Some(out) = self.conns.buffer(read.asker.conn) else { return Memory::Answered };
        let start = out.len();
        let mut misplaced = None;
        let mut disk = false;
        frame::encode_with(Kind::ReadReply, read.asker.id, out, |out| {
            let body_at = out.len();
            header.encode(read.keys.len() as u32, out);
            let keys = read.keys.iter().map(|(keyspace, key)| {
                let sought = Sought::new(keyspace, key);
                misplaced = misplaced.or_else(|| replica.misplaced(map, sought));
                sought
            });
            replica.tree.look(keys, |found| match found {
                Lookup::Found { version, value } if fits(out.len() - body_at, value.len()) => {
                    put_found(version, value, out);
                }
                Lookup::Found { .. } => put_read_result(&ReadResult::AskAgain, out),
                Lookup::Absent => put_read_result(&ReadResult::Absent, out),
                // The other keys are still asked whether they belong here.
                Lookup::Disk => disk = true,
            });
        });
        if misplaced.is_none() && !disk {
            return Memory::Answered;
        }
        out.truncate(start);
        self.conns.unanswered(read.asker.conn);
        misplaced.map_or(Memory::Disk, Memory::Misplaced)
    }

    /// A job has read; its answer goes out unless the asker has stopped reading.
    pub(super) fn answer_from_disk(&mut self, asker: Asker, mut header: StatusHeader, bytes: &[u8]) {
        self.disk_reads -= 1;
        if self.conns.unread_bytes(&self.host, asker.conn) > BACKLOG_BUSY_BYTES {
            header.status = Status::Busy;
            return self.refuse_with(asker, header);
        }
        self.conns.answer(asker.conn, bytes);
    }

    /// Reads from the tables in a job of its own. What it finds is the state at its start or later: the read was granted
    /// for that.
    fn read_from_disk(&mut self, slot: usize, header: StatusHeader, asker: Asker, keys: ReadKeys) {
        self.disk_reads += 1;
        let tree = self.replicas[slot].tree.clone();
        let mailbox = self.mailbox.clone();
        let (id, peers) = (self.config.id, self.has_peers(slot));
        let host = self.host.clone();
        let gets: Vec<_> = keys.iter().map(|(keyspace, key)| tree.get(keyspace, key)).collect();
        self.host.spawn(async move {
            let mut body = Vec::with_capacity(STATUS_HEADER_BYTES + 128 * keys.len());
            body.resize(STATUS_HEADER_BYTES, 0);
            let mut unreadable = 0;
            for get in gets {
                let result = match get.await {
                    Ok(Some(found)) => ReadResult::Found { value: found.value, version: found.version },
                    Ok(None) => ReadResult::Absent,
                    // Somebody else will lead soon, or this tree be repaired: the damage is told once.
                    Err(error) if peers && error.is_damage() => {
                        unreadable += 1;
                        ReadResult::AskAgain
                    }
                    Err(error) => {
                        tracing::error!(store = %id, shard = %header.shard, %error, "a read failed");
                        unreadable += 1;
                        ReadResult::Unreadable
                    }
                };
                put_bounded(&result, &mut body);
            }
            let mut head = Vec::with_capacity(STATUS_HEADER_BYTES);
            let header = StatusHeader { store_us: asker.waited_us(host.now()), ..header };
            header.encode(keys.len() as u32, &mut head);
            body[..STATUS_HEADER_BYTES].copy_from_slice(&head);
            let mut bytes = Vec::with_capacity(body.len() + frame::FRAME_HEADER_BYTES);
            frame::encode(Kind::ReadReply, asker.id, &body, &mut bytes);
            mailbox.post(Done::Answer { asker, header, bytes, unreadable });
        });
    }
}

/// Whether a value of `bytes` has its place in a reply whose body is `so_far` long. The first always has.
fn fits(so_far: usize, bytes: usize) -> bool {
    so_far == STATUS_HEADER_BYTES || so_far + bytes <= REPLY_BYTES_MAX
}

fn put_bounded(result: &ReadResult, body: &mut Vec<u8>) {
    let bytes = if let ReadResult::Found { value, .. } = result { value.len() } else { 0 };
    if fits(body.len(), bytes) {
        put_read_result(result, body);
    } else {
        put_read_result(&ReadResult::AskAgain, body);
    }
}
