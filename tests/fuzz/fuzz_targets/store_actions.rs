//! See `tuntrail_tests::fuzz::store_actions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::store_actions(data));
