//! The headers of a burst turned on their side, so that one instruction can look at the same
//! field of many packets.
//!
//! ```text
//!   frames      lane 0: [a0 a1 a2 a3]            words of 4 bytes at `at[lane] + skip`
//!               lane 1: [b0 b1 b2 b3]
//!               ...
//!   columns     word 0: [a0 b0 c0 ... ]  word 1: [a1 b1 c1 ...]  word 2 ...   (64 lanes each)
//! ```
//!
//! With AVX-512 sixteen lanes are read and transposed at a time, at some seven instructions a
//! lane for three pieces; elsewhere lane by lane. Both give the same columns (tested).
//!
//! Headers go back the same way: [`FrameArea::put_columns`], [`FrameArea::put_words`],
//! [`FrameArea::put_links`].
//!
//! Invariant: a lane that is not asked for, or whose bytes would leave its frame, reads zeroes and
//! is not written.

#![allow(unsafe_code, reason = "loads at computed addresses, vector instructions")]

use super::{Frame, FrameArea};
use crate::vector::{self, widest};

/// Lanes of a column.
pub const ROWS: usize = 64;
/// Bytes that are read at once.
const PIECE: usize = 16;
/// Lanes that are handled at once.
const GROUP: usize = 16;
/// Bytes of an Ethernet header.
const LINK: usize = 14;

/// Sixteen bytes of each packet as four columns of words, the first byte lowest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Columns(pub [[u32; ROWS]; 4]);

impl Default for Columns {
    fn default() -> Self {
        Columns([[0; ROWS]; 4])
    }
}

impl Columns {
    /// The words of one lane.
    #[inline(always)]
    pub fn of(&self, lane: usize) -> [u32; 4] {
        let [a, b, c, d] = &self.0;
        [a[lane], b[lane], c[lane], d[lane]]
    }
}

/// What is read where there is nothing to read; pieces reach no further behind `at`.
static ZEROES: [u8; 256] = [0; 256];

impl FrameArea {
    /// Reads `N` pieces of the frames in `mask`: piece `n` of a lane begins at `at[lane] + skips[n]`.
    /// Where only the first sixteen lanes are asked for, others are left alone.
    #[inline]
    pub fn columns<const N: usize>(
        &self,
        frames: &[Frame; ROWS],
        at: &[u16; ROWS],
        skips: [u16; N],
        mask: u64,
        out: &mut [Columns; N],
    ) {
        let reach = usize::from(skips.into_iter().max().unwrap_or(0)) + PIECE;
        if reach > ZEROES.len() {
            debug_assert!(false, "headers are shorter");
            return out.fill_with(Columns::default);
        }
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if crate::vector::has_avx512() {
            // SAFETY: the CPU has what the function is compiled for.
            return unsafe { self.columns_avx512(frames, at, skips, reach, mask, out) };
        }
        self.columns_scalar(frames, at, skips, reach, mask, out);
    }

    /// Whether `reach` bytes from `at` on lie within a frame.
    #[inline(always)]
    fn holds(&self, frame: &Frame, at: u16, reach: usize) -> bool {
        // In 32 bits, so that sixteen lanes fit a register.
        ((frame.index() as u32) < self.count) & (u32::from(at) + reach as u32 <= self.frame_size)
    }

    fn columns_scalar<const N: usize>(
        &self,
        frames: &[Frame; ROWS],
        at: &[u16; ROWS],
        skips: [u16; N],
        reach: usize,
        mask: u64,
        out: &mut [Columns; N],
    ) {
        for lane in 0..ROWS {
            let held = mask >> lane & 1 == 1 && self.holds(&frames[lane], at[lane], reach);
            for (columns, skip) in out.iter_mut().zip(skips) {
                let bytes = if held { self.header(&frames[lane], at[lane] + skip) } else { None };
                let (words, _) = bytes.unwrap_or(&[0; PIECE]).as_chunks::<4>();
                for (column, word) in columns.0.iter_mut().zip(words) {
                    column[lane] = u32::from_le_bytes(*word);
                }
            }
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi2")]
    fn columns_avx512<const N: usize>(
        &self,
        frames: &[Frame; ROWS],
        at: &[u16; ROWS],
        skips: [u16; N],
        reach: usize,
        mask: u64,
        out: &mut [Columns; N],
    ) {
        let held = vector::mask(mask, |lane| self.holds(&frames[lane], at[lane], reach));
        for first in (0..vector::groups(mask) * GROUP).step_by(GROUP) {
            let rows = self.rows(frames, at, held, first, ZEROES.as_ptr().cast_mut());
            for (columns, skip) in out.iter_mut().zip(skips) {
                // SAFETY: each row begins `reach` or more bytes of a frame in the mapping (`holds`),
                // whose only handle is borrowed in `frames`, or `ZEROES`; a piece at `skip` ends
                // within `reach`, hence within either.
                let words = unsafe { x86::transposed(&rows, usize::from(skip)) };
                for (column, word) in columns.0.iter_mut().zip(words) {
                    column[first..first + GROUP].copy_from_slice(&word);
                }
            }
        }
    }

    /// Where the packets of a group of lanes begin; `instead` for lanes not in `held`.
    #[inline(always)]
    fn rows(
        &self,
        frames: &[Frame; ROWS],
        at: &[u16; ROWS],
        held: u64,
        first: usize,
        instead: *mut u8,
    ) -> [*mut u8; GROUP] {
        let base = self.memory.base().as_ptr();
        let (held, frames, at) = (held >> first, &frames[first..first + GROUP], &at[first..first + GROUP]);
        let mut rows = [instead; GROUP];
        for (lane, row) in rows.iter_mut().enumerate() {
            let place = (frames[lane].index() << self.shift) + usize::from(at[lane]);
            *row = if held >> lane & 1 == 1 { base.wrapping_add(place) } else { instead };
        }
        rows
    }

    /// Writes sixteen bytes of each packet in `mask`, at `at[lane]`. Returns the lanes that were
    /// written: those whose frame has the place.
    #[inline]
    pub fn put_columns(
        &self,
        frames: &mut [Frame; ROWS],
        at: &[u16; ROWS],
        mask: u64,
        columns: &Columns,
    ) -> u64 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if crate::vector::has_avx512() {
            // SAFETY: the CPU has what the function is compiled for.
            return unsafe { self.put_columns_avx512(frames, at, mask, columns) };
        }
        self.put_columns_scalar(frames, at, mask, columns)
    }

    fn put_columns_scalar(
        &self,
        frames: &mut [Frame; ROWS],
        at: &[u16; ROWS],
        mask: u64,
        columns: &Columns,
    ) -> u64 {
        let mut written = 0;
        for lane in (0..ROWS).filter(|lane| mask >> lane & 1 == 1) {
            let Some(place) = self.header_mut::<PIECE>(&mut frames[lane], at[lane]) else { continue };
            for (bytes, column) in place.as_chunks_mut::<4>().0.iter_mut().zip(&columns.0) {
                *bytes = column[lane].to_le_bytes();
            }
            written |= 1 << lane;
        }
        written
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi2")]
    fn put_columns_avx512(
        &self,
        frames: &mut [Frame; ROWS],
        at: &[u16; ROWS],
        mask: u64,
        columns: &Columns,
    ) -> u64 {
        let held = vector::mask(mask, |lane| self.holds(&frames[lane], at[lane], PIECE));
        let mut elsewhere = [0_u8; PIECE];
        for first in (0..vector::groups(held) * GROUP).step_by(GROUP) {
            let rows = self.rows(frames, at, held, first, elsewhere.as_mut_ptr());
            // SAFETY: a row begins PIECE bytes of a frame in the mapping (`holds`), whose only
            // handle is borrowed to write in `frames`, or `elsewhere`, as long as that.
            unsafe { x86::put_transposed(&rows, columns, first) };
        }
        held
    }

    /// Writes a word of each packet in `mask`, at `at[lane]`, the first byte lowest. Returns the
    /// lanes that were written: those whose frame has the place.
    #[inline]
    pub fn put_words(
        &self,
        frames: &mut [Frame; ROWS],
        at: &[u16; ROWS],
        mask: u64,
        words: &[u32; ROWS],
    ) -> u64 {
        put_words(self, frames, at, mask, words)
    }

    /// Writes an Ethernet header of each packet in `mask`, at `at[lane]`. Returns the lanes that
    /// were written: those whose frame has the place.
    #[inline]
    pub fn put_links(&self, frames: &mut [Frame; ROWS], at: &[u16; ROWS], mask: u64, links: &Links) -> u64 {
        put_links(self, frames, at, mask, links)
    }
}

/// Ethernet headers by lane, as they lie in memory, the first octet lowest.
#[derive(Debug)]
pub struct Links {
    /// Destination, and the first two octets of the source.
    pub front: [u64; ROWS],
    /// The last four octets of the source.
    pub back: [u32; ROWS],
    /// The type.
    pub ethertype: [u16; ROWS],
}

impl Default for Links {
    fn default() -> Self {
        Links { front: [0; ROWS], back: [0; ROWS], ethertype: [0; ROWS] }
    }
}

widest! {
    fn put_words(area: &FrameArea, frames: &mut [Frame; ROWS], at: &[u16; ROWS], mask: u64, words: &[u32; ROWS]) -> u64 {
        let held = vector::mask(mask, |lane| area.holds(&frames[lane], at[lane], 4));
        let mut elsewhere = [0_u8; 4];
        for first in (0..vector::groups(held) * GROUP).step_by(GROUP) {
            let rows = area.rows(frames, at, held, first, elsewhere.as_mut_ptr());
            for (row, word) in rows.into_iter().zip(&words[first..]) {
                // SAFETY: a row begins four bytes of a frame in the mapping (`holds`), whose only
                // handle is borrowed to write in `frames`, or `elsewhere`, as long as that.
                unsafe { row.cast::<[u8; 4]>().write(word.to_le_bytes()) };
            }
        }
        held
    }
}

widest! {
    fn put_links(area: &FrameArea, frames: &mut [Frame; ROWS], at: &[u16; ROWS], mask: u64, links: &Links) -> u64 {
        let held = vector::mask(mask, |lane| area.holds(&frames[lane], at[lane], LINK));
        let mut elsewhere = [0_u8; LINK];
        for first in (0..vector::groups(held) * GROUP).step_by(GROUP) {
            let rows = area.rows(frames, at, held, first, elsewhere.as_mut_ptr());
            for (n, row) in rows.into_iter().enumerate() {
                let lane = first + n;
                // SAFETY: a row begins LINK bytes of a frame in the mapping (`holds`), whose only
                // handle is borrowed to write in `frames`, or `elsewhere`, as long as that: what is
                // written, 8, 4 and 2 bytes, is LINK in all.
                unsafe {
                    row.cast::<[u8; 8]>().write(links.front[lane].to_le_bytes());
                    row.add(8).cast::<[u8; 4]>().write(links.back[lane].to_le_bytes());
                    row.add(12).cast::<[u8; 2]>().write(links.ethertype[lane].to_le_bytes());
                }
            }
        }
        held
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use core::arch::x86_64::*;

    use super::{Columns, GROUP};

    /// Writes the four words of sixteen lanes, from `first` on, behind one another at each address.
    ///
    /// # Safety
    /// Sixteen bytes can be written at each address.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn put_transposed(rows: &[*mut u8; GROUP], columns: &Columns, first: usize) {
        let [a, b, c, d] = columns.0.each_ref().map(|column| {
            let words = &column[first..first + GROUP];
            // SAFETY: sixteen words are the size of the register.
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        });
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        // Quarter q of the n-th has what belongs to row 4 q + n.
        let quarters = [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
        for (n, quarter) in quarters.into_iter().enumerate() {
            // SAFETY: the caller vouches for the address.
            let put = |q: usize, piece: __m128i| unsafe { _mm_storeu_si128(rows[4 * q + n].cast(), piece) };
            put(0, _mm512_extracti32x4_epi32::<0>(quarter));
            put(1, _mm512_extracti32x4_epi32::<1>(quarter));
            put(2, _mm512_extracti32x4_epi32::<2>(quarter));
            put(3, _mm512_extracti32x4_epi32::<3>(quarter));
        }
    }

    /// The four words `skip` bytes behind each of sixteen addresses, by word.
    ///
    /// # Safety
    /// Sixteen bytes can be read `skip` bytes behind each address.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn transposed(rows: &[*mut u8; 16], skip: usize) -> [[u32; 16]; 4] {
        // SAFETY: the caller vouches for the address.
        let load = |row: usize| unsafe { _mm_loadu_si128(rows[row].add(skip).cast()) };
        // Rows n, n + 4, n + 8 and n + 12 side by side: the transposition within quarters then
        // leaves the rows in order.
        let beside = |n: usize| {
            let quarters = _mm512_castsi128_si512(load(n));
            let quarters = _mm512_inserti32x4::<1>(quarters, load(n + 4));
            let quarters = _mm512_inserti32x4::<2>(quarters, load(n + 8));
            _mm512_inserti32x4::<3>(quarters, load(n + 12))
        };
        let [a, b, c, d] = [beside(0), beside(1), beside(2), beside(3)];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
        .map(|column| {
            let mut words = [0; 16];
            // SAFETY: the array has the size of the register.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), column) };
            words
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FramePool, FrameStore};

    /// Frames whose bytes say which frame and where they are.
    fn frames(pool: &mut FramePool, taken: usize) -> [Frame; ROWS] {
        core::array::from_fn(|lane| {
            let Some(mut frame) = (lane < taken).then(|| pool.alloc()).flatten() else { return Frame::NONE };
            let chunk = pool.area().chunk_mut(&mut frame);
            chunk.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7 + lane * 31) as u8);
            frame
        })
    }

    #[test]
    fn wide_and_plain_columns_are_the_bytes_of_the_frames() {
        let mut pool = FramePool::new(FrameStore::new(FrameArea::new(70, 2048).unwrap()));
        for taken in [0, 1, 15, 16, 17, 63, 64] {
            let frames = frames(&mut pool, taken);
            let area = pool.area();
            // Places at the begin, in the middle, up to the end and beyond it.
            let at: [u16; ROWS] =
                core::array::from_fn(|lane| [0, 256, 2048 - 46, 2048 - 45, 2050, 65_535][lane % 6]);
            for mask in [u64::MAX, 0, 0xaaaa_5555_1234_8001] {
                let (mut wide, mut plain) = <([Columns; 3], [Columns; 3])>::default();
                area.columns(&frames, &at, [0, 14, 30], mask, &mut wide);
                area.columns_scalar(&frames, &at, [0, 14, 30], 46, mask, &mut plain);
                assert_eq!(wide, plain);
                for (piece, skip) in [0, 14, 30].into_iter().enumerate() {
                    for lane in 0..ROWS {
                        let asked = mask >> lane & 1 == 1 && usize::from(at[lane]) + 46 <= 2048;
                        let bytes: Option<&[u8; 16]> =
                            area.header(&frames[lane], at[lane].saturating_add(skip));
                        let expected = bytes.filter(|_| asked).copied().unwrap_or([0; 16]);
                        let read: Vec<_> =
                            (0..4).flat_map(|k| wide[piece].0[k][lane].to_le_bytes()).collect();
                        assert_eq!(read, expected, "lane {lane}, piece {piece}");
                    }
                }
            }
            frames.into_iter().for_each(|frame| pool.free(frame));
        }
    }

    #[test]
    fn columns_come_back_as_they_were_put_and_nothing_else_changes() {
        let mut pool = FramePool::new(FrameStore::new(FrameArea::new(70, 2048).unwrap()));
        let at: [u16; ROWS] =
            core::array::from_fn(|lane| [0, 256, 2048 - 16, 2048 - 15, 2050, 65_535][lane % 6]);
        let columns = Columns(core::array::from_fn(|word| {
            core::array::from_fn(|lane| (word as u32) << 24 | 0x5a_0000 | lane as u32)
        }));
        for taken in [1, 15, 17, 64] {
            let mut frames = frames(&mut pool, taken);
            let area = pool.area();
            let before: Vec<_> = frames.iter().map(|frame| area.chunk(frame).to_vec()).collect();
            for mask in [u64::MAX, 0xaaaa_5555_1234_8001, 0] {
                let wide = area.put_columns(&mut frames, &at, mask, &columns);
                let after: Vec<_> = frames.iter().map(|frame| area.chunk(frame).to_vec()).collect();
                for (lane, bytes) in before.iter().enumerate().filter(|(lane, _)| *lane < taken) {
                    area.chunk_mut(&mut frames[lane]).copy_from_slice(bytes);
                }
                assert_eq!(wide, area.put_columns_scalar(&mut frames, &at, mask, &columns));
                for (lane, mut expected) in before.iter().cloned().enumerate() {
                    let place = usize::from(at[lane]);
                    let asked = mask >> lane & 1 == 1 && lane < taken && place + 16 <= 2048;
                    assert_eq!(wide >> lane & 1 == 1, asked, "lane {lane}");
                    if asked {
                        let words = columns.0.iter().flat_map(|column| column[lane].to_le_bytes());
                        expected.splice(place..place + 16, words);
                    }
                    assert_eq!(after[lane], expected, "lane {lane}");
                    assert_eq!(area.chunk(&frames[lane]), expected, "lane {lane}, plainly");
                    if lane < taken {
                        area.chunk_mut(&mut frames[lane]).copy_from_slice(&before[lane]);
                    }
                }
            }
            frames.into_iter().for_each(|frame| pool.free(frame));
        }
    }

    #[test]
    fn words_and_links_go_where_they_belong_and_nowhere_else() {
        let mut pool = FramePool::new(FrameStore::new(FrameArea::new(70, 2048).unwrap()));
        let mut frames = frames(&mut pool, 40);
        let area = pool.area();
        let at: [u16; ROWS] =
            core::array::from_fn(|lane| [0, 256, 2048 - 14, 2048 - 13, 2048, 65_535][lane % 6]);
        let before: Vec<_> = frames.iter().map(|frame| area.chunk(frame).to_vec()).collect();
        let links = Links {
            front: core::array::from_fn(|lane| lane as u64 * 0x0101_0101_0101_0101),
            back: core::array::from_fn(|lane| !(lane as u32)),
            ethertype: core::array::from_fn(|lane| 0x8000 | lane as u16),
        };
        let mask = 0x0000_00ff_ffff_0fff_u64 << 1;
        let linked = area.put_links(&mut frames, &at, mask, &links);
        let words: [u32; ROWS] = core::array::from_fn(|lane| 0xabcd_0000 + lane as u32);
        let worded = area.put_words(&mut frames, &at, mask & 0x5555_5555_5555_5555, &words);
        for (lane, mut expected) in before.into_iter().enumerate() {
            let place = usize::from(at[lane]);
            let asked = |mask: u64, bytes: usize| mask >> lane & 1 == 1 && lane < 40 && place + bytes <= 2048;
            assert_eq!(linked >> lane & 1 == 1, asked(mask, 14), "lane {lane}");
            assert_eq!(worded >> lane & 1 == 1, asked(mask & 0x5555_5555_5555_5555, 4), "lane {lane}");
            if linked >> lane & 1 == 1 {
                expected[place..place + 8].copy_from_slice(&links.front[lane].to_le_bytes());
                expected[place + 8..place + 12].copy_from_slice(&links.back[lane].to_le_bytes());
                expected[place + 12..place + 14].copy_from_slice(&links.ethertype[lane].to_le_bytes());
            }
            if worded >> lane & 1 == 1 {
                expected[place..place + 4].copy_from_slice(&words[lane].to_le_bytes());
            }
            assert_eq!(area.chunk(&frames[lane]), expected, "lane {lane}");
        }
        frames.into_iter().for_each(|frame| pool.free(frame));
    }
}
