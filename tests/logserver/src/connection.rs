//! The connections of the server: bounded in number, and able to go wrong on demand.
//!
//! HTTP libraries don't send half a response. So a connection carries a [`Switch`]: once thrown, the next
//! thing the HTTP layer writes is replaced by given bytes, after which the connection ends.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Accepts at most a fixed number of connections at a time; further ones wait in the system's queue.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, connections: usize) -> Self {
        let slots = connections.clamp(1, Semaphore::MAX_PERMITS);
        Self { listener, slots: Arc::new(Semaphore::new(slots)) }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there is always a permit in the end.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off the delay of small packets");
        }
        (Connection { stream, switch: Switch::default(), _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One TCP connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    switch: Switch,
    _slot: Option<OwnedSemaphorePermit>,
}

/// Makes the connection that a request came in on go wrong.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<Mutex<Option<Vec<u8>>>>);

impl Switch {
    /// Sends `bytes` in place of the next response, then closes the connection.
    pub(crate) fn replace_response(&self, bytes: Vec<u8>) {
        *self.lock() = Some(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Switch {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().switch.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, switch, .. } = self.get_mut();
        let mut replacement = switch.lock();
        let Some(bytes) = replacement.as_mut() else { return Pin::new(stream).poll_write(context, data) };
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(context, bytes))?;
            bytes.drain(..written.min(bytes.len()));
        }
        // The HTTP layer gives the connection up at this error, which closes it.
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
