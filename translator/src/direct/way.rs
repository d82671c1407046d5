//! Ways from mode to mode that take no callout.
//!
//! What changes CPL, a segment that the mode tells of, or the view, is a matter for the
//! runtime: it looks at descriptors, makes a mode and a tag of the outcome, and has direct
//! code go on through the jump cache. But kernels take the same few ways over and over.
//! So the instructions that make them have routines here, made once and shared by all
//! blocks, which are called *in place of* the callout, with the same arguments. A routine
//! looks whether the runtime has recorded the way ([`crate::records`]) and all that
//! decided it is as it was. If so it does what the runtime would; else it has changed
//! nothing, and goes on as the callout.
//!
//! The new tag is looked up where the runtime looks first, in the table of tags asked for
//! lately, by the mode and the number of the new ring's fetch translations. So a way is
//! right in any address space, and nothing is to be forgotten when one changes.
//!
//! When the runtime has control again, it makes up for what it keeps elsewhere, CPL for
//! one ([`Records::changed`](crate::records::Records::changed) says that it must).
//!
//! Invariants: up to [`Routine::adopt`] a routine changes neither R8 nor R9 nor anything
//! that the guest sees; a way between modes drops the calls on the host's stack, as
//! leaving does.

use super::asm::{Assembler, Branch, Mem, Reg, Size, reg};
use super::crossing;
use super::exit::{NOT_SIGN, NOT_ZERO, ZERO, field, host_stack};
use super::segment_load;
use super::system::sparing_flags;
use crate::compile::ExitKind;
use crate::insn::SegReg;
use crate::records::{KnownTag, LIFTED, MIX, Records, Ring, TAG_BITS};
use crate::state::{
    ALL_JUMP_ENTRIES, CpuState, JUMP_ENTRIES, JUMP_SHIFT, JUMP_WINDOWS, JumpEntry, Masks, NO_INSN,
    TAG_STEP, WRITE_TABLE_DISTANCE,
};
use std::mem::{offset_of, size_of};

/// The routines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A load of FS, at CPL 0.
    LoadFs,
    /// A load of GS, at CPL 0.
    LoadGs,
    /// SYSENTER, at CPL 3.
    Sysenter,
    /// SYSEXIT, at CPL 0.
    Sysexit,
    /// STAC, at CPL 0.
    Stac,
    /// CLAC, at CPL 0.
    Clac,
    /// INT n, at CPL 3.
    Interrupt,
    /// IRETD, at CPL 0.
    Iret,
}

/// Number of [`Way`]s.
pub const WAYS: usize = 8;

impl Way {
    /// All of them, in order.
    pub const ALL: [Way; WAYS] = [
        Way::LoadFs,
        Way::LoadGs,
        Way::Sysenter,
        Way::Sysexit,
        Way::Stac,
        Way::Clac,
        Way::Interrupt,
        Way::Iret,
    ];

    /// Where the address of its routine is in the state.
    pub const fn offset(self) -> usize {
        offset_of!(CpuState, ways) + size_of::<u64>() * self as usize
    }

    /// Its routine, position-independent.
    pub fn routine(self) -> Vec<u8> {
        match self {
            Way::LoadFs => segment_load::routine(SegReg::Fs),
            Way::LoadGs => segment_load::routine(SegReg::Gs),
            Way::Sysenter => crossing::sysenter(),
            Way::Sysexit => crossing::sysexit(),
            Way::Stac => set_ac(true),
            Way::Clac => set_ac(false),
            Way::Interrupt => crossing::interrupt(),
            Way::Iret => crossing::iret(),
        }
    }
}

/// Opcode extensions of group 1.
pub const OR: u8 = 1;
/// See [`OR`].
pub const AND: u8 = 4;
/// See [`OR`].
pub const CMP: u8 = 7;
/// Opcode extensions of group 2.
pub const SHL: u8 = 4;
/// See [`SHL`].
pub const SHR: u8 = 5;
/// Conditions, as encoded: above.
pub const ABOVE: u8 = 7;

/// A field of the records.
macro_rules! record {
    ($($path:tt)*) => {
        $crate::direct::exit::field(
            std::mem::offset_of!($crate::state::CpuState, records)
                + std::mem::offset_of!($crate::records::Records, $($path)*),
        )
    };
}
pub(super) use record;

/// A routine in the making: EAX, ECX and EDX are the guest's in the state only, and flags
/// as LAHF and SETO AL made AX of them.
pub struct Routine {
    /// The code so far.
    pub asm: Assembler,
    /// Where something is not as it was.
    other: Vec<Branch>,
}

impl Routine {
    /// Saves what it needs room for, and refuses while an x87 instruction waits to be
    /// taken note of, with the segments of now.
    pub fn begin() -> Self {
        let mut asm = Assembler::with_capacity(512);
        for n in [reg::RAX, reg::RCX, reg::RDX] {
            asm.store(Size::D, gpr(n), n);
        }
        // LAHF; SETO AL
        asm.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
        asm.store(Size::D, saved_flags(), reg::RAX);
        let mut routine = Self {
            asm,
            other: Vec::new(),
        };
        routine.compare_imm(field(offset_of!(CpuState, last_x87)), NO_INSN);
        routine.unless(NOT_ZERO);
        routine
    }

    /// Has the runtime do it if `condition` holds.
    pub fn unless(&mut self, condition: u8) {
        let branch = self.asm.jump_if(condition);
        self.other.push(branch);
    }

    /// CMP dword [place], value.
    pub fn compare_imm(&mut self, place: Mem, value: u32) {
        self.asm.op_mem(Size::D, &[0x81], CMP, place);
        self.asm.raw(&value.to_le_bytes());
    }

    /// Refuses unless the register is what lies there.
    pub fn require(&mut self, size: Size, r: Reg, place: Mem) {
        self.asm.op_mem(size, &[0x3b], r, place);
        self.unless(NOT_ZERO);
    }

    /// Refuses if one of the bits is set in the doubleword there.
    pub fn require_clear(&mut self, place: Mem, bits: u32) {
        // TEST dword [place], bits
        self.asm.op_mem(Size::D, &[0xf7], 0, place);
        self.asm.raw(&bits.to_le_bytes());
        self.unless(NOT_ZERO);
    }

    /// The entry of the page of the linear address in `at`, to RAX; refuses if there is
    /// none. `table` has the read table, `by` leads on to the write table.
    pub fn entry(&mut self, table: Reg, at: Reg, by: u64) {
        self.asm.mov(Size::D, reg::RAX, at);
        self.asm.shift_imm(SHR, reg::RAX, 12);
        let entry = Mem::indexed(table, reg::RAX, 3).plus(by as i32);
        self.asm.load(Size::Q, reg::RAX, entry);
        // TEST RAX, RAX
        self.asm.op_reg(Size::Q, &[0x85], reg::RAX, reg::RAX);
        self.unless(ZERO);
    }

    /// Refuses unless the linear address in `at` has so many bytes of its page before it.
    pub fn require_in_page(&mut self, at: Reg, bytes: u32) {
        self.asm.mov(Size::D, reg::RAX, at);
        self.asm.group1_imm(AND, reg::RAX, 0xfff);
        self.asm.group1_imm(CMP, reg::RAX, 0x1000 - bytes);
        self.unless(ABOVE);
    }

    /// Loads the table by which the processor itself reads, to RCX.
    pub fn supervisor_table(&mut self) {
        self.asm
            .load(Size::Q, reg::RCX, view(Ring::Supervisor as usize));
    }

    /// Refuses unless the [`Known`](crate::records::Known) there is in memory. RCX is the
    /// table; changes RAX and RDX.
    pub fn require_known(&mut self, known: Mem) {
        use crate::records::Known;
        let at = known.plus(offset_of!(Known, at) as i32);
        self.asm.load(Size::D, reg::RDX, at);
        self.entry(reg::RCX, reg::RDX, 0);
        let there = Mem::indexed(reg::RAX, reg::RDX, 0);
        self.asm.load(Size::Q, reg::RAX, there);
        let bytes = known.plus(offset_of!(Known, bytes) as i32);
        self.require(Size::Q, reg::RAX, bytes);
    }

    /// The tag of the mode in EAX in a ring, to EDX; refuses if it is not known. Changes
    /// RCX.
    pub fn find_tag(&mut self, fetches: Mem) {
        const _: () = assert!(size_of::<KnownTag>() == 24);
        let asm = &mut self.asm;
        asm.load(Size::Q, reg::RCX, fetches);
        // `tag_slot`: IMUL EDX, ECX, mix; XOR EDX, EAX; IMUL EDX, EDX, mix
        asm.op_reg(Size::D, &[0x69], reg::RDX, reg::RCX);
        asm.raw(&MIX[0].to_le_bytes());
        asm.op_reg(Size::D, &[0x33], reg::RDX, reg::RAX);
        asm.op_reg(Size::D, &[0x69], reg::RDX, reg::RDX);
        asm.raw(&MIX[1].to_le_bytes());
        asm.shift_imm(SHR, reg::RDX, (32 - TAG_BITS) as u8);
        asm.lea(Size::D, reg::RDX, Mem::indexed(reg::RDX, reg::RDX, 1));
        asm.shift_imm(SHL, reg::RDX, 3);
        // ADD RDX, [tags]
        asm.op_mem(Size::Q, &[0x03], reg::RDX, record!(tags));
        let part = |offset: usize| Mem::at(reg::RDX, offset as i32);
        self.require(Size::Q, reg::RCX, part(offset_of!(KnownTag, fetches)));
        self.require(Size::D, reg::RAX, part(offset_of!(KnownTag, mode)));
        self.asm
            .load(Size::D, reg::RDX, part(offset_of!(KnownTag, tag)));
    }

    /// Makes the mode in EAX current, and its tag in EDX; leaves the latter in the upper
    /// half of RDX and the address of its jump cache in RCX.
    pub fn adopt(&mut self) {
        const ENTRIES: usize = JUMP_ENTRIES / JUMP_WINDOWS;
        const WINDOW: usize = ENTRIES * size_of::<JumpEntry>();
        const {
            assert!(ALL_JUMP_ENTRIES * size_of::<JumpEntry>() <= 1 << 31);
            assert!(TAG_STEP.is_power_of_two() && WINDOW.is_power_of_two());
        }
        let up = (WINDOW / TAG_STEP as usize).trailing_zeros() as u8;
        let asm = &mut self.asm;
        asm.store(Size::D, field(offset_of!(CpuState, mode)), reg::RAX);
        // `jump_window`, in bytes.
        asm.mov(Size::D, reg::RCX, reg::RDX);
        asm.shift_imm(SHL, reg::RCX, up);
        asm.group1_imm(AND, reg::RCX, ((JUMP_WINDOWS - 1) * WINDOW) as u32);
        // ADD RCX, [all of the jump cache]
        asm.op_mem(Size::Q, &[0x03], reg::RCX, record!(jump_caches));
        let cache = field(offset_of!(CpuState, jump_cache));
        asm.store(Size::Q, cache, reg::RCX);
        // SHL RDX, 32. Others load the quadword, so it is stored as one.
        asm.op_reg(Size::Q, &[0xc1], SHL, reg::RDX);
        asm.raw(&[32]);
        asm.store(Size::Q, field(offset_of!(CpuState, reserved)), reg::RDX);
        asm.store_imm(record!(changed), 1);
    }

    /// Makes the view with this number current. Changes RAX.
    pub fn switch_view(&mut self, number: usize) {
        switch_view(&mut self.asm, number, reg::RAX);
    }

    /// Goes on at the EIP in R8, after [`Self::adopt`], which has left RCX and RDX.
    pub fn go_on(mut self) -> Vec<u8> {
        let asm = &mut self.asm;
        asm.load(Size::Q, reg::RSP, host_stack());
        // TEST R13, R13
        asm.op_reg(Size::Q, &[0x85], reg::R13, reg::R13);
        let spent = asm.jump_if(NOT_SIGN);
        asm.rotate_right(reg::R11, reg::R8, JUMP_SHIFT as u8);
        asm.lea(Size::D, reg::R11, Mem::indexed(reg::R8, reg::R11, 0));
        let mask = offset_of!(CpuState, masks) + offset_of!(Masks, entry);
        asm.pdep_mem(reg::R11, reg::R11, field(mask));
        asm.lea(Size::Q, reg::R11, Mem::indexed(reg::R11, reg::RCX, 0));
        asm.lea(Size::Q, reg::RDX, Mem::indexed(reg::RDX, reg::R8, 0));
        // CMP RDX, [key]
        let key = Mem::at(reg::R11, offset_of!(JumpEntry, key) as i32);
        asm.op_mem(Size::Q, &[0x3b], reg::RDX, key);
        let missed = asm.jump_if(NOT_ZERO);
        self.restore();
        let code = Mem::at(reg::R11, offset_of!(JumpEntry, code) as i32);
        self.asm.jump_mem(code);
        for (branch, kind) in [(missed, ExitKind::Next), (spent, ExitKind::Budget)] {
            self.asm.land(branch);
            self.restore();
            let asm = &mut self.asm;
            asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
            asm.mov_imm(reg::R8, kind as u32);
            asm.jump_mem(field(offset_of!(CpuState, direct_leave)));
        }
        self.refuse()
    }

    /// The registers and flags of the guest.
    pub fn restore(&mut self) {
        let asm = &mut self.asm;
        asm.load(Size::D, reg::RAX, saved_flags());
        // ADD AL, 7F sets OF if AL is 1; SAHF.
        asm.raw(&[0x04, 0x7f, 0x9e]);
        for n in [reg::RAX, reg::RCX, reg::RDX] {
            asm.load(Size::D, n, gpr(n));
        }
    }

    /// Ends with the callout, for all that is refused.
    fn refuse(mut self) -> Vec<u8> {
        for branch in std::mem::take(&mut self.other) {
            self.asm.land(branch);
        }
        self.restore();
        let callout = field(offset_of!(CpuState, direct_callout));
        self.asm.jump_mem(callout);
        self.asm.bytes
    }
}

/// STAC and CLAC: another view, and the same mode. What comes next is where it was.
fn set_ac(set: bool) -> Vec<u8> {
    use crate::flags::AC;
    let mut asm = Assembler::default();
    sparing_flags(&mut asm, AC, set);
    asm.store_imm(record!(changed), 1);
    let number = match set {
        true => LIFTED,
        false => Ring::Supervisor as usize,
    };
    switch_view(&mut asm, number, reg::R9);
    asm.ret();
    asm.bytes
}

fn switch_view(asm: &mut Assembler, number: usize, changed: Reg) {
    asm.load(Size::Q, reg::R14, view(number));
    asm.store(Size::Q, field(offset_of!(CpuState, read_table)), reg::R14);
    let write = Mem::at(reg::R14, WRITE_TABLE_DISTANCE as i32);
    asm.lea(Size::Q, changed, write);
    asm.store(Size::Q, field(offset_of!(CpuState, write_table)), changed);
}

fn view(number: usize) -> Mem {
    record!(views).plus((size_of::<u64>() * number) as i32)
}

/// A register of the guest that a routine has saved.
pub fn gpr(n: Reg) -> Mem {
    field(offset_of!(CpuState, gpr) + 4 * usize::from(n))
}

/// AX as LAHF and SETO AL made it.
pub fn saved_flags() -> Mem {
    field(offset_of!(CpuState, saved_flags))
}

/// The number of a ring's fetch translations.
pub fn fetches(ring: Ring) -> Mem {
    record!(fetches).plus((size_of::<u64>() * ring as usize) as i32)
}

const _: () = assert!(offset_of!(CpuState, reserved) + 4 == offset_of!(CpuState, jump_tag));
const _: () = assert!(size_of::<Records>() < 4096);
