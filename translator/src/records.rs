//! What direct code remembers of ways from mode to mode.
//!
//! A load of FS, a system call and the way back from one follow from a few bytes of
//! memory and a few registers. When the runtime has made such a way, it leaves a record
//! here of what decided it and what came of it, and direct code takes the same way itself
//! while all of that is as it was ([`crate::direct::way`]). What a record takes from
//! registers that only the runtime changes (where the tables are, the MSRs of SYSENTER) is
//! not compared: the runtime [forgets](Records::forget) records when it changes those.
//!
//! All code segments and stacks here are flat, which the modes say. So limit, selector and
//! attributes are all that a crossing changes of CS and SS ([`tail`]).

use crate::insn::SegReg;
use crate::mode::Mode;
use crate::state::Segment;
use std::mem::offset_of;

/// No mode.
pub const NO_MODE: u32 = u32::MAX;

/// Loads that are remembered, a power of two: by the selector's lowest index bits.
pub const LOADS: usize = 16;

/// Size of the table of tags, as a power of two.
pub const TAG_BITS: u32 = 7;

/// Factors by which [`tag_slot`] mixes.
pub const MIX: [u32; 2] = [0x85eb_ca6b, 0x9e37_79b9];

/// A tag that was asked for lately, and what it stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KnownTag {
    /// Number of the fetch translations.
    pub fetches: u64,
    /// Mode bits.
    pub mode: u32,
    /// The tag.
    pub tag: u32,
    /// Base and highest offset of CS; 0 and the highest there is if the mode says that
    /// CS is flat.
    pub code: (u32, u32),
}

/// Where a tag is in the table of those: modes and spaces count, of which few alternate
/// all the time.
#[inline]
pub const fn tag_slot(mode: u32, fetches: u64) -> usize {
    let mixed = mode ^ (fetches as u32).wrapping_mul(MIX[0]);
    (mixed.wrapping_mul(MIX[1]) >> (32 - TAG_BITS)) as usize
}

/// A ring, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Ring 0.
    Supervisor,
    /// Ring 3.
    User,
}

/// Index into [`Records::views`] of ring 0's while EFLAGS.AC lifts SMAP.
pub const LIFTED: usize = 2;

/// Limit, selector and attributes of a segment, as they lie in one.
pub fn tail(segment: &Segment) -> u64 {
    const { assert!(offset_of!(Segment, selector) == TAIL + 4) };
    const { assert!(offset_of!(Segment, attributes) == TAIL + 6) };
    let visible = u64::from(segment.selector) | u64::from(segment.attributes) << 16;
    u64::from(segment.limit) | visible << 32
}

/// Where that is in a segment.
pub const TAIL: usize = offset_of!(Segment, limit);

/// A word of selector and attributes, as it lies in a segment.
pub fn visible(segment: &Segment) -> u32 {
    (tail(segment) >> 32) as u32
}

/// Bytes at a linear address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The bytes.
    pub bytes: u64,
    /// The address, no more than 8 bytes before the page's end.
    pub at: u32,
}

/// A load of FS or GS at CPL 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SegmentLoad {
    /// The descriptor, if the selector is not null.
    pub descriptor: Known,
    /// The selector.
    pub selector: u32,
    /// What it makes of the register.
    pub segment: Segment,
    /// What that adds to a mode if the register is the first one, ES.
    pub form: u32,
}

impl SegmentLoad {
    /// No load is like this.
    pub const NONE: Self = Self {
        descriptor: Known { bytes: 0, at: 0 },
        selector: u32::MAX,
        segment: Segment::BLANK,
        form: 0,
    };

    /// What a mode says of the first segment register.
    pub const FORM: u32 = Mode(0).with_segment(SegReg::Es, true, true).0;
}

/// CS and SS of a new ring, and the mode.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    /// Mode before, and after.
    pub from: u32,
    /// See `from`.
    pub to: u32,
    /// Tails of the segments.
    pub cs: u64,
    /// See `cs`.
    pub ss: u64,
    /// Their descriptors, where they are looked at.
    pub code: Known,
    /// See `code`.
    pub stack: Known,
}

impl Crossing {
    const NONE: Self = Self {
        from: NO_MODE,
        to: 0,
        cs: 0,
        ss: 0,
        code: Known { bytes: 0, at: 0 },
        stack: Known { bytes: 0, at: 0 },
    };
}

/// INT n from ring 3 to ring 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Interrupt {
    /// The rings.
    pub crossing: Crossing,
    /// The gate.
    pub gate: Known,
    /// Linear address of ESP0 and SS0.
    pub stack_at: u32,
    /// n.
    pub vector: u32,
    /// EIP of the handler.
    pub eip: u32,
    /// The bits of EFLAGS that stay.
    pub kept: u32,
}

/// IRETD from ring 0 to ring 3.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// The rings.
    pub crossing: Crossing,
    /// [`visible`] of ES, DS, FS and GS, which ring 3 may keep.
    pub data: [u32; 4],
    /// The bits of EFLAGS that it loads, arithmetic flags aside.
    pub loaded: u32,
}

/// SYSENTER from ring 3, and SYSEXIT from ring 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FastCall {
    /// The rings. No descriptors are looked at.
    pub crossing: Crossing,
    /// ESP and EIP for SYSENTER.
    pub esp: u32,
    /// See `esp`.
    pub eip: u32,
}

/// See the module's essay.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Records {
    /// Host address of the tags asked for lately: 2 to the [`TAG_BITS`] [`KnownTag`]s.
    pub tags: u64,
    /// Host address of the whole jump cache.
    pub jump_caches: u64,
    /// Numbers of the fetch translations, by ring. Right whenever code may look.
    pub fetches: [u64; 2],
    /// Read tables by ring, and [`LIFTED`].
    pub views: [u64; 3],
    /// Direct code has changed mode, tag or view since the runtime looked: not 0.
    pub changed: u32,
    /// By the selector's lowest index bits.
    pub loads: [SegmentLoad; LOADS],
    /// The last one.
    pub interrupt: Interrupt,
    /// The last one.
    pub iret: Return,
    /// The last one.
    pub sysenter: FastCall,
    /// The last one.
    pub sysexit: FastCall,
}

impl Default for Records {
    fn default() -> Self {
        let crossing = Crossing::NONE;
        let fast = FastCall {
            crossing,
            esp: 0,
            eip: 0,
        };
        Self {
            tags: 0,
            jump_caches: 0,
            fetches: [0; 2],
            views: [0; 3],
            changed: 0,
            loads: [SegmentLoad::NONE; LOADS],
            interrupt: Interrupt {
                crossing,
                gate: Known::default(),
                stack_at: 0,
                vector: 0,
                eip: 0,
                kept: 0,
            },
            iret: Return {
                crossing,
                data: [0; 4],
                loaded: 0,
            },
            sysenter: fast,
            sysexit: fast,
        }
    }
}

impl Records {
    /// Forgets all ways, which direct code then has the runtime make.
    pub fn forget(&mut self) {
        self.loads = [SegmentLoad::NONE; LOADS];
        let fast = [&mut self.sysenter, &mut self.sysexit];
        for crossing in fast.map(|fast| &mut fast.crossing) {
            *crossing = Crossing::NONE;
        }
        self.interrupt.crossing = Crossing::NONE;
        self.forget_iret();
    }

    /// Has the runtime make the next IRETD.
    pub fn forget_iret(&mut self) {
        self.iret.crossing = Crossing::NONE;
    }
}

/// Where a load of `selector` is remembered.
pub const fn load_slot(selector: u16) -> usize {
    (selector >> 3) as usize % LOADS
}
