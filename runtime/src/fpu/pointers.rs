//! The last x87 instruction: its opcode, its address, its operand's address
//! (SDM vol. 1, "x87 FPU Instruction and Data (Operand) Pointers").
//!
//! A thunk runs elsewhere on operands elsewhere, so what the host's FPU remembers
//! is not the guest's. The guest's is recorded before each instruction and put
//! into images of the state where they are made. As up to the Pentium III, every
//! instruction but the control instructions is recorded, not only those that
//! raise an exception.

use translator::insn::{Insn, MemRef, SegReg};
use translator::state::Segment;

/// FOP, FCS:FIP and FDS:FDP.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Pointers {
    ip: u32,
    dp: u32,
    op: u16,
    cs: u16,
    ds: u16,
}

/// Bits of the opcode: three of its first byte, and ModRM.
const OPCODE: u32 = 0x7ff;

/// The forms of an environment (SDM vol. 1, "Protected Mode x87 FPU State Image
/// in Memory", and the three after it).
#[derive(Clone, Copy)]
pub struct Layout {
    /// 32-bit operand size.
    pub wide: bool,
    /// Real or virtual-8086 mode: linear addresses instead of selectors.
    pub real: bool,
}

impl Pointers {
    /// Records an instruction; decoding left its opcode where others have an
    /// immediate.
    #[inline(always)]
    pub fn record(&mut self, i: &Insn, segments: &[Segment; 6]) {
        self.ip = i.eip;
        self.op = (i.imm & OPCODE) as u16;
        self.cs = segments[SegReg::Cs as usize].selector;
    }

    /// Records its memory operand, at `offset`.
    #[inline(always)]
    pub fn record_operand(&mut self, m: &MemRef, offset: u32, segments: &[Segment; 6]) {
        self.dp = offset;
        self.ds = segments[m.seg as usize].selector;
    }

    /// Puts them into an FXSAVE image.
    pub fn to_fxsave(self, image: &mut [u8; 512]) {
        image[6..8].copy_from_slice(&self.op.to_le_bytes());
        image[8..12].copy_from_slice(&self.ip.to_le_bytes());
        image[12..14].copy_from_slice(&self.cs.to_le_bytes());
        image[16..20].copy_from_slice(&self.dp.to_le_bytes());
        image[20..22].copy_from_slice(&self.ds.to_le_bytes());
    }

    /// Takes them from an FXSAVE image.
    pub fn from_fxsave(image: &[u8; 512]) -> Self {
        Self {
            op: word(image, 6) & OPCODE as u16,
            ip: dword(image, 8),
            cs: word(image, 12),
            dp: dword(image, 16),
            ds: word(image, 20),
        }
    }

    /// Puts them into an environment.
    pub fn to_environment(self, image: &mut [u8; 128], layout: Layout) {
        let op = u32::from(self.op);
        // In real mode a selector is a sixteenth of its base.
        let linear = |selector: u16, offset: u32| (u32::from(selector) << 4).wrapping_add(offset);
        let (ip, dp) = (linear(self.cs, self.ip), linear(self.ds, self.dp));
        let (cs, ds) = (u32::from(self.cs), u32::from(self.ds));
        // Reserved halves of dwords are ones.
        const RESERVED: u32 = 0xffff_0000;
        let fields = match (layout.wide, layout.real) {
            (true, false) => [self.ip, cs | op << 16, self.dp, ds | RESERVED],
            (true, true) => [
                ip | RESERVED,
                ip >> 16 << 12 | op,
                dp | RESERVED,
                dp >> 16 << 12,
            ],
            (false, false) => [self.ip, cs, self.dp, ds],
            (false, true) => [ip, ip >> 16 << 12 | op, dp, dp >> 16 << 12],
        };
        for (n, field) in fields.into_iter().enumerate() {
            match layout.wide {
                true => put(image, 12 + 4 * n, &field.to_le_bytes()),
                false => put(image, 6 + 2 * n, &(field as u16).to_le_bytes()),
            }
        }
    }

    /// Takes them from an environment, where the host shall find none of its own.
    pub fn take_from_environment(image: &mut [u8; 128], layout: Layout) -> Self {
        let mut fields = [0; 4];
        for (n, field) in fields.iter_mut().enumerate() {
            match layout.wide {
                true => *field = dword(image, 12 + 4 * n),
                false => *field = u32::from(word(image, 6 + 2 * n)),
            }
        }
        let [ip, code, dp, data] = fields;
        match layout.wide {
            true => image[12..28].fill(0),
            false => image[6..14].fill(0),
        }
        let high = |field: u32| field >> 12 << 16;
        match (layout.wide, layout.real) {
            (true, false) => Self::new(ip, code as u16, code >> 16, dp, data as u16),
            (false, false) => Self::new(ip, code as u16, 0, dp, data as u16),
            (_, true) => {
                let (ip, dp) = (ip & 0xffff | high(code), dp & 0xffff | high(data));
                Self::new(ip, 0, code, dp, 0)
            }
        }
    }

    fn new(ip: u32, cs: u16, op: u32, dp: u32, ds: u16) -> Self {
        let op = (op & OPCODE) as u16;
        Self { ip, dp, op, cs, ds }
    }
}

fn put(image: &mut [u8; 128], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

fn dword(image: &[u8], at: usize) -> u32 {
    u32::from(word(image, at)) | u32::from(word(image, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Pointers = Pointers {
        ip: 0x1234,
        dp: 0x5678,
        op: 0x31b,
        cs: 0x1000,
        ds: 0x23,
    };

    fn stored(layout: Layout) -> [u8; 128] {
        let mut image = [0; 128];
        LAST.to_environment(&mut image, layout);
        image
    }

    #[test]
    fn environments_as_the_figures_show_them() {
        let image = stored(Layout {
            wide: true,
            real: false,
        });
        let dwords: Vec<u32> = (0..4).map(|n| dword(&image, 12 + 4 * n)).collect();
        assert_eq!(dwords, [0x1234, 0x031b_1000, 0x5678, 0xffff_0023]);
        let image = stored(Layout {
            wide: true,
            real: true,
        });
        let dwords: Vec<u32> = (0..4).map(|n| dword(&image, 12 + 4 * n)).collect();
        assert_eq!(dwords, [0xffff_1234, 0x131b, 0xffff_58a8, 0]);
        let image = stored(Layout {
            wide: false,
            real: false,
        });
        let words: Vec<u16> = (0..4).map(|n| word(&image, 6 + 2 * n)).collect();
        assert_eq!(words, [0x1234, 0x1000, 0x5678, 0x23]);
        let image = stored(Layout {
            wide: false,
            real: true,
        });
        let words: Vec<u16> = (0..4).map(|n| word(&image, 6 + 2 * n)).collect();
        assert_eq!(words, [0x1234, 0x131b, 0x58a8, 0]);
    }

    #[test]
    fn what_is_stored_comes_back() {
        let layout = Layout {
            wide: true,
            real: false,
        };
        let mut image = stored(layout);
        assert_eq!(Pointers::take_from_environment(&mut image, layout), LAST);
        assert_eq!(image, [0; 128]);
        let mut image = [0; 512];
        LAST.to_fxsave(&mut image);
        assert_eq!(Pointers::from_fxsave(&image), LAST);
    }
}
