//! The virtual CPU: architectural state, guest memory access, and what the run
//! loop must look at between instructions.
//!
//! [`Cpu`] is what concrete (system) definitions work on and what the
//! interpreter implements `Machine` for. It owns the shadow MMU and the devices,
//! so an instruction can do all it needs through `&mut Cpu`; it does not own
//! the translation cache: stores into translated code are queued in
//! [`Cpu::code_writes`] and the run loop drops the blocks before anything else
//! runs.

mod direct;
mod memory;
mod regs;
mod watch;

pub use regs::{SystemRegs, TableReg, cr0, cr4};

use crate::cache::frame::Frames;
use crate::callouts::Callouts;
use crate::cpu_model::CpuModel;
use crate::cpu_model::feature::Feature;
use crate::devices::pc::Pc;
use crate::gdb::points::Points;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::native::gs::Gs;
use crate::system::branches::Branches;
use crate::system::crossing::Crossings;
use crate::system::debug;
use crate::system::id;
use crate::system::loads::Loads;
use crate::system::random::Entropy;
use crate::tags::{Context, Tags};
use crate::volatile::{Calm, Volatile};
use shadow_mmu::{MIRROR_DISTANCE, PagingRegs, PhysAddr, ShadowMmu, View};
use std::ops::Range;
use std::sync::Arc;
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Gpr, SegReg};
use translator::mode::Mode;
use translator::state::{CpuState, JumpEntry, Segment, jump_window};

/// Marks that an exception was raised and stored in [`Cpu::raised`].
///
/// A separate unit type keeps the interpreter's results in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised;

/// What the last instruction holds off until the next one has run (SDM vol. 3A,
/// "Masking Maskable Hardware Interrupts", "Masking Exceptions and Interrupts
/// When Switching Stacks").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// STI: maskable interrupts.
    Sti,
    /// MOV SS, POP SS: all interrupts, and debug traps.
    Ss,
}

/// One virtual CPU with the machine it drives.
#[repr(C)]
pub struct Cpu {
    /// State that generated code sees. First, so that both share one address.
    pub state: CpuState,
    /// What the processor is and can do.
    pub model: Arc<CpuModel>,
    /// The other registers.
    pub sys: SystemRegs,
    /// The exception behind a [`Raised`].
    pub raised: Option<Exception>,
    /// The run loop must look around before the next instruction: mode changed,
    /// code was overwritten, an interrupt or a device event may be pending.
    pub attention: bool,
    /// There is more to look at than another mode or address space.
    pub beyond_context: bool,
    /// The slice is over although its budget is not spent.
    pub slice_over: bool,
    /// Numbers of the contexts, and the context that [`CpuState::jump_tag`] is of.
    pub tags: Tags,
    /// See [`Cpu::tags`].
    pub tagged: Context,
    /// Code of ring 3 finds the user view's mirror by GS.
    pub gs: Option<Gs>,
    /// A callout stored EIP before it asked for attention.
    pub eip_stored: bool,
    /// What is held off until the next instruction has run.
    pub shadow: Shadow,
    /// The instruction being run is in the shadow of a load of SS.
    pub in_ss_shadow: bool,
    /// An NMI has come by message and has not been delivered.
    pub nmi_pending: bool,
    /// The board's NMI line has been raised, and that has not been delivered. Port
    /// 70h masks this one only.
    pub nmi_line: bool,
    /// An NMI has been delivered, and no IRET has been executed since.
    pub nmi_blocked: bool,
    /// DR6 bits of the #DB trap due at the next instruction boundary.
    pub pending_debug: u32,
    /// The instruction being run has delivered an event or switched tasks: no
    /// single-step trap follows it.
    pub diverted: bool,
    /// The instruction being run has been a taken branch or a far transfer; kept by the
    /// interpreter only, for [`crate::system::branches`].
    pub branched: bool,
    /// HLT: nothing runs until an interrupt.
    pub halted: bool,
    /// Shutdown after a triple fault.
    pub shutdown: bool,
    /// The frames with translated code, and where in them it is.
    pub code: Frames,
    /// What is known of volatile instructions, while none of them runs.
    pub volatile: Option<Box<Volatile>>,
    /// Guest-physical addresses of the volatile instruction that runs, if it can
    /// store to itself and go on.
    pub running: Range<u64>,
    /// Volatile instructions that have run unchanged for long.
    pub calm: Vec<Calm>,
    /// Guest-physical ranges `(address, length)` of translated code that was written.
    pub code_writes: Vec<(PhysAddr, u32)>,
    /// Base and highest offset of CS when the mode was last recomputed: an EIP
    /// names another block under others.
    code_segment: (u32, u32),
    /// Shadow tables of the current address space: supervisor's, user's. Blank
    /// ones while accesses are examined.
    views: [View; 2],
    /// What accesses are examined for.
    watch: watch::Watch,
    /// EFLAGS.AC lifts SMAP for explicit accesses.
    smap_lifted: bool,
    /// What a debugger wants the CPU to stop for.
    pub points: Points,
    /// Where the time goes.
    pub ledger: Ledger,
    /// The execution log.
    pub log: Option<Box<Log>>,
    /// Ways between the rings that have been taken.
    pub crossings: Box<Crossings>,
    /// Data segments that have been loaded.
    pub loads: Box<Loads>,
    /// Instructions that compiled code calls out for, by callout index.
    pub callouts: Callouts,
    /// Callouts from compiled code, by mnemonic.
    pub callout_counts: Box<[u64]>,
    /// Guest memory and its mappings.
    pub mmu: ShadowMmu,
    /// The devices.
    pub pc: Pc,
    /// Where RDRAND has its numbers from.
    pub entropy: Entropy,
    /// x87, MMX and SSE state.
    pub fpu: Box<crate::fpu::Fpu>,
}

impl Cpu {
    /// A CPU in its reset state (SDM vol. 3A, "Processor State After Reset").
    pub fn new(model: CpuModel, mmu: ShadowMmu, pc: Pc) -> Self {
        let mut cpu = Self {
            state: CpuState::default(),
            sys: SystemRegs {
                cr0: cr0::ET | cr0::CD | cr0::NW,
                cr2: 0,
                cr3: 0,
                cr4: 0,
                dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
                efer: 0,
                xcr0: 1,
                gdtr: TableReg {
                    base: 0,
                    limit: 0xffff,
                },
                idtr: TableReg {
                    base: 0,
                    limit: 0xffff,
                },
                ldtr: Segment {
                    hi: 0xffff,
                    limit: 0xffff,
                    attributes: 0x82,
                    ..Segment::default()
                },
                tr: Segment {
                    hi: 0xffff,
                    limit: 0xffff,
                    attributes: 0x8b,
                    ..Segment::default()
                },
                cpl: 0,
                sysenter: [0; 3],
                pdptes: [0; 4],
                branches: Branches::default(),
                msrs: std::collections::BTreeMap::new(),
            },
            raised: None,
            attention: false,
            slice_over: false,
            beyond_context: false,
            tags: Tags::default(),
            tagged: Context::NOWHERE,
            gs: None,
            eip_stored: false,
            code_segment: (0, 0),
            views: [View { read: 0, write: 0 }; 2],
            watch: watch::Watch::default(),
            smap_lifted: false,
            points: Points::default(),
            ledger: Ledger::default(),
            log: None,
            crossings: Box::default(),
            loads: Box::default(),
            callouts: Callouts::default(),
            callout_counts: vec![0; iced_x86::Mnemonic::values().len()].into_boxed_slice(),
            shadow: Shadow::None,
            in_ss_shadow: false,
            nmi_pending: false,
            nmi_line: false,
            nmi_blocked: false,
            pending_debug: 0,
            diverted: false,
            branched: false,
            halted: false,
            shutdown: false,
            code: Frames::default(),
            volatile: Some(Box::default()),
            running: 0..0,
            calm: Vec::new(),
            code_writes: Vec::new(),
            mmu,
            pc,
            entropy: Entropy::default(),
            fpu: Box::new(crate::fpu::Fpu::new(&model)),
            model: Arc::new(model),
        };
        cpu.state.records.tags = cpu.tags.address();
        cpu.state.seg = [Segment::real(0); 6];
        cpu.state.seg[SegReg::Cs as usize] = Segment {
            base: 0xffff_0000,
            ..Segment::real(0xf000)
        };
        cpu.state.eip = 0xfff0;
        cpu.state.gpr[Gpr::EDX.0 as usize] = cpu.model.signature();
        id::prepare(&mut cpu);
        cpu.paging_changed();
        cpu.mode_changed();
        cpu
    }

    /// Stores the exception and returns the marker of it.
    #[cold]
    pub fn raise(&mut self, e: Exception) -> Raised {
        self.raised = Some(e);
        Raised
    }

    /// Asks the run loop to look around before the next instruction, also when
    /// compiled code is running.
    pub fn request_attention(&mut self) {
        (self.attention, self.beyond_context) = (true, true);
    }

    /// The same, because what EIP means has changed.
    fn context_changed(&mut self) {
        self.attention = true;
    }

    /// What EIP needs beside it now to name a block.
    pub fn context(&self) -> Context {
        let cs = self.state.segment(SegReg::Cs);
        Context {
            mode: self.state.mode,
            fetches: self.mmu.fetch_number(self.sys.cpl == 3),
            code: (cs.base, cs.hi),
        }
    }

    /// Makes a tag the current one.
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        let window = jump_window(tag) * size_of::<JumpEntry>();
        self.state.jump_tag = tag;
        self.state.jump_cache = self.state.records.jump_caches + window as u64;
    }

    /// Gives the attention that was asked for if all it takes is another tag, and one
    /// that is known. False if the run loop must look around.
    #[inline]
    pub fn adopt_context(&mut self) -> bool {
        if self.beyond_context {
            return false;
        }
        let now = self.context();
        if now != self.tagged {
            let Some(tag) = self.tags.recent(&now) else {
                return false;
            };
            self.tagged = now;
            self.set_tag(tag);
        }
        self.attention = false;
        true
    }

    /// SS was loaded by MOV or POP. Of several such loads in a row only the first
    /// casts a shadow.
    pub fn shadow_of_ss(&mut self) {
        if !self.in_ss_shadow {
            self.shadow = Shadow::Ss;
        }
    }

    /// Direct code has left where STI still holds interrupts off, or seems to: whoever
    /// comes back there later waits for one instruction, too.
    pub fn in_direct_shadow(&mut self) -> bool {
        let shadowed = self.state.eip == self.state.sti_eip && !self.halted;
        if shadowed {
            self.state.sti_eip = !self.state.eip;
        }
        shadowed
    }

    /// Raises the board's NMI line; while one waits, another is lost.
    pub fn raise_nmi_line(&mut self) {
        self.nmi_line = true;
        self.request_attention();
    }

    /// Whether an NMI waits that nothing masks.
    #[inline]
    pub fn nmi_waits(&self) -> bool {
        self.nmi_pending || self.nmi_line && !self.pc.nmi_masked()
    }

    /// Whether an NMI is to be delivered now.
    #[inline]
    pub fn nmi_due(&self) -> bool {
        let held = self.nmi_blocked || self.holds_interrupts();
        self.nmi_waits() && !held && self.shadow != Shadow::Ss
    }

    /// Whether any block asks the run loop before it runs: none may be passed by.
    pub fn asks(&self) -> bool {
        self.log.is_some() || self.points.any_applied()
    }

    /// A debugger steps: what is not of the instruction's making waits, unless the
    /// instruction waits for that.
    #[inline]
    pub fn holds_interrupts(&self) -> bool {
        self.points.stepping && !self.halted
    }

    /// EFLAGS.VM with protection on.
    pub fn v86(&self) -> bool {
        self.state.eflags & flags::VM != 0
    }

    /// Protected mode, not virtual-8086: selectors name descriptors.
    pub fn protected(&self) -> bool {
        self.sys.cr0 & cr0::PE != 0 && !self.v86()
    }

    /// EFLAGS.IOPL.
    pub fn iopl(&self) -> u8 {
        (self.state.eflags >> 12 & 3) as u8
    }

    /// Must be called after any change of a segment register, CPL, CR0.PE,
    /// EFLAGS.VM, TF or AC, CR0.AM, CR4.TSD or SMAP, DR7 or IA32_DEBUGCTL: recomputes the mode bits
    /// and picks the view.
    pub fn mode_changed(&mut self) {
        let protected = self.protected();
        let v86 = self.v86();
        let mut mode = Mode(0);
        for seg in SegReg::ALL {
            mode = self.with_segment(mode, seg);
        }
        let default32 =
            |seg: SegReg| self.state.seg[seg as usize].attributes & Segment::DEFAULT32 != 0;
        let mut bits = mode.0;
        if default32(SegReg::Cs) && !v86 {
            bits |= Mode::CODE32;
        }
        if default32(SegReg::Ss) && !v86 {
            bits |= Mode::STACK32;
        }
        if self.sys.cpl == 3 {
            bits |= Mode::USER;
        }
        if protected {
            bits |= Mode::PROTECTED;
        }
        if self.sys.cpl == 0 {
            bits |= Mode::SUPERVISOR;
        }
        if self.sys.cpl == 0 || self.sys.cr4 & cr4::TSD == 0 {
            bits |= Mode::TIME_STAMP;
        }
        let traps = self.state.eflags & flags::TF != 0 || debug::armed(self.sys.dr[7]);
        let records = self.sys.branches.recording();
        if traps || records || self.points.single() {
            bits |= Mode::SINGLE;
        }
        if self.checks_alignment() {
            bits |= Mode::ALIGNED;
        }
        if self.mmu.is_settled() {
            bits |= Mode::SETTLED;
        }
        let cs = self.state.segment(SegReg::Cs);
        let code = (cs.base, cs.hi);
        if bits != self.state.mode || code != self.code_segment {
            self.state.mode = bits;
            self.code_segment = code;
            self.context_changed();
        }
        self.update_watch();
        self.update_view();
    }

    /// Must be called after any change of ES, DS, FS or GS alone.
    #[inline]
    pub fn data_segment_changed(&mut self, seg: SegReg) {
        let mode = self.with_segment(self.mode().without_segment(seg), seg);
        if mode != self.mode() {
            self.state.mode = mode.0;
            self.context_changed();
        }
    }

    /// Adds to a mode what it says of a segment.
    #[inline(always)]
    fn with_segment(&self, mode: Mode, seg: SegReg) -> Mode {
        let s = &self.state.seg[seg as usize];
        // Writable data, or for CS whatever is readable.
        let rights = match seg {
            SegReg::Cs => s.readable(),
            _ => s.writable(),
        };
        let unlimited = (s.lo == 0) & (s.hi == u32::MAX) & rights;
        mode.with_segment(seg, unlimited, s.base == 0)
    }

    /// Makes CS, SS and CPL current together with the mode that they make.
    pub(crate) fn cross(&mut self, cs: Segment, ss: Segment, cpl: u8, mode: u32) {
        self.state.seg[SegReg::Cs as usize] = cs;
        self.state.seg[SegReg::Ss as usize] = ss;
        self.sys.cpl = cpl;
        self.state.mode = mode;
        self.code_segment = (cs.base, cs.hi);
        self.context_changed();
        self.update_view();
    }

    /// Must be called after any change of CR0.PG/WP, CR3, CR4, EFER.NXE or the
    /// PDPTE registers.
    pub fn paging_changed(&mut self) {
        self.mmu.set_paging(&PagingRegs {
            cr0: self.sys.cr0,
            cr3: self.sys.cr3,
            cr4: self.sys.cr4,
            nx: self.sys.efer >> 11 & 1 != 0,
            pse36: self.model.has(Feature::Pse36),
            pae_pdptes: self.sys.pdptes,
        });
        self.choose_views();
        self.adopt_settled();
        self.context_changed();
    }

    /// A slice of time has passed, in a machine that uses mirrors where they pay.
    pub fn pass_slice(&mut self) {
        self.mmu.pass_slice();
        self.adopt_settled();
    }

    fn adopt_settled(&mut self) {
        if self.mode().settled() != self.mmu.is_settled() {
            self.state.mode ^= Mode::SETTLED;
            self.context_changed();
        }
    }

    fn update_view(&mut self) {
        let view = self.views[usize::from(self.sys.cpl == 3)];
        self.state.read_table = view.read;
        self.state.write_table = view.write;
    }

    /// Must be called before code runs wherever the views may be others than when it
    /// last did, or the thread another.
    #[inline(always)]
    pub fn follow_user_mirror(&self) {
        if let Some(gs) = self.gs {
            gs.point_at(self.views[1].read.wrapping_add(MIRROR_DISTANCE));
        }
    }

    /// The current mode bits.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        Mode(self.state.mode)
    }
}
