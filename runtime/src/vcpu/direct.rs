//! What direct code knows of the CPU, and what it changes behind the runtime's back.
//!
//! Direct code takes some [ways from mode to mode](translator::direct::way) by itself. The
//! registers that it changes then are all in [`CpuState`](translator::state::CpuState); what
//! the runtime keeps elsewhere and follows from them is made up for when it has control
//! again, before it looks.

use super::{Cpu, cr4};
use translator::flags;

impl Cpu {
    /// Tells direct code, which is about to run, what may have changed.
    #[inline(always)]
    pub fn publish(&mut self) {
        self.state.interrupt_waiting = self.pc.interrupt_pending().into();
        self.state.records.fetches = [false, true].map(|user| self.mmu.fetch_number(user));
    }

    /// Makes up for the ways that direct code has taken, as the runtime has control again.
    #[inline(always)]
    pub fn catch_up(&mut self) {
        if self.state.records.changed != 0 {
            self.after_ways();
        }
    }

    #[inline(never)]
    fn after_ways(&mut self) {
        self.state.records.changed = 0;
        // Ways lead from ring 3 to ring 0 or back, and all code segments on them are flat.
        self.sys.cpl = if self.mode().user() { 3 } else { 0 };
        self.tagged = self.context();
        self.adopt_smap();
        let tag = self.tags.recent(&self.tagged);
        debug_assert!(tag.is_none_or(|tag| tag == self.state.jump_tag));
    }

    /// Looks whether EFLAGS.AC lifts SMAP now. True if that has changed.
    pub(super) fn adopt_smap(&mut self) -> bool {
        // At CPL 3 all supervisor accesses are implicit, and AC does not lift those.
        let ac = self.state.eflags & flags::AC != 0;
        let lifted = ac && self.sys.cr4 & cr4::SMAP != 0 && self.sys.cpl < 3;
        let changed = lifted != self.smap_lifted;
        if changed {
            self.smap_lifted = lifted;
            self.mmu.set_smap_override(lifted);
            self.choose_views();
        }
        changed
    }
}
