//! The part of a tunnel's start that may take long: sockets, which the host protects, and names, which somebody resolves.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc::sync_channel},
    thread,
};

use polling::Poller;

use super::{
    COMMANDS, Thread, Tunnel, TunnelError, TunnelObserver, TunnelOptions,
    device::{self, TunDevice},
    resolve::{self, Refresh, Resolver},
    run::{Parts, Runner},
    runs::Runs,
    sockets::{self, Sockets},
    watch::Watch,
};
use crate::{
    clock::SharedClock,
    hook::{ConnectionCounter, Device},
    tunnel::{config::Config, engine::Engine},
};

/// A tunnel that has its sockets and its peers' addresses, and lacks nothing but a device. See [`Tunnel::prepare`].
pub struct PreparedTunnel {
    config: Config,
    clock: SharedClock,
    poller: Arc<Poller>,
    sockets: Sockets,
    resolver: Resolver,
    endpoints: Vec<Option<SocketAddr>>,
    observer: Option<TunnelObserver>,
    virtual_counter: Option<Box<dyn ConnectionCounter>>,
    physical_counter: Option<Box<dyn ConnectionCounter>>,
}

impl PreparedTunnel {
    pub(super) fn new(config: Config, options: TunnelOptions) -> Result<Self, TunnelError> {
        let TunnelOptions {
            clock,
            protect,
            mark,
            bind,
            resolver,
            observer,
            virtual_counter,
            physical_counter,
        } = options;
        let poller = Arc::new(Poller::new().map_err(TunnelError::Thread)?);
        let sockets = Sockets::open(sockets::Options {
            bind,
            port: config.listen_port.unwrap_or(0),
            mark: mark.or(config.fw_mark),
            protect,
        })?;
        let resolver = resolver.unwrap_or_else(resolve::system);
        let endpoints = resolve::resolve_all(&config, &resolver, |address| sockets.can_reach(address))?;
        Ok(Self {
            config,
            clock,
            poller,
            sockets,
            resolver,
            endpoints,
            observer,
            virtual_counter,
            physical_counter,
        })
    }

    /// Replaces both counters.
    pub fn set_counters(
        &mut self,
        virtual_counter: Option<Box<dyn ConnectionCounter>>,
        physical_counter: Option<Box<dyn ConnectionCounter>>,
    ) {
        self.virtual_counter = virtual_counter;
        self.physical_counter = physical_counter;
    }

    /// Starts the thread `tuntrail-tunnel` on `device`. Returns at once.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left running then.
    pub fn start(self, device: TunDevice) -> Result<Tunnel, TunnelError> {
        let now = self.clock.now();
        let mut engine = Engine::new(&self.config, &self.endpoints, now)?;
        engine.virtual_device().set_connection_counter(now, self.virtual_counter);
        engine.physical_device().set_connection_counter(now, self.physical_counter.map(Runs::of));
        let local = Arc::new(Mutex::new(self.sockets.local()));
        let (commands, receiver) = sync_channel(COMMANDS);
        let device = device::Device::open(device, &self.poller).map_err(TunnelError::Device)?;
        let mut runner = Runner::new(Parts {
            clock: self.clock,
            poller: Arc::clone(&self.poller),
            engine,
            sockets: self.sockets,
            device,
            local: Arc::clone(&local),
            commands: receiver,
            sender: commands.clone(),
            refresh: Refresh::new(&self.config),
            resolver: self.resolver,
            watch: Watch::new(self.observer),
        });
        runner.register().map_err(TunnelError::Thread)?;
        let thread = thread::Builder::new()
            .name("tuntrail-tunnel".to_owned())
            .spawn(move || runner.run())
            .map_err(TunnelError::Thread)?;
        Ok(Tunnel { commands, poller: self.poller, local, thread: Mutex::new(Thread::Running(thread)) })
    }
}

impl fmt::Debug for PreparedTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedTunnel").field("local", &self.sockets.local()).finish_non_exhaustive()
    }
}
