//! The TUN side of the driver: a descriptor of the system, or a [`QueueDevice`].

use std::{io, sync::Arc};

use polling::Poller;

#[cfg(target_os = "linux")]
use super::offload::{Coalescer, VnetHeader};
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
    /// A `struct virtio_net_hdr` of ten bytes in the machine's byte order in front, behind which may stand the data of many TCP segments
    /// or UDP datagrams: a Linux TUN device opened with `IFF_TUN | IFF_NO_PI | IFF_VNET_HDR`, with any of `TUN_F_CSUM`,
    /// `TUN_F_TSO4`, `TUN_F_TSO6`, `TUN_F_USO4` and `TUN_F_USO6` set by `TUNSETOFFLOAD`. It saves most system calls. Packets
    /// are counted as if they had been read and written one by one.
    #[cfg(target_os = "linux")]
    VnetHdr {
        /// Also write UDP datagrams joined: the kernel took `TUN_F_USO4` (Linux 6.2).
        udp: bool,
    },
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
    /// The place of a packet that stands for those that the header tells.
    #[cfg(target_os = "linux")]
    Joined(VnetHeader, std::ops::Range<usize>),
    /// Something that is no packet.
    #[cfg(target_os = "linux")]
    Malformed,
    /// Nothing there now.
    Empty,
    /// Nothing will ever come again.
    Ended,
}

/// The device as the loop uses it: never blocks.
pub(super) struct Device {
    device: TunDevice,
    /// Collects packets where the device takes many at once.
    #[cfg(target_os = "linux")]
    coalescer: Option<Coalescer>,
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
        #[cfg(target_os = "linux")]
        let coalescer = match &device {
            TunDevice::Fd(FdDevice { framing: Framing::VnetHdr { udp }, .. }) => Some(Coalescer::new(*udp)),
            _ => None,
        };
        Ok(Self {
            device,
            #[cfg(target_os = "linux")]
            coalescer,
        })
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

    /// Writes a packet, at the latest with [`Self::flush`]. What the device doesn't take is counted.
    pub(super) fn write(&mut self, packet: &[u8], counts: &mut IoCounts) {
        match &mut self.device {
            #[cfg(unix)]
            TunDevice::Fd(device) => {
                #[cfg(target_os = "linux")]
                if let Some(coalescer) = &mut self.coalescer {
                    return coalescer.push(packet, &mut device.joined_writer(counts));
                }
                device.write_packet(packet, counts);
            }
            TunDevice::Queue(queue) => match queue.send(packet) {
                Ok(()) => {}
                Err(QueueError::Full) => counts.device_full += 1,
                Err(_) => counts.device_failed += 1,
            },
        }
    }

    /// Writes what [`Self::write`] collected.
    pub(super) fn flush(&mut self, counts: &mut IoCounts) {
        #[cfg(target_os = "linux")]
        if let (Some(coalescer), TunDevice::Fd(device)) = (&mut self.coalescer, &self.device) {
            coalescer.flush(&mut device.joined_writer(counts));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = counts;
    }
}

#[cfg(unix)]
mod fd {
    use std::io::IoSlice;

    use rustix::io::{Errno, read, writev};

    use super::{FdDevice, Framing, Read};
    #[cfg(target_os = "linux")]
    use crate::tunnel::driver::offload::VnetHeader;
    use crate::tunnel::stats::IoCounts;

    /// Bytes in front of a packet in [`Framing::Utun`].
    const UTUN_HEADER: usize = 4;
    /// One more than the longest IP packet with a header can need, rounded up.
    const READ_LEN: usize = (1 << 16) + 64;
    /// The families as Apple's systems number them, in network order.
    const APPLE_AF_INET: [u8; UTUN_HEADER] = [0, 0, 0, 2];
    const APPLE_AF_INET6: [u8; UTUN_HEADER] = [0, 0, 0, 30];

    impl FdDevice {
        pub(super) fn read(&self, buffer: &mut Vec<u8>) -> Read {
            if buffer.len() < READ_LEN {
                buffer.resize(READ_LEN, 0);
            }
            let length = loop {
                match read(&self.fd, buffer.as_mut_slice()) {
                    Ok(0) => return Read::Ended,
                    Ok(length) => break length,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Read::Empty,
                    Err(_) => return Read::Ended,
                }
            };
            match self.framing {
                Framing::Raw => Read::Packet(0..length),
                Framing::Utun => Read::Packet(UTUN_HEADER.min(length)..length),
                #[cfg(target_os = "linux")]
                Framing::VnetHdr { .. } => match buffer.first_chunk() {
                    Some(header) if length >= VnetHeader::LEN => {
                        Read::Joined(VnetHeader::parse(*header), VnetHeader::LEN..length)
                    }
                    _ => Read::Malformed,
                },
            }
        }

        pub(super) fn write_packet(&self, packet: &[u8], counts: &mut IoCounts) {
            let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
            let header: &[u8] = match self.framing {
                Framing::Raw => &[],
                Framing::Utun if is_v6 => &APPLE_AF_INET6,
                Framing::Utun => &APPLE_AF_INET,
                #[cfg(target_os = "linux")]
                Framing::VnetHdr { .. } => &[0; VnetHeader::LEN],
            };
            self.write(header, packet, 1, counts);
        }

        /// Writes what a coalescer makes.
        #[cfg(target_os = "linux")]
        pub(super) fn joined_writer<'a>(
            &'a self,
            counts: &'a mut IoCounts,
        ) -> impl FnMut(&[u8], &[u8], u64) + 'a {
            |header, packet, packets| self.write(header, packet, packets, counts)
        }

        /// Writes what stands for `packets` packets.
        fn write(&self, header: &[u8], packet: &[u8], packets: u64, counts: &mut IoCounts) {
            let whole = [IoSlice::new(header), IoSlice::new(packet)];
            // One slice is cheaper for the system than two.
            let slices = if header.is_empty() { whole.get(1..).unwrap_or(&whole) } else { &whole };
            loop {
                match writev(&self.fd, slices) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN | Errno::NOBUFS) => counts.device_full += packets,
                    Err(_) => counts.device_failed += packets,
                }
                return;
            }
        }
    }
}
