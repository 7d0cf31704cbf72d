//! The demo with real TUN devices and the kernel's TCP/IP: each node in a network namespace of its own, which no
//! program outside can see and which disappears with the demo.

mod servers;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use ipnet::IpNet;
use tuntrail::tunnel::TunDevice;

use self::servers::{HEADER, Servers};
use super::{
    Site,
    topology::{MTU, Role, served_addresses},
    traffic::Network,
};
use crate::{
    CommandError,
    linux::{
        LinuxError,
        netns::Namespace,
        route::{Routes, free_mark},
        tun::{Offload, Tun},
    },
};

/// Longer than any exchange of the demo takes; a lost packet must not hang it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A datagram or its answer may be lost, so the exchange is tried this often.
const UDP_ATTEMPTS: u32 = 3;
/// Far above the round trip inside one machine.
const UDP_PATIENCE: Duration = Duration::from_secs(1);

/// Two namespaces with a TUN device in each, and the servers behind the router.
pub(super) struct KernelSite {
    phone: Phone,
    router: Namespace,
    routes: Vec<(Role, Routes)>,
    servers: Option<Servers>,
}

struct Phone(Namespace);

impl KernelSite {
    pub(super) fn new() -> Result<Self, CommandError> {
        Ok(Self {
            phone: Phone(Namespace::new()?),
            router: Namespace::new()?,
            routes: Vec::new(),
            servers: None,
        })
    }

    fn namespace(&self, role: Role) -> &Namespace {
        match role {
            Role::Phone => &self.phone.0,
            Role::Router => &self.router,
        }
    }
}

impl Site for KernelSite {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn device(&mut self, role: Role) -> Result<TunDevice, CommandError> {
        let (device, routes) = self.namespace(role).run(move || {
            let (v4, v6) = role.addresses();
            let mut addresses: Vec<IpNet> = vec![IpAddr::V4(v4).into(), IpAddr::V6(v6).into()];
            if role == Role::Router {
                // The office and the Internet live on the router's own device.
                addresses.extend(served_addresses().map(IpNet::from));
            }
            let device = Tun::create(Some("tuntrail0"), &addresses, MTU, Offload::On)?;
            let routes = Routes::install(&device.name, &role.allowed_ips(), &[], free_mark()?)?;
            Ok::<_, LinuxError>((device, routes))
        })??;
        self.routes.push((role, routes));
        Ok(device.into())
    }

    fn network(&mut self) -> Result<&dyn Network, CommandError> {
        self.servers = Some(self.router.run(Servers::start)??);
        Ok(&self.phone)
    }
}

impl Drop for KernelSite {
    fn drop(&mut self) {
        self.servers = None;
        for (role, routes) in std::mem::take(&mut self.routes) {
            // Routes are removed in the namespace they stand in. A namespace whose thread is gone has taken them along.
            let _ = self.namespace(role).run(move || drop(routes));
        }
    }
}

impl Network for Phone {
    fn tcp(&self, to: SocketAddr, request: u64, response: u64) -> Result<(), CommandError> {
        // A socket belongs to the namespace it was made in, whichever thread uses it later.
        let mut stream = self.0.run(move || TcpStream::connect_timeout(&to, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&request.to_be_bytes())?;
        stream.write_all(&response.to_be_bytes())?;
        io::copy(&mut io::repeat(0x5a).take(request.saturating_sub(HEADER as u64)), &mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        let received = io::copy(&mut stream.take(response + 1), &mut io::sink())?;
        if received == response {
            Ok(())
        } else {
            Err(format!("{received} of {response} bytes came back").into())
        }
    }

    fn udp(&self, to: SocketAddr, size: usize) -> Result<(), CommandError> {
        let socket = self.0.run(move || {
            let any = SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok::<_, io::Error>(socket)
        })??;
        socket.set_read_timeout(Some(UDP_PATIENCE))?;
        let question = vec![0x5a; size];
        let mut answer = vec![0; size + 1];
        for _ in 0..UDP_ATTEMPTS {
            socket.send(&question)?;
            match socket.recv(&mut answer) {
                Ok(length) if answer.get(..length) == Some(&question) => return Ok(()),
                Ok(length) => return Err(format!("{length} bytes came back for {size}").into()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(format!("no answer to {UDP_ATTEMPTS} datagrams").into())
    }
}
