//! The processor as GDB knows it: the description it is sent, and its registers,
//! to and from those of the [`Cpu`].
//!
//! `gdbstub_arch` has the layout of the register packet; its description names no
//! registers, so ours is sent.

use crate::fpu;
use crate::vcpu::Cpu;
use gdbstub::arch::Arch;
use gdbstub_arch::x86::reg::id::X86CoreRegId;
use gdbstub_arch::x86::reg::{X86CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use shadow_mmu::LinearAddr;
use translator::flags;
use translator::insn::SegReg;
use translator::state::Segment;

/// An i386 with x87 and SSE.
pub enum I386 {}

impl Arch for I386 {
    type Usize = u32;
    type Registers = X86CoreRegs;
    type RegId = X86CoreRegId;
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Offsets in an FXSAVE image (SDM vol. 1, "Layout of the 512-byte Memory Image").
mod image {
    pub const FCW: usize = 0;
    pub const FSW: usize = 2;
    pub const FTW: usize = 4;
    pub const FOP: usize = 6;
    pub const FIP: usize = 8;
    pub const FCS: usize = 12;
    pub const FDP: usize = 16;
    pub const FDS: usize = 20;
    pub const MXCSR: usize = 24;
    pub const ST: usize = 32;
    pub const XMM: usize = 160;
}

/// The segment registers in the order of the packet.
const SEGMENTS: [SegReg; 6] = [
    SegReg::Cs,
    SegReg::Ss,
    SegReg::Ds,
    SegReg::Es,
    SegReg::Fs,
    SegReg::Gs,
];

/// The registers of a CPU that stands between two instructions.
pub fn read(cpu: &mut Cpu) -> X86CoreRegs {
    fpu::after_native(cpu);
    let fx = cpu.fpu.image();
    let [eax, ecx, edx, ebx, esp, ebp, esi, edi, _] = cpu.state.gpr;
    let [cs, ss, ds, es, fs, gs] = SEGMENTS.map(|seg| u32::from(cpu.state.segment(seg).selector));
    let mut regs = X86CoreRegs {
        eax,
        ecx,
        edx,
        ebx,
        esp,
        ebp,
        esi,
        edi,
        eip: cpu.state.eip,
        eflags: cpu.state.eflags_image(),
        segments: X86SegmentRegs {
            cs,
            ss,
            ds,
            es,
            fs,
            gs,
        },
        fpu: X87FpuInternalRegs {
            fctrl: u32::from(word(&fx, image::FCW)),
            fstat: u32::from(word(&fx, image::FSW)),
            ftag: full_tags(&fx),
            fiseg: u32::from(word(&fx, image::FCS)),
            fioff: dword(&fx, image::FIP),
            foseg: u32::from(word(&fx, image::FDS)),
            fooff: dword(&fx, image::FDP),
            fop: u32::from(word(&fx, image::FOP)),
        },
        mxcsr: dword(&fx, image::MXCSR),
        ..X86CoreRegs::default()
    };
    for (st, slot) in regs.st.iter_mut().zip(fx[image::ST..].chunks_exact(16)) {
        st.copy_from_slice(&slot[..10]);
    }
    for (xmm, slot) in regs.xmm.iter_mut().zip(fx[image::XMM..].as_chunks().0) {
        *xmm = u128::from_le_bytes(*slot);
    }
    regs
}

/// Loads the registers. False, and nothing is changed, if a selector is another in
/// protected mode: only the guest can load a descriptor.
pub fn write(cpu: &mut Cpu, regs: &X86CoreRegs) -> bool {
    let s = &regs.segments;
    let selectors = [s.cs, s.ss, s.ds, s.es, s.fs, s.gs];
    let differs = |(seg, &to): (&SegReg, &u32)| u32::from(cpu.state.segment(*seg).selector) != to;
    let changed: Vec<_> = (SEGMENTS.iter().zip(&selectors))
        .filter(|&pair| differs(pair))
        .collect();
    if cpu.protected() && !changed.is_empty() {
        return false;
    }
    for (&seg, &selector) in changed {
        let old = &mut cpu.state.seg[seg as usize];
        *old = Segment {
            selector: selector as u16,
            base: (selector & 0xffff) << 4,
            ..*old
        };
    }
    write_integers(cpu, regs);
    write_fpu(cpu, regs);
    // Nothing of the code that ran here before is known any more.
    cpu.mode_changed();
    cpu.request_attention();
    true
}

fn write_integers(cpu: &mut Cpu, regs: &X86CoreRegs) {
    let gpr = [
        regs.eax, regs.ecx, regs.edx, regs.ebx, regs.esp, regs.ebp, regs.esi, regs.edi,
    ];
    cpu.state.gpr[..8].copy_from_slice(&gpr);
    if regs.eip != cpu.state.eip {
        // Whoever goes on elsewhere does not wait, and nothing is held off there.
        cpu.state.eip = regs.eip;
        cpu.halted = false;
        cpu.shadow = Default::default();
    }
    // VM is a matter of the segment registers too, RF of the instruction under way.
    let kept = flags::VM | flags::RF;
    let known = cpu.model.eflags_writable() | flags::IOPL | flags::IF | flags::TF | flags::DF;
    let known = (known | flags::ARITHMETIC | flags::NT) & !kept;
    let old = cpu.state.eflags_image();
    cpu.state
        .set_eflags_image(old & !known | regs.eflags & known);
}

fn write_fpu(cpu: &mut Cpu, regs: &X86CoreRegs) {
    let now = read(cpu);
    if (&regs.st, &regs.fpu, &regs.xmm, regs.mxcsr) == (&now.st, &now.fpu, &now.xmm, now.mxcsr) {
        return;
    }
    let mut fx = cpu.fpu.image();
    let mut put = |at: usize, bytes: &[u8]| fx[at..at + bytes.len()].copy_from_slice(bytes);
    let f = &regs.fpu;
    put(image::FCW, &f.fctrl.to_le_bytes()[..2]);
    put(image::FSW, &f.fstat.to_le_bytes()[..2]);
    put(image::FTW, &[abridged_tags(f.ftag)]);
    put(image::FOP, &f.fop.to_le_bytes()[..2]);
    put(image::FIP, &f.fioff.to_le_bytes());
    put(image::FCS, &f.fiseg.to_le_bytes()[..2]);
    put(image::FDP, &f.fooff.to_le_bytes());
    put(image::FDS, &f.foseg.to_le_bytes()[..2]);
    put(image::MXCSR, &regs.mxcsr.to_le_bytes());
    for (n, st) in regs.st.iter().enumerate() {
        put(image::ST + 16 * n, st);
    }
    for (n, xmm) in regs.xmm.iter().enumerate() {
        put(image::XMM + 16 * n, &xmm.to_le_bytes());
    }
    cpu.fpu.set_image(&fx);
}

fn word(bytes: &[u8; 512], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn dword(bytes: &[u8; 512], at: usize) -> u32 {
    u32::from(word(bytes, at)) | u32::from(word(bytes, at + 2)) << 16
}

/// The tag word in full (SDM vol. 1, "x87 FPU Tag Word"), which FXSAVE abridges to a
/// bit for each physical register.
fn full_tags(fx: &[u8; 512]) -> u32 {
    let top = usize::from(word(fx, image::FSW) >> 11 & 7);
    let tag = |physical: usize| {
        if fx[image::FTW] >> physical & 1 == 0 {
            return 3; // Empty.
        }
        let at = image::ST + 16 * ((physical + 8 - top) % 8);
        let exponent = word(fx, at + 8) & 0x7fff;
        let significand = u64::from(dword(fx, at)) | u64::from(dword(fx, at + 4)) << 32;
        match (exponent, significand) {
            (0, 0) => 1,                                   // Zero.
            (1..0x7fff, _) if significand >> 63 != 0 => 0, // Valid.
            _ => 2,                                        // Special.
        }
    };
    (0..8).map(|n| tag(n) << (2 * n)).sum()
}

fn abridged_tags(full: u32) -> u8 {
    (0..8)
        .filter(|n| full >> (2 * n) & 3 != 3)
        .map(|n| 1 << n)
        .sum()
}

/// The linear address of the next instruction.
pub fn next_instruction(cpu: &Cpu) -> LinearAddr {
    LinearAddr(
        cpu.state
            .segment(SegReg::Cs)
            .base
            .wrapping_add(cpu.state.eip),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_of_physical_registers() {
        let mut fx = [0; 512];
        // TOP is 7: ST0 is R7, 1.0, and ST1 is R0, zero.
        fx[image::FSW + 1] = 0x38;
        fx[image::FTW] = 0x81;
        fx[image::ST + 7..image::ST + 10].copy_from_slice(&[0x80, 0xff, 0x3f]);
        assert_eq!(full_tags(&fx), 0x3ffd);
        assert_eq!(abridged_tags(0x3ffd), 0x81);
    }
}
