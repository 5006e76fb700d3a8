//! Completion of partial transport checksums in software, for ports that cannot.

use encap::wire::checksum;

use crate::burst::Checksum;
use crate::frame::{Frame, FrameArea};

/// Where UDP has its checksum, from the transport header.
const UDP_FIELD: usize = 6;

/// The partial sum of bytes in pieces, which may have odd lengths.
#[inline]
pub fn sum_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut total, mut odd) = (0, false);
    for piece in pieces {
        let sum = checksum::fold(checksum::sum(piece));
        // Behind an odd number of bytes all words are shifted by one: swapped (RFC 1071 2 (B)).
        total += u64::from(if odd { sum.swap_bytes() } else { sum });
        odd ^= piece.len() % 2 == 1;
    }
    total
}

/// Finishes a partial checksum of the packet whose part in `frame`'s chunk, the head of its
/// chain, ends at `end`.
///
/// The field holds the folded pseudo-header sum (so the kernel leaves it), hence
/// summing from `start` to the end, field included, gives the whole sum.
pub fn complete(area: &FrameArea, frame: &mut Frame, end: u16, checksum: Checksum) {
    let Checksum::Partial { start, field } = checksum else { return };
    let Some(len) = end.checked_sub(start) else { return };
    let sum = sum_of(area.pieces(frame, start, len));
    let bytes = area.bytes_mut(frame, start, len);
    let at = field as usize;
    if bytes.len() < at + 2 {
        return;
    }
    let sum = match !checksum::fold(sum) {
        // In UDP 0 says "no checksum" (RFC 768). In TCP 0xffff would be as good for a receiver that sums, but is
        // no checksum that RFC 1624 3 lets a sender write.
        0 if at == UDP_FIELD => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameStore, HEADROOM};

    #[test]
    fn a_sum_does_not_depend_on_how_bytes_are_cut() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let whole = checksum::fold(checksum::sum(&bytes));
        for cut in [1, 2, 3, 7, 64, 999, 1000] {
            assert_eq!(checksum::fold(sum_of(bytes.chunks(cut))), whole, "pieces of {cut} bytes");
        }
    }

    #[test]
    fn a_sum_of_zero_is_written_as_each_protocol_has_it() {
        let store = FrameStore::new(FrameArea::new(1, 2048).unwrap());
        let start = HEADROOM as u16;
        for (field, written) in [(UDP_FIELD as u16, [0xff, 0xff]), (16, [0, 0])] {
            let mut frame = store.alloc().unwrap();
            // The words add up to 0xffff, the pseudo-header's sum in the field included.
            let bytes = store.area().bytes_mut(&mut frame, start, 20);
            bytes.fill(0);
            bytes[..2].copy_from_slice(&[0x12, 0x34]);
            bytes[usize::from(field)..usize::from(field) + 2].copy_from_slice(&[0xed, 0xcb]);
            complete(store.area(), &mut frame, start + 20, Checksum::Partial { start, field });
            assert_eq!(store.area().bytes(&frame, start + field, 2), written);
            store.free(frame);
        }
    }
}
