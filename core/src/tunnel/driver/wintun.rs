//! Wintun adapters: the TUN device of Windows.
//!
//! The packet rings are shared memory, so the tunnel's thread reads and writes them without system calls. No readiness
//! tells of packets in them; a waiting thread `tuntrail-wintun` sleeps on the driver's event, which is set when a
//! packet comes after the ring was found empty, and wakes the tunnel's.

use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use polling::Poller;
use windows_sys::Win32::{
    Foundation::{HANDLE, WAIT_OBJECT_0},
    System::Threading::{INFINITE, SetEvent, WaitForSingleObject},
};
use wintun::{Adapter, Session};

use super::device::Read;
use crate::tunnel::stats::IoCounts;

/// Bytes of each of the two rings; a power of two from 128 KiB to 64 MiB. Windows keeps them in memory that can't be
/// paged out; 2 MiB are 16 ms at 1 Gbit/s.
const RING_BYTES: u32 = 2 << 20;
/// What the ring says when it has no room (`ERROR_BUFFER_OVERFLOW`).
const RING_FULL: i32 = 111;

/// Why there is no adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WintunError {
    /// The library can't be loaded.
    #[error(
        "can't load {path}: {reason}; ship the signed wintun.dll of the process's architecture with the app"
    )]
    Library {
        /// Where it was looked for.
        path: String,
        /// What Windows said.
        reason: String,
    },
    /// The adapter can't be made or started.
    #[error("can't make the Wintun adapter {name}: {reason}; run as administrator or as a service")]
    Adapter {
        /// Its name.
        name: String,
        /// What Windows said.
        reason: String,
    },
}

/// A Wintun adapter that was made for a tunnel, and goes with it.
pub struct WintunDevice {
    // Dropped, thus ended, first: it waits for an event of the session.
    waiter: Option<Waiter>,
    session: Arc<Session>,
}

impl WintunDevice {
    /// Makes an adapter. `library` is the path of wintun.dll; whoever can write there can run code in this process.
    /// `name` is shown in the system's list of adapters, `kind` groups an app's adapters. With `guid` the same adapter,
    /// with its network profile, comes back each time. Addresses, routes and the MTU are the host's to set, by
    /// [`Self::luid`]. Needs administrator rights. Blocks while Windows installs the driver, which takes seconds the
    /// first time.
    ///
    /// # Errors
    /// [`WintunError`].
    pub fn create(library: &Path, name: &str, kind: &str, guid: Option<u128>) -> Result<Self, WintunError> {
        // SAFETY: loading a library runs its code. That is what the caller asks for, and the documentation says so.
        let wintun = unsafe { wintun::load_from_path(library) }.map_err(|error| WintunError::Library {
            path: library.display().to_string(),
            reason: error.to_string(),
        })?;
        let failed =
            |error: wintun::Error| WintunError::Adapter { name: name.to_owned(), reason: error.to_string() };
        let adapter = Adapter::create(&wintun, name, kind, guid).map_err(failed)?;
        let session = adapter.start_session(RING_BYTES).map_err(failed)?;
        Ok(Self { waiter: None, session: Arc::new(session) })
    }

    /// The number by which Windows' IP Helper functions know the adapter.
    #[must_use]
    pub fn luid(&self) -> u64 {
        // SAFETY: all fields of the union are views of the same 64 bits.
        unsafe { self.session.get_adapter().get_luid().Value }
    }

    /// Has `poller` woken when packets come.
    pub(super) fn watch(&mut self, poller: &Arc<Poller>) -> io::Result<()> {
        self.waiter = Some(Waiter::start(&self.session, Arc::clone(poller))?);
        Ok(())
    }

    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> Read {
        match self.session.try_receive() {
            Ok(Some(packet)) => {
                buffer.clear();
                buffer.extend_from_slice(packet.bytes());
                Read::Packet(0..buffer.len())
            }
            Ok(None) => Read::Empty,
            Err(_) => Read::Ended,
        }
    }

    pub(super) fn write(&self, packet: &[u8], counts: &mut IoCounts) {
        let Ok(length) = u16::try_from(packet.len()) else {
            counts.device_failed += 1;
            return;
        };
        match self.session.allocate_send_packet(length) {
            Ok(mut room) => {
                // Both have this length.
                for (to, from) in room.bytes_mut().iter_mut().zip(packet) {
                    *to = *from;
                }
                self.session.send_packet(room);
            }
            Err(wintun::Error::Io(error)) if error.raw_os_error() == Some(RING_FULL) => {
                counts.device_full += 1;
            }
            Err(_) => counts.device_failed += 1,
        }
    }
}

impl fmt::Debug for WintunDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WintunDevice").field("luid", &self.luid()).finish_non_exhaustive()
    }
}

/// The thread that waits for packets.
struct Waiter {
    stopping: Arc<AtomicBool>,
    event: Event,
    thread: Option<JoinHandle<()>>,
}

/// The session's event. Valid as long as the session.
#[derive(Clone, Copy)]
struct Event(HANDLE);

// SAFETY: a handle is a number that any thread may use.
unsafe impl Send for Event {}

impl Event {
    /// Sleeps until the event is set, and resets it. Returns false if it is no more.
    fn wait(self) -> bool {
        // SAFETY: the handle is valid: `WintunDevice` drops the waiter, which joins its thread, before the session.
        unsafe { WaitForSingleObject(self.0, INFINITE) == WAIT_OBJECT_0 }
    }

    fn set(self) {
        // SAFETY: as above.
        unsafe { SetEvent(self.0) };
    }
}

impl Waiter {
    fn start(session: &Session, poller: Arc<Poller>) -> io::Result<Self> {
        let event = session.get_read_wait_event().map_err(io::Error::other)?;
        let event = Event(event as HANDLE);
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let thread = thread::Builder::new().name("tuntrail-wintun".to_owned()).spawn(move || {
            let event = event;
            while event.wait() && !told.load(Ordering::Acquire) {
                // An error comes only with the poller's end, and then this ends too.
                drop(poller.notify());
            }
        })?;
        Ok(Self { stopping, event, thread: Some(thread) })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.event.set();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
