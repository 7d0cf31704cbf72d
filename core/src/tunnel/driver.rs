//! What connects the engine to the world: a thread, UDP sockets and a TUN device.

mod queue;

pub use queue::{PacketQueue, PacketQueueStats, QueueDevice, QueueError, packet_queue};
