//! One block as it lies in a file: what it was made of, and its code.
//!
//! A block's code is a function of its bytes, its EIP, its mode and how it was to be
//! made ([`Flavour`]), and of what the whole file stands for ([`super::identity`]).
//! The bytes themselves are kept and compared, all of them, so that no hash has to be
//! trusted and a block is found wherever in memory it lies. The code is kept with its
//! numbers counted from 0 ([`HostCode::renumber`]).
//!
//! A record is a row of little-endian doublewords, the guest's bytes and the host's. It
//! is only read after the file's authenticity is established, but nothing in it can
//! make the reader do more than refuse it.

use translator::compile::{HostCode, Jump, Landing, Link, Numbered, Relocation, WayOut};

/// What a block is.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// EIP of its first instruction.
    pub eip: u32,
    /// Mode bits.
    pub mode: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The same bytes at the same place in another page are the same block:
    /// [`moves`](translator::block::moves).
    pub moves: bool,
    /// Distance from EIP to where the block goes, if that is fixed; else 0.
    pub reach: u32,
}

/// Bytes of guest code that is looked up about the same time.
const NEARBY_BYTES: u32 = 1024;
/// Bits of its hash.
const NEARBY_BITS: u32 = 14;

impl Content<'_> {
    /// What EIP means for it.
    fn place(&self, eip: u32) -> u32 {
        if self.moves { eip & 0xfff } else { eip }
    }

    /// What it is looked up by. Two blocks may have the same; then one is not found.
    /// Its upper bits are those of all code nearby, which is looked up soon.
    pub fn hash(&self) -> u64 {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
            ((product >> 64) as u64 ^ product as u64).rotate_left(29)
        };
        let location = |eip: u32| u64::from(self.mode) << 32 | u64::from(eip);
        let place = self.place(self.eip);
        let start = mix(self.bytes.len() as u64, location(place));
        let words = self.bytes.chunks(8).map(|part| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            u64::from_le_bytes(word)
        });
        let hash = words.fold(start, mix);
        if self.moves {
            return mix(hash, u64::from(self.reach));
        }
        let nearby = mix(0, location(place / NEARBY_BYTES));
        nearby << (64 - NEARBY_BITS) | hash >> NEARBY_BITS
    }
}

/// How code was to be made: see `CompileRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// One check may cover neighbouring accesses.
    pub grouped: bool,
    /// Vector instructions run as they are.
    pub native_vectors: bool,
    /// Memory is accessed through the mirror.
    pub mirrored: bool,
}

impl Flavour {
    /// As bits.
    pub fn bits(self) -> u8 {
        u8::from(self.grouped) | u8::from(self.native_vectors) << 1 | u8::from(self.mirrored) << 2
    }

    /// From bits.
    pub fn from_bits(bits: u8) -> Self {
        Self {
            grouped: bits & 1 != 0,
            native_vectors: bits & 2 != 0,
            mirrored: bits & 4 != 0,
        }
    }
}

/// The bits of a relocation that say of what it is, and what they say.
const KIND_SHIFT: u32 = 28;
const KINDS: [Numbered; 3] = [Numbered::Link, Numbered::Callout, Numbered::Eip];

/// Stands for the instructions that are not done where a landing is code.
const BY_CODE: u32 = u32::MAX;

/// Stands for a jump that there is not.
const NO_JUMP: u32 = u32::MAX;

/// Appends the record of a block, whose numbers count from 0. `None` if it has none:
/// no direct code, or none that is usual.
pub fn write(into: &mut Vec<u8>, content: &Content, code: &HostCode) -> Option<()> {
    let start = into.len();
    let mut word = |word: u32| into.extend_from_slice(&word.to_le_bytes());
    word(content.eip);
    word(content.mode);
    word(content.reach);
    let counts = [
        content.bytes.len(),
        code.bytes.len(),
        code.links.len(),
        code.relocations.len(),
        code.landings.len(),
    ];
    counts.iter().for_each(|&count| word(count as u32));
    let turn = code.turn.clone().unwrap_or_default();
    [turn.start, turn.end].into_iter().for_each(&mut word);
    for relocation in &code.relocations {
        word(relocation.at | (relocation.counts as u32) << KIND_SHIFT);
    }
    for landing in &code.landings {
        let (at, rest) = match landing.way_out {
            WayOut::Here { eip, rest } => (eip, rest),
            WayOut::Code(at) => (at, BY_CODE),
        };
        [landing.start, landing.end, at, rest]
            .into_iter()
            .for_each(&mut word);
    }
    let mut complete = true;
    for link in &code.links {
        let jump = link.jump.unwrap_or(Jump { at: 0, spent: None });
        complete &= link.jump.is_some();
        [link.slot, link.eip, jump.at, jump.spent.unwrap_or(NO_JUMP)]
            .into_iter()
            .for_each(&mut word);
    }
    into.extend_from_slice(content.bytes);
    into.extend_from_slice(&code.bytes);
    if !complete {
        into.truncate(start);
    }
    complete.then_some(())
}

/// Reads the code of the record at the start of `bytes` into `code`, whose former
/// content goes. `None` if the record is of another block, or is none.
pub fn read(bytes: &[u8], content: &Content, code: &mut HostCode) -> Option<()> {
    let mut rest = bytes;
    let (eip, mode, reach) = (word(&mut rest)?, word(&mut rest)?, word(&mut rest)?);
    let same = (content.place(eip), mode, reach)
        == (content.place(content.eip), content.mode, content.reach);
    let known = same.then(|| read_code(rest, code)).flatten()?;
    if known != content.bytes {
        return None;
    }
    moved(code, content.eip.wrapping_sub(eip))
}

/// The same for a block at `eip` of which is known that it is the record's, moved.
pub fn read_at(bytes: &[u8], eip: u32, code: &mut HostCode) -> Option<()> {
    let mut rest = bytes;
    let (made_at, _, _) = (word(&mut rest)?, word(&mut rest)?, word(&mut rest)?);
    read_code(rest, code)?;
    moved(code, eip.wrapping_sub(made_at))
}

fn moved(code: &mut HostCode, by: u32) -> Option<()> {
    (by == 0 || code.move_by(by)).then_some(())
}

/// Reads what follows EIP, mode and reach, and gives the guest's bytes.
fn read_code<'a>(bytes: &'a [u8], code: &mut HostCode) -> Option<&'a [u8]> {
    let mut rest = bytes;
    let guest_bytes = word(&mut rest)? as usize;
    let host_bytes = word(&mut rest)? as usize;
    let [links, relocations, landings] = [word(&mut rest)?, word(&mut rest)?, word(&mut rest)?];
    let (start, end) = (word(&mut rest)?, within(word(&mut rest)?, 0, host_bytes)?);
    code.turn = (start < end).then_some(start..end);
    code.relocations.clear();
    for _ in 0..relocations {
        let word = word(&mut rest)?;
        let counts = *KINDS.get((word >> KIND_SHIFT) as usize)?;
        let at = within(word & ((1 << KIND_SHIFT) - 1), 4, host_bytes)?;
        code.relocations.push(Relocation { at, counts });
    }
    code.landings.clear();
    for _ in 0..landings {
        let (start, end) = (word(&mut rest)?, within(word(&mut rest)?, 0, host_bytes)?);
        let way_out = match (word(&mut rest)?, word(&mut rest)?) {
            (at, BY_CODE) => WayOut::Code(within(at, 1, host_bytes)?),
            (eip, rest) => WayOut::Here { eip, rest },
        };
        code.landings.push(Landing {
            start,
            end,
            way_out,
        });
    }
    code.links.clear();
    for _ in 0..links {
        let [slot, eip] = [word(&mut rest)?, word(&mut rest)?];
        let at = within(word(&mut rest)?, 4, host_bytes)?;
        let spent = match word(&mut rest)? {
            NO_JUMP => None,
            at => Some(within(at, 4, host_bytes)?),
        };
        let jump = Some(Jump { at, spent });
        code.links.push(Link { slot, eip, jump });
    }
    let (known, rest) = rest.split_at_checked(guest_bytes)?;
    let host = rest.get(..host_bytes)?;
    code.bytes.clear();
    code.bytes.extend_from_slice(host);
    Some(known)
}

fn word(from: &mut &[u8]) -> Option<u32> {
    let (word, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u32::from_le_bytes(*word))
}

/// `offset`, if so many bytes from there on are within the code.
fn within(offset: u32, bytes: usize, host_bytes: usize) -> Option<u32> {
    (offset as usize + bytes <= host_bytes).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content = Content {
        eip: 0xc100_0000,
        mode: 7,
        bytes: &[0x90, 0xc3, 0x55, 1, 2, 3, 4, 5, 6],
        moves: false,
        reach: 9,
    };

    fn code() -> HostCode {
        let jump = Some(Jump {
            at: 8,
            spent: Some(30),
        });
        HostCode {
            bytes: (0..40).collect(),
            links: vec![Link {
                slot: 1,
                eip: 0xc100_0010,
                jump,
            }],
            relocations: vec![
                Relocation {
                    at: 12,
                    counts: Numbered::Link,
                },
                Relocation {
                    at: 36,
                    counts: Numbered::Callout,
                },
            ],
            landings: vec![
                Landing {
                    start: 3,
                    end: 9,
                    way_out: WayOut::Code(20),
                },
                Landing {
                    start: 10,
                    end: 12,
                    way_out: WayOut::Here { eip: 2, rest: 1 },
                },
            ],
            turn: Some(6..22),
            ..HostCode::default()
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, &CONTENT, &code()).unwrap();
        let mut read_back = HostCode {
            bytes: vec![9; 100],
            ..HostCode::default()
        };
        read(&bytes, &CONTENT, &mut read_back).unwrap();
        let written = code();
        assert_eq!(read_back.bytes, written.bytes);
        assert_eq!(read_back.links, written.links);
        assert_eq!(read_back.relocations, written.relocations);
        assert_eq!(read_back.landings, written.landings);
        assert_eq!(read_back.turn, written.turn);
    }

    #[test]
    fn another_block_is_not_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, &CONTENT, &code()).unwrap();
        let others = [
            Content { eip: 1, ..CONTENT },
            Content { mode: 1, ..CONTENT },
            Content {
                eip: CONTENT.eip + 0x1000,
                ..CONTENT
            },
            Content {
                bytes: &CONTENT.bytes[..8],
                ..CONTENT
            },
            Content {
                bytes: &[0x90, 0xc3, 0x55, 1, 2, 3, 4, 5, 7],
                ..CONTENT
            },
        ];
        for other in others {
            assert_ne!(other.hash(), CONTENT.hash());
            assert!(read(&bytes, &other, &mut HostCode::default()).is_none());
        }
    }

    #[test]
    fn a_block_that_moves_is_found_in_other_pages() {
        let here = Content {
            moves: true,
            ..CONTENT
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &here, &code()).unwrap();
        let there = Content {
            eip: here.eip - 0x5000,
            ..here
        };
        assert_eq!(there.hash(), here.hash());
        let mut moved = HostCode::default();
        read(&bytes, &there, &mut moved).unwrap();
        assert_eq!(moved.links[0].eip, code().links[0].eip - 0x5000);
        for other in [
            Content { reach: 8, ..there },
            Content {
                eip: here.eip + 4,
                ..here
            },
        ] {
            assert_ne!(other.hash(), here.hash());
            assert!(read(&bytes, &other, &mut moved).is_none());
        }
    }

    #[test]
    fn no_piece_of_a_record_is_one_and_no_damage_leads_out_of_the_code() {
        let mut bytes = Vec::new();
        write(&mut bytes, &CONTENT, &code()).unwrap();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], &CONTENT, &mut HostCode::default()).is_none());
        }
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let mut code = HostCode::default();
                if read(&damaged, &CONTENT, &mut code).is_some() {
                    assert!(code.renumber(1, 1), "byte {at}");
                    let outside = |landing: &Landing| matches!(landing.way_out, WayOut::Code(at) if at as usize >= code.bytes.len());
                    assert!(!code.landings.iter().any(outside), "byte {at}");
                    let end = code.turn.map_or(0, |turn| turn.end);
                    assert!(end as usize <= code.bytes.len(), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn flavours_are_bits() {
        for bits in 0..8 {
            assert_eq!(Flavour::from_bits(bits).bits(), bits);
        }
    }
}
