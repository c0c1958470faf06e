//! The ring over independent Redis servers: each key to the first server clockwise that is up.

pub mod gather;
pub mod health;
pub mod link;
pub mod servers;
pub mod show;
pub mod table;

use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::resp::requests::Command;
use crate::resp::{Version, write};
use gather::{Gather, Join};
use health::{Found, Health, Probe};
use link::Link;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use ringkv_wire::ring::placement::Ring;
use servers::{Server, ServersError};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use table::{Routing, Split};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// Said when no server is up.
const NOBODY: &str = "NOTAPPLIED no server is up";

/// Servers and the ring that spreads keys over them.
pub struct Router {
    ring: Ring,
    servers: Vec<Rc<Member>>,
}

/// A server at work.
struct Member {
    name: String,
    health: Cell<Health>,
    /// For clients of either version.
    links: [Rc<Link>; 2],
    sent: Counter,
    up: Gauge,
    failed: Rc<Notify>,
}

impl Member {
    fn new(server: &Server, metrics: &Metrics) -> Rc<Member> {
        let label = [("server", server.name.clone())];
        let failed = Rc::new(Notify::new());
        let links = [Version::Two, Version::Three].map(|version| Link::new(&server.name, version, failed.clone()));
        let (sent, up) = (metrics.sent.get_or_create(&label).clone(), metrics.up.get_or_create(&label).clone());
        Rc::new(Member { name: server.name.clone(), health: Cell::default(), links, sent, up, failed })
    }

    fn link(&self, version: Version) -> &Link {
        match version {
            Version::Two => &self.links[0],
            Version::Three => &self.links[1],
        }
    }

    /// Asks how the server is, again and again; at once when a connection to it fails.
    async fn watch(self: Rc<Member>) {
        let mut probe = Probe::default();
        loop {
            let before = self.health.get();
            let found = probe.ask(&self.name).await;
            let now = before.after(found);
            self.health.set(now);
            self.up.set(i64::from(now.up));
            if before.up != now.up {
                match now.up {
                    true => tracing::info!(server = self.name, "up: it serves its keys"),
                    false => tracing::warn!(server = self.name, "down: its keys go to its successors"),
                }
            }
            match found {
                Found::Well => self.links.iter().for_each(|link| link.look()),
                _ if !now.up => self.links.iter().for_each(|link| link.cut()),
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(now.pause(rand::random())) => {}
                () = self.failed.notified(), if now.up => {}
            }
        }
    }
}

impl Router {
    /// Starts links and probes on the local task set, and gives the servers a second to answer.
    ///
    /// # Errors
    /// When the list of servers is wrong.
    pub async fn start(servers: &[Server], metrics: &Metrics) -> Result<Rc<Router>, ServersError> {
        let ring = servers::ring(servers)?;
        let members: Vec<Rc<Member>> = servers.iter().map(|server| Member::new(server, metrics)).collect();
        for member in &members {
            spawn_local(member.clone().watch());
            member.links.iter().for_each(|link| drop(spawn_local(link.clone().run())));
        }
        for _ in 0..100 {
            if members.iter().all(|member| member.health.get().up) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Rc::new(Router { ring, servers: members }))
    }

    /// Each server's name, and whether it is up.
    pub fn states(&self) -> impl Iterator<Item = (&str, bool)> {
        self.servers.iter().map(|member| (member.name.as_str(), member.health.get().up))
    }

    /// Who serves a key now.
    fn owner(&self, key: &[u8]) -> Option<usize> {
        let up = |at: usize| self.servers.get(at).is_some_and(|member| member.health.get().up);
        self.ring.first(servers::place(key).1, up)
    }

    /// Takes a command: its answer, or the refusal, goes to `outbox`.
    pub fn take(&self, command: &Command<'_>, version: Version, outbox: &Rc<Outbox>) {
        let refusal = match table::routing(command.name()) {
            Some(Routing::Split(split)) => self.split(split, command, version, outbox),
            Some(Routing::Refused(why)) => {
                Err(format!("ERR {} is not possible through this proxy: {why}", printable(command.name())))
            }
            Some(routing) => self.whole(routing, command, version, outbox),
            None => Err(format!("ERR unknown command '{}'", printable(command.name()))),
        };
        if let Err(text) = refusal {
            outbox.say(&write::error_reply(&text));
        }
    }

    /// A command for one server.
    fn whole(
        &self,
        routing: Routing,
        command: &Command<'_>,
        version: Version,
        outbox: &Rc<Outbox>,
    ) -> Result<(), String> {
        let number = |at| std::str::from_utf8(command.arg(at)?).ok()?.parse().ok();
        let keys = routing.keys(command.args().len(), number).ok_or_else(|| wrong_arguments(command.name()))?;
        let mut owner = None;
        for at in keys {
            let of_key = self.owner(command.arg(at).unwrap_or_default()).ok_or(NOBODY)?;
            if owner.is_some_and(|owner| owner != of_key) {
                return Err("CROSSSLOT the keys are in different servers: a tag {..} keeps keys together".into());
            }
            owner = Some(of_key);
        }
        let member = owner.and_then(|at| self.servers.get(at)).ok_or(NOBODY)?;
        member.sent.inc();
        member.link(version).send(command.raw, outbox, outbox.wait());
        Ok(())
    }

    /// A command whose keys may be in several servers.
    fn split(&self, split: Split, command: &Command<'_>, version: Version, outbox: &Rc<Outbox>) -> Result<(), String> {
        let step = if split == Split::Mset { 2 } else { 1 };
        let rest = command.args().get(1..).unwrap_or_default();
        if rest.is_empty() || !rest.len().is_multiple_of(step) {
            return Err(wrong_arguments(command.name()));
        }
        let mut parts: Vec<(usize, Vec<u32>)> = Vec::new();
        for (place, key) in rest.iter().step_by(step).enumerate() {
            let owner = self.owner(key).ok_or(NOBODY)?;
            match parts.iter_mut().find(|(server, _)| *server == owner) {
                Some((_, places)) => places.push(place as u32),
                None => parts.push((owner, vec![place as u32])),
            }
        }
        if let [(server, _)] = parts[..] {
            let Some(member) = self.servers.get(server) else { return Err(NOBODY.into()) };
            member.sent.inc();
            member.link(version).send(command.raw, outbox, outbox.wait());
            return Ok(());
        }
        let writes = matches!(split, Split::Mset | Split::Remove);
        let commands: Vec<Vec<u8>> =
            parts.iter().map(|(_, places)| part_of(command.name(), rest, places, step)).collect();
        let owners: Vec<usize> = parts.iter().map(|(server, _)| *server).collect();
        let join = match split {
            Split::Mget => Join::Elements(parts.into_iter().map(|(_, places)| places).collect()),
            Split::Mset => Join::Ok,
            Split::Remove | Split::Count => Join::Sum,
        };
        let place = outbox.gather(Gather::new(join, owners.len(), writes));
        for (part, (owner, command)) in owners.into_iter().zip(commands).enumerate() {
            let Some(member) = self.servers.get(owner) else { continue };
            member.sent.inc();
            member.link(version).send(&command, outbox, place.part(part as u32));
        }
        Ok(())
    }
}

/// The command for those keys of `rest` that stand at `places`, each with the `step - 1` arguments behind it.
fn part_of(name: &[u8], rest: &[&[u8]], places: &[u32], step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write::array(&mut out, 1 + places.len() * step);
    write::bulk(&mut out, name);
    for place in places {
        let first = *place as usize * step;
        rest.iter().skip(first).take(step).for_each(|argument| write::bulk(&mut out, argument));
    }
    out
}

/// Said of a command whose keys are not where they should be.
pub(crate) fn wrong_arguments(name: &[u8]) -> String {
    format!("ERR wrong number of arguments for '{}' command", printable(name).to_lowercase())
}

/// A stranger's word, short and without control characters.
pub(crate) fn printable(name: &[u8]) -> String {
    name.escape_ascii().take(64).map(char::from).collect()
}
