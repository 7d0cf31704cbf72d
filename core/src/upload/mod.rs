//! The logtail-style uploader: sends what the store keeps, when somebody asks.
//!
//! ```text
//! POST {base}/c/{collection}/{private id}[?copyId=…]      Content-Encoding: zstd, Orig-Content-Length, Idempotency-Key
//! [{"logtail":{"client_time":"…","proc_id":1,"proc_seq":1},…}
//! ,{…}
//! ]
//! ```
//!
//! - [`PrivateId`] and [`PublicId`] name a stream; [`encode`] makes the entries that the store keeps.
//! - [`Uploader`] owns the thread `tuntrail-upload`, which sleeps until [`Uploader::upload`] is called. A pass
//!   closes the segments being written, sends all closed ones, oldest first, and deletes each when all of it was
//!   confirmed. Under [`UploadPolicy::OnDemand`], the default, nothing else ever opens a connection, also not after a
//!   restart with leftovers. Under [`UploadPolicy::Automatic`] the uploader also begins by itself, within the rules and the
//!   state of network and battery that the host tells it.
//! - A host with a transport of its own takes the requests from [`Uploader::next_task`] instead ([`Transport::Host`]).
//! - Delivery is at least once. A lost answer leads to a repetition with the same `Idempotency-Key` and the same bytes;
//!   a process that dies in between sends the segment again, and the server knows the entries by their ids.
//!
//! Inside, from the bottom up: `verdict` judges answers, `body` and `work` turn a segment into requests, `pass` is the
//! state machine of a pass, `policy` the one of when a pass begins; `control` and `shared` hold them for the threads;
//! `driver` and the host drive them.
//!
//! Private ids are in the URL, therefore no URL is ever part of an error, a report or a diagnostic line.

mod alarm;
mod body;
mod commands;
mod config;
mod control;
mod driver;
mod engine;
mod entry;
mod http;
mod id;
mod json;
mod pass;
mod policy;
mod report;
mod request;
mod rules;
mod shared;
mod source;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod ticket;
mod tls;
mod uploader;
mod verdict;
mod work;

pub(crate) use self::entry::encode_meta;
pub use self::{
    config::{Collection, ConfigError, Transport, UploadConfig},
    entry::{EntryIds, Envelope, Limits, MAX_OBJECT_BYTES, encode, encode_trusted_object, splice_ids},
    id::{ID_BYTES, IdError, PrivateId, PublicId},
    report::{
        BlockReason, BlockedStream, Rejection, UploadEvent, UploadOutcome, UploadProgress, UploadReport,
        UploadState, UploadStats,
    },
    request::forget_request,
    rules::{AutomaticPolicy, NetworkState, PowerState, UploadPolicy},
    task::{Task, TaskError, TaskResult, UploadTask},
    ticket::{ProgressListener, UploadTicket},
    tls::{PinnedRoots, Trust},
    uploader::{UploadOptions, UploadStream, Uploader},
};
