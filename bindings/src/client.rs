//! The client object.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tuntrail::{
    client::{self, AtEnd},
    clock::{Clock, SystemClock},
};

use crate::{
    ClientConfig, ClientStats, CommandOutcome, Consent, DebugRequest, DebugUpload, EventListener, ExitFlows,
    ExportReport, HostResolver, InterfaceKind, NetworkMap, NetworkState, PowerState, RegisteredSocket,
    ResourceRule, Role, Routes, SocketCounter, SocketProtector, Stream, TunDevice, TunnelConfig,
    TuntrailError, Upload, UploadTask, UploadTaskResult, debug,
    events::Events,
    log::{self, LogOwner},
    sockets,
    tunnel::{self, TunnelInfo},
};

/// The SDK of one app or extension. Any thread may call any method. Those that wait for the disk, the tunnel's thread or the
/// network say so, and don't belong on a user interface's thread. After [`Self::shutdown`] every other method throws
/// [`TuntrailError::Closed`]; dropping the object shuts it down, too.
#[derive(uniffi::Object)]
pub struct Client {
    inner: client::Client,
    events: Arc<Events>,
    /// What was told last, if anything was: the network in use, by its number, or that there is none.
    network: Mutex<Option<Option<u64>>>,
    log_owner: Mutex<Option<LogOwner>>,
}

#[uniffi::export]
impl Client {
    /// Starts the client. With consent granted, opens the directory for records, so it may wait for the disk. Records of earlier
    /// runs stay where they are and are not sent. With consent denied, deletes what earlier runs left.
    #[uniffi::constructor]
    pub fn new(config: ClientConfig) -> Result<Arc<Self>, TuntrailError> {
        let filter = config.log_filter.clone();
        let mut core = config.into_core()?;
        let (log_owner, diagnostics) = LogOwner::claim(&filter)?.unzip();
        core.diagnostics = diagnostics;
        let inner = client::Client::start(core)?;
        let client = Self {
            inner,
            events: Arc::default(),
            network: Mutex::default(),
            log_owner: Mutex::new(log_owner),
        };
        client.listen_to_uploads()?;
        Ok(Arc::new(client))
    }

    /// Applies the user's answer. Granting starts recording, also of a tunnel that runs. Denying stops recording, cancels a running
    /// upload, and deletes everything recorded, also if the process is killed meanwhile. Waits for the disk.
    pub fn set_consent(&self, consent: Consent) -> Result<(), TuntrailError> {
        Ok(self.inner.set_consent(consent.into())?)
    }

    /// Sets who is told what happens, or nobody; see [`EventListener`] for the thread. A new listener is told of uploads that wait for the
    /// host's transport, such as one that an earlier run began.
    pub fn set_listener(&self, listener: Option<Arc<dyn EventListener>>) -> Result<(), TuntrailError> {
        self.check_open()?;
        let listens = listener.is_some();
        self.events.set_listener(listener)?;
        if listens {
            // What waited when nobody listened is told now.
            self.listen_to_uploads()?;
        }
        Ok(())
    }

    /// Starts a WireGuard tunnel on `device`; there is one at a time. `protector` exempts its sockets from the VPN, `resolver` finds
    /// peers that have names. Waits for name resolution, and on Windows for the driver; other calls don't wait for this one meanwhile.
    /// [`Self::stop_tunnel`] and [`Self::shutdown`] end a start, too: it throws then, and what a look-up finds later is dropped.
    ///
    /// With [`TunDevice::Tun`] the descriptor is the tunnel's from this call on, and closed also if it fails.
    pub fn start_tunnel(
        &self,
        config: TunnelConfig,
        device: TunDevice,
        protector: Option<Arc<dyn SocketProtector>>,
        resolver: Option<Arc<dyn HostResolver>>,
    ) -> Result<TunnelInfo, TuntrailError> {
        // First, so that it is closed in any case.
        let (device, adapter_luid) = device.open()?;
        let mut options = tunnel::options(protector, resolver);
        let events = Arc::clone(&self.events);
        options.observer = Some(Box::new(move |event| events.tunnel(event)));
        self.inner.start_tunnel(config.into_core()?, device, options)?;
        let local = self.inner.with_tunnel(|tunnel| tunnel.local_addr()).unwrap_or_default();
        Ok(TunnelInfo {
            local_v4: local.v4.map(|address| address.to_string()),
            local_v6: local.v6.map(|address| address.to_string()),
            adapter_luid,
        })
    }

    /// Stops the tunnel, if one runs or starts, within a second. What it counted is recorded.
    pub fn stop_tunnel(&self) -> Result<(), TuntrailError> {
        self.check_open()?;
        self.inner.stop_tunnel();
        Ok(())
    }

    /// Sets who owns which address, and what is routed where. Connections are classified by what was set when their first packet of
    /// a window came.
    pub fn set_network(&self, map: NetworkMap, routes: Routes) -> Result<(), TuntrailError> {
        Ok(self.inner.set_network(map.into_core()?, routes.into_core()?)?)
    }

    /// Sets what is recorded of exit traffic: less at once, more from the next window on.
    pub fn set_exit_flows(&self, exit_flows: ExitFlows) -> Result<(), TuntrailError> {
        Ok(self.inner.set_exit_flows(exit_flows.into())?)
    }

    /// Sets which connections are access sessions of which resource, in place of the rules before.
    pub fn set_session_rules(&self, rules: Vec<ResourceRule>) -> Result<(), TuntrailError> {
        let rules = rules.into_iter().map(ResourceRule::into_core).collect::<Result<_, _>>()?;
        Ok(self.inner.set_session_rules(rules)?)
    }

    /// Tells the state of the device's network, whenever it changes. With another [`NetworkState::id`] than before, or after a
    /// time without a network, a running tunnel moves to the new network: new sockets, new handshakes, names resolved
    /// again. Returns at once.
    pub fn set_network_state(&self, state: NetworkState) -> Result<(), TuntrailError> {
        self.inner.set_network_state(state.into_core())?;
        let kind = state.interface.filter(|_| state.connected).unwrap_or(InterfaceKind::Unknown);
        self.inner.socket_counters()?.set_interface(kind.into());
        let now = state.connected.then_some(state.id);
        let before = self.network.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if state.connected && before.is_some_and(|before| before != now) {
            return self.refresh_tunnel();
        }
        Ok(())
    }

    /// Makes a running tunnel open new sockets and handshake anew, as after a change of the network: for the wake-up of a device
    /// whose sockets may be dead. One that is starting does so as soon as it runs. Returns at once; harmless without a tunnel.
    pub fn refresh_tunnel(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.refresh_tunnel()?)
    }

    /// Tells the state of the power supply, whenever it changes. Decides about automatic uploads only.
    pub fn set_power_state(&self, state: PowerState) -> Result<(), TuntrailError> {
        Ok(self.inner.set_power_state(state.into_core()?)?)
    }

    /// Sends what was recorded until now: the named kinds, or everything. `reason` goes to the SDK's own log. Returns when sending has
    /// begun; progress comes as [`Event::UploadProgress`](crate::Event::UploadProgress). If the process is killed before it has ended,
    /// the next start goes on with it.
    #[uniffi::method(default(streams = []))]
    pub fn upload(&self, reason: &str, streams: Vec<Stream>) -> Result<Arc<Upload>, TuntrailError> {
        Upload::start(&self.inner, &self.events, reason, &streams)
    }

    /// Sends what support needs, under a marker that the user can read out. Puts everything recorded so far and a record of the
    /// request on disk, and returns when sending has begun; progress comes as
    /// [`Event::UploadProgress`](crate::Event::UploadProgress). If the process is killed before it has ended, the next start goes on
    /// with it.
    pub fn request_debug_upload(&self, request: DebugRequest) -> Result<DebugUpload, TuntrailError> {
        request.start(&self.inner, &self.events)
    }

    /// Obeys a command that came to the app, for example in a push message: JSON of at most 4 KiB. Throws
    /// [`TuntrailError::Config`] for what is not understood, not allowed or too often; nothing was done then. Waits for the disk.
    pub fn handle_command(&self, command: &str) -> Result<CommandOutcome, TuntrailError> {
        debug::handle_command(&self.inner, &self.events, command)
    }

    /// Lets nothing be sent until [`Self::resume_uploads`]. What is asked for meanwhile waits; a request under way is finished.
    pub fn pause_uploads(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.pause_uploads()?)
    }

    /// Ends the pause. Also tells that credentials that were refused may be right now.
    pub fn resume_uploads(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.resume_uploads()?)
    }

    /// With [`UploadSettings::host_transport`](crate::UploadSettings::host_transport): what to send next. Ask for an upload first.
    /// Waits for the disk.
    pub fn next_upload_task(&self) -> Result<UploadTask, TuntrailError> {
        Ok(self.inner.next_task()?.into())
    }

    /// Tells what came of a task. Delivered records leave the disk before this returns.
    pub fn complete_upload_task(&self, task: u64, result: UploadTaskResult) -> Result<(), TuntrailError> {
        Ok(self.inner.complete(task, result.into())?)
    }

    /// Takes over what the process of another role has recorded and not sent, so that the next upload of this one sends it: for an app
    /// that uploads while its extension does not run. Returns how many segments were taken. Waits for the disk.
    pub fn claim(&self, role: Role) -> Result<u64, TuntrailError> {
        Ok(self.inner.claim(&role.into())? as u64)
    }

    /// Records for `duration` how many bytes each of the app's jobs moves, then stops by itself, also over restarts; with
    /// `upload_at_end` it is uploaded then. One that runs already is replaced; no time is none. Waits for the disk.
    #[uniffi::method(default(upload_at_end = false))]
    pub fn enable_socket_stats(&self, duration: Duration, upload_at_end: bool) -> Result<(), TuntrailError> {
        let at_end = if upload_at_end { AtEnd::Upload } else { AtEnd::Keep };
        Ok(self.inner.enable_socket_stats(duration, at_end)?)
    }

    /// Stops recording socket statistics. What was recorded waits on disk.
    pub fn disable_socket_stats(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.disable_socket_stats()?)
    }

    /// A counter for bytes that the app moves itself, under a label of its own from 64 to 65,535. All counters of a label are one; at
    /// most 128 labels.
    pub fn socket_counter(&self, label: u16) -> Result<Arc<SocketCounter>, TuntrailError> {
        let counter = self.inner.socket_counters()?.counter(sockets::label(label)?);
        Ok(SocketCounter::new(counter.map_err(TuntrailError::config)?))
    }

    /// Counts what a connected TCP socket of the app moves, as the kernel has it. The descriptor must be open during the call.
    /// Linux, Android and Apple only.
    pub fn register_socket(
        &self,
        descriptor: i32,
        label: u16,
    ) -> Result<Arc<RegisteredSocket>, TuntrailError> {
        RegisteredSocket::new(&self.inner.socket_counters()?, descriptor, sockets::label(label)?)
    }

    /// Closes the open window and gives everything recorded so far to the disk: for moments after which the process may be killed or
    /// frozen. Waits for the disk; does nothing without consent.
    pub fn flush(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.flush()?)
    }

    /// Writes everything recorded so far into one new file at `path`, a `.tar.zst` of JSON lines that a user can look at and mail.
    /// Records stay where they are. Waits for the disk, in constant memory; the file appears when it is complete.
    pub fn export(&self, path: &str) -> Result<ExportReport, TuntrailError> {
        Ok(self.inner.export(Path::new(path))?.into())
    }

    /// Deletes every record and log line, sent or not, and goes on recording. A running upload is cancelled. Waits for the disk.
    pub fn clear(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.clear()?)
    }

    /// The name of this device's log at the server, to be read out to support or to ask for its deletion. It gives no access. None
    /// without consent.
    pub fn log_id(&self) -> Result<Option<String>, TuntrailError> {
        self.check_open()?;
        Ok(self.inner.log_id().map(|id| id.to_string()))
    }

    /// What the client has done so far. Waits for the tunnel's thread, which is woken.
    pub fn stats(&self) -> Result<ClientStats, TuntrailError> {
        self.check_open()?;
        Ok(ClientStats::new(self.inner.stats(), self.events.stats(), SystemClock.now()))
    }

    /// Changes what the process logs, see [`ClientConfig::log_filter`].
    pub fn set_log_filter(&self, filter: &str) -> Result<(), TuntrailError> {
        self.check_open()?;
        log::set_filter(filter)
    }

    /// Stops the tunnel, writes every record to disk, and ends all threads. Nothing is sent; a running upload is cancelled. No
    /// event comes after it but one whose call has begun. Waits for the disk; harmless when repeated.
    pub fn shutdown(&self) -> Result<(), TuntrailError> {
        let report = self.inner.shutdown();
        self.events.close();
        drop(self.log_owner.lock().unwrap_or_else(PoisonError::into_inner).take());
        match report.error {
            None => Ok(()),
            Some(reason) => Err(TuntrailError::Storage { reason }),
        }
    }
}

impl Client {
    /// Uploads that nobody waits for become events, work that waits for the host among them.
    fn listen_to_uploads(&self) -> Result<(), TuntrailError> {
        let told = Arc::clone(&self.events);
        Ok(self.inner.set_upload_listener(move |event| told.upload(event))?)
    }

    /// Throws after a shutdown, for calls that the core takes without a word then.
    fn check_open(&self) -> Result<(), TuntrailError> {
        Ok(self.inner.socket_counters().map(drop)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The thread that calls the listener keeps the queue.
        self.events.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(all(test, unix))]
mod tests;
