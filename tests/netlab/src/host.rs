//! A host as its users see it: started on a wire, asked to exchange traffic, read out, stopped.

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    error::HostError,
    inbox::{Closed, Inbox},
    options::HostOptions,
    ping::{Ping, PingReport},
    stack::{Command, Stack},
    stats::{Board, HostStats},
    tcp_client::{Reply, Transfer, TransferReport},
    udp::{UdpExchange, UdpReport},
    wire::{Recv, Wire},
};

/// A TCP/IP host on a [`Wire`]. Answers ping by itself.
///
/// All methods may be called from any thread, also several at once; the exchanges then run side by side. Dropping the
/// host stops it.
pub struct Host {
    inbox: Arc<Inbox<Command>>,
    board: Arc<Board>,
    wire: Arc<dyn Wire>,
    threads: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts a host. It owns the wire from now on, and closes it when it stops.
    ///
    /// # Errors
    /// [`HostError::Options`] and [`HostError::Thread`].
    pub fn start(options: HostOptions, wire: impl Wire + 'static) -> Result<Self, HostError> {
        options.check()?;
        let wire: Arc<dyn Wire> = Arc::new(wire);
        let inbox = Arc::new(Inbox::new());
        let board = Arc::new(Board::default());
        let mut host = Self {
            inbox: Arc::clone(&inbox),
            board: Arc::clone(&board),
            wire: Arc::clone(&wire),
            threads: vec![],
        };
        let (name, receiver) = (options.name.clone(), format!("{}-rx", options.name));
        let stack_parts = (Arc::clone(&wire), Arc::clone(&inbox), Arc::clone(&board));
        host.spawn(name, move || {
            let (wire, inbox, board) = stack_parts;
            let _abandon = AbandonOnExit(Arc::clone(&inbox));
            Stack::new(options, wire, inbox, board).run();
        })?;
        host.spawn(receiver, move || receive(&*wire, &inbox, &board))?;
        Ok(host)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), HostError> {
        let thread = thread::Builder::new().name(name).spawn(run).map_err(HostError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Makes a TCP connection, sends a request, reads the response, checks each byte. Blocks until the connection is
    /// closed in order.
    ///
    /// # Errors
    /// [`HostError::Refused`], [`HostError::Reset`], [`HostError::Length`], [`HostError::Corrupt`],
    /// [`HostError::Timeout`]; [`HostError::Request`], [`HostError::NoSource`] and [`HostError::TooManySockets`] if it
    /// could not begin; [`HostError::Stopped`] and [`HostError::WireClosed`].
    pub fn tcp_transfer(&self, transfer: Transfer) -> Result<TransferReport, HostError> {
        self.ask(|reply| Command::Transfer(transfer, reply))
    }

    /// Sends datagrams to an echo service and counts what comes back. Blocks until all came back, or none came for two
    /// seconds.
    ///
    /// # Errors
    /// [`HostError::NoReply`] if nothing came back, [`HostError::Timeout`], and the errors of beginning and stopping
    /// as for [`Self::tcp_transfer`].
    pub fn udp_exchange(&self, exchange: UdpExchange) -> Result<UdpReport, HostError> {
        self.ask(|reply| Command::Udp(exchange, reply))
    }

    /// Sends echo requests and waits for the answers.
    ///
    /// # Errors
    /// As for [`Self::udp_exchange`].
    pub fn ping(&self, ping: Ping) -> Result<PingReport, HostError> {
        self.ask(|reply| Command::Ping(ping, reply))
    }

    /// What crossed the wire so far. Also valid after the wire was closed.
    #[must_use]
    pub fn stats(&self) -> HostStats {
        self.board.snapshot()
    }

    /// Waits until the statistics satisfy `reached`, for example until as many packets arrived as the other side
    /// sent, and returns them. Called under a lock that packets need: it should be quick.
    ///
    /// # Errors
    /// [`HostError::Unreached`] after `within`.
    pub fn wait_for(
        &self,
        within: Duration,
        reached: impl FnMut(&HostStats) -> bool,
    ) -> Result<HostStats, HostError> {
        self.board.wait(within, reached)
    }

    /// Closes the wire, ends waiting callers with [`HostError::Stopped`] and waits for the threads. Packets on their
    /// way are lost.
    #[must_use = "the final statistics; drop the host if they don't matter"]
    pub fn stop(mut self) -> HostStats {
        self.shut_down();
        self.board.snapshot()
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, HostError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.inbox.push_command(command(reply))?;
        answer.recv().unwrap_or(Err(HostError::Stopped))
    }

    fn shut_down(&mut self) {
        self.inbox.close(Closed::Stopped);
        self.wire.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so; its waiting callers get `Stopped`.
            drop(thread.join());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Keeps callers from waiting for a stack thread that is gone, however it went.
struct AbandonOnExit(Arc<Inbox<Command>>);

impl Drop for AbandonOnExit {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The receiving thread: from the wire into the inbox, until either is closed.
fn receive(wire: &dyn Wire, inbox: &Inbox<Command>, board: &Board) {
    let mut buffer = Vec::new();
    while wire.recv(&mut buffer) == Recv::Packet {
        board.received(&buffer);
        if inbox.push_packet(&mut buffer).is_err() {
            return;
        }
    }
    inbox.close(Closed::Wire);
}
