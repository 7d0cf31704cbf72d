//! Helpers of the uploader's tests: a source in memory, a scripted HTTP server on loopback, sleeping by a clock that is
//! moved by hand, and a host that carries tasks.

mod alarm;
mod host;
mod server;
mod source;

pub(super) use self::{
    alarm::{ManualAlarm, VirtualAlarm},
    host::carry,
    server::{Received, Reply, Server},
    source::{FakeSource, PROC_ID},
};
