//! Access sessions: who used which resource, when, and how much it carried.
//!
//! A resource is a service behind the network that somebody wants to know the users of. A [`ResourceRule`] says which
//! connections use it; each of them is a session, from its first to its last sign of life.
//!
//! - [`SessionLog`] is the state machine: active sessions, finished ones that wait, and when they are due. It has
//!   neither a thread nor a clock.
//! - [`SessionLogger`] owns one, a worker thread and the [`SessionSink`] that takes the batches. Its thread sleeps for
//!   ever while no session is active and none waits.
//! - Sessions are driven by whoever accepts connections (`start_session`, `add_bytes`, `end_session`), or derived from
//!   flows that were counted (`observe`, `observe_message`). Both may be used at once.
//!
//! Records and batches are those of newt's access log, member for member. Short sessions between the same two parties
//! are consolidated by its rule, see [`consolidate`]. Deliberate differences:
//!
//! - Bytes are counted: `bytesTx` from the source to the resource, `bytesRx` back.
//! - IPv6 addresses have brackets where a port follows, and consolidate like IPv4.
//! - A session ends at its last sign of life. The silence by which that is noticed is not part of it, and no session is
//!   cut because of its age.
//! - `endedAt` is `startedAt` plus monotonic time: a step of the wall clock neither stretches a session nor moves a
//!   deadline, and gaps are monotonic, too.
//! - A session that never came about, such as a dial that failed, has the member `"outcome":"failed"`, an extension,
//!   and is consolidated only with its like.
//! - A batch that was not taken waits, counts and all; new attempts back off. Beyond the limit the sessions that ended
//!   first are given up, and the next batch says how many.
//!
//! Nothing here decides about consent or exit privacy: what is given to it may be recorded.

mod batch;
mod config;
mod consolidate;
mod log;
mod logger;
mod outbox;
mod record;
mod rule;
mod sink;
mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    batch::{DropCount, SessionBatch},
    config::{SessionConfig, SessionConfigError},
    consolidate::{CONSOLIDATION_GAP, consolidate},
    log::{Delivery, FlowActivity, FlowState, SessionError, SessionLog},
    logger::{SessionLogger, Undelivered},
    record::{AccessSession, Outcome, SessionId, SourceAddr},
    rule::{ResourceId, ResourceRule, check_rules},
    sink::{SessionRecords, SessionSink, SinkError},
    stats::SessionStats,
};
