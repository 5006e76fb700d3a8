//! The routes of the Internet, for tables of the size that routers have.

use fib::{Address, Prefix};

#[path = "../../fib/tests/real_table/mod.rs"]
mod real_table;

/// The routes of one family in ascending order; no default route.
pub fn routes<A: Address>() -> Vec<Prefix<A>> {
    real_table::routes()
}
