//! AF_XDP: frames shared with the kernel, without a copy in user space.
//!
//! ```text
//!   device --[XDP program]--> XSKMAP[rx queue] --> rx ring --> burst
//!      ^          '--> pass: the kernel's own stack
//!      '---- tx ring <-- burst                    completion ring --> free frames
//! ```
//!
//! [`Device`] holds what belongs to the device as a whole (the XDP program, its
//! maps), [`Queue`] what one worker owns. The kernel tries, in this order, zero
//! copy, native copy and generic copy; [`Device::crossing`] says which it was, and
//! [`Device::crossing_reason`] why not better.

mod device;
mod queue;
mod whole;

pub use device::{Crossing, Device, DeviceError, DeviceOptions, Mode, Sharing, Tuning};
pub use device::{largest_mtu, single_frame_mtu};
pub use queue::Queue;

#[cfg(test)]
mod tests;
