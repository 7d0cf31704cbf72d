//! See `tuntrail_tests::fuzz::command_handle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tuntrail_tests::fuzz::command_handle(data));
