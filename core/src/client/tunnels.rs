//! The client's tunnel: at most one, counted while there is consent.
//!
//! A start waits for name look-ups, and does that without the client's lock: other calls go on, and one that stops the tunnel
//! or the client ends the start, too.

use std::sync::Arc;

use tracing::info;

use super::{Client, ClientError, Recording, State};
use crate::{
    flow::Layer,
    hook::ConnectionCounter,
    tunnel::{self, PreparedTunnel, TunDevice, Tunnel, TunnelError, TunnelOptions, TunnelStats},
};

/// What a client has of a tunnel.
#[derive(Default)]
pub(super) struct TunnelState {
    running: Option<Tunnel>,
    /// A start that has not ended yet.
    starting: Option<Start>,
    /// Numbers the starts, so that one which was stopped does not take the place of the next.
    starts: u64,
    /// What the last tunnel did, once it has stopped.
    last: Option<TunnelStats>,
}

struct Start {
    number: u64,
    /// The network changed meanwhile.
    outdated: bool,
}

type Counter = Option<Box<dyn ConnectionCounter>>;

impl Client {
    /// Starts the WireGuard tunnel `tunnel` on `device`. Counters of this client replace those in `options`. Waits for the
    /// look-up of endpoints' names; other calls don't wait for this one meanwhile, and [`Self::stop_tunnel`] and
    /// [`Self::shutdown`] end it.
    ///
    /// # Errors
    /// When a tunnel is running or starting, an endpoint's name can't be resolved, or a socket can't be opened;
    /// [`TunnelError::Stopped`] if it was stopped before it ran. `device` is closed then.
    pub fn start_tunnel(
        &self,
        tunnel: tunnel::Config,
        device: TunDevice,
        mut options: TunnelOptions,
    ) -> Result<(), ClientError> {
        options.clock = Arc::clone(&self.config.clock);
        let (peers, mtu) = (tunnel.peers.len(), tunnel.mtu);
        let number = self.lock()?.tunnel.begin()?;
        let prepared = Tunnel::prepare(tunnel, options);
        self.lock()?.run_tunnel(number, prepared, device)?;
        info!(peers, mtu, "tunnel started");
        Ok(())
    }

    /// Runs `act` with the tunnel of [`Self::start_tunnel`]: its address, counts, endpoints. `None` without a tunnel.
    /// `act` must not call the client, which waits for it.
    pub fn with_tunnel<T>(&self, act: impl FnOnce(&Tunnel) -> T) -> Option<T> {
        self.lock().ok()?.tunnel.running.as_ref().map(act)
    }

    /// Tells that the device's network changed, see [`Tunnel::network_changed`]. A tunnel that is starting moves as soon as
    /// it runs. Harmless without one.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn refresh_tunnel(&self) -> Result<(), ClientError> {
        self.lock()?.tunnel.refresh();
        Ok(())
    }

    /// Stops the tunnel, if one runs or starts, within a second. What it counted goes into the record of the open window.
    pub fn stop_tunnel(&self) {
        if let Ok(mut state) = self.lock() {
            state.tunnel.stop();
        }
    }
}

impl State {
    /// Runs what was prepared, unless that start was stopped.
    fn run_tunnel(
        &mut self,
        number: u64,
        prepared: Result<PreparedTunnel, TunnelError>,
        device: TunDevice,
    ) -> Result<(), ClientError> {
        let start = self.tunnel.starting.take_if(|start| start.number == number);
        let start = start.ok_or(TunnelError::Stopped)?;
        let mut prepared = prepared?;
        // Now, since consent may have changed meanwhile.
        let (virtual_counter, physical_counter) = self.counters();
        if virtual_counter.is_some() {
            prepared.set_counters(virtual_counter, physical_counter);
        }
        self.tunnel.running = Some(prepared.start(device)?);
        if start.outdated {
            self.tunnel.refresh();
        }
        Ok(())
    }

    fn counters(&self) -> (Counter, Counter) {
        let Some(recording) = &self.recording else { return (None, None) };
        (
            Some(Box::new(recording.counter(Layer::Virtual))),
            Some(Box::new(self.sockets.tunnel(recording.counter(Layer::Physical)))),
        )
    }

    /// Recording begins, also of a tunnel that runs.
    pub(super) fn attach(&mut self, recording: Recording) {
        self.recording = Some(recording);
        let (virtual_counter, physical_counter) = self.counters();
        if let Some(tunnel) = &self.tunnel.running {
            // A tunnel that has ended by itself has nothing to count.
            let _ = tunnel.set_counters(virtual_counter, physical_counter);
        }
    }

    /// Takes the counters out of the tunnel, so that nothing is recorded from here on.
    pub(super) fn detach(&mut self) -> Option<Recording> {
        if let (Some(tunnel), Some(_)) = (&self.tunnel.running, &self.recording) {
            // As above; a tunnel that has ended has dropped its counters.
            let _ = tunnel.set_counters(None, None);
            // Waits until the tunnel has done so: what was counted must be handed over before recording ends.
            let _ = tunnel.flush_counters();
        }
        self.recording.take()
    }

    /// Everything our tunnel counted so far is in the store's queue afterwards.
    pub(super) fn close_window(&self, recording: &Recording) {
        if let Some(tunnel) = &self.tunnel.running {
            // A tunnel that has ended by itself has flushed its counters.
            let _ = tunnel.flush_counters();
        }
        recording.close_windows();
    }
}

impl TunnelState {
    fn begin(&mut self) -> Result<u64, ClientError> {
        if self.running.is_some() || self.starting.is_some() {
            return Err(ClientError::TunnelRunning);
        }
        self.starts += 1;
        self.starting = Some(Start { number: self.starts, outdated: false });
        Ok(self.starts)
    }

    fn refresh(&mut self) {
        if let Some(start) = &mut self.starting {
            start.outdated = true;
        }
        if let Some(tunnel) = &self.running {
            // A tunnel that has ended by itself has nothing to move.
            let _ = tunnel.network_changed();
        }
    }

    pub(super) fn stop(&mut self) {
        self.starting = None;
        if let Some(tunnel) = self.running.take() {
            tunnel.stop();
            let stats = tunnel.stats();
            info!(sent = stats.carried.tx_packets, received = stats.carried.rx_packets, "tunnel stopped");
            self.last = Some(stats);
        }
    }

    /// Of the running tunnel, or the last one.
    pub(super) fn stats(&self) -> Option<TunnelStats> {
        self.running.as_ref().map(Tunnel::stats).or_else(|| self.last.clone())
    }
}
