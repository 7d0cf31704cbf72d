//! See `tuntrail_tests::fuzz::counter_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::counter_ops(data));
