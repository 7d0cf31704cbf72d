//! Socket options that no library sets for us, and those that quinn-udp sets for QUIC and a tunnel wants otherwise.

use std::net::UdpSocket;

/// Lets the system fragment datagrams that are too large for the path. Best effort: what fails leaves the socket usable.
///
/// quinn-udp forbids it because QUIC probes the path's MTU. WireGuard doesn't, and a path with a smaller MTU than the
/// configuration supposes would swallow every full packet. On Linux this is the system's default: it learns the path's MTU
/// and fragments only what is larger.
pub(super) fn allow_fragments(socket: &UdpSocket) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::net::sockopt::{
            Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
        };
        let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT);
        let _ = set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT);
    }
    let is_v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
    #[cfg(unix)]
    if is_v6 {
        unix::switch_off(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG);
    }
    #[cfg(target_vendor = "apple")]
    if !is_v6 {
        unix::switch_off(socket, libc::IPPROTO_IP, libc::IP_DONTFRAG);
    }
    #[cfg(windows)]
    windows::allow_fragments(socket, is_v6);
}

/// Asks for room for received datagrams; whatever the system gives is fine. A privileged process gets it beyond what the
/// administrator allows others (`net.core.rmem_max`, 208 KiB by default).
pub(super) fn enlarge_receive_buffer(socket: &socket2::Socket, bytes: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_ok() {
        return;
    }
    // Smaller buffers work too; they lose more in bursts.
    drop(socket.set_recv_buffer_size(bytes));
}

/// Receive times, which quinn-udp asks of Linux, cost a clock reading per packet and are of no use here.
pub(super) fn forget_timestamps(socket: &UdpSocket) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    unix::switch_off(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

#[cfg(unix)]
mod unix {
    use std::{net::UdpSocket, os::fd::AsRawFd};

    /// Sets an option of type int to 0. There is nothing to do about a failure.
    pub(super) fn switch_off(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) {
        let off: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `socket` is borrowed, and the pointer and the length are those of
        // an int that outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const off).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::{net::UdpSocket, os::windows::io::AsRawSocket};

    use windows_sys::Win32::Networking::WinSock::{
        IP_DONTFRAGMENT, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, SOCKET, setsockopt,
    };

    pub(super) fn allow_fragments(socket: &UdpSocket, is_v6: bool) {
        let (level, option) =
            if is_v6 { (IPPROTO_IPV6, IPV6_DONTFRAG) } else { (IPPROTO_IP, IP_DONTFRAGMENT) };
        let off = 0_i32.to_ne_bytes();
        // SAFETY: the socket is open as long as it is borrowed, and pointer and length are those of an array that
        // outlives the call.
        unsafe {
            setsockopt(socket.as_raw_socket() as SOCKET, level, option, off.as_ptr(), off.len() as i32)
        };
    }
}
