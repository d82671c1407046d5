//! What the MMU knows about each guest frame.
//!
//! *Users*: the places where the frame serves some space as page directory or
//! page table. A frame with users is write-traced. Each space has a fixed set of
//! [`Node`]s (one per directory and per slot), so the lists need no allocation,
//! cannot grow beyond `MAX_SPACES * NODES`, and any node leaves in O(1).
//!
//! *Code*: the frame holds translated code; it is write-traced too.
//!
//! *Writers*: where write entries may permit the frame, so that they can be
//! taken back when a trace begins. Per frame this is [`WRITERS`] linear pages,
//! each with the set of spaces concerned. The kernel's direct map has the same
//! linear page in all spaces and a user page is mapped once or twice, so it
//! rarely overflows; when it does, the entries of one linear page are taken
//! back, which is always allowed: it costs a hidden fault later. The record is
//! an upper bound: an entry may have gone since.

use crate::error::Error;
use crate::mapping::Zeroed;
use crate::memory::GuestRam;
use crate::space::{MAX_SPACES, SLOTS};

/// Linear pages whose write entries are remembered per frame.
pub(crate) const WRITERS: usize = 3;
/// Page directories of a space: one per GiB with PAE, else only the first.
pub(crate) const DIRECTORIES: usize = 4;
/// Nodes of a space: its slots, then its directories.
const NODES: usize = SLOTS + DIRECTORIES;

/// A set of spaces, one bit each.
pub(crate) type SpaceSet = u64;
const _: () = assert!(MAX_SPACES <= SpaceSet::BITS as usize);

/// One guest frame. All zero: data, no users, no write entries.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Frame {
    writer_spaces: [SpaceSet; WRITERS],
    writer_pages: [u32; WRITERS],
    /// The first user, as node number + 1.
    users: u32,
    code: bool,
    not_ram: bool,
}

/// Membership of a node in the user list of a frame; numbers are stored plus one.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    frame: u32,
    next: u32,
    previous: u32,
}

/// A place where a space uses a frame as a paging structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    /// As the page directory of the GiB with this number.
    Directory(usize, usize),
    /// As the page table of this slot.
    Table(usize, usize),
}

impl Node {
    fn number(self) -> usize {
        match self {
            Node::Table(space, slot) => space * NODES + slot,
            Node::Directory(space, index) => space * NODES + SLOTS + index,
        }
    }

    fn from_number(number: usize) -> Node {
        match (number / NODES, number % NODES) {
            (space, slot) if slot < SLOTS => Node::Table(space, slot),
            (space, rest) => Node::Directory(space, rest - SLOTS),
        }
    }
}

/// Write entries that must go: every write entry for `page` in `spaces` that permits `frame`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Revocation {
    pub(crate) page: u32,
    pub(crate) spaces: SpaceSet,
}

/// All frames of guest memory, and the user lists through them.
pub(crate) struct Traces {
    frames: Zeroed<Frame>,
    count: usize,
    links: Zeroed<Link>,
}

impl Traces {
    pub(crate) fn new(ram: &GuestRam) -> Result<Self, Error> {
        let count = (ram.bytes() >> 12) as usize;
        let mut frames: Zeroed<Frame> = Zeroed::new(count, "frame records")?;
        for &(start, end) in ram.holes() {
            let range = (start >> 12) as usize..(end >> 12) as usize;
            frames
                .iter_mut()
                .take(range.end)
                .skip(range.start)
                .for_each(|frame| frame.not_ram = true);
        }
        Ok(Traces {
            frames,
            count,
            links: Zeroed::new(MAX_SPACES * NODES, "trace lists")?,
        })
    }

    /// The index of a frame, if it is RAM.
    #[inline]
    pub(crate) fn ram_frame(&self, number: u64) -> Option<usize> {
        let frame = usize::try_from(number)
            .ok()
            .filter(|&frame| frame < self.count)?;
        (!self.frames[frame].not_ram).then_some(frame)
    }

    /// Whether stores to the frame must be seen.
    #[inline]
    pub(crate) fn is_traced(&self, frame: usize) -> bool {
        let frame = &self.frames[frame];
        frame.code || frame.users != 0
    }

    /// Whether the frame serves as a paging structure.
    #[inline]
    pub(crate) fn has_users(&self, frame: usize) -> bool {
        self.frames[frame].users != 0
    }

    pub(crate) fn is_code(&self, frame: usize) -> bool {
        self.frames[frame].code
    }

    pub(crate) fn set_code(&mut self, frame: usize, code: bool) {
        self.frames[frame].code = code;
    }

    /// Appends the frame's users to `nodes`.
    pub(crate) fn users(&self, frame: usize, nodes: &mut Vec<Node>) {
        let mut at = self.frames[frame].users;
        while at != 0 {
            let number = at as usize - 1;
            nodes.push(Node::from_number(number));
            at = self.links[number].next;
        }
    }

    /// Whether `node` uses `frame` (still).
    pub(crate) fn is_user(&self, frame: usize, node: Node) -> bool {
        self.links[node.number()].frame as usize == frame + 1
    }

    /// Makes `node` a user of `frame`; true if that is the frame's first trace.
    pub(crate) fn link(&mut self, frame: usize, node: Node) -> bool {
        self.unlink(node);
        let first = !self.is_traced(frame);
        let number = node.number();
        let next = self.frames[frame].users;
        self.links[number] = Link {
            frame: frame as u32 + 1,
            next,
            previous: 0,
        };
        if next != 0 {
            self.links[next as usize - 1].previous = number as u32 + 1;
        }
        self.frames[frame].users = number as u32 + 1;
        first
    }

    /// Ends the use that `node` makes of a frame, if any.
    pub(crate) fn unlink(&mut self, node: Node) {
        let number = node.number();
        let Link {
            frame,
            next,
            previous,
        } = self.links[number];
        if frame == 0 {
            return;
        }
        match previous {
            0 => self.frames[frame as usize - 1].users = next,
            _ => self.links[previous as usize - 1].next = next,
        }
        if next != 0 {
            self.links[next as usize - 1].previous = previous;
        }
        self.links[number] = Link {
            frame: 0,
            next: 0,
            previous: 0,
        };
    }

    /// Records that `space` gets a write entry for `page` that permits `frame`.
    /// What it returns must be revoked: there was no room for it any more.
    #[inline]
    pub(crate) fn note_writer(
        &mut self,
        frame: usize,
        space: usize,
        page: u32,
    ) -> Option<Revocation> {
        let bit = 1 << space;
        let record = &mut self.frames[frame];
        let mut victim = 0;
        for index in 0..WRITERS {
            let spaces = record.writer_spaces[index];
            if spaces != 0 && record.writer_pages[index] == page {
                record.writer_spaces[index] = spaces | bit;
                return None;
            }
            // Prefer an empty place, then one that few spaces share.
            if spaces.count_ones() < record.writer_spaces[victim].count_ones() {
                victim = index;
            }
        }
        let evicted = Revocation {
            page: record.writer_pages[victim],
            spaces: record.writer_spaces[victim],
        };
        record.writer_pages[victim] = page;
        record.writer_spaces[victim] = bit;
        (evicted.spaces != 0).then_some(evicted)
    }

    /// Takes all recorded writers of the frame; they must be revoked.
    pub(crate) fn take_writers(&mut self, frame: usize) -> [Revocation; WRITERS] {
        let record = &mut self.frames[frame];
        let spaces = std::mem::take(&mut record.writer_spaces);
        std::array::from_fn(|index| Revocation {
            page: record.writer_pages[index],
            spaces: spaces[index],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces() -> Traces {
        Traces::new(&GuestRam::new(1 << 20).unwrap()).unwrap()
    }

    fn users(traces: &Traces, frame: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        traces.users(frame, &mut nodes);
        nodes
    }

    #[test]
    fn a_frame_is_traced_while_it_has_users() {
        let mut traces = traces();
        let (a, b, c) = (
            Node::Directory(0, 0),
            Node::Table(0, 7),
            Node::Table(47, 2047),
        );
        assert!(traces.link(5, a));
        assert!(!traces.link(5, b));
        assert!(!traces.link(5, c));
        assert_eq!(users(&traces, 5), [c, b, a]);
        traces.unlink(b);
        assert_eq!(users(&traces, 5), [c, a]);
        assert!(traces.link(6, c));
        assert_eq!(users(&traces, 5), [a]);
        traces.unlink(a);
        traces.unlink(a);
        assert!(!traces.is_traced(5));
        assert!(traces.is_traced(6));
    }

    #[test]
    fn a_fourth_writer_displaces_the_least_shared() {
        let mut traces = traces();
        for space in 0..3 {
            assert_eq!(traces.note_writer(9, space, 0xC_0009), None);
        }
        assert_eq!(traces.note_writer(9, 1, 11), None);
        assert_eq!(traces.note_writer(9, 1, 12), None);
        assert_eq!(traces.note_writer(9, 2, 12), None);
        assert_eq!(
            traces.note_writer(9, 4, 13),
            Some(Revocation {
                page: 11,
                spaces: 2
            })
        );
        let taken = traces.take_writers(9);
        assert!(taken.contains(&Revocation {
            page: 0xC_0009,
            spaces: 7
        }));
        assert!(
            traces
                .take_writers(9)
                .iter()
                .all(|writer| writer.spaces == 0)
        );
    }
}
