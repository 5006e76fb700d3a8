//! Measurements of vRouter: what the benches share.
//!
//! | module | what |
//! |---|---|
//! | [`cycles`] | the processor's cycle counter |
//! | [`rig`] | a router between a packet source and a sink in memory |

pub mod cycles;
pub mod rig;
