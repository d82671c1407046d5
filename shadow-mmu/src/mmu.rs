//! The shadow MMU itself: its state, the choice of the current space, translation.

use crate::addr::{LinearAddr, PAGE_BYTES, PhysAddr};
use crate::counters::MmuCounters;
use crate::error::Error;
use crate::fault::{Access, Denial, PageFault};
use crate::fetches::Group;
use crate::memory::GuestRam;
use crate::mirror::Mirror;
use crate::paging::{Context, PagingRegs};
use crate::space::{MAX_SPACES, SLOTS, Space};
use crate::table::{Array, Side, View};
use crate::trace::{DIRECTORIES, GROUPS, Node, Traces};
use crate::walk::walk;
use crate::writers::WriterMap;

/// Where an access goes: one byte, and with it the rest of its 4 KiB page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The guest physical address.
    pub phys: PhysAddr,
    /// The host address; `None` where there is no RAM (a device, or nothing).
    pub host: Option<*mut u8>,
    /// A store here must be reported by [`ShadowMmu::note_write`] once performed.
    pub traced: bool,
}

/// Guest memory, the shadow tables of the cached address spaces, and the traces
/// that keep the tables true.
pub struct ShadowMmu {
    pub(crate) ram: GuestRam,
    pub(crate) traces: Traces,
    pub(crate) writers: WriterMap,
    pub(crate) spaces: Vec<Space>,
    /// The key of each space's context, 0 if evicted: what `set_paging` searches.
    keys: Vec<u64>,
    pub(crate) current: usize,
    regs: PagingRegs,
    smap_override: bool,
    /// Advances at each `set_paging` that changes the space.
    clock: u64,
    pub(crate) groups: [Group; GROUPS],
    /// Of spaces and groups. Starts at 1: slots carry 0 for "never fetched".
    pub(crate) last_number: u64,
    pub(crate) counters: MmuCounters,
    /// All spaces have room for mirrors.
    pub(crate) room: bool,
    /// Tables without entries.
    pub(crate) blank: Mirror,
    /// Mappings made since mirrors were last emptied.
    pub(crate) mappings: u32,
    /// Reused by `note_write` for the users of a frame.
    pub(crate) users: Vec<Node>,
    /// Linear pages that get no entries.
    pub(crate) withheld: Vec<u32>,
}

impl ShadowMmu {
    /// Takes guest memory, whose holes must be declared by now; paging is off.
    ///
    /// # Errors
    /// If the host refuses address space for the tables.
    pub fn new(ram: GuestRam) -> Result<Self, Error> {
        let traces = Traces::new(&ram)?;
        let writers = WriterMap::new((ram.bytes() / PAGE_BYTES) as usize)?;
        let regs = PagingRegs::default();
        let context = Context::new(&regs);
        // One without room would make mirrored code reach beyond its tables, so either
        // all spaces have it or none.
        let roomy = Space::new(true);
        let room = roomy.is_ok();
        let mut space = roomy.or_else(|_| Space::new(false))?;
        space.context = Some(context);
        space.number = 1;
        let mut mmu = ShadowMmu {
            ram,
            traces,
            writers,
            spaces: vec![space],
            keys: vec![context.key()],
            current: 0,
            regs,
            smap_override: false,
            clock: 0,
            groups: Default::default(),
            last_number: 1,
            mappings: 0,
            room,
            blank: Mirror::new(room)?,
            counters: MmuCounters {
                spaces_created: 1,
                ..MmuCounters::default()
            },
            users: Vec::new(),
            withheld: Vec::new(),
        };
        mmu.group_of(0);
        Ok(mmu)
    }

    /// Guest memory.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Makes the address space that these registers describe current.
    ///
    /// To be called after any change of CR0.PG/WP, CR3, CR4.PSE/PAE/SMEP/SMAP,
    /// EFER.NXE or the PDPTEs. Shadow tables of other spaces are kept.
    pub fn set_paging(&mut self, regs: &PagingRegs) {
        self.regs = *regs;
        let context = Context::new(regs);
        let key = context.key();
        if self.keys[self.current] != key {
            self.counters.switches += 1;
            self.clock += 1;
            self.current = match self.keys.iter().position(|&other| other == key) {
                Some(space) => space,
                None => self.create(context),
            };
        }
        self.update_directories(self.current, context);
        self.join();
        let clock = self.clock;
        let space = &mut self.spaces[self.current];
        space.last_used = clock;
        space.stray_stores = 0;
    }

    /// Tells whether EFLAGS.AC lifts SMAP for supervisor data accesses from now on.
    ///
    /// This selects another supervisor's [`view`](Self::view). Accesses
    /// that the processor makes by itself (descriptor tables, task state) are not
    /// lifted: see [`permits_implicit`](Self::permits_implicit).
    pub fn set_smap_override(&mut self, lifted: bool) {
        self.smap_override = lifted;
    }

    /// The view for accesses of that privilege now.
    pub(crate) fn side(&self, user: bool) -> Side {
        match (user, self.smap_override) {
            (true, _) => Side::User,
            (false, false) => Side::Supervisor,
            (false, true) => Side::Lifted,
        }
    }

    /// The tables of the current space for user or supervisor accesses.
    /// Stable until the next [`set_paging`](Self::set_paging) or
    /// [`set_smap_override`](Self::set_smap_override).
    #[must_use]
    pub fn view(&self, user: bool) -> View {
        self.spaces[self.current].tables().view(self.side(user))
    }

    /// The tables of the current space for the supervisor, the user, and the supervisor
    /// while SMAP is lifted. Stable until the next [`set_paging`](Self::set_paging).
    #[must_use]
    pub fn views(&self) -> [View; 3] {
        let tables = self.spaces[self.current].tables();
        [Side::Supervisor, Side::User, Side::Lifted].map(|side| tables.view(side))
    }

    /// A small number naming the current space, paging mode and WP included. It is
    /// reused for others.
    #[must_use]
    pub fn space_id(&self) -> u32 {
        self.current as u32
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &MmuCounters {
        &self.counters
    }

    /// Translates an access to one byte in the current space, as the processor would.
    ///
    /// Walks the guest's tables, sets accessed (for a write also dirty), and
    /// fills shadow entries as far as they may exist. The answer holds for the
    /// whole 4 KiB page; an access that crosses pages is two.
    ///
    /// # Errors
    /// The #PF that the guest is due.
    pub fn translate(
        &mut self,
        linear: LinearAddr,
        access: Access,
        user: bool,
    ) -> Result<Translation, PageFault> {
        if let Some(translation) = self.lookup(linear, access, user) {
            self.counters.shadow_hits += 1;
            return Ok(translation);
        }
        let Some(context) = self.spaces[self.current].context else {
            unreachable!("the current space is never evicted")
        };
        let walked = walk(&self.ram, &context, linear).and_then(|walk| {
            context
                .permits_side(walk.rights, access, self.side(user))
                .then_some(walk)
                .ok_or(Denial::Protection)
        });
        match walked {
            Ok(mut walk) => {
                walk.mark(&self.ram, access == Access::Write);
                match access {
                    Access::Fetch => self.counters.fetches += 1,
                    Access::Read | Access::Write => self.counters.hidden_faults += 1,
                }
                self.fill(linear, access, user, &context, &walk);
                let translation = self.describe(PhysAddr(walk.page.0 | u64::from(linear.offset())));
                if access == Access::Write && translation.traced {
                    let side = self.side(user);
                    self.spaces[self.current].mark_writable(linear.page(), side);
                }
                Ok(translation)
            }
            Err(denial) => {
                self.counters.true_faults += 1;
                Err(denial.fault(linear, access, user, context.reports_fetch()))
            }
        }
    }

    /// Whether SMAP allows the processor's own access to this byte, also while
    /// EFLAGS.AC lifts it for others. Anything else that is wrong with the access
    /// is left for [`translate`](Self::translate) to find.
    ///
    /// # Errors
    /// The #PF that the guest is due.
    pub fn permits_implicit(&self, linear: LinearAddr, access: Access) -> Result<(), PageFault> {
        let context = Context::new(&self.regs);
        match walk(&self.ram, &context, linear) {
            Ok(walk) if context.smap && walk.rights.user => {
                let fetch_bit = context.reports_fetch();
                Err(Denial::Protection.fault(linear, access, false, fetch_bit))
            }
            _ => Ok(()),
        }
    }

    /// Translates for a debugger: supervisor read, no side effects.
    #[must_use]
    pub fn peek(&self, linear: LinearAddr) -> Option<PhysAddr> {
        let context = self.spaces[self.current].context?;
        let walk = walk(&self.ram, &context, linear).ok()?;
        Some(PhysAddr(walk.page.0 | u64::from(linear.offset())))
    }

    /// Answers from the shadow tables, if they permit the access.
    #[inline]
    fn lookup(&self, linear: LinearAddr, access: Access, user: bool) -> Option<Translation> {
        let array = match access {
            Access::Read => Array::read(self.side(user)),
            Access::Write => Array::write(self.side(user)),
            Access::Fetch => return None,
        };
        let (space, page) = (&self.spaces[self.current], linear.page());
        let at = |entry: u64| {
            let host = entry.wrapping_add(u64::from(linear.0));
            self.describe(PhysAddr(host.wrapping_sub(self.ram.host_base() as u64)))
        };
        let entry = space.get(array, page);
        if entry != 0 {
            return Some(at(entry));
        }
        if access == Access::Read || !space.is_writable(page, self.side(user)) {
            return None;
        }
        // The read entry says where a traced page is. One not traced any more is due
        // its write entry.
        let entry = space.get(Array::read(self.side(user)), page);
        (entry != 0).then(|| at(entry)).filter(|t| t.traced)
    }

    /// Where a store to one byte goes if it is known to be permitted, and all it needs
    /// is to be checked against the translated code in its frame.
    #[inline]
    #[must_use]
    pub fn beside_code(&self, linear: LinearAddr, user: bool) -> Option<PhysAddr> {
        let (space, page) = (&self.spaces[self.current], linear.page());
        if !space.is_writable(page, self.side(user)) {
            return None;
        }
        let entry = space.read_entry(page, self.side(user));
        let host = entry.wrapping_add(u64::from(linear.0));
        let phys = PhysAddr(host.wrapping_sub(self.ram.host_base() as u64));
        let frame = self.traces.ram_frame(phys.frame())?;
        let only_code = self.traces.is_code(frame) && !self.traces.has_users(frame);
        (entry != 0 && only_code).then_some(phys)
    }

    fn describe(&self, phys: PhysAddr) -> Translation {
        let traced = self
            .traces
            .ram_frame(phys.frame())
            .is_some_and(|frame| self.traces.is_traced(frame));
        Translation {
            phys,
            host: self.ram.host(phys, 1),
            traced,
        }
    }

    /// A space for `context`: a new one, an evicted one, or the least recently used.
    fn create(&mut self, context: Context) -> usize {
        self.counters.spaces_created += 1;
        self.evict_other_format(&context);
        let evicted = self.keys.iter().position(|&key| key == 0);
        let space = match evicted {
            Some(space) => space,
            None => self.add_space().unwrap_or_else(|| self.evict_oldest()),
        };
        self.keys[space] = context.key();
        self.spaces[space].number = self.new_number();
        // The PDPTEs come with `update_directories`, as a change from none.
        let bare = Context {
            pdptes: [0; 4],
            ..context
        };
        self.spaces[space].context = Some(bare);
        if !context.pae {
            self.link_directory(space, 0, &context);
        }
        space
    }

    /// Evicts the spaces whose paging-structure entries are of the other size.
    ///
    /// A walk that sets accessed or dirty reports nothing, because that takes
    /// no right from anybody. In an entry of the other size the same bit could
    /// be part of an address. Guests change the size once, when they boot.
    fn evict_other_format(&mut self, context: &Context) {
        for space in 0..self.spaces.len() {
            let other = |old: Context| old.paging && context.paging && old.pae != context.pae;
            if self.spaces[space].context.is_some_and(other) {
                self.evict(space);
            }
        }
    }

    /// One more space, unless there are enough or the host refuses.
    fn add_space(&mut self) -> Option<usize> {
        if self.spaces.len() >= MAX_SPACES {
            return None;
        }
        let space = Space::new(self.room).ok()?;
        self.spaces.push(space);
        self.keys.push(0);
        Some(self.spaces.len() - 1)
    }

    fn evict_oldest(&mut self) -> usize {
        let oldest = (0..self.spaces.len())
            .min_by_key(|&space| self.spaces[space].last_used)
            .unwrap_or(0);
        self.evict(oldest);
        oldest
    }

    /// Empties a space and ends its traces.
    pub(crate) fn evict(&mut self, space: usize) {
        tracing::debug!(space, "evicting an address space");
        self.counters.spaces_evicted += 1;
        self.release_slots(space, 0, SLOTS);
        self.writers.forget_windows(space);
        for index in 0..DIRECTORIES {
            self.traces.unlink(Node::Directory(space, index));
        }
        self.spaces[space].context = None;
        self.leave(space);
        self.spaces[space].stray_stores = 0;
        self.spaces[space].settle_anew();
        self.keys[space] = 0;
    }

    /// Adopts the PDPTEs of `context`, which may differ from the space's.
    fn update_directories(&mut self, space: usize, context: Context) {
        let old = self.spaces[space]
            .context
            .map_or([0; 4], |context| context.pdptes);
        if old == context.pdptes {
            return;
        }
        self.spaces[space].context = Some(context);
        self.leave(space);
        for (index, (old, new)) in old.into_iter().zip(context.pdptes).enumerate() {
            if old != new {
                let per_directory = SLOTS / DIRECTORIES;
                self.release_slots(space, index * per_directory, (index + 1) * per_directory);
                self.link_directory(space, index, &context);
            }
        }
    }

    /// Traces the page directory of a GiB, if it lies in RAM.
    fn link_directory(&mut self, space: usize, index: usize, context: &Context) {
        let node = Node::Directory(space, index);
        match context
            .directory(index)
            .and_then(|at| self.traces.ram_frame(at.frame()))
        {
            Some(frame) => self.link(frame, node),
            None => self.traces.unlink(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vcpu_thread_may_own_it() {
        fn assert_send<T: Send>() {}
        assert_send::<ShadowMmu>();
    }
}
