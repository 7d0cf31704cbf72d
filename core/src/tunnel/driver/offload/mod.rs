//! Segmentation offload of Linux TUN devices: one read or write of the device carries many packets.
//!
//! With `IFF_VNET_HDR` each packet on the descriptor has a [`VnetHeader`] in front. The kernel hands over TCP and UDP
//! data in packets of up to 64 KiB and leaves cutting them ([`split`]) and their checksums to us; in return it takes packets that
//! [`Coalescer`] joined. What the tunnel carries and counts in between are packets as they would stand on a wire.
//!
//! Pure functions over bytes, called on the tunnel's thread. Whatever the bytes say, nothing here panics, allocates
//! per packet, or waits for more packets to come.

mod checksum;
mod coalesce;
mod headers;
mod split;
mod virtio;

pub(super) use self::{coalesce::Coalescer, split::split, virtio::VnetHeader};

#[cfg(test)]
mod tests;
