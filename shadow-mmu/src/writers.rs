//! The reverse map: which write entries may permit a frame.
//!
//! When a frame becomes traced, every write entry that permits it must go. Two
//! records name the candidates; both are upper bounds, because an entry may have
//! gone since, and whoever revokes looks at the entry itself.
//!
//! - Small pages: per frame up to [`WRITERS`] linear pages, each with the set of
//!   spaces. A user page is mapped once or twice, and a forked one keeps its linear
//!   page, so this rarely overflows. When it does, the entries of one linear page
//!   are taken back, which is always allowed: it costs a hidden fault later.
//! - Large pages and identity: entries of a whole 2 MiB slot share one distance
//!   between linear page and frame. The kernel's direct map has a single distance
//!   in all spaces. Up to [`WINDOWS`] distances are kept, each with its spaces,
//!   so that filling half a thousand entries records one bit.

use crate::error::Error;
use crate::mapping::Zeroed;
use crate::space::MAX_SPACES;
use crate::table::ENTRIES;

/// Linear pages remembered per frame.
const WRITERS: usize = 2;
/// Distances remembered.
const WINDOWS: usize = 8;

/// A set of spaces, one bit each.
pub(crate) type SpaceSet = u64;
const _: () = assert!(MAX_SPACES <= SpaceSet::BITS as usize);

/// The linear pages of one frame; a place with no spaces is free.
#[derive(Clone, Copy, Default)]
pub(crate) struct FrameWriters {
    spaces: [SpaceSet; WRITERS],
    pages: [u32; WRITERS],
}

/// Linear page minus frame number, and the spaces with write entries at that distance.
#[derive(Clone, Copy, Default)]
struct Window {
    distance: u32,
    spaces: SpaceSet,
}

/// Write entries that must go: every one for `page` in `spaces` that permits the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Revocation {
    pub(crate) page: u32,
    pub(crate) spaces: SpaceSet,
}

/// The records for all frames.
pub(crate) struct WriterMap {
    frames: Zeroed<FrameWriters>,
    windows: [Window; WINDOWS],
}

impl WriterMap {
    pub(crate) fn new(frames: usize) -> Result<Self, Error> {
        let frames = Zeroed::new(frames, "the reverse map")?;
        Ok(WriterMap {
            frames,
            windows: [Window::default(); WINDOWS],
        })
    }

    /// Records that `space` gets a write entry for `page` that permits `frame`.
    /// What it returns must be revoked: there was no room for it any more.
    #[inline]
    pub(crate) fn note_page(
        &mut self,
        frame: usize,
        space: usize,
        page: u32,
    ) -> Option<Revocation> {
        let bit = 1 << space;
        let record = &mut self.frames[frame];
        let mut victim = 0;
        for index in 0..WRITERS {
            let spaces = record.spaces[index];
            if spaces != 0 && record.pages[index] == page {
                record.spaces[index] = spaces | bit;
                return None;
            }
            // Prefer an empty place, then one that few spaces share.
            if spaces.count_ones() < record.spaces[victim].count_ones() {
                victim = index;
            }
        }
        let evicted = Revocation {
            page: record.pages[victim],
            spaces: record.spaces[victim],
        };
        record.pages[victim] = page;
        record.spaces[victim] = bit;
        (evicted.spaces != 0).then_some(evicted)
    }

    /// Records that `space` gets write entries at this distance. False if there
    /// is no room: then they must be recorded page by page.
    pub(crate) fn note_window(&mut self, distance: u32, space: usize) -> bool {
        let taken = |window: &&mut Window| window.spaces != 0 && window.distance == distance;
        let place = match self.windows.iter_mut().find(taken) {
            Some(window) => Some(window),
            None => self.windows.iter_mut().find(|window| window.spaces == 0),
        };
        if let Some(window) = place {
            window.distance = distance;
            window.spaces |= 1 << space;
            return true;
        }
        false
    }

    /// Forgets the windows of a space whose entries have all gone.
    pub(crate) fn forget_windows(&mut self, space: usize) {
        for window in &mut self.windows {
            window.spaces &= !(1 << space);
        }
    }

    /// All that may permit writes to the frame; it must be revoked.
    pub(crate) fn take(&mut self, frame: usize) -> impl Iterator<Item = Revocation> + use<> {
        let record = std::mem::take(&mut self.frames[frame]);
        let pages = record.pages.into_iter().zip(record.spaces);
        let windows = self
            .windows
            .into_iter()
            .map(move |Window { distance, spaces }| {
                let page = (frame as u32).wrapping_add(distance) & (ENTRIES as u32 - 1);
                (page, spaces)
            });
        pages
            .chain(windows)
            .map(|(page, spaces)| Revocation { page, spaces })
            .filter(|revocation| revocation.spaces != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(map: &mut WriterMap, frame: usize) -> Vec<(u32, SpaceSet)> {
        map.take(frame)
            .map(|revocation| (revocation.page, revocation.spaces))
            .collect()
    }

    #[test]
    fn one_linear_page_too_many_displaces_the_least_shared() {
        let mut map = WriterMap::new(16).unwrap();
        assert_eq!(map.note_page(9, 0, 100), None);
        assert_eq!(map.note_page(9, 1, 100), None);
        assert_eq!(map.note_page(9, 1, 11), None);
        assert_eq!(
            map.note_page(9, 4, 12),
            Some(Revocation {
                page: 11,
                spaces: 2
            })
        );
        assert_eq!(taken(&mut map, 9), [(100, 3), (12, 16)]);
        assert_eq!(taken(&mut map, 9), []);
    }

    #[test]
    fn a_window_concerns_every_frame_at_its_distance() {
        let mut map = WriterMap::new(16).unwrap();
        assert!(map.note_window(0xC_0000, 3));
        assert!(map.note_window(0xC_0000, 5));
        assert!(map.note_window(0, 5));
        assert_eq!(taken(&mut map, 7), [(0xC_0007, 0b10_1000), (7, 0b10_0000)]);
        map.forget_windows(5);
        assert_eq!(taken(&mut map, 7), [(0xC_0007, 0b1000)]);
        assert!((1..8).all(|distance| map.note_window(distance, 0)));
        assert!(!map.note_window(99, 0), "all taken");
        map.forget_windows(3);
        assert!(map.note_window(99, 0));
    }
}
