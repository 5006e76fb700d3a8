//! What the fuzz targets do with their input; each panics where something is wrong.
//!
//! | target | input | what must hold, beside not panicking |
//! |---|---|---|
//! | [`frame_parser`] | one Ethernet frame | the offsets of the parse stage lie inside the frame; parsers agree |
//! | [`pipeline`] | a script of frames and events | every packet in one counter, every frame back, no spoofed source leaves |
//! | [`config`] | TOML | a configuration without errors has no finding that is one |
//! | [`resource`] | YAML | what was read is read again from its own canonical form |
//! | [`selector`] | a selector and labels | the canonical form means the same; negation means the opposite |
//! | [`program`] | a script of sets, rules and packets | compiled policy says what the plain interpreter says |
//! | [`neighbor`] | a script of frames and time | frames sent are well formed, the table stays bounded |
//! | [`super_packets`] | a script of packets | what is put together is cut up into the same packets |
//!
//! `tests/fuzz/run` builds and runs them; saved inputs are replayed by the ordinary tests too.

pub mod config;
pub mod frame_parser;
pub mod neighbor;
pub mod pipeline;
pub mod program;
pub mod resource;
pub mod script;
pub mod selector;
pub mod super_packets;
