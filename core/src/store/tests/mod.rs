//! Tests of the whole store on real files, and what they share.

mod accidents;
mod contract;
mod faults;
mod model;
mod support;
