//! Bytes under way: taken from an end, carried over a link, handed over at the other end.

use super::conn::{Net, Port, State, conn_id};
use super::{Machine, Quality};
use bytes::{Bytes, BytesMut};
use ringkv_shard::host::{ConnId, NetEvent};
use ringkv_wire::hello::{HELLO_BYTES, Hello};

impl State {
    /// How a direction between two machines behaves.
    pub fn quality(&self, from: Machine, to: Machine) -> Quality {
        *self.qualities.get(&(from, to)).unwrap_or(&self.usual)
    }
}

impl Net {
    /// How long so many bytes take, ns.
    pub(super) fn delay_ns(&self, from: Machine, to: Machine, bytes: usize) -> u64 {
        let quality = self.0.state.borrow().quality(from, to);
        self.flight_ns(&quality) + sending_ns(&quality, bytes)
    }

    fn flight_ns(&self, quality: &Quality) -> u64 {
        let mut delay = self.0.dice.between(quality.delay_ns.0, quality.delay_ns.1);
        if self.0.dice.chance(quality.stalls, 10_000) {
            delay += self.0.dice.between(quality.stall_ns.0, quality.stall_ns.1);
        }
        delay
    }

    /// Sends what was queued since the last time. Called when no task is ready.
    pub fn flush(&self) {
        loop {
            let dirty = std::mem::take(&mut self.0.state.borrow_mut().dirty);
            if dirty.is_empty() {
                return;
            }
            dirty.into_iter().for_each(|(id, side)| self.ship(id, side, self.0.exec.now_ns()));
        }
    }

    /// What is queued leaves, or is lost; it was first sent at `first_ns`.
    pub(super) fn ship(&self, id: u64, side: usize, first_ns: u64) {
        let mut state = self.0.state.borrow_mut();
        let Some([Some(a), Some(b)]) = state.conns.get(&id).map(|conn| &conn.ends) else { return };
        let (end, other) = if side == 0 { (a, b) } else { (b, a) };
        if (end.queued.is_empty() && !end.fin) || end.unacked.is_waiting() {
            return;
        }
        let (from, to) = (end.machine, other.machine);
        let (quality, reaches) = (state.quality(from, to), state.reaches(from, to));
        let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) else { return };
        if !reaches {
            end.unacked.lost(first_ns);
            drop(state);
            return self.watch(id, side);
        }
        let mut bytes = join(&mut end.queued);
        end.flying_bytes += std::mem::take(&mut end.queued_bytes);
        let (fin, last) = (std::mem::take(&mut end.fin), end.last_arrival_ns);
        let (now, sending) = (self.0.exec.now_ns(), sending_ns(&quality, bytes.len()));
        // What a slow link carries is acknowledged piece by piece.
        end.unacked.left(first_ns.max(now + sending));
        if quality.alters > 0 && !bytes.is_empty() && self.0.dice.chance(quality.alters, 10_000) {
            bytes = self.altered(&bytes);
        }
        let arrival = (now + self.flight_ns(&quality) + sending).max(last);
        end.last_arrival_ns = arrival;
        drop(state);
        self.watch(id, side);
        self.later(arrival - now, move |net| net.arrive(id, 1 - side, bytes, fin));
    }

    /// The same with one byte changed.
    fn altered(&self, bytes: &[u8]) -> Bytes {
        let mut altered = BytesMut::from(bytes);
        let at = self.0.dice.below(bytes.len() as u64) as usize;
        altered[at] ^= self.0.dice.between(1, 255) as u8;
        altered.freeze()
    }

    fn arrive(&self, id: u64, side: usize, bytes: Bytes, fin: bool) {
        self.0.exec.note(id << 1 | side as u64);
        self.0.exec.note(u64::from(crc32c::crc32c(&bytes)) << 32 | bytes.len() as u64);
        let mut state = self.0.state.borrow_mut();
        let Some(conn) = state.conns.get_mut(&id) else { return };
        if let Some(sender) = &mut conn.ends[1 - side] {
            sender.flying_bytes = sender.flying_bytes.saturating_sub(bytes.len());
        }
        let Some(end) = &mut conn.ends[side] else { return };
        let Some(port) = end.port.clone() else {
            let now_ns = self.0.exec.now_ns();
            let acks = end.takes(now_ns) || (bytes.is_empty() && end.is_known(now_ns));
            drop(state);
            if acks {
                self.acknowledge(id, 1 - side);
                return self.forget(id);
            }
            // What had been sent from here and has not left dies with it (RFC 2525 §2.17).
            self.abort(id, side);
            return self.reset_by_kernel(id, 1 - side);
        };
        let mut bytes = bytes;
        let mut opened = None;
        if let Some(mut hello) = end.hello.take() {
            let missing = (HELLO_BYTES - hello.len()).min(bytes.len());
            hello.extend_from_slice(&bytes.split_to(missing));
            match <&[u8; HELLO_BYTES]>::try_from(&hello[..]) {
                Ok(whole) => opened = Some(Hello::decode(whole)),
                Err(_) => end.hello = Some(hello),
            }
        }
        drop(state);
        self.acknowledge(id, 1 - side);
        match opened {
            Some(Ok(hello)) => port.event(NetEvent::Opened { conn: conn_id(id, side), hello, inbound: false }),
            Some(Err(_)) => return self.close(conn_id(id, side)),
            None => {}
        }
        self.hand_over(&*port, conn_id(id, side), bytes);
        if fin {
            self.end(id, side);
        }
    }

    /// What `side` sent came to a machine that knows of no such connection, or where nobody takes what arrives. If that machine
    /// runs it answers with a reset, which waits for nothing that was sent before.
    pub(super) fn reset_by_kernel(&self, id: u64, side: usize) {
        let way = {
            let state = self.0.state.borrow();
            let ends =
                state.conns.get(&id).and_then(|conn| Some((conn.ends[1 - side].as_ref()?, conn.ends[side].as_ref()?)));
            let now_ns = self.0.exec.now_ns();
            let way = ends.filter(|(gone, _)| gone.silent_ns <= now_ns).map(|(gone, end)| (gone.machine, end.machine));
            way.filter(|(gone, end)| state.reaches(*gone, *end))
        };
        if let Some((gone, end)) = way {
            self.later(self.delay_ns(gone, end, 0), move |net| net.abort(id, side));
        }
    }

    /// The bytes of one arrival, now and then in two pieces.
    fn hand_over(&self, port: &dyn Port, conn: ConnId, mut bytes: Bytes) {
        if bytes.len() > 1 && self.0.dice.chance(1, 16) {
            let first = bytes.split_to(self.0.dice.between(1, bytes.len() as u64 - 1) as usize);
            port.event(NetEvent::Received { conn, bytes: first });
        }
        if !bytes.is_empty() {
            port.event(NetEvent::Received { conn, bytes });
        }
    }
}

fn sending_ns(quality: &Quality, bytes: usize) -> u64 {
    bytes as u64 * 1_000_000_000 / quality.bytes_per_s.max(1)
}

fn join(queued: &mut Vec<Bytes>) -> Bytes {
    if queued.len() == 1 {
        return queued.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(queued.iter().map(Bytes::len).sum());
    queued.drain(..).for_each(|bytes| all.extend_from_slice(&bytes));
    all.freeze()
}
