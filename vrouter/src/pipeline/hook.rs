//! Stages that an embedding program adds, at named points of the path.
//!
//! A hook is called once per burst, never per packet. It may look at and change
//! packets and drop them; what it keeps per worker lives in the hook itself.

use core::fmt;

use crate::burst::Burst;
use crate::drop_reason::DropReason;
use crate::ids::Timestamp;
use crate::path_stage::PathStage;
use crate::pipeline::state::WorkerState;
use crate::tables::Tables;

/// Where a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HookPoint {
    /// After header checks, before decapsulation.
    AfterParse,
    /// After decapsulation and the source's policy, before the route lookup.
    BeforeLookup,
    /// With all headers in their final form.
    BeforeOutput,
}

/// A stage of the embedding program. Each worker has its own.
pub trait Stage: Send {
    /// Looks at a burst. Only lanes of `burst.alive` hold packets.
    fn run(&mut self, burst: &mut Burst, context: &mut HookContext<'_>);
}

/// What a hook may use.
pub struct HookContext<'a> {
    /// The tables of this burst.
    pub tables: &'a Tables,
    state: &'a mut WorkerState,
}

impl HookContext<'_> {
    /// The clock of this burst.
    pub fn now(&self) -> Timestamp {
        self.state.now
    }

    /// A packet's bytes.
    pub fn bytes<'b>(&'b self, burst: &'b Burst, lane: usize) -> &'b [u8] {
        burst.bytes(lane, self.state.pool.area())
    }

    /// A packet's bytes, to change. Checksums are the hook's duty.
    pub fn bytes_mut<'b>(&'b mut self, burst: &'b mut Burst, lane: usize) -> &'b mut [u8] {
        burst.bytes_mut(lane, self.state.pool.area())
    }

    /// Drops a packet, counted as [`DropReason::Hook`].
    pub fn drop(&mut self, burst: &mut Burst, lane: usize) {
        self.state.drop_packet(burst, lane, DropReason::Hook);
    }
}

/// A stage and its place.
pub struct Hook {
    /// Where it runs.
    pub point: HookPoint,
    /// What runs.
    pub stage: Box<dyn Stage>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("point", &self.point).finish_non_exhaustive()
    }
}

/// Runs the hooks of a point.
#[inline]
pub(super) fn run(point: HookPoint, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if state.hooks.is_empty() {
        return;
    }
    // Taken out while they run, so that they can use the state.
    let mut hooks = core::mem::take(&mut state.hooks);
    for hook in hooks.iter_mut().filter(|hook| hook.point == point) {
        hook.stage.run(burst, &mut HookContext { tables, state });
    }
    state.hooks = hooks;
    // They may have changed what parse has read.
    burst.in_columns = 0;
    state.lap(PathStage::Hooks);
}
