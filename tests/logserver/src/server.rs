//! The server as its owner sees it: a thread that serves until it is stopped.

use std::{
    future::IntoFuture,
    io,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::{runtime, sync::watch, task::yield_now, time::sleep};

use crate::{
    Entry, Fault, RequestLog, ServerConfig, ServerError, Stats, Times,
    connection::{BoundedListener, Switch},
    routes::{Shared, router},
    store::Store,
};

/// How long a client may take to send the rest of a request once the server is told to stop; then it is cut
/// off. An upload that has arrived is stored and answered, however long the database takes.
const GRACE: Duration = Duration::from_secs(1);

/// A running log server. Dropping it stops it.
///
/// All methods may be called from any thread; those that read entries or wait block it.
pub struct Server {
    address: SocketAddr,
    shared: Shared,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the database, binds the address and starts to serve on a thread of its own.
    ///
    /// # Errors
    ///
    /// If the database cannot be used, the address cannot be bound, or the system gives no thread.
    pub fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let listen = |source| ServerError::Listen { address: config.listen, source };
        let store = Store::open(&config.database, &config.limits)?;
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Thread)?;

        let (stop, stopped) = watch::channel(false);
        let shared = Shared::new(config.limits.clone(), store, stopped.clone());
        let service = router(&config, shared.clone()).into_make_service_with_connect_info::<Switch>();
        let listener = {
            let _inside = runtime.enter();
            BoundedListener::new(
                tokio::net::TcpListener::from_std(listener).map_err(listen)?,
                config.limits.connections,
            )
        };
        let at_work = shared.clone();
        let thread = thread::Builder::new()
            .name("tuntrail-logserver".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, service, at_work, stopped)) {
                    tracing::error!(%error, "the log server ended");
                }
            })
            .map_err(ServerError::Thread)?;
        tracing::debug!(%address, "the log server is up");
        Ok(Self { address, shared, stop, thread: Some(thread) })
    }

    /// The address it listens on, with the port that the system chose if the configuration said 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address for clients on this machine, such as `http://127.0.0.1:4321`; without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// Lets requests under way end, closes all connections and waits for the thread. Clients have a second to send
    /// the rest of a request; the database has the time that it has at any other moment. What was received can still
    /// be looked at. Does nothing the second time.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log server's thread had panicked");
        }
    }

    /// Lets the next uploads, as many as `times` says, fail in this way. Faults queue up: one has its turn when
    /// those before it are used up.
    ///
    /// # Errors
    ///
    /// [`ServerError::InvalidFault`] if it cannot be carried out (a status that is none, a header that cannot be
    /// sent, too long a pause) or 1,024 faults wait already.
    pub fn inject(&self, fault: Fault, times: Times) -> Result<(), ServerError> {
        self.shared.faults.push(fault, times)
    }

    /// Forgets all faults. One that is being carried out goes on.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// The latest requests, oldest first, as many as the configuration lets it remember.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestLog> {
        self.shared.journal.requests()
    }

    /// The totals since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.journal.stats()
    }

    /// Waits until the totals meet `condition` and returns them; `None` if they don't within `timeout`.
    /// Counters and [`requests`](Self::requests) change together, before the response is sent; only
    /// [`Stats::faults`] changes as soon as a fault begins.
    pub fn wait_for(&self, condition: impl FnMut(&Stats) -> bool, timeout: Duration) -> Option<Stats> {
        self.shared.journal.wait_for(condition, timeout)
    }

    /// All entries of a collection, by public ID, `proc_id` and `proc_seq`; entries without these numbers come
    /// first, in the order of arrival. Empty for an unknown collection.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn entries(&self, collection: &str) -> Result<Vec<Entry>, ServerError> {
        self.shared.store.all(collection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Serves until told to stop, then as long as requests are under way; those that have not arrived completely at the
/// end of the grace period are given up.
async fn serve(
    listener: BoundedListener,
    service: IntoMakeServiceWithConnectInfo<axum::Router, Switch>,
    shared: Shared,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut told = stopped.clone();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        // An error means that the sender is gone, and with it whoever wanted the server.
        let _ = told.wait_for(|stopped| *stopped).await;
    });
    tokio::select! {
        result = serving.into_future() => result,
        () = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(GRACE).await;
            shared.at_rest().await;
            // The last answer was made in this moment; its connection has its turn to write it.
            yield_now().await;
        } => Ok(()),
    }
}
