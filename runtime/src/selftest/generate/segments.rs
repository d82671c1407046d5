//! Sequences that load segment registers and transfer control far, within ring 3.
//!
//! Random encodings cannot do this: nearly every selector faults, and the host's
//! descriptor table is not the guest's. Both have the same ring 3 code and data at
//! the same selectors, the same kernel segments below them, and no local table, so
//! here instructions are put together from selectors that mean the same to both.
//! FS and GS are left alone: the oracle needs the host's.
//!
//! A 64-bit kernel's IRET does not know NT, so no sequence sets it.

use super::values;
use crate::selftest::case::{Case, Family};
use crate::selftest::rng::Rng;
use crate::selftest::state::{
    CODE_BASE, CODE_SELECTOR, DATA_BASE, DATA_SELECTOR, STACK_BASE, State,
};

/// Flags that IRET and POPF may load: arithmetic, IF, DF.
const FLAGS: u32 = 0x0ed7;
/// Selectors that mean the same on both sides, right ones more often.
const SELECTORS: [u16; 24] = [
    DATA_SELECTOR,
    DATA_SELECTOR,
    DATA_SELECTOR,
    DATA_SELECTOR,
    DATA_SELECTOR,
    DATA_SELECTOR,
    DATA_SELECTOR & !3,
    DATA_SELECTOR & !2,
    CODE_SELECTOR,
    CODE_SELECTOR,
    CODE_SELECTOR & !3,
    0,
    0,
    1,
    3,
    // Ring 0's code and data.
    0x10,
    0x13,
    0x18,
    0x1b,
    // The local table, and beyond the global one.
    4,
    0x2f,
    0x103,
    0xfff8,
    0xffff,
];
/// The registers loaded: ES, SS, DS.
const LOADED: [u8; 3] = [0, 2, 3];

/// Code in the making.
struct Draft {
    rng: Rng,
    code: Vec<u8>,
    eip: u32,
    patches: Vec<(u32, Vec<u8>)>,
}

/// The case of `seed`.
pub fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed ^ 0x5e67);
    let mut entry = State::new();
    entry.gpr = entry.gpr.map(|_| values::word(&mut rng));
    entry.gpr[4] = STACK_BASE + 0x400 + 4 * rng.below(0x200) as u32;
    entry.eflags |= rng.u32() & 0x08d5;
    entry.eip = CODE_BASE + 0x100 + rng.below(0x40) as u32;
    let data_seed = rng.u64();
    let mut draft = Draft {
        eip: entry.eip,
        rng,
        code: Vec::new(),
        patches: Vec::new(),
    };
    for _ in 0..1 + draft.rng.below(6) {
        draft.add();
    }
    Case {
        code: draft.code,
        entry,
        data_seed,
        patches: draft.patches,
        read_only_page: None,
        family: Family::Segments,
        seed,
    }
}

impl Draft {
    fn add(&mut self) {
        match self.rng.below(12) {
            0 | 1 => self.load_by_mov(),
            2 => self.load_by_pop(),
            3 => self.load_pointer(),
            4 | 5 => self.store(),
            6 | 7 => self.access(),
            8 => self.look(),
            9 => self.far_direct(),
            10 => self.far_indirect(),
            _ => self.far_return(),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// An operand-size prefix now and then.
    fn size(&mut self, percent: usize) -> bool {
        let small = self.rng.chance(percent);
        if small {
            self.bytes(&[0x66]);
        }
        small
    }

    fn selector(&mut self) -> u16 {
        self.rng.pick(&SELECTORS)
    }

    /// An address in the data arena, with `bytes` placed there.
    fn operand(&mut self, bytes: &[u8]) -> [u8; 4] {
        let at = DATA_BASE + 0x100 + self.rng.below(0x1000) as u32;
        self.patches.push((at, bytes.to_vec()));
        at.to_le_bytes()
    }

    /// MOV r32, selector; MOV Sreg, r16. Or from memory.
    fn load_by_mov(&mut self) {
        let (selector, sreg) = (self.selector(), self.rng.pick(&LOADED));
        if self.rng.chance(30) {
            let at = self.operand(&selector.to_le_bytes());
            self.bytes(&[0x8e, sreg << 3 | 5]);
            return self.bytes(&at);
        }
        let register = self.rng.pick(&[0, 1, 2, 3, 5, 6, 7]);
        let high = self.rng.u32() << 16;
        self.bytes(&[0xb8 | register]);
        self.bytes(&(high | u32::from(selector)).to_le_bytes());
        self.size(20);
        self.bytes(&[0x8e, 0xc0 | sreg << 3 | register]);
    }

    /// PUSH selector; POP Sreg, both of the same size.
    fn load_by_pop(&mut self) {
        let selector = self.selector();
        let small = self.size(30);
        self.bytes(&[0x68]);
        let high = if small { &[][..] } else { &[0x5a, 0xa5] };
        self.bytes(&selector.to_le_bytes());
        self.bytes(high);
        if small {
            self.bytes(&[0x66]);
        }
        let pop = self.rng.pick(&[0x07, 0x17, 0x1f]);
        self.bytes(&[pop]);
    }

    /// LES, LDS, LSS.
    fn load_pointer(&mut self) {
        let selector = self.selector();
        let small = self.size(30);
        let mut pointer = self.rng.u32().to_le_bytes()[..if small { 2 } else { 4 }].to_vec();
        pointer.extend_from_slice(&selector.to_le_bytes());
        let at = self.operand(&pointer);
        let opcode: &[u8] = self.rng.pick(&[&[0xc4], &[0xc5], &[0x0f, 0xb2]]);
        let register = self.rng.pick(&[0, 1, 2, 3, 5, 6, 7]) << 3;
        self.bytes(opcode);
        self.bytes(&[register | 5]);
        self.bytes(&at);
    }

    /// PUSH Sreg, or MOV to a register or memory; not of FS and GS.
    fn store(&mut self) {
        self.size(30);
        let sreg = self.rng.below(4) as u8;
        match self.rng.below(3) {
            0 => self.bytes(&[0x06 | sreg << 3]),
            1 => {
                let register = self.rng.pick(&[0, 1, 2, 3, 5, 6, 7]);
                self.bytes(&[0x8c, 0xc0 | sreg << 3 | register]);
            }
            _ => {
                let at = self.operand(&[]);
                self.bytes(&[0x8c, sreg << 3 | 5]);
                self.bytes(&at);
            }
        }
    }

    /// A load or store through ES, CS, SS or DS as it is now.
    fn access(&mut self) {
        let prefix: &[u8] = self.rng.pick(&[&[0x26], &[0x2e], &[0x36], &[]]);
        let opcode: &[u8] = self.rng.pick(&[
            &[0x8b, 0x05],
            &[0x89, 0x0d],
            &[0x01, 0x15],
            &[0x0f, 0x6f, 0x05],
            &[0x0f, 0x11, 0x0d],
            &[0xdd, 0x05],
        ]);
        let at = self.operand(&[]);
        self.bytes(prefix);
        self.bytes(opcode);
        self.bytes(&at);
    }

    /// LAR, LSL, VERR, VERW.
    fn look(&mut self) {
        let selector = self.selector();
        let at = self.operand(&selector.to_le_bytes());
        let [opcode, modrm] =
            self.rng
                .pick(&[[0x02, 0x05], [0x03, 0x0d], [0x00, 0x25], [0x00, 0x2d]]);
        self.size(30);
        self.bytes(&[0x0f, opcode, modrm]);
        self.bytes(&at);
    }

    /// Where a transfer of `length` bytes may lead: behind it, over a NOP or two
    /// that are there then.
    fn target(&mut self, length: usize) -> u32 {
        self.eip + (self.code.len() + length) as u32 + self.rng.below(3) as u32
    }

    fn code_selector(&mut self) -> u16 {
        match self.rng.chance(80) {
            true => self
                .rng
                .pick(&[CODE_SELECTOR, CODE_SELECTOR, CODE_SELECTOR & !3]),
            false => self.selector(),
        }
    }

    /// CALL or JMP ptr16:32.
    fn far_direct(&mut self) {
        let (target, selector) = (self.target(7), self.code_selector());
        let opcode = self.rng.pick(&[0x9a, 0xea]);
        self.bytes(&[opcode]);
        self.bytes(&target.to_le_bytes());
        self.bytes(&selector.to_le_bytes());
        self.bytes(&[0x90, 0x90]);
    }

    /// CALL or JMP m16:32.
    fn far_indirect(&mut self) {
        let (target, selector) = (self.target(6), self.code_selector());
        let mut pointer = target.to_le_bytes().to_vec();
        pointer.extend_from_slice(&selector.to_le_bytes());
        let at = self.operand(&pointer);
        let modrm = self.rng.pick(&[0x1d, 0x2d]);
        self.bytes(&[0xff, modrm]);
        self.bytes(&at);
        self.bytes(&[0x90, 0x90]);
    }

    /// A frame pushed, and RETF, RETF n or IRETD.
    fn far_return(&mut self) {
        let selector = u32::from(self.code_selector()) | self.rng.u32() << 16;
        let interrupt = self.rng.chance(40);
        if interrupt {
            let flags = self.rng.u32() & FLAGS;
            self.bytes(&[0x68]);
            self.bytes(&flags.to_le_bytes());
        }
        self.bytes(&[0x68]);
        self.bytes(&selector.to_le_bytes());
        let release = !interrupt && self.rng.chance(30);
        let length = if release { 3 } else { 1 };
        let target = self.target(5 + length);
        self.bytes(&[0x68]);
        self.bytes(&target.to_le_bytes());
        match (interrupt, release) {
            (true, _) => self.bytes(&[0xcf]),
            (false, true) => self.bytes(&[0xca, 8, 0]),
            (false, false) => self.bytes(&[0xcb]),
        }
        self.bytes(&[0x90, 0x90]);
    }
}
