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
//!   confirmed. Nothing else ever opens a connection, also not after a restart with leftovers.
//! - Delivery is at least once. A lost answer leads to a repetition with the same `Idempotency-Key` and the same bytes;
//!   a process that dies in between sends the segment again, and the server knows the entries by their ids.
//!
//! Private ids are in the URL, therefore no URL is ever part of an error, a report or a diagnostic line.

mod body;
mod config;
mod entry;
mod http;
mod id;
mod json;
mod pass;
mod report;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod uploader;
mod verdict;

pub(crate) use self::entry::encode_meta;
pub use self::{
    config::{Collection, ConfigError, UploadConfig},
    entry::{EntryIds, Envelope, Limits, MAX_OBJECT_BYTES, encode, encode_trusted_object, splice_ids},
    id::{ID_BYTES, IdError, PrivateId, PublicId},
    report::{Rejection, UploadOutcome, UploadProgress, UploadReport},
    tls::{PinnedRoots, Trust},
    uploader::{ProgressListener, UploadOptions, UploadStream, UploadTicket, Uploader},
};
