//! The TUN side of the driver: a descriptor of the system, or a [`QueueDevice`].

use std::{io, sync::Arc};

use polling::Poller;

use super::queue::{QueueDevice, QueueError};
use crate::tunnel::stats::IoCounts;

/// Where inner packets come from and go to. The tunnel closes it when it ends.
#[derive(Debug)]
pub enum TunDevice {
    /// A descriptor that gives and takes one packet per call: Android `VpnService`, Apple utun, Linux TUN.
    #[cfg(unix)]
    Fd(FdDevice),
    /// Packets are handed over in memory.
    Queue(QueueDevice),
}

/// How packets stand on a descriptor.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing but the packet: Android, Linux with `IFF_NO_PI`.
    Raw,
    /// Four bytes with the address family in front: Apple's utun.
    Utun,
}

/// A TUN descriptor.
#[cfg(unix)]
#[derive(Debug)]
pub struct FdDevice {
    fd: std::os::fd::OwnedFd,
    framing: Framing,
}

#[cfg(unix)]
impl FdDevice {
    /// Takes the descriptor over. It is made non-blocking when the tunnel starts.
    #[must_use]
    pub const fn new(fd: std::os::fd::OwnedFd, framing: Framing) -> Self {
        Self { fd, framing }
    }
}

/// What reading gave.
pub(super) enum Read {
    /// The packet's place in the buffer.
    Packet(std::ops::Range<usize>),
    /// Nothing there now.
    Empty,
    /// Nothing will ever come again.
    Ended,
}

/// The device as the loop uses it: never blocks.
pub(super) struct Device {
    device: TunDevice,
}

impl Device {
    pub(super) fn open(device: TunDevice, poller: &Arc<Poller>) -> io::Result<Self> {
        match &device {
            #[cfg(unix)]
            TunDevice::Fd(device) => rustix::io::ioctl_fionbio(&device.fd, true)?,
            TunDevice::Queue(queue) => {
                let poller = Arc::clone(poller);
                // Nothing to be done about an error: it comes only with the poller's end.
                queue.set_waker(Box::new(move || drop(poller.notify())));
            }
        }
        Ok(Self { device })
    }

    /// What the poller must watch, if anything.
    #[cfg(unix)]
    pub(super) fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &self.device {
            TunDevice::Fd(device) => Some(std::os::fd::AsFd::as_fd(&device.fd)),
            TunDevice::Queue(_) => None,
        }
    }

    /// Whether it must be asked for packets after each wake-up, as no readiness tells.
    pub(super) fn is_queue(&self) -> bool {
        matches!(self.device, TunDevice::Queue(_))
    }

    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Read {
        match &mut self.device {
            #[cfg(unix)]
            TunDevice::Fd(device) => device.read(buffer),
            TunDevice::Queue(queue) => match queue.recv(buffer) {
                Ok(true) => Read::Packet(0..buffer.len()),
                Ok(false) => Read::Empty,
                Err(_) => Read::Ended,
            },
        }
    }

    pub(super) fn write(&mut self, packet: &[u8], counts: &mut IoCounts) {
        match &mut self.device {
            #[cfg(unix)]
            TunDevice::Fd(device) => device.write(packet, counts),
            TunDevice::Queue(queue) => match queue.send(packet) {
                Ok(()) => {}
                Err(QueueError::Full) => counts.device_full += 1,
                Err(_) => counts.device_failed += 1,
            },
        }
    }
}

#[cfg(unix)]
mod fd {
    use std::io::IoSlice;

    use rustix::io::{Errno, read, write, writev};

    use super::{FdDevice, Framing, Read};
    use crate::tunnel::stats::IoCounts;

    /// Bytes in front of a packet in [`Framing::Utun`].
    const HEADER: usize = 4;
    /// One more than the longest IP packet with a header can need, rounded up.
    const READ_LEN: usize = (1 << 16) + HEADER;
    /// The families as Apple's systems number them, in network order.
    const APPLE_AF_INET: [u8; HEADER] = [0, 0, 0, 2];
    const APPLE_AF_INET6: [u8; HEADER] = [0, 0, 0, 30];

    impl FdDevice {
        pub(super) fn read(&self, buffer: &mut Vec<u8>) -> Read {
            if buffer.len() < READ_LEN {
                buffer.resize(READ_LEN, 0);
            }
            let start = match self.framing {
                Framing::Raw => 0,
                Framing::Utun => HEADER,
            };
            loop {
                return match read(&self.fd, buffer.as_mut_slice()) {
                    Ok(0) => Read::Ended,
                    Ok(length) => Read::Packet(start.min(length)..length),
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => Read::Empty,
                    Err(_) => Read::Ended,
                };
            }
        }

        pub(super) fn write(&self, packet: &[u8], counts: &mut IoCounts) {
            let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
            let family = if is_v6 { APPLE_AF_INET6 } else { APPLE_AF_INET };
            loop {
                let written = match self.framing {
                    Framing::Raw => write(&self.fd, packet),
                    Framing::Utun => writev(&self.fd, &[IoSlice::new(&family), IoSlice::new(packet)]),
                };
                match written {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN | Errno::NOBUFS) => counts.device_full += 1,
                    Err(_) => counts.device_failed += 1,
                }
                return;
            }
        }
    }
}
