//! The clients' machines and the processes on them: started, killed, started again under another id.

use crate::client::Client;
use crate::clock::MachineClock;
use crate::cluster::Cluster;
use crate::dice::{Dice, Stream};
use crate::exec::Group;
use crate::history::History;
use crate::host::{Parts, VirtualHost};
use crate::load::{Caller, Load};
use crate::net::{Machine, Port};
use ringkv_storage::disk::fault::FaultDisk;
use std::cell::Cell;
use std::rc::Rc;

struct Seat {
    machine: Machine,
    process: Cell<Option<Group>>,
}

/// All clients of a run.
pub struct Clients {
    cluster: Rc<Cluster>,
    history: Rc<History>,
    load: Rc<Load>,
    seats: Vec<Seat>,
    next: Cell<u64>,
}

impl Clients {
    /// Machines, and nothing on them yet.
    pub fn new(cluster: Rc<Cluster>, history: Rc<History>) -> Clients {
        let seat = |_| Seat { machine: cluster.net.machine(), process: Cell::new(None) };
        let seats = (0..cluster.plan.load.clients).map(seat).collect();
        let load = Rc::new(cluster.plan.load.clone());
        Clients { cluster, history, load, seats, next: Cell::new(0) }
    }

    /// Their machines.
    pub fn machines(&self) -> Vec<Machine> {
        self.seats.iter().map(|seat| seat.machine).collect()
    }

    /// A number that no client has had.
    pub(crate) fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// A client process with a fresh session and an id of its own; `attempt_ms`: how long it waits before it asks elsewhere.
    pub fn caller(&self, machine: Machine, attempt_ms: Option<u64>) -> Caller {
        let cluster = &self.cluster;
        let number = self.number();
        let dice = Dice::new(cluster.plan.seed, Stream::Client, number << 8);
        // Nothing may rest on a client's clocks.
        let wall_ms = *dice.pick(&[200, 200, 60_000, 86_400_000]);
        let wall_ms = dice.between(0, 2 * wall_ms) as i64 - wall_ms as i64;
        let drift = dice.between(0, 100_000) as i64 - 50_000;
        let host = VirtualHost::new(Parts {
            exec: cluster.exec.clone(),
            net: cluster.net.clone(),
            machine,
            group: cluster.exec.group(),
            clock: Rc::new(MachineClock::new(dice.below(1 << 50), drift, wall_ms)),
            disk: FaultDisk::new(0),
            dice,
        });
        let client = Client::new(host, cluster.seeds(), attempt_ms);
        self.history.met(&client);
        Caller { client, number, history: self.history.clone() }
    }

    /// Starts the process on machine `n`, which calls until the load ends; nothing when it runs.
    pub fn start(&self, n: usize) {
        let seat = &self.seats[n];
        if seat.process.get().is_some() {
            return;
        }
        let caller = self.caller(seat.machine, None);
        let group = caller.client.host().group();
        seat.process.set(Some(group));
        let plan = &self.cluster.plan;
        let dice = Dice::new(plan.seed, Stream::Client, caller.number << 8 | 1);
        self.cluster.exec.spawn(group, caller.load(dice, self.load.clone(), plan.load_ns));
    }

    /// Kill -9 of the process on machine `n`: what it had asked and not been told stays unknown for ever.
    pub fn kill(&self, n: usize) {
        if let Some(group) = self.seats[n].process.take() {
            self.cluster.exec.note(0xc11e_0000 + n as u64);
            self.cluster.exec.kill(group);
            self.cluster.net.process_died(group, false);
        }
    }
}
