//! See `tuntrail_tests::fuzz::config_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::config_parse(data));
