#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vrouter_fuzz::super_packets::run(data));
