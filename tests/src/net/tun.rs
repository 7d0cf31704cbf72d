//! TUN devices of tuntrail's side.

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use ipnet::IpNet;
use tun_rs::{DeviceBuilder, Layer};

use super::NetError;

/// Creates a device in the calling thread's namespace, up and with its addresses. It disappears with the descriptor.
///
/// # Errors
/// When the kernel refuses, for example without root.
pub fn create_tun(name: &str, addresses: &[IpNet], mtu: u16) -> Result<OwnedFd, NetError> {
    let system = || NetError::system("creating a TUN device");
    let device = DeviceBuilder::new()
        .layer(Layer::L3)
        .name(name)
        .mtu(mtu)
        .packet_information(false)
        .offload(false)
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
    // A copy, because the device offers its descriptor only as a bare number. The original is closed here.
    device.as_fd().try_clone_to_owned().map_err(system())
}
