//! Accesses that must be looked at one by one: data breakpoints and alignment
//! checks.
//!
//! Nothing is paid for either while it is off. While one is on, the shadow tables
//! of the CPU are replaced by one that permits nothing, so that every access of
//! any instruction takes the careful path, which examines it here. The mode bits
//! [`Mode::SINGLE`](translator::mode::Mode::SINGLE) and
//! [`Mode::ALIGNED`](translator::mode::Mode::ALIGNED) keep blocks interpreted
//! meanwhile.
//!
//! A debugger's watchpoints are looked at here too; for them, only the pages they are
//! in are withheld: see [`crate::gdb::points`].

use super::{Cpu, cr0, cr4};
use crate::system::debug;
use shadow_mmu::{Access, LinearAddr};
use translator::exception::Exception;
use translator::flags;

/// What accesses are examined for.
#[derive(Default)]
pub(super) struct Watch {
    /// #AC for user accesses.
    alignment: bool,
    /// Data breakpoints.
    data: bool,
}

impl Watch {
    fn on(&self) -> bool {
        self.alignment || self.data
    }
}

impl Cpu {
    /// CR0.AM, EFLAGS.AC and CPL 3: misaligned accesses are #AC.
    pub(super) fn checks_alignment(&self) -> bool {
        self.sys.cpl == 3 && self.state.eflags & flags::AC != 0 && self.sys.cr0 & cr0::AM != 0
    }

    /// Whether every access must go through the checked accessors, one element
    /// at a time.
    pub fn examines(&self) -> bool {
        self.watch.on() || self.points.watches()
    }

    /// Adopts what the registers say is to be examined, and whether EFLAGS.AC
    /// lifts SMAP.
    pub(super) fn update_watch(&mut self) {
        let (alignment, data) = (self.checks_alignment(), debug::watches_data(self.sys.dr[7]));
        if (alignment, data) != (self.watch.alignment, self.watch.data) {
            (self.watch.alignment, self.watch.data) = (alignment, data);
            self.choose_views();
            self.context_changed();
        }
        self.smap_changed();
    }

    /// Must be called after a change of EFLAGS.AC at CPL 0, where it means nothing but
    /// this: looks whether it lifts SMAP.
    pub fn smap_changed(&mut self) {
        if self.adopt_smap() {
            self.context_changed();
        }
    }

    /// Picks the tables for both privileges, of the current address space. If the user's
    /// may be others now, the caller asks for attention: direct code takes it that they
    /// stay.
    pub(super) fn choose_views(&mut self) {
        let (smap, lifted) = (self.sys.cr4 & cr4::SMAP != 0, self.smap_lifted);
        let [supervisor, user, past_smap] = match self.watch.on() {
            true => [self.mmu.blank_view(); 3],
            false => self.mmu.views(),
        };
        self.views = [if lifted { past_smap } else { supervisor }, user];
        let past_smap = if smap { past_smap } else { supervisor };
        self.state.records.views = [supervisor, user, past_smap].map(|view| view.read);
        self.update_view();
    }

    /// Looks at an access of `bytes` bytes before it is made.
    ///
    /// # Errors
    /// #AC, which silicon raises before #PF.
    #[inline]
    pub(super) fn examine(
        &mut self,
        addr: LinearAddr,
        bytes: u32,
        access: Access,
        user: bool,
    ) -> Result<(), Exception> {
        if self.points.watches() && self.points.note(addr, bytes, access) {
            self.request_attention();
        }
        if !self.watch.on() {
            return Ok(());
        }
        self.require_alignment(addr, bytes, user)?;
        if self.watch.data {
            self.pending_debug |= debug::data_hits(self, addr, bytes, access);
        }
        Ok(())
    }

    /// A user access must be aligned if that is checked, else #AC.
    ///
    /// # Errors
    /// #AC.
    pub fn require_alignment(
        &self,
        addr: LinearAddr,
        bytes: u32,
        user: bool,
    ) -> Result<(), Exception> {
        if self.watch.alignment && user && addr.0 & (alignment(bytes) - 1) != 0 {
            return Err(Exception::AlignmentCheck);
        }
        Ok(())
    }
}

/// The alignment that #AC asks of an operand by its size (SDM vol. 3A, "Alignment
/// Requirements by Data Type"): a power of two.
fn alignment(bytes: u32) -> u32 {
    match bytes {
        2 | 8 | 16 => bytes,
        // An 80-bit number.
        10 => 8,
        // Environment and state of the x87 unit in the 16-bit format.
        14 | 94 => 2,
        0 | 1 => 1,
        // Doublewords, and the other images of state.
        _ => 4,
    }
}
