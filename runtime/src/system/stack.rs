//! A stack in the course of an instruction: pushed to or popped from, not yet
//! current.
//!
//! Gates and returns move several values before they know that they will
//! succeed, and inner-level ones do so on a stack that no register names yet. A
//! [`Frame`] carries segment, pointer and privilege of such a stack; only
//! [`Frame::commit`] makes the pointer visible.

use crate::vcpu::Cpu;
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::insn::{Gpr, SegReg, Width};
use translator::state::Segment;

/// See the module's essay.
pub struct Frame {
    segment: Segment,
    /// The whole of ESP; only the bits in `mask` move.
    sp: u32,
    mask: u32,
    user: bool,
    fault: Exception,
}

impl Frame {
    /// The stack as the registers name it; limit violations are #SS(0).
    #[inline]
    pub fn current(cpu: &Cpu) -> Self {
        Self {
            segment: cpu.state.seg[SegReg::Ss as usize],
            sp: cpu.state.gpr[Gpr::ESP.0 as usize],
            mask: if cpu.mode().stack32() {
                u32::MAX
            } else {
                0xffff
            },
            user: cpu.sys.cpl == 3,
            fault: Exception::StackFault(0),
        }
    }

    /// A stack about to become current at `cpl`; limit violations are
    /// #SS(selector). With a 16-bit `segment` the upper half of ESP stays.
    #[inline]
    pub fn switched(cpu: &Cpu, segment: Segment, esp: u32, cpl: u8) -> Self {
        let mask = stack_mask(&segment);
        let old = cpu.state.gpr[Gpr::ESP.0 as usize];
        Self {
            sp: old & !mask | esp & mask,
            mask,
            user: cpl == 3,
            fault: Exception::StackFault(segment.selector & !3),
            segment,
        }
    }

    /// The stack segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// There must be room for `bytes` bytes, else #SS. Where the pointer wraps
    /// on the way, the pushes themselves decide.
    ///
    /// # Errors
    /// #SS with the frame's error code.
    #[inline]
    pub fn require_room(&self, bytes: u32) -> Result<(), Exception> {
        let top = self.sp.wrapping_sub(1) & self.mask;
        let bottom = self.sp.wrapping_sub(bytes) & self.mask;
        let fits = bottom >= self.segment.lo && top <= self.segment.hi;
        if fits || bottom > top {
            Ok(())
        } else {
            Err(self.fault)
        }
    }

    /// Pushes the low `w` of `v`.
    ///
    /// # Errors
    /// #SS for the limit, #PF.
    #[inline]
    pub fn push(&mut self, cpu: &mut Cpu, w: Width, v: u32) -> Result<(), Exception> {
        let offset = self.sp.wrapping_sub(w.bytes()) & self.mask;
        let addr = self.linear(offset, w)?;
        cpu.write_linear(addr, w, v & w.mask(), self.user)?;
        self.sp = self.sp & !self.mask | offset;
        Ok(())
    }

    /// Pops a value.
    ///
    /// # Errors
    /// #SS for the limit, #PF.
    #[inline]
    pub fn pop(&mut self, cpu: &mut Cpu, w: Width) -> Result<u32, Exception> {
        let v = self.peek(cpu, w, 0)?;
        self.release(w.bytes());
        Ok(v)
    }

    /// Reads the value `skip` bytes above the top, without popping it.
    ///
    /// # Errors
    /// #SS for the limit, #PF.
    #[inline]
    pub fn peek(&self, cpu: &mut Cpu, w: Width, skip: u32) -> Result<u32, Exception> {
        let addr = self.linear(self.sp.wrapping_add(skip) & self.mask, w)?;
        cpu.read_linear(addr, w, self.user)
    }

    /// Drops `bytes` bytes.
    #[inline]
    pub fn release(&mut self, bytes: u32) {
        self.sp = self.sp & !self.mask | self.sp.wrapping_add(bytes) & self.mask;
    }

    /// Makes the pointer current (the segment is the caller's to load).
    #[inline]
    pub fn commit(&self, cpu: &mut Cpu) {
        cpu.state.gpr[Gpr::ESP.0 as usize] = self.sp;
    }

    #[inline]
    fn linear(&self, offset: u32, w: Width) -> Result<LinearAddr, Exception> {
        let s = &self.segment;
        if offset < s.lo || offset > s.hi || s.hi - offset < w.bytes() - 1 {
            return Err(self.fault);
        }
        Ok(LinearAddr(s.base.wrapping_add(offset)))
    }
}

/// The bits of ESP that stack accesses through `segment` use.
fn stack_mask(segment: &Segment) -> u32 {
    if segment.attributes & Segment::DEFAULT32 != 0 {
        u32::MAX
    } else {
        0xffff
    }
}
