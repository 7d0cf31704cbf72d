//! TUN devices of tuntrail's side.

use std::{net::IpAddr, os::fd::AsFd};

use ipnet::IpNet;
use tun_rs::{DeviceBuilder, Layer};
use tuntrail::tunnel::{FdDevice, Framing, TunDevice};

use super::NetError;

/// Whether one read or write of a device may carry many packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offload {
    /// Each is one packet.
    Off,
    /// TCP, and UDP where the kernel can.
    On,
}

/// Creates a device in the calling thread's namespace, up and with its addresses. It disappears with the tunnel that
/// gets it.
///
/// # Errors
/// When the kernel refuses, for example without root.
pub fn create_tun(
    name: &str,
    addresses: &[IpNet],
    mtu: u16,
    offload: Offload,
) -> Result<TunDevice, NetError> {
    let system = || NetError::system("creating a TUN device");
    let device = DeviceBuilder::new()
        .layer(Layer::L3)
        .name(name)
        .mtu(mtu)
        .packet_information(false)
        .offload(offload == Offload::On)
        .enable(false)
        .build_sync()
        .map_err(system())?;
    for address in addresses {
        match address.addr() {
            IpAddr::V4(ip) => device.add_address_v4(ip, address.prefix_len()),
            IpAddr::V6(ip) => device.add_address_v6(ip, address.prefix_len()),
        }
        .map_err(system())?;
    }
    device.enabled(true).map_err(system())?;
    let framing = match offload {
        Offload::Off => Framing::Raw,
        Offload::On => Framing::VnetHdr { udp: device.udp_gso() },
    };
    // A copy, because the device offers its descriptor only as a bare number. The original is closed here.
    let fd = device.as_fd().try_clone_to_owned().map_err(system())?;
    Ok(TunDevice::Fd(FdDevice::new(fd, framing)))
}
