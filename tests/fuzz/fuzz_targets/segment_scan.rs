//! See `tuntrail_tests::fuzz::segment_scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::segment_scan(data));
