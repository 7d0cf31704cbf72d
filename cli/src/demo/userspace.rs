//! The demo without root: each node's TUN device is a packet queue, and a userspace TCP/IP stack sits behind it.

use std::net::{IpAddr, SocketAddr};

use tuntrail::tunnel::{PacketQueue, TunDevice, packet_queue};
use tuntrail_netlab::{Host, HostOptions, Ports, TcpService, Transfer, UdpExchange};

use super::{
    Site,
    topology::{MTU, Role},
    traffic::Network,
};
use crate::CommandError;

/// Packets that wait in each direction: two full TCP windows of the stack.
const QUEUE: usize = 256;

/// Two hosts.
#[derive(Default)]
pub(super) struct UserspaceSite {
    phone_queue: Option<PacketQueue>,
    router_queue: Option<PacketQueue>,
    phone: Option<Phone>,
    /// Runs until the site is dropped.
    router: Option<Host>,
}

struct Phone(Host);

impl Site for UserspaceSite {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn device(&mut self, role: Role) -> Result<TunDevice, CommandError> {
        let (device, queue) = packet_queue(QUEUE, MTU);
        match role {
            Role::Phone => self.phone_queue = Some(queue),
            Role::Router => self.router_queue = Some(queue),
        }
        Ok(TunDevice::Queue(device))
    }

    fn network(&mut self) -> Result<&dyn Network, CommandError> {
        let (Some(phone), Some(router)) = (self.phone_queue.take(), self.router_queue.take()) else {
            return Err("both tunnels must run before there is a network".into());
        };
        let options = |role: Role| {
            let (v4, v6) = role.addresses();
            HostOptions::new([IpAddr::V4(v4), IpAddr::V6(v6)]).name(role.name()).mtu(usize::from(MTU))
        };
        // The router answers for the office and the Internet, too.
        let router_options =
            options(Role::Router).any_ip().tcp(Ports::Any, TcpService::Exchange).udp_echo(Ports::Any);
        self.router = Some(Host::start(router_options, router)?);
        Ok(self.phone.insert(Phone(Host::start(options(Role::Phone), phone)?)))
    }
}

impl Network for Phone {
    fn tcp(&self, to: SocketAddr, request: u64, response: u64) -> Result<(), CommandError> {
        self.0.tcp_transfer(Transfer::new(to, request, response))?;
        Ok(())
    }

    fn udp(&self, to: SocketAddr, size: usize) -> Result<(), CommandError> {
        self.0.udp_exchange(UdpExchange::new(to, size, 1))?;
        Ok(())
    }
}
