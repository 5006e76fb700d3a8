//! The idle mode of a router as an argument of programs.

use clap::ValueEnum;
use vrouter::IdleMode;

/// What a worker does without work.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the words of IdleMode")]
pub enum Idle {
    Poll,
    Adaptive,
    Interrupt,
}

impl From<Idle> for IdleMode {
    fn from(idle: Idle) -> Self {
        match idle {
            Idle::Poll => IdleMode::Poll,
            Idle::Adaptive => IdleMode::Adaptive,
            Idle::Interrupt => IdleMode::Interrupt,
        }
    }
}
