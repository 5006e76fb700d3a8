//! Truth tables that others have made, through resources, translation and engine.

mod calico;
mod changes;
mod kubernetes;
