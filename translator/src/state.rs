//! The CPU state that generated code sees, at fixed offsets.
//!
//! Generated code holds a pointer to [`CpuState`] and reaches everything else
//! (shadow tables, callouts, link slots, the jump cache) through addresses kept
//! in it, so that code stays position-independent. System registers that no
//! generated code touches live in the runtime.

use crate::direct::way::WAYS;
use crate::flags;
use crate::insn::SegReg;
use crate::records::Records;

/// A segment register: the selector and the descriptor cache behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Base linear address.
    pub base: u32,
    /// Lowest valid offset (0, or limit + 1 for an expand-down segment).
    pub lo: u32,
    /// Highest valid offset. `hi < lo` makes every access fault: a null selector.
    pub hi: u32,
    /// The limit in bytes as the descriptor gives it (scaled by G).
    pub limit: u32,
    /// The visible selector.
    pub selector: u16,
    /// Descriptor bits 40–55: access byte in bits 0–7, G/D/L/AVL in bits 12–15.
    pub attributes: u16,
}

impl Segment {
    /// All zero.
    pub const BLANK: Self = Self {
        base: 0,
        lo: 0,
        hi: 0,
        limit: 0,
        selector: 0,
        attributes: 0,
    };
    /// Attribute bit: accessed.
    pub const ACCESSED: u16 = 1 << 0;
    /// Attribute bit: writable data, or readable code.
    pub const READ_WRITE: u16 = 1 << 1;
    /// Attribute bit: expand-down data, or conforming code.
    pub const EXPAND_CONFORM: u16 = 1 << 2;
    /// Attribute bit: code.
    pub const CODE: u16 = 1 << 3;
    /// Attribute bit: code or data rather than system.
    pub const NON_SYSTEM: u16 = 1 << 4;
    /// Attribute bit: present.
    pub const PRESENT: u16 = 1 << 7;
    /// Attribute bit: D/B, the default size.
    pub const DEFAULT32: u16 = 1 << 14;
    /// Attribute bit: G, the limit counts pages.
    pub const GRANULAR: u16 = 1 << 15;

    /// The descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// A real-mode or virtual-8086 segment: base is selector × 16.
    pub fn real(selector: u16) -> Self {
        Self {
            base: u32::from(selector) << 4,
            lo: 0,
            hi: 0xffff,
            limit: 0xffff,
            selector,
            attributes: Self::PRESENT | Self::NON_SYSTEM | Self::READ_WRITE | Self::ACCESSED,
        }
    }

    /// A flat 4 GiB segment; `code` chooses execute/read or read/write.
    pub fn flat(selector: u16, code: bool, dpl: u8) -> Self {
        let kind = if code { Self::CODE } else { 0 };
        Self {
            base: 0,
            lo: 0,
            hi: u32::MAX,
            limit: u32::MAX,
            selector,
            attributes: Self::PRESENT
                | Self::NON_SYSTEM
                | Self::READ_WRITE
                | Self::ACCESSED
                | Self::DEFAULT32
                | Self::GRANULAR
                | u16::from(dpl) << 5
                | kind,
        }
    }

    /// A segment that may be read: data, or readable code.
    pub fn readable(&self) -> bool {
        self.attributes & Self::CODE == 0 || self.attributes & Self::READ_WRITE != 0
    }

    /// A segment that may be written: writable data. (In real mode CS is loaded
    /// as writable data, see [`Segment::real`].)
    pub fn writable(&self) -> bool {
        self.attributes & (Self::CODE | Self::READ_WRITE) == Self::READ_WRITE
    }
}

/// One entry of the jump cache that indirect branches probe inline.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct JumpEntry {
    /// EIP in the low half, [`CpuState::jump_tag`] in the high half.
    pub key: u64,
    /// Host address of the compiled block, never 0 in a matching entry.
    pub code: u64,
}

/// Number of entries of the jump cache that one tag uses, a power of two.
pub const JUMP_ENTRIES: usize = 1 << 16;

/// How far [`jump_index`] shifts: what is as far apart as the cache has entries
/// must not meet.
pub const JUMP_SHIFT: u32 = 16;

/// Index of `eip` in the jump cache; generated code computes the same. (A sum,
/// because direct code can add without touching the guest's flags.)
#[inline]
pub const fn jump_index(eip: u32) -> usize {
    eip.wrapping_add(eip >> JUMP_SHIFT) as usize & (JUMP_ENTRIES - 1)
}

/// Each tag uses one of so many windows of the jump cache, which overlap: what two
/// address spaces have at one EIP need not meet.
pub const JUMP_WINDOWS: usize = 16;

/// Entries of the whole jump cache.
pub const ALL_JUMP_ENTRIES: usize = 2 * JUMP_ENTRIES;

/// First entry of the window of `tag`.
#[inline]
pub const fn jump_window(tag: u32) -> usize {
    (tag / TAG_STEP) as usize % JUMP_WINDOWS * (JUMP_ENTRIES / JUMP_WINDOWS)
}

/// Masks that direct code has in memory, as it has no register to spare.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Masks {
    /// The page number of an address.
    pub page: u32,
    /// All of an offset within a page but its low n bits.
    pub above: [u32; 9],
    /// The number of a bit in a doubleword.
    pub bit: u32,
    /// The offset of a jump-cache entry, into which PDEP puts its index.
    pub entry: u32,
}

impl Masks {
    /// They never change.
    pub const VALUES: Self = {
        let mut above = [0; 9];
        let mut n = 0;
        while n < above.len() {
            above[n] = 0x1000 - (1 << n);
            n += 1;
        }
        let page = 0xffff_f000;
        let entry = ((JUMP_ENTRIES - 1) * size_of::<JumpEntry>()) as u32;
        Self {
            page,
            above,
            bit: 31,
            entry,
        }
    };
}

/// Guest state reachable from generated code.
///
/// The layout is part of the contract with generated code: offsets are taken
/// with `offset_of!`. The runtime embeds it as the first field of its CPU.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct CpuState {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, and a ninth word that is always
    /// zero: what an absent base or index register reads as.
    pub gpr: [u32; 9],
    /// The instruction pointer. Exact only where guest code is left.
    pub eip: u32,
    /// Lazy arithmetic flags: see [`flags`].
    pub flag_result: u32,
    /// Lazy arithmetic flags: see [`flags`].
    pub flag_carries: u32,
    /// EFLAGS without the arithmetic bits; bit 1 is set.
    pub eflags: u32,
    /// Location-descriptor bits that hold now ([`crate::mode::Mode`]).
    pub mode: u32,
    /// Host address of the direct tier's routine that returns to the run loop.
    pub direct_leave: u64,
    /// Constants that direct code takes bits by.
    pub masks: Masks,
    /// Zero: the low half of a jump-cache key without its EIP.
    pub reserved: u32,
    /// Mode and address-space tag that jump-cache keys must carry now.
    pub jump_tag: u32,
    /// Where direct code keeps AX as LAHF and SETO AL made it.
    pub saved_flags: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub seg: [Segment; 6],
    /// Guest instructions that may still run before generated code must return
    /// to the run loop. Every compiled block subtracts its length on entry and
    /// leaves, undoing that, when the result is negative. The vCPU sets it to a
    /// negative number to ask for attention.
    pub budget: i64,
    /// Host address of the current view's read table: 2^20 entries of 8 bytes.
    /// An entry is 0 (not permitted) or host page address − linear page address.
    pub read_table: u64,
    /// Host address of the current view's write table, same form. It lies
    /// [`WRITE_TABLE_DISTANCE`] behind the read table.
    pub write_table: u64,
    /// Host address of the array of link slots (8 bytes each, host code addresses).
    pub links: u64,
    /// Host address of the jump cache from the window of the current tag on,
    /// [`JUMP_ENTRIES`] × [`JumpEntry`].
    pub jump_cache: u64,
    /// Host address of `extern "C" fn(*mut CpuState, u64) -> u64`, the callout
    /// that runs one instruction in the runtime. Its second argument is the
    /// instruction's index: the `callout_base` the block was compiled with plus
    /// its position. 0 means go on, anything else leave to the run loop. State
    /// in memory is exact on both sides, except that the callout sets EIP.
    pub callout: u64,
    /// The same for direct code, in which 2 means to go on at EIP, by the jump cache:
    /// the tag may be another. So do all that end a block.
    pub resuming_callout: u64,
    /// Host address of the direct tier's routine around it.
    pub direct_callout: u64,
    /// Host address of the direct tier's routine for RETs that match no call.
    pub direct_return: u64,
    /// Host address of the stubs of link slots: [`STUB_BYTES`] each.
    pub stubs: u64,
    /// Host address of the gates: [`GATE_BYTES`] each.
    pub gates: u64,
    /// The host's stack pointer while no guest call is on the host's stack.
    pub host_stack: u64,
    /// Where direct code keeps a value while it has no register for it.
    pub spill: u64,
    /// Where direct code keeps pointers into guest memory within a block.
    pub pointers: [u64; POINTERS],
    /// Where it keeps one more while the runtime carries out a store.
    pub kept_pointer: u64,
    /// 0 while the guest's vector state is in the host's registers.
    pub vector_away: u64,
    /// Host address of the direct tier's routine that loads the vector state.
    pub vector_enter: u64,
    /// Host address of `extern "C" fn(*mut CpuState) -> u64`: 0 if vector and x87
    /// instructions may run now, with all exceptions masked; the x87 state is in
    /// the host's registers then.
    pub vector_prepare: u64,
    /// Number of the last x87 instruction that direct code has run, as for
    /// `callout`, or [`NO_INSN`] since the runtime took note of it.
    pub last_x87: u32,
    /// Number of the last one with a memory operand, or [`NO_INSN`].
    pub last_x87_operand: u32,
    /// Offset of that operand in its segment.
    pub last_x87_offset: u32,
    /// What the guest's time-stamp counter is ahead of the host's.
    pub tsc_offset: u64,
    /// IA32_TSC_AUX, which RDTSCP returns.
    pub tsc_aux: u32,
    /// An interrupt waits for IF to be set: not 0. Right whenever code may set it.
    pub interrupt_waiting: u32,
    /// EIP behind the last STI that direct code has run: there the run loop lets one
    /// more instruction run before an interrupt.
    pub sti_eip: u32,
    /// Host address of XMM0–XMM7, the guest's MXCSR (at [`VECTOR_MXCSR`]) and the
    /// host's (behind it).
    pub vector_state: u64,
    /// The data segment loaded last.
    pub flat_load: FlatLoad,
    /// An answer of CPUID.
    pub cpuid: CpuidAnswer,
    /// Host addresses of the direct tier's routines for [`crate::direct::way::Way`]s.
    pub ways: [u64; WAYS],
    /// What these routines remember.
    pub records: Records,
}

/// What CPUID answers to one question, now and always.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CpuidAnswer {
    /// The question: EAX, and from bit 32 on ECX.
    pub question: u64,
    /// EAX, EBX, ECX and EDX.
    pub answer: [u32; 4],
}

/// A load of a data segment that covers all memory, which has the same result wherever
/// its descriptor is the same. Kernels load the one of programs over and over.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FlatLoad {
    /// The selector, and from bit 32 on [`Segment::selector`] and
    /// [`Segment::attributes`] as they lie in a register that has been loaded with it.
    pub key: u64,
    /// The descriptor.
    pub descriptor: u64,
    /// Linear address of its last byte.
    pub last_byte: u32,
}

impl FlatLoad {
    /// No load is like this.
    pub const NONE: Self = Self {
        key: u64::MAX,
        descriptor: 0,
        last_byte: 0,
    };

    /// The key of a load of `segment`.
    pub fn key(segment: &Segment) -> u64 {
        let selector = u64::from(segment.selector);
        selector | selector << 32 | u64::from(segment.attributes) << 48
    }
}

/// Bytes from one link slot's stub to the next: a call that names the slot by where it
/// comes from.
pub const STUB_BYTES: usize = 8;

/// Bytes from one gate to the next: a line of the host's caches.
pub const GATE_BYTES: usize = 64;

/// Tags are multiples of this, for a gate's one comparison.
pub const TAG_STEP: u32 = 2;

/// No instruction's number.
pub const NO_INSN: u32 = u32::MAX;

/// Pointers that direct code keeps in memory.
pub const POINTERS: usize = 3;

/// Where MXCSR is, from the start of the vector state.
pub const VECTOR_MXCSR: usize = 128;

/// From a view's read table to its write table, in bytes.
pub const WRITE_TABLE_DISTANCE: u64 = 8 << 20;

/// From a view's read table to its mirror, in bytes: 4 GiB of host address space in
/// which the pages of the linear address space that may be accessed are mapped, or
/// some of them. An access to any other is a fault of the host.
pub const MIRROR_DISTANCE: u64 = 32 << 20;

impl CpuState {
    /// The segment register.
    #[inline]
    pub fn segment(&self, seg: SegReg) -> &Segment {
        &self.seg[seg as usize]
    }

    /// The whole EFLAGS image.
    pub fn eflags_image(&self) -> u32 {
        self.eflags | flags::FIXED | flags::to_eflags(self.flag_result, self.flag_carries)
    }

    /// Replaces the whole of EFLAGS.
    pub fn set_eflags_image(&mut self, image: u32) {
        (self.flag_result, self.flag_carries) = flags::from_eflags(image);
        self.eflags = image & !flags::ARITHMETIC | flags::FIXED;
    }
}

impl Default for CpuState {
    fn default() -> Self {
        let (flag_result, flag_carries) = flags::from_eflags(0);
        Self {
            gpr: [0; 9],
            eip: 0,
            flag_result,
            flag_carries,
            eflags: flags::FIXED,
            mode: 0,
            direct_leave: 0,
            masks: Masks::VALUES,
            reserved: 0,
            jump_tag: 0,
            saved_flags: 0,
            seg: [Segment::default(); 6],
            budget: 0,
            read_table: 0,
            write_table: 0,
            links: 0,
            jump_cache: 0,
            callout: 0,
            resuming_callout: 0,
            direct_callout: 0,
            direct_return: 0,
            stubs: 0,
            gates: 0,
            host_stack: 0,
            spill: 0,
            pointers: [0; POINTERS],
            kept_pointer: 0,
            vector_away: 1,
            vector_enter: 0,
            vector_prepare: 0,
            last_x87: NO_INSN,
            last_x87_operand: NO_INSN,
            last_x87_offset: 0,
            tsc_offset: 0,
            tsc_aux: 0,
            interrupt_waiting: 0,
            sti_eip: 0,
            vector_state: 0,
            flat_load: FlatLoad::NONE,
            cpuid: CpuidAnswer::default(),
            ways: [0; WAYS],
            records: Records::default(),
        }
    }
}
