//! See `tuntrail_tests::fuzz::engine_datagram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::engine_datagram(data));
