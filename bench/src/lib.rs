//! Measurements of vRouter: what the benches share.
//!
//! | module | what |
//! |---|---|
//! | [`cycles`] | the processor's cycle counter |
//! | [`idle`] | the idle mode as an argument |
//! | [`internet`] | the routes of the Internet |
//! | [`random`] | the same random numbers in every run |
//! | [`workload`] | which packets, over which tables |
//! | [`rig`] | a router between source and sink |

pub mod cycles;
pub mod idle;
pub mod internet;
pub mod random;
pub mod rig;
pub mod workload;
