//! What the MMU knows about each guest frame.
//!
//! *Users*: the places where the frame serves some space as page directory or
//! page table. A frame with users is write-traced. Each space has a fixed set of
//! [`Node`]s (one per directory and per slot), so the lists need no allocation,
//! cannot grow beyond `(MAX_SPACES + GROUPS) * NODES`, and any node leaves in O(1).
//!
//! *Code*: the frame holds translated code; it is write-traced too.
//!
//! One byte per frame tells all that a fill must know, so that half a thousand
//! frames are judged by eight cache lines.

use crate::error::Error;
use crate::mapping::Zeroed;
use crate::memory::GuestRam;
use crate::space::{MAX_SPACES, SLOTS};

/// Page directories of a space: one per GiB with PAE, else only the first.
pub(crate) const DIRECTORIES: usize = 4;
/// Groups of spaces that share supervisor code: see [`fetches`](crate::fetches).
pub(crate) const GROUPS: usize = 8;
/// Nodes of a space: its slots, then its directories.
const NODES: usize = SLOTS + DIRECTORIES;

/// State bit: the frame has users.
const USED: u8 = 1 << 0;
/// State bit: the frame holds translated code.
const CODE: u8 = 1 << 1;
/// State bit: the frame lies in a hole of guest memory.
pub(crate) const NOT_RAM: u8 = 1 << 2;

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
    /// As the page table of this slot; see [`Node::group_table`].
    Table(usize, usize),
}

impl Node {
    /// As the page table of a slot in all spaces of a group, which numbers behind the
    /// spaces.
    pub(crate) fn group_table(group: usize, slot: usize) -> Node {
        Node::Table(MAX_SPACES + group, slot)
    }

    /// The group, of such a node.
    pub(crate) fn group(self) -> Option<usize> {
        match self {
            Node::Table(owner, _) => owner.checked_sub(MAX_SPACES),
            Node::Directory(..) => None,
        }
    }

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

/// All frames of guest memory, and the user lists through them.
pub(crate) struct Traces {
    /// The state bits of each frame.
    states: Zeroed<u8>,
    /// The first user of each frame, as node number + 1.
    users: Zeroed<u32>,
    links: Zeroed<Link>,
}

impl Traces {
    pub(crate) fn new(ram: &GuestRam) -> Result<Self, Error> {
        let count = (ram.bytes() >> 12) as usize;
        let mut states: Zeroed<u8> = Zeroed::new(count, "frame states")?;
        for &(start, end) in ram.holes() {
            let (start, end) = ((start >> 12) as usize, (end >> 12) as usize);
            states
                .iter_mut()
                .take(end)
                .skip(start)
                .for_each(|state| *state = NOT_RAM);
        }
        let users = Zeroed::new(count, "trace lists")?;
        Ok(Traces {
            states,
            users,
            links: Zeroed::new((MAX_SPACES + GROUPS) * NODES, "trace lists")?,
        })
    }

    /// The index of a frame, if it is RAM.
    #[inline]
    pub(crate) fn ram_frame(&self, number: u64) -> Option<usize> {
        let frame = usize::try_from(number).ok()?;
        self.states
            .get(frame)
            .is_some_and(|&state| state & NOT_RAM == 0)
            .then_some(frame)
    }

    /// The states of up to `count` frames from `first` on: 0 is plain data,
    /// [`NOT_RAM`] a hole, anything else traced. Shorter at the end of memory.
    pub(crate) fn states(&self, first: u64, count: usize) -> &[u8] {
        let first = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .min(self.states.len());
        &self.states[first..self.states.len().min(first + count)]
    }

    /// Whether stores to the frame must be seen.
    #[inline]
    pub(crate) fn is_traced(&self, frame: usize) -> bool {
        self.states[frame] & (USED | CODE) != 0
    }

    /// Whether the frame serves as a paging structure.
    #[inline]
    pub(crate) fn has_users(&self, frame: usize) -> bool {
        self.states[frame] & USED != 0
    }

    pub(crate) fn is_code(&self, frame: usize) -> bool {
        self.states[frame] & CODE != 0
    }

    pub(crate) fn set_code(&mut self, frame: usize, code: bool) {
        let state = &mut self.states[frame];
        *state = if code { *state | CODE } else { *state & !CODE };
    }

    /// Appends the frame's users to `nodes`.
    pub(crate) fn users(&self, frame: usize, nodes: &mut Vec<Node>) {
        let mut at = self.users[frame];
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
        let next = self.users[frame];
        self.links[number] = Link {
            frame: frame as u32 + 1,
            next,
            previous: 0,
        };
        if next != 0 {
            self.links[next as usize - 1].previous = number as u32 + 1;
        }
        self.users[frame] = number as u32 + 1;
        self.states[frame] |= USED;
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
        let Some(frame) = (frame as usize).checked_sub(1) else {
            return;
        };
        match previous {
            0 => self.users[frame] = next,
            _ => self.links[previous as usize - 1].next = next,
        }
        if next != 0 {
            self.links[next as usize - 1].previous = previous;
        }
        if self.users[frame] == 0 {
            self.states[frame] &= !USED;
        }
        self.links[number] = Link {
            frame: 0,
            next: 0,
            previous: 0,
        };
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
}
