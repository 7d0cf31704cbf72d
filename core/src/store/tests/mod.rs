//! Tests of the whole store on real files, and what they share.

mod accidents;
mod claims;
mod contract;
mod errors;
mod faults;
mod full_disk;
mod limits;
mod model;
mod processes;
mod support;
mod sync;
