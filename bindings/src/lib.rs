//! The UniFFI facade of tuntrail: what Kotlin, Swift and C# see.
//!
//! It only translates: records in, records out, one error type. All methods may be called from any thread; those that
//! wait for the disk or the network say so and belong on a background thread. Packets never cross this boundary: the
//! host hands over the TUN descriptor, or names the Wintun adapter.
//!
//! What calls back: an [`EventListener`], always on the thread `tuntrail-events`; a [`SocketProtector`] and a
//! [`HostResolver`], on threads that their docs name. A panic inside is an error at the caller, never the end of the process.

mod client;
mod config;
mod consent;
mod debug;
mod error;
mod events;
mod log;
mod network;
mod redacted;
mod sockets;
mod stats;
mod tasks;
mod tunnel;
mod uploads;

pub use self::{
    client::Client,
    config::{
        AutomaticUploads, ClientConfig, Collections, FlowSettings, Header, Role, SessionSettings,
        UploadSettings,
    },
    consent::Consent,
    debug::{CommandOutcome, DebugRequest, DebugUpload, RemoteCommands},
    error::{CallbackError, TuntrailError},
    events::{Event, EventListener},
    network::{
        ExitFlows, InterfaceKind, NetworkMap, NetworkState, Node, PortRange, PowerState, ResourceRule,
        Routes, User,
    },
    sockets::{RegisteredSocket, SocketCounter},
    stats::{
        ClientStats, EventStats, ExportReport, FlowStats, LogStats, PeerStats, SessionStats,
        SocketStatsTotals, StoreStats, StreamStats, Traffic, TunnelStats, UploaderStats,
    },
    tasks::{UploadTask, UploadTaskResult},
    tunnel::{
        HostResolver, Peer, SocketProtector, TunDevice, TunnelConfig, TunnelInfo, generate_private_key,
        parse_tunnel_config, public_key_of,
    },
    uploads::{Stream, Upload, UploadOutcome, UploadProgress, UploadReport},
};

uniffi::setup_scaffolding!();
