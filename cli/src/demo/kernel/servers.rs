//! What answers behind the router: a TCP server and a UDP echo at every destination of the demo.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{RecvFlags, Shutdown, recvfrom, shutdown};
use tracing::debug;

use crate::demo::topology::{Exchange, activities};

/// A request starts with its own length and the length of the answer, both as big-endian `u64`.
pub(super) const HEADER: usize = 16;
/// No request of the demo takes longer; ends a server thread whose client is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Running servers. Dropping them stops and joins their threads.
pub(super) struct Servers {
    listeners: Vec<Arc<TcpListener>>,
    sockets: Vec<Arc<UdpSocket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Binds every destination in the network namespace of the calling thread.
    pub(super) fn start() -> io::Result<Self> {
        let mut servers = Self { listeners: Vec::new(), sockets: Vec::new(), threads: Vec::new() };
        for activity in activities() {
            match activity.exchange {
                Exchange::Tcp { .. } => servers.serve_tcp(activity.to)?,
                Exchange::Udp { .. } => servers.serve_udp(activity.to)?,
            }
        }
        Ok(servers)
    }

    fn serve_tcp(&mut self, at: SocketAddr) -> io::Result<()> {
        let listener = Arc::new(TcpListener::bind(at)?);
        self.listeners.push(Arc::clone(&listener));
        self.spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let served = thread::Builder::new().name("server".to_owned()).spawn(move || {
                    if let Err(error) = answer(stream) {
                        debug!(%from, %error, "request not answered");
                    }
                });
                if let Err(error) = served {
                    debug!(%error, "no thread for a request");
                }
            }
        })
    }

    fn serve_udp(&mut self, at: SocketAddr) -> io::Result<()> {
        let socket = Arc::new(UdpSocket::bind(at)?);
        self.sockets.push(Arc::clone(&socket));
        self.spawn(move || {
            let mut datagram = [0; 2048];
            // Not by std, which panics when a socket that was shut down gives a datagram without a sender.
            while let Ok((length, _, from)) = recvfrom(&socket, &mut datagram, RecvFlags::empty()) {
                let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { return };
                if let Some(content) = datagram.get(..length)
                    && let Err(error) = socket.send_to(content, from)
                {
                    debug!(%from, %error, "datagram not answered");
                }
            }
        })
    }

    fn spawn(&mut self, serve: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name("server".to_owned()).spawn(serve)?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Shutting a socket down ends a blocking accept or receive on it; an error means that it has ended already.
        for listener in &self.listeners {
            let _ = shutdown(listener, Shutdown::Both);
        }
        for socket in &self.sockets {
            let _ = shutdown(socket, Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads a request to its end and sends as many bytes as it asks for.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request_len = [0; 8];
    let mut response_len = [0; 8];
    stream.read_exact(&mut request_len)?;
    stream.read_exact(&mut response_len)?;
    let request_len = u64::from_be_bytes(request_len).saturating_sub(HEADER as u64);
    io::copy(&mut (&stream).take(request_len), &mut io::sink())?;
    io::copy(&mut io::repeat(0xa5).take(u64::from_be_bytes(response_len)), &mut stream)?;
    stream.flush()
}
