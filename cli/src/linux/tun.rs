//! TUN devices of `up` and `demo --tun`.

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use ipnet::IpNet;
use tun_rs::{DeviceBuilder, Layer};
use tuntrail::tunnel::{FdDevice, Framing, TunDevice};

use super::LinuxError;

/// Where the kernel offers TUN devices.
const TUN_NODE: &str = "/dev/net/tun";
/// Longest name of an interface: the kernel's IFNAMSIZ without the closing zero.
const MAX_NAME: usize = 15;

/// An interface that is up and has its addresses. It disappears when the last copy of the descriptor is closed.
#[derive(Debug)]
pub(crate) struct Tun {
    /// Non-blocking.
    pub(crate) fd: OwnedFd,
    /// How packets stand on it.
    pub(crate) framing: Framing,
    /// The interface's name, as chosen or given by the kernel.
    pub(crate) name: String,
}

/// Whether one read or write of a device may carry many packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Each is one IP packet without any header before it.
    Off,
    /// TCP, and UDP where the kernel can (Linux 6.2): much less work for the same traffic.
    On,
}

impl Tun {
    /// Creates a device in the calling thread's network namespace. `name` is taken as it is; `None` lets the kernel
    /// choose. Needs root.
    pub(crate) fn create(
        name: Option<&str>,
        addresses: &[IpNet],
        mtu: u16,
        offload: Offload,
    ) -> Result<Self, LinuxError> {
        if !Path::new(TUN_NODE).exists() {
            return Err(LinuxError::NoTunModule);
        }
        let system = |source| LinuxError::system("creating a TUN device", "CAP_NET_ADMIN", source);
        let mut builder = DeviceBuilder::new()
            .layer(Layer::L3)
            .mtu(mtu)
            .packet_information(false)
            .offload(offload == Offload::On)
            .enable(false);
        if let Some(name) = name {
            builder = builder.name(checked(name)?);
        }
        let device = builder.build_sync().map_err(system)?;
        let addressing =
            |source| LinuxError::system("giving an address to the TUN device", "CAP_NET_ADMIN", source);
        for address in addresses {
            match address.addr() {
                IpAddr::V4(ip) => device.add_address_v4(ip, address.prefix_len()),
                IpAddr::V6(ip) => device.add_address_v6(ip, address.prefix_len()),
            }
            .map_err(addressing)?;
        }
        device.enabled(true).map_err(system)?;
        device.set_nonblocking(true).map_err(system)?;
        let framing = match offload {
            Offload::Off => Framing::Raw,
            Offload::On => Framing::VnetHdr { udp: device.udp_gso() },
        };
        Ok(Self {
            name: device.name().map_err(system)?,
            framing,
            // A copy, because the device offers its descriptor only as a bare number. The original is closed here.
            fd: device.as_fd().try_clone_to_owned().map_err(system)?,
        })
    }
}

impl From<Tun> for TunDevice {
    fn from(tun: Tun) -> Self {
        Self::Fd(FdDevice::new(tun.fd, tun.framing))
    }
}

fn checked(name: &str) -> Result<&str, LinuxError> {
    let usual = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':' | '%');
    let valid =
        (1..=MAX_NAME).contains(&name.len()) && !matches!(name, "." | "..") && name.chars().all(usual);
    if valid { Ok(name) } else { Err(LinuxError::InterfaceName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{ErrorKind, Read, Write},
        net::{Ipv4Addr, SocketAddr, UdpSocket},
        time::Duration,
    };

    use tuntrail::{
        hook::{Direction, Protocol},
        packet::Header,
    };

    use super::*;
    use crate::linux::{ip::Ip, testing::namespace_or_skip};

    #[test]
    fn names_that_the_kernel_would_refuse_or_expand_are_errors() {
        for name in ["", "a/b", "a b", "..", "sixteen-letters-", "a:1", "tun%d"] {
            assert!(matches!(checked(name), Err(LinuxError::InterfaceName(_))), "{name:?}");
        }
        assert_eq!(checked("wg0").unwrap(), "wg0");
    }

    #[test]
    fn a_device_is_up_with_its_addresses_and_mtu_and_goes_with_its_descriptor() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let tun = Tun::create(Some("trail0"), &nets(), 1_380, Offload::On).unwrap();
                assert_eq!(tun.name, "trail0");
                let link = Ip::SYSTEM.run(&["-o", "link", "show", "dev", "trail0"]).unwrap();
                assert!(link.contains(": trail0"), "{link}");
                assert!(link.contains("mtu 1380") && link.contains(",UP"), "{link}");
                let addresses = Ip::SYSTEM.run(&["-o", "addr", "show", "dev", "trail0"]).unwrap();
                for net in nets() {
                    assert!(addresses.contains(&format!(" {net} ")), "{net} in {addresses}");
                }
                drop(tun);
                let gone = Ip::SYSTEM.run(&["-o", "link", "show", "dev", "trail0"]).unwrap_err();
                assert!(gone.to_string().contains("does not exist"), "{gone}");
            })
            .unwrap();
    }

    #[test]
    fn packets_pass_both_ways_without_any_header_and_reads_never_block() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let tun = Tun::create(None, &nets(), 1_420, Offload::Off).unwrap();
                let mut device = File::from(tun.fd);
                let socket = UdpSocket::bind((Ipv4Addr::new(10, 66, 0, 1), 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let peer: SocketAddr = "10.66.0.9:7".parse().unwrap();
                socket.send_to(b"there and back", peer).unwrap();

                // The kernel puts packets of its own on a new device, such as router solicitations.
                let mut packet = [0; 2_000];
                let len = loop {
                    let len = device.read(&mut packet).unwrap();
                    let header = Header::parse(&packet[..len]);
                    if header.protocol == Protocol::UDP && header.connection(Direction::Tx).dst == Some(peer)
                    {
                        break len;
                    }
                };
                // Swapping both addresses and both ports changes neither checksum.
                let (src, dst) = packet[12..20].split_at_mut(4);
                src.swap_with_slice(dst);
                packet[20..24].rotate_left(2);
                device.write_all(&packet[..len]).unwrap();
                let mut content = [0; 100];
                let (len, from) = socket.recv_from(&mut content).unwrap();
                assert_eq!((&content[..len], from), (b"there and back".as_slice(), peer));

                let end = loop {
                    if let Err(error) = device.read(&mut packet) {
                        break error;
                    }
                };
                assert_eq!(end.kind(), ErrorKind::WouldBlock);
            })
            .unwrap();
    }

    fn nets() -> Vec<IpNet> {
        ["10.66.0.1/24", "fd66::1/64", "10.67.0.1/32"].map(|net| net.parse().unwrap()).into()
    }
}
