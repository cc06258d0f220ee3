#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::fuzz::feed("socket_answer", data));
