//! The first tier: the definitions of `translator`, carried out on values.
//!
//! [`Cpu`] is a `Machine` whose values are `u32`. A block's instructions are an
//! array of [`Op`]: the definition's function pointer beside its decoded
//! instruction, so running a block is a loop of indirect calls without decoding,
//! hashing or allocation. EIP is not kept up to date inside a block: every
//! instruction carries its own, and EIP is stored where the block is left.
//!
//! Memory goes through the shadow tables inline; everything a table does not
//! permit takes the slow path in [`crate::vcpu`].

use crate::fpu;
use crate::system;
use crate::vcpu::{Cpu, Raised};
use crate::volatile;
use iced_x86::Mnemonic;
use shadow_mmu::Access;
use translator::block::Terminal;
use translator::exception::Exception;
use translator::flags::{self, LazyFlags};
use translator::insn::{Flow, Gpr, Insn, MemRef, SegReg, Width};
use translator::machine::Machine;
use translator::semantics::{self, Exec};

/// An instruction ready to run.
#[derive(Clone, Copy)]
pub struct Op {
    exec: Exec<Cpu>,
    insn: Insn,
}

impl Op {
    /// Looks the definition up.
    pub fn new(mut insn: Insn) -> Self {
        if volatile::address(&insn).is_some() {
            let exec = volatile::run;
            return Self { exec, insn };
        }
        let exec = semantics::forms::lookup::<Cpu>(&insn)
            .or_else(|| semantics::lookup::<Cpu>(&insn))
            .or_else(|| fpu::prepare(&mut insn))
            .unwrap_or(semantics::system::<Cpu>);
        let exec = match insn.mnemonic {
            Mnemonic::Cmpxchg8b => cmpxchg8b,
            _ => exec,
        };
        Self { exec, insn }
    }

    /// The decoded instruction.
    pub fn insn(&self) -> &Insn {
        &self.insn
    }

    /// The same, `by` bytes further on.
    pub fn moved(&self, by: u32) -> Self {
        let insn = self.insn.moved(by);
        Self { insn, ..*self }
    }

    /// Whether the definition takes immediate and displacement as they are.
    pub fn takes_operands(&self) -> bool {
        semantics::lookup::<Cpu>(&self.insn).is_some()
    }

    /// Replaces immediate and displacement.
    pub fn set_operands(&mut self, imm: Option<u32>, disp: Option<u32>) {
        self.insn.imm = imm.unwrap_or(self.insn.imm);
        self.insn.mem.disp = disp.unwrap_or(self.insn.mem.disp);
    }

    /// Runs it; EIP afterwards is right only if it changed it.
    #[inline(always)]
    pub fn run(&self, cpu: &mut Cpu) -> Result<(), Raised> {
        (self.exec)(cpu, &self.insn)
    }
}

/// The operations of a block's instructions.
pub fn ops(insns: &[Insn]) -> Box<[Op]> {
    insns.iter().map(|&insn| Op::new(insn)).collect()
}

/// Runs a block. Afterwards EIP is exact; an exception is left in
/// [`Cpu::raised`]. Returns how many instructions retired.
#[inline]
pub fn run_block(cpu: &mut Cpu, ops: &[Op], terminal: Terminal) -> usize {
    // One that compiled code called out for may have left the mark behind.
    cpu.eip_stored = false;
    for (n, op) in ops.iter().enumerate() {
        if op.run(cpu).is_err() {
            cpu.state.eip = op.insn.eip;
            return n;
        }
        if cpu.attention {
            leave_after(cpu, &op.insn);
            return n + 1;
        }
    }
    if let Terminal::Next(eip) = terminal {
        cpu.state.eip = eip;
    }
    ops.len()
}

/// As [`run_block`], of the first instruction alone: here its flags are seen,
/// whatever comes next in the block.
pub fn run_first(cpu: &mut Cpu, ops: &[Op], terminal: Terminal) -> usize {
    let Some((&first, rest)) = ops.split_first() else {
        return 0;
    };
    let mut op = first;
    op.insn.flags_dead = false;
    let terminal = match rest {
        [] => terminal,
        _ => Terminal::Next(op.insn.next_eip),
    };
    run_block(cpu, &[op], terminal)
}

/// Stores EIP after `insn` retired and asked for attention. Control transfers
/// and callouts have stored it themselves.
#[cold]
fn leave_after(cpu: &mut Cpu, insn: &Insn) {
    let stored = std::mem::take(&mut cpu.eip_stored);
    if insn.flow == Flow::Next && !stored {
        cpu.state.eip = insn.next_eip;
    }
}

impl Machine for Cpu {
    type Val = u32;
    type Bool = bool;
    type Fault = Raised;

    #[inline(always)]
    fn imm(&mut self, value: u32) -> u32 {
        value
    }

    #[inline(always)]
    fn gpr(&mut self, r: Gpr, w: Width) -> u32 {
        let n = r.0 as usize;
        match w {
            Width::D => self.state.gpr[n],
            Width::W => self.state.gpr[n] & 0xffff,
            Width::B => self.state.gpr[n & 3] >> ((n & 4) * 2) & 0xff,
        }
    }

    #[inline(always)]
    fn set_gpr(&mut self, r: Gpr, w: Width, v: u32) {
        let n = r.0 as usize;
        match w {
            Width::D => self.state.gpr[n & 7] = v,
            Width::W => {
                let slot = &mut self.state.gpr[n & 7];
                *slot = *slot & !0xffff | v & 0xffff;
            }
            Width::B => {
                let shift = (n & 4) * 2;
                let slot = &mut self.state.gpr[n & 3];
                *slot = *slot & !(0xff << shift) | (v & 0xff) << shift;
            }
        }
    }

    #[inline(always)]
    fn add(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }

    #[inline(always)]
    fn sub(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }

    #[inline(always)]
    fn mul(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }

    #[inline(always)]
    fn mulhu(&mut self, a: u32, b: u32) -> u32 {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    }

    #[inline(always)]
    fn mulhs(&mut self, a: u32, b: u32) -> u32 {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    }

    #[inline(always)]
    fn divu(&mut self, hi: u32, lo: u32, d: u32) -> (u32, u32) {
        let n = u64::from(hi) << 32 | u64::from(lo);
        let d = u64::from(d.max(1));
        ((n / d) as u32, (n % d) as u32)
    }

    #[inline(always)]
    fn divs(&mut self, hi: u32, lo: u32, d: u32) -> (u32, u32) {
        let n = (u64::from(hi) << 32 | u64::from(lo)) as i64;
        let d = if d == 0 { 1 } else { i64::from(d as i32) };
        (n.wrapping_div(d) as u32, n.wrapping_rem(d) as u32)
    }

    #[inline(always)]
    fn divs_overflows(&mut self, hi: u32, lo: u32, d: u32) -> bool {
        let n = (u64::from(hi) << 32 | u64::from(lo)) as i64;
        let quotient = n.checked_div(i64::from(d as i32));
        quotient.is_none_or(|q| i32::try_from(q).is_err())
    }

    #[inline(always)]
    fn and(&mut self, a: u32, b: u32) -> u32 {
        a & b
    }

    #[inline(always)]
    fn or(&mut self, a: u32, b: u32) -> u32 {
        a | b
    }

    #[inline(always)]
    fn xor(&mut self, a: u32, b: u32) -> u32 {
        a ^ b
    }

    #[inline(always)]
    fn shl(&mut self, a: u32, count: u32) -> u32 {
        a.wrapping_shl(count)
    }

    #[inline(always)]
    fn shr(&mut self, a: u32, count: u32) -> u32 {
        a.wrapping_shr(count)
    }

    #[inline(always)]
    fn sar(&mut self, a: u32, count: u32) -> u32 {
        (a as i32).wrapping_shr(count) as u32
    }

    #[inline(always)]
    fn rotl(&mut self, a: u32, count: u32) -> u32 {
        a.rotate_left(count & 31)
    }

    #[inline(always)]
    fn clz(&mut self, a: u32) -> u32 {
        a.leading_zeros()
    }

    #[inline(always)]
    fn ctz(&mut self, a: u32) -> u32 {
        a.trailing_zeros()
    }

    #[inline(always)]
    fn popcnt(&mut self, a: u32) -> u32 {
        a.count_ones()
    }

    #[inline(always)]
    fn bswap(&mut self, a: u32) -> u32 {
        a.swap_bytes()
    }

    #[inline(always)]
    fn zext(&mut self, a: u32, w: Width) -> u32 {
        a & w.mask()
    }

    #[inline(always)]
    fn sext(&mut self, a: u32, w: Width) -> u32 {
        match w {
            Width::B => a as i8 as u32,
            Width::W => a as i16 as u32,
            Width::D => a,
        }
    }

    #[inline(always)]
    fn eq(&mut self, a: u32, b: u32) -> bool {
        a == b
    }

    #[inline(always)]
    fn ult(&mut self, a: u32, b: u32) -> bool {
        a < b
    }

    #[inline(always)]
    fn slt(&mut self, a: u32, b: u32) -> bool {
        (a as i32) < (b as i32)
    }

    #[inline(always)]
    fn not(&mut self, a: bool) -> bool {
        !a
    }

    #[inline(always)]
    fn both(&mut self, a: bool, b: bool) -> bool {
        a & b
    }

    #[inline(always)]
    fn either(&mut self, a: bool, b: bool) -> bool {
        a | b
    }

    #[inline(always)]
    fn bit(&mut self, a: bool) -> u32 {
        u32::from(a)
    }

    #[inline(always)]
    fn select(&mut self, c: bool, yes: u32, no: u32) -> u32 {
        if c { yes } else { no }
    }

    #[inline(always)]
    fn load(&mut self, seg: SegReg, offset: u32, w: Width) -> Result<u32, Raised> {
        if self.mode().unlimited(seg) {
            let addr = self.state.seg[seg as usize].base.wrapping_add(offset);
            if let Some(v) = self.shadow_read(self.state.read_table, addr, w) {
                return Ok(v);
            }
        }
        load_slow(self, seg, offset, w)
    }

    #[inline(always)]
    fn load_for_write(&mut self, seg: SegReg, offset: u32, w: Width) -> Result<u32, Raised> {
        if self.mode().unlimited(seg) && seg != SegReg::Cs {
            let addr = self.state.seg[seg as usize].base.wrapping_add(offset);
            // A writable page is readable.
            if let Some(v) = self.shadow_read(self.state.write_table, addr, w) {
                return Ok(v);
            }
        }
        load_for_write_slow(self, seg, offset, w)
    }

    #[inline(always)]
    fn store(&mut self, seg: SegReg, offset: u32, w: Width, v: u32) -> Result<(), Raised> {
        if self.mode().unlimited(seg) && seg != SegReg::Cs {
            let addr = self.state.seg[seg as usize].base.wrapping_add(offset);
            if self.shadow_write(addr, w, v) {
                return Ok(());
            }
        }
        store_slow(self, seg, offset, w, v)
    }

    #[inline(always)]
    fn set_flags(&mut self, f: LazyFlags<u32>) {
        let (result, carries) = self.lower_flags(f);
        self.state.flag_result = result;
        self.state.flag_carries = carries;
    }

    #[inline(always)]
    fn flags_raw(&mut self) -> (u32, u32) {
        (self.state.flag_result, self.state.flag_carries)
    }

    #[inline(always)]
    fn eflags_other(&mut self) -> u32 {
        self.state.eflags
    }

    #[inline(always)]
    fn set_eflags_other(&mut self, v: u32) {
        self.state.eflags = v & !flags::ARITHMETIC | flags::FIXED;
    }

    #[inline(always)]
    fn fault_if(&mut self, c: bool, e: Exception) -> Result<(), Raised> {
        if c { Err(self.raise(e)) } else { Ok(()) }
    }

    #[inline(always)]
    fn code_limit(&mut self) -> Option<u32> {
        let limited = !self.mode().unlimited(SegReg::Cs);
        limited.then(|| self.state.segment(SegReg::Cs).hi)
    }

    #[inline(always)]
    fn goto(&mut self, eip: u32) {
        (self.state.eip, self.branched) = (eip, true);
    }

    #[inline(always)]
    fn goto_if(&mut self, c: bool, taken: u32, fallthrough: u32) {
        self.state.eip = if c { taken } else { fallthrough };
        self.branched = c;
    }

    #[inline(always)]
    fn goto_val(&mut self, eip: u32) {
        (self.state.eip, self.branched) = (eip, true);
    }

    fn callout(&mut self, i: &Insn) -> Result<(), Raised> {
        self.state.eip = i.next_eip;
        let done = system::dispatch(self, i);
        self.eip_stored = self.attention;
        done.map_err(|e| self.raise(e))
    }

    #[inline(always)]
    fn effective_address(&mut self, m: &MemRef) -> u32 {
        let base = self.state.gpr[m.base.0 as usize];
        let index = self.state.gpr[m.index.0 as usize];
        let ea = m
            .disp
            .wrapping_add(base)
            .wrapping_add(index << (m.shift & 3));
        if m.addr16 { ea & 0xffff } else { ea }
    }
}

/// CMPXCHG8B: two accesses to its definition, one of eight bytes to #AC.
fn cmpxchg8b(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    if cpu.examines() {
        let ea = cpu.effective_address(&i.mem);
        let aligned = cpu
            .linear(i.mem.seg, ea, 8, Access::Write)
            .and_then(|addr| cpu.require_alignment(addr, 8, cpu.sys.cpl == 3));
        aligned.map_err(|e| cpu.raise(e))?;
    }
    let exec = semantics::lookup::<Cpu>(i).unwrap_or(semantics::system::<Cpu>);
    exec(cpu, i)
}

#[cold]
#[inline(never)]
fn load_slow(cpu: &mut Cpu, seg: SegReg, offset: u32, w: Width) -> Result<u32, Raised> {
    cpu.read_mem(seg, offset, w).map_err(|e| cpu.raise(e))
}

#[cold]
#[inline(never)]
fn load_for_write_slow(cpu: &mut Cpu, seg: SegReg, offset: u32, w: Width) -> Result<u32, Raised> {
    let user = cpu.sys.cpl == 3;
    if let Some((addr, _)) = cpu.beside_code(seg, offset, w)
        && let Some(v) = cpu.shadow_read(cpu.state.read_table, addr.0, w)
    {
        return Ok(v);
    }
    let value = cpu
        .linear(seg, offset, w.bytes(), Access::Write)
        .and_then(|addr| {
            cpu.probe_write(addr, w.bytes(), user)?;
            cpu.read_linear(addr, w, user)
        });
    value.map_err(|e| cpu.raise(e))
}

#[cold]
#[inline(never)]
fn store_slow(cpu: &mut Cpu, seg: SegReg, offset: u32, w: Width, v: u32) -> Result<(), Raised> {
    if let Some((_, phys)) = cpu.beside_code(seg, offset, w)
        && cpu.store_beside_code(phys, w, v)
    {
        return Ok(());
    }
    cpu.write_mem(seg, offset, w, v).map_err(|e| cpu.raise(e))
}
