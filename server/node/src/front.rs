//! The main thread: the common port, signals, and the order of the node's end.

use crate::boot::NodeError;
use crate::dir::DataDir;
use crate::door;
use crate::host::core::{Ended, Limits, ToCore};
use crate::host::mailbox::Mailbox;
use crate::plan::CorePlan;
use ringkv_wire::hello::{ANY_STORE, Hello};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

/// How long the stores have for their end; what is durable is durable without it.
const DRAIN: Duration = Duration::from_secs(10);

/// A node whose cores are running.
pub struct Front {
    /// Held until the end.
    pub dir: DataDir,
    /// The common port, non-blocking.
    pub common: TcpListener,
    /// Which core has which stores.
    pub cores: Vec<CorePlan>,
    /// Where the cores are reached, in the same order.
    pub mails: Vec<Mailbox<ToCore>>,
    /// Bounds of connections.
    pub limits: Limits,
    /// End when standard input does.
    pub exit_with_stdin: bool,
}

/// Hands connections of the common port to stores.
struct Switch {
    /// By store number.
    stores: Vec<Mailbox<ToCore>>,
    next: Cell<usize>,
}

impl Switch {
    /// A store that is not here is handed to store 0 as well: it knows how to say so.
    fn pick(&self, hello: &Hello) -> usize {
        match hello.wanted.store {
            ANY_STORE => {
                let next = self.next.get();
                self.next.set(next.wrapping_add(1));
                next % self.stores.len()
            }
            wanted if usize::from(wanted) < self.stores.len() => usize::from(wanted),
            _ => 0,
        }
    }

    fn hand(&self, stream: TcpStream, hello: Hello) {
        let store = self.pick(&hello);
        match stream.into_std() {
            Ok(socket) => self.stores[store].post(ToCore::Adopt { store: store as u16, socket, hello }),
            Err(e) => tracing::warn!(error = %e, "a connection of the common port is lost"),
        }
    }
}

impl Front {
    /// Serves until the node is asked to end or no store is left.
    pub fn run(self, opened: UnboundedReceiver<u16>, ended: UnboundedReceiver<Ended>) -> Result<(), NodeError> {
        let start = |source| NodeError::Start { what: "the main thread's runtime", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(start)?;
        let local = LocalSet::new();
        let result = local.block_on(&runtime, self.serve(opened, ended));
        // A thread may still be reading standard input.
        runtime.shutdown_background();
        result
    }

    fn switch(&self) -> Switch {
        let count = self.cores.iter().map(|c| c.stores.len()).sum();
        let on = |store: u16| self.cores.iter().position(|c| c.stores.contains(&store)).unwrap_or(0);
        let stores = (0..count).map(|store| self.mails[on(store as u16)].clone()).collect();
        Switch { stores, next: Cell::new(0) }
    }

    async fn serve(
        mut self,
        mut opened: UnboundedReceiver<u16>,
        mut ended: UnboundedReceiver<Ended>,
    ) -> Result<(), NodeError> {
        let start = |source| NodeError::Start { what: "the common port", source };
        let switch = self.switch();
        let mut left: BTreeSet<u16> = (0..switch.stores.len() as u16).collect();
        let mut closed = left.clone();
        let common = tokio::net::TcpListener::from_std(self.common.try_clone().map_err(start)?).map_err(start)?;
        let silent_max = self.limits.silent_max;
        let door = tokio::task::spawn_local(door::keep(common, silent_max, move |s, h| switch.hand(s, h)));
        let mut reasons = Reasons::listen(self.exit_with_stdin).map_err(start)?;

        let (mut last_error, mut stopping) = (String::new(), false);
        let mut give_up = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        while !left.is_empty() {
            tokio::select! {
                reason = reasons.next() => {
                    if stopping {
                        tracing::warn!("{reason} again: ending at once");
                        break;
                    }
                    tracing::info!("ending: {reason}");
                    stopping = true;
                    door.abort();
                    self.mails.iter().for_each(|mail| mail.post(ToCore::Shutdown));
                    give_up.as_mut().reset(tokio::time::Instant::now() + DRAIN);
                }
                Some(store) = opened.recv() => {
                    if closed.remove(&store) && closed.is_empty() {
                        self.all_open();
                    }
                }
                gone = ended.recv() => {
                    // A core that dies without a report takes the channel with it.
                    let Some(gone) = gone else { break };
                    left.remove(&gone.store);
                    if let Err(e) = gone.result {
                        tracing::error!("store {} ended: {e}", gone.store);
                        last_error = e;
                    }
                }
                () = &mut give_up => {
                    tracing::warn!("{} stores did not end within {} s", left.len(), DRAIN.as_secs());
                    break;
                }
            }
        }
        if stopping {
            tracing::info!("ended");
            return Ok(());
        }
        Err(NodeError::NoStores(if last_error.is_empty() { "a core died".into() } else { last_error }))
    }

    fn all_open(&mut self) {
        match self.dir.set_made() {
            Ok(()) => tracing::info!("all stores are open"),
            // The next start will find it not said, and take a missing log for a first boot, as it would have now.
            Err(e) => tracing::error!(error = %e, "cannot record in the identity that the stores were made"),
        }
    }
}

/// What asks a node to end.
struct Reasons {
    terminate: Signal,
    interrupt: Signal,
    stdin: UnboundedReceiver<()>,
}

impl Reasons {
    fn listen(exit_with_stdin: bool) -> io::Result<Reasons> {
        Ok(Reasons {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stdin: closed_stdin(exit_with_stdin),
        })
    }

    /// The next one. Cancelling it loses none.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            Some(()) = self.stdin.recv() => "standard input has ended",
        }
    }
}

/// Resolves when standard input ends, if that is to count. An ordinary thread waits for it.
fn closed_stdin(counts: bool) -> UnboundedReceiver<()> {
    let (closed, receiver) = tokio::sync::mpsc::unbounded_channel();
    if counts {
        std::thread::spawn(move || {
            // Whatever is said there is of no interest, and an error is an end too.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = closed.send(());
        });
    }
    receiver
}
