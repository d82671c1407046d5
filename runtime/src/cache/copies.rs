//! Code of programs as it was made, before it was linked, for other addresses.
//!
//! What a program runs when it is started again is the same but for its addresses:
//! [`twins`](super::twins) of blocks that are known, or the same pages read anew. Of code
//! that [moves](translator::block::moves) a copy is kept here in the form of the
//! [cache on disk](super::disk). To move one costs a tenth of making it.

use super::Map;
use super::disk::record::{self, Content, Flavour};
use translator::compile::HostCode;

/// Bytes of code kept before all of it goes.
const MOST_BYTES: usize = 32 << 20;

/// Which copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyId {
    /// How often all copies had gone before.
    age: u32,
    at: u32,
}

/// See the module's essay.
#[derive(Default)]
pub struct Copies {
    /// By the hash of the content.
    places: Map<u64, CopyId>,
    records: Records,
    /// The code last found.
    found: HostCode,
}

#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    age: u32,
}

impl Records {
    fn get(&self, id: CopyId) -> Option<(Flavour, &[u8])> {
        let (&made, record) = self.bytes.get(id.at as usize..)?.split_first()?;
        (id.age == self.age).then_some((Flavour::from_bits(made), record))
    }
}

impl Copies {
    /// The copy of a block's code, if there seems to be one.
    pub fn find(&self, content: &Content) -> Option<CopyId> {
        self.places.get(&content.hash()).copied()
    }

    /// The code of a block, its numbers counted from 0, and how it was made.
    pub fn read(&mut self, id: CopyId, content: &Content) -> Option<(Flavour, &mut HostCode)> {
        let (flavour, record) = self.records.get(id)?;
        record::read(record, content, &mut self.found)?;
        Some((flavour, &mut self.found))
    }

    /// The same for a block at `eip` that is known to be the copy's, moved.
    pub fn read_at(&mut self, id: CopyId, eip: u32) -> Option<(Flavour, &mut HostCode)> {
        let (flavour, record) = self.records.get(id)?;
        record::read_at(record, eip, &mut self.found)?;
        Some((flavour, &mut self.found))
    }

    /// Keeps the code of a block, its numbers counted from 0.
    pub fn add(&mut self, content: &Content, made: Flavour, code: &HostCode) -> Option<CopyId> {
        let records = &mut self.records;
        if records.bytes.len() > MOST_BYTES {
            self.places.clear();
            records.bytes.clear();
            records.age = records.age.wrapping_add(1);
        }
        let id = CopyId {
            age: records.age,
            at: records.bytes.len() as u32,
        };
        records.bytes.push(made.bits());
        record::write(&mut records.bytes, content, code)?;
        self.places.insert(content.hash(), id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Flavour = Flavour {
        grouped: true,
        native_vectors: false,
        mirrored: false,
    };

    fn content(eip: u32) -> Content<'static> {
        Content {
            eip,
            mode: 7,
            bytes: &[0x40, 0xc3],
            moves: true,
            reach: 0,
        }
    }

    fn code(byte: u8) -> HostCode {
        HostCode {
            bytes: vec![byte; 1 << 20],
            ..HostCode::default()
        }
    }

    #[test]
    fn the_code_made_last_is_found_in_any_page() {
        let mut copies = Copies::default();
        let first = copies.add(&content(0x40_0123), MADE, &code(1)).unwrap();
        let hot = Flavour {
            mirrored: true,
            ..MADE
        };
        copies.add(&content(0x50_0123), hot, &code(2));
        let there = content(0xb7ff_f123);
        let id = copies.find(&there).expect("there is one");
        let (flavour, found) = copies.read(id, &there).expect("it is a copy");
        assert_eq!((flavour, found.bytes[0]), (hot, 2));
        let (flavour, found) = copies.read_at(first, 0xb7ff_f123).expect("it is a copy");
        assert_eq!((flavour, found.bytes[0]), (MADE, 1));
        assert!(copies.find(&content(0xb7ff_f124)).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_gone_is_not_found() {
        let mut copies = Copies::default();
        let first = copies.add(&content(0), MADE, &code(1)).unwrap();
        for n in 0..100 {
            let id = copies.add(&content(n), MADE, &code(3)).unwrap();
            assert!(copies.records.bytes.len() <= MOST_BYTES + (2 << 20));
            assert!(copies.read(id, &content(n)).is_some());
        }
        assert!(copies.read(first, &content(0)).is_none());
        assert!(copies.read_at(first, 0).is_none());
    }
}
