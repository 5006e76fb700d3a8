//! The router on memory ports under a virtual clock.
//!
//! | module | what |
//! |---|---|
//! | `two_nodes` | two routers on a wire: pods reach each other, in the tunnel and without |
//! | `against_model` | many thousand frames through the router and a naive model of it |
//! | `drops` | a way to reach every drop reason, and the counters that move |
//! | `neighbors` | address resolution on uplinks, packets that wait |
//! | `world`, `frames` | the model's configuration, and the frames |

mod against_model;
mod drops;
mod frames;
mod neighbors;
mod two_nodes;
mod world;
