//! The kernel's byte counts of a TCP socket, read with `getsockopt`.
//!
//! The structures grow with the kernel, so they are read as bytes at the offsets of the systems' headers, as far as the
//! kernel filled them.

use std::{io, os::fd::BorrowedFd};

use crate::sockstat::Bytes;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
/// Larger than any version of the structures; the kernel fills what it has.
const LEN: usize = 512;

/// Payload bytes of a TCP socket since it was made.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn tcp_bytes(fd: BorrowedFd<'_>) -> io::Result<Bytes> {
    // include/uapi/linux/tcp.h, struct tcp_info.
    const STATE: usize = 0;
    const BYTES_ACKED: usize = 120;
    const BYTES_RECEIVED: usize = 128;
    const BYTES_SENT: usize = 200;
    const BYTES_RETRANS: usize = 208;
    // States that the peer's FIN leads to. It takes a sequence number, and is counted as a byte.
    const AFTER_FIN: [u8; 3] = [/* CLOSE_WAIT */ 8, /* LAST_ACK */ 9, /* CLOSING */ 11];

    let info = Info::read(fd, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let too_old = || io::Error::from(io::ErrorKind::Unsupported);
    let received = info.u64(BYTES_RECEIVED).ok_or_else(too_old)?;
    let fin = info.bytes().get(STATE).is_some_and(|state| AFTER_FIN.contains(state));
    let tx = match (info.u64(BYTES_SENT), info.u64(BYTES_RETRANS)) {
        (Some(sent), Some(again)) => sent.saturating_sub(again),
        // Before Linux 4.19: what the peer has confirmed.
        _ => info.u64(BYTES_ACKED).ok_or_else(too_old)?,
    };
    Ok(Bytes { tx, rx: received.saturating_sub(fin.into()) })
}

/// Payload bytes of a TCP socket since it was made.
#[cfg(target_vendor = "apple")]
pub(super) fn tcp_bytes(fd: BorrowedFd<'_>) -> io::Result<Bytes> {
    // bsd/netinet/tcp.h, struct tcp_connection_info. The libc crate's structure of this name takes bit fields for whole
    // words.
    const TCP_CONNECTION_INFO: libc::c_int = 0x106;
    const TX_BYTES: usize = 64;
    const TX_RETRANSMIT_BYTES: usize = 72;
    const RX_BYTES: usize = 88;

    let info = Info::read(fd, libc::IPPROTO_TCP, TCP_CONNECTION_INFO)?;
    let (Some(sent), Some(again), Some(rx)) =
        (info.u64(TX_BYTES), info.u64(TX_RETRANSMIT_BYTES), info.u64(RX_BYTES))
    else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    Ok(Bytes { tx: sent.saturating_sub(again), rx })
}

/// Payload bytes of a TCP socket since it was made: not known on this system.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn tcp_bytes(_fd: BorrowedFd<'_>) -> io::Result<Bytes> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
struct Info {
    buffer: [u8; LEN],
    len: usize,
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
impl Info {
    fn read(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<Self> {
        let mut buffer = [0_u8; LEN];
        let mut len = LEN as libc::socklen_t;
        // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `len` bytes into the buffer,
        // which has that many, and the number of bytes it wrote into `len`.
        let result = unsafe {
            libc::getsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&fd),
                level,
                option,
                buffer.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { buffer, len: usize::try_from(len).unwrap_or(LEN).min(LEN) })
    }

    /// What the kernel filled.
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes().get(at..)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*bytes))
    }
}
