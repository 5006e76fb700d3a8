//! What the tests of the whole router share.
//!
//! | module | what |
//! |---|---|
//! | [`packet`] | writes frames, byte by byte |
//! | [`lab`] | routers on memory ports under a virtual clock, and the conservation law |
//! | [`model`] | a naive router that says what the real one must do |
//! | [`testbed`] | networks of real kernels in namespaces, with the real programs in them |
//! | [`odd_frames`] | real captures of what no honest station sends |

pub mod lab;
pub mod model;
pub mod odd_frames;
pub mod packet;
pub mod testbed;
