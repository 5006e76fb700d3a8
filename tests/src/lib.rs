//! What the tests of vRouter as a whole stand on.
//!
//! [`lab`] builds networks of real kernels in namespaces and runs the real programs in them.

pub mod lab;
