//! Completion of partial transport checksums in software, for ports that cannot.

use encap::wire::checksum;

use crate::burst::Checksum;
use crate::frame::{Frame, FrameArea};

/// Finishes a partial checksum of the packet that ends at `end` in `frame`'s chunk.
///
/// The field holds the folded pseudo-header sum (so the kernel leaves it), hence
/// summing from `start` to the end, field included, gives the whole sum. A result
/// of zero is written as all ones, which UDP needs (RFC 768) and TCP treats alike.
pub fn complete(area: &FrameArea, frame: &mut Frame, end: u16, checksum: Checksum) {
    let Checksum::Partial { start, field } = checksum else { return };
    let Some(len) = end.checked_sub(start) else { return };
    let bytes = area.bytes_mut(frame, start, len);
    let at = field as usize;
    if bytes.len() < at + 2 {
        return;
    }
    let sum = match checksum::checksum(bytes) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
