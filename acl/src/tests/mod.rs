//! The compiled form against the plain interpreter and against published truth tables.

mod calico;
mod list;
mod random;
mod world;
