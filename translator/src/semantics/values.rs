//! A machine on plain values for the unit tests: registers, flags, and 64 KiB of
//! flat memory, outside of which every access is a page fault.

use super::lookup;
use crate::decode::decode_block;
use crate::exception::Exception;
use crate::flags::{self, LazyFlags};
use crate::insn::{Gpr, Insn, SegReg, Width};
use crate::machine::Machine;
use crate::mode::Mode;

/// Bytes of memory.
const MEMORY_BYTES: u32 = 0x1_0000;

/// Where the instruction under test lies.
pub const CODE: u32 = 0x1000;

/// Runs one instruction of 32-bit code on `gpr` and a flags image. Returns the
/// registers and the arithmetic flags.
pub fn run(bytes: &[u8], gpr: [u32; 8], image: u32) -> ([u32; 8], u32) {
    let mut m = Values::with_flags(gpr, image);
    m.run(bytes).expect("no fault");
    let mut after = [0; 8];
    after.copy_from_slice(&m.gpr[..8]);
    (after, m.flags())
}

/// The same on EAX and ECX alone; returns EAX.
pub fn run2(bytes: &[u8], eax: u32, ecx: u32, image: u32) -> (u32, u32) {
    let (gpr, flags) = run(bytes, [eax, ecx, 0, 0, 0, 0, 0, 0], image);
    (gpr[0], flags)
}

/// The test machine.
pub struct Values {
    pub gpr: [u32; 9],
    pub memory: Vec<u8>,
    pub other: u32,
    pub lazy: (u32, u32),
    /// Below this offset memory is read-only.
    pub read_only_below: u32,
    /// Highest offset of CS, if it has a limit.
    pub code_limit: Option<u32>,
    /// Where control went, if the instruction transferred it.
    pub target: Option<u32>,
}

impl Values {
    /// Registers with values in the order of their encoding, flags clear.
    pub fn new(gpr: [u32; 8]) -> Self {
        let mut all = [0; 9];
        all[..8].copy_from_slice(&gpr);
        Self {
            gpr: all,
            memory: vec![0; MEMORY_BYTES as usize],
            other: flags::FIXED,
            lazy: flags::from_eflags(0),
            read_only_below: 0,
            code_limit: None,
            target: None,
        }
    }

    /// The same with an EFLAGS image.
    pub fn with_flags(gpr: [u32; 8], image: u32) -> Self {
        let mut m = Self::new(gpr);
        m.lazy = flags::from_eflags(image);
        m.other = image & !flags::ARITHMETIC | flags::FIXED;
        m
    }

    /// Runs one instruction of 32-bit code.
    pub fn run(&mut self, bytes: &[u8]) -> Result<(), Exception> {
        self.run_in(Mode::flat32(), bytes)
    }

    /// Runs one instruction of 16-bit code with a 16-bit stack.
    pub fn run16(&mut self, bytes: &[u8]) -> Result<(), Exception> {
        self.run_in(Mode::default(), bytes)
    }

    /// Runs one instruction.
    pub fn run_in(&mut self, mode: Mode, bytes: &[u8]) -> Result<(), Exception> {
        let block = decode_block(bytes, CODE, mode, 1).expect("a whole instruction");
        let insn = &block.insns[0];
        assert_eq!(usize::from(insn.len), bytes.len(), "{:?}", insn.code);
        let exec = lookup::<Self>(insn).expect("a generic definition");
        exec(self, insn)
    }

    /// The arithmetic flags.
    pub fn flags(&self) -> u32 {
        flags::to_eflags(self.lazy.0, self.lazy.1)
    }

    /// The doubleword at `offset`.
    pub fn dword(&self, offset: u32) -> u32 {
        self.peek(offset, Width::D).expect("inside memory")
    }

    /// Sets the doubleword at `offset`.
    pub fn set_dword(&mut self, offset: u32, v: u32) {
        let at = offset as usize;
        self.memory[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }

    fn peek(&self, offset: u32, w: Width) -> Result<u32, Exception> {
        let at = offset as usize;
        let bytes = self.memory.get(at..at + w.bytes() as usize);
        let bytes = bytes.ok_or(Exception::PageFault {
            addr: offset,
            error: 0,
        })?;
        Ok(bytes.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b)))
    }
}

impl Machine for Values {
    type Val = u32;
    type Bool = bool;
    type Fault = Exception;

    fn imm(&mut self, value: u32) -> u32 {
        value
    }
    fn gpr(&mut self, r: Gpr, w: Width) -> u32 {
        let n = usize::from(r.0);
        match w {
            Width::B if n >= 4 => self.gpr[n - 4] >> 8 & 0xff,
            _ => self.gpr[n] & w.mask(),
        }
    }
    fn set_gpr(&mut self, r: Gpr, w: Width, v: u32) {
        let (n, shift) = match (w, usize::from(r.0)) {
            (Width::B, n) if n >= 4 => (n - 4, 8),
            (_, n) => (n, 0),
        };
        self.gpr[n] = self.gpr[n] & !(w.mask() << shift) | (v & w.mask()) << shift;
    }
    fn add(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    fn sub(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    fn mul(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
    fn mulhu(&mut self, a: u32, b: u32) -> u32 {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    }
    fn mulhs(&mut self, a: u32, b: u32) -> u32 {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    }
    fn divu(&mut self, hi: u32, lo: u32, d: u32) -> (u32, u32) {
        let (n, d) = (u64::from(hi) << 32 | u64::from(lo), u64::from(d));
        (
            n.checked_div(d).unwrap_or(0) as u32,
            n.checked_rem(d).unwrap_or(0) as u32,
        )
    }
    fn divs(&mut self, hi: u32, lo: u32, d: u32) -> (u32, u32) {
        let n = (u64::from(hi) << 32 | u64::from(lo)) as i64;
        let d = i64::from(d as i32);
        (
            n.checked_div(d).unwrap_or(0) as u32,
            n.checked_rem(d).unwrap_or(0) as u32,
        )
    }
    fn divs_overflows(&mut self, hi: u32, lo: u32, d: u32) -> bool {
        let n = (u64::from(hi) << 32 | u64::from(lo)) as i64;
        let quotient = n.checked_div(i64::from(d as i32));
        quotient.is_none_or(|q| i32::try_from(q).is_err())
    }
    fn and(&mut self, a: u32, b: u32) -> u32 {
        a & b
    }
    fn or(&mut self, a: u32, b: u32) -> u32 {
        a | b
    }
    fn xor(&mut self, a: u32, b: u32) -> u32 {
        a ^ b
    }
    fn shl(&mut self, a: u32, count: u32) -> u32 {
        a.wrapping_shl(count)
    }
    fn shr(&mut self, a: u32, count: u32) -> u32 {
        a.wrapping_shr(count)
    }
    fn sar(&mut self, a: u32, count: u32) -> u32 {
        (a as i32).wrapping_shr(count) as u32
    }
    fn rotl(&mut self, a: u32, count: u32) -> u32 {
        a.rotate_left(count & 31)
    }
    fn clz(&mut self, a: u32) -> u32 {
        a.leading_zeros()
    }
    fn ctz(&mut self, a: u32) -> u32 {
        a.trailing_zeros()
    }
    fn popcnt(&mut self, a: u32) -> u32 {
        a.count_ones()
    }
    fn bswap(&mut self, a: u32) -> u32 {
        a.swap_bytes()
    }
    fn zext(&mut self, a: u32, w: Width) -> u32 {
        a & w.mask()
    }
    fn sext(&mut self, a: u32, w: Width) -> u32 {
        let unused = 32 - w.bits();
        ((a << unused) as i32 >> unused) as u32
    }
    fn eq(&mut self, a: u32, b: u32) -> bool {
        a == b
    }
    fn ult(&mut self, a: u32, b: u32) -> bool {
        a < b
    }
    fn slt(&mut self, a: u32, b: u32) -> bool {
        (a as i32) < b as i32
    }
    fn not(&mut self, a: bool) -> bool {
        !a
    }
    fn both(&mut self, a: bool, b: bool) -> bool {
        a && b
    }
    fn either(&mut self, a: bool, b: bool) -> bool {
        a || b
    }
    fn bit(&mut self, a: bool) -> u32 {
        u32::from(a)
    }
    fn select(&mut self, c: bool, yes: u32, no: u32) -> u32 {
        if c { yes } else { no }
    }
    fn load(&mut self, _: SegReg, offset: u32, w: Width) -> Result<u32, Exception> {
        self.peek(offset, w)
    }
    fn load_for_write(&mut self, _: SegReg, offset: u32, w: Width) -> Result<u32, Exception> {
        if offset < self.read_only_below {
            return Err(Exception::PageFault {
                addr: offset,
                error: 3,
            });
        }
        self.peek(offset, w)
    }
    fn store(&mut self, seg: SegReg, offset: u32, w: Width, v: u32) -> Result<(), Exception> {
        self.load_for_write(seg, offset, w)?;
        let (at, size) = (offset as usize, w.bytes() as usize);
        self.memory[at..at + size].copy_from_slice(&v.to_le_bytes()[..size]);
        Ok(())
    }
    fn set_flags(&mut self, f: LazyFlags<u32>) {
        self.lazy = self.lower_flags(f);
    }
    fn flags_raw(&mut self) -> (u32, u32) {
        self.lazy
    }
    fn eflags_other(&mut self) -> u32 {
        self.other
    }
    fn set_eflags_other(&mut self, v: u32) {
        self.other = v;
    }
    fn fault_if(&mut self, c: bool, e: Exception) -> Result<(), Exception> {
        if c { Err(e) } else { Ok(()) }
    }
    fn goto(&mut self, eip: u32) {
        self.target = Some(eip);
    }
    fn goto_if(&mut self, c: bool, taken: u32, fallthrough: u32) {
        self.target = Some(if c { taken } else { fallthrough });
    }
    fn code_limit(&mut self) -> Option<u32> {
        self.code_limit
    }
    fn goto_val(&mut self, eip: u32) {
        self.target = Some(eip);
    }
    fn callout(&mut self, i: &Insn) -> Result<(), Exception> {
        panic!("{:?} is not generic", i.code)
    }
}
