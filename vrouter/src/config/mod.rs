//! The configuration file: TOML in, a typed [`Config`] or all of its faults out.
//!
//! ```text
//!  text --read--> draft + findings --check--> more findings --the caller's system checks--> finish()
//!        (section by section,       (pods, pools,           (devices, namespaces:
//!         every key taken by name)   blocks, frames)         pushed into the same collector)
//! ```
//!
//! [`EXAMPLE`] is the reference of every key. Invariants: every finding names the key, its line and
//! column, what was found and what was expected; all findings are reported in one go; an unknown key and
//! a feature that this release does not have are errors.

mod check;
mod diagnostics;
mod model;
mod pod;
mod read;
mod section;
mod suggest;
#[cfg(test)]
mod tests;

pub use diagnostics::{Diagnostic, Diagnostics, Place, Setting, Severity};
pub use model::{
    Config, Ecmp, IdleMode, Memory, Node, Peer, Pod, Policy, Pool, Sharing, StaticRoute, Uplink, UplinkMode,
    Workers,
};
pub use pod::{
    Attach, INTERFACE_NAME, PodFault, PodField, PodName, PodSpec, check_interface_name, parse_pod_address,
};

/// A commented configuration that shows every key with its default or an example.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What a configuration is held against, asked of the system by the caller.
pub struct Host<'a> {
    /// The host's name, the default of `node.name`.
    pub name: &'a str,
    /// Numbers of the cores that this process may use, ascending.
    pub cpus: &'a [usize],
    /// Packet frames that the ports and workers of a configuration need at least.
    pub frames_needed: &'a dyn Fn(&Config) -> u32,
}

/// A configuration as far as it could be read, and what is wrong with it.
pub struct Reading {
    /// Values that could not be read hold their defaults; tables that lack a required key are left
    /// out. Good for further checks, not for use: see [`Reading::finish`].
    pub draft: Config,
    /// The findings so far; further checks push theirs.
    pub diagnostics: Diagnostics,
}

impl Reading {
    /// The configuration and its warnings; or, when there is an error, all the findings.
    pub fn finish(self) -> Result<(Config, Diagnostics), Diagnostics> {
        if self.diagnostics.errors() == 0 {
            Ok((self.draft, self.diagnostics))
        } else {
            Err(self.diagnostics)
        }
    }
}

/// Reads a configuration from `text`; `file` is its name in the findings. Does no I/O.
pub fn read(file: &str, text: &str, host: &Host<'_>) -> Reading {
    let mut diagnostics = Diagnostics::new(file, text);
    let draft = read::read(text, host, &mut diagnostics);
    check::check(&draft, host, &mut diagnostics);
    Reading { draft, diagnostics }
}
