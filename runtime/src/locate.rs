//! From EIP to a block: the caches, the guest's mappings, the decoder.
//!
//! A block is decoded from one page, or is a single instruction that crosses into
//! the next. Its frames are write-protected before it is entered into the cache.

use crate::cache::{BlockId, Compiled, Key};
use crate::ledger::Account;
use crate::system::debug;
use crate::vcpu::Cpu;
use crate::vm::Vm;
use crate::volatile;
use shadow_mmu::{Access, LinearAddr, PhysAddr};
use translator::block::Block;
use translator::decode::{Incomplete, MAX_BLOCK_INSNS, MAX_INSN_BYTES, decode_block_for};
use translator::exception::Exception;
use translator::insn::SegReg;

/// Bytes that a block is first decoded from.
const FIRST_LOOK_BYTES: usize = 128;

impl Vm {
    /// The block at `eip`, decoded if need be; an exception on the way is delivered.
    #[inline(always)]
    pub(crate) fn block_at(&mut self, eip: u32) -> Option<BlockId> {
        if let Some(id) = self.cache.recent(eip, self.cpu.state.jump_tag) {
            return Some(id);
        }
        let before = self.cpu.ledger.enter(Account::LOCATE);
        let located = self.locate(eip);
        self.cpu.ledger.leave(before);
        match located {
            Ok(id) => Some(id),
            Err(e) => {
                self.cpu.raised = Some(e);
                self.deliver_raised();
                None
            }
        }
    }

    /// The code of the block at `eip`, if it is compiled and was so far known under
    /// other tags only.
    #[inline(always)]
    pub(crate) fn code_at(&mut self, eip: u32) -> Option<u64> {
        let tag = self.cpu.state.jump_tag;
        if self.cache.recent(eip, tag).is_some() {
            return None;
        }
        let mode = self.cpu.mode();
        if !(mode.zero_base(SegReg::Cs) && mode.unlimited(SegReg::Cs)) {
            return None;
        }
        let phys = self.cache.pages.find(LinearAddr(eip), tag)?.0;
        let mode = mode.0;
        let (id, code) = self.cache.codes.find(&Key { phys, eip, mode })?;
        self.cache.remember(eip, tag, id);
        Some(code)
    }

    /// The block at `eip`, if it can be told without looking at the guest's tables.
    pub(crate) fn known_at(&self, eip: u32) -> Option<BlockId> {
        let tag = self.cpu.state.jump_tag;
        let mode = self.cpu.mode();
        self.cache.recent(eip, tag).or_else(|| {
            let page = || self.cache.pages.find(LinearAddr(eip), tag);
            let phys = mode.zero_base(SegReg::Cs).then(page).flatten()?.0;
            let mode = mode.0;
            self.cache.find(&Key { phys, eip, mode })
        })
    }

    /// The block at `eip` in the CPU's current mode, decoded if need be; nothing is
    /// delivered if that is not possible.
    pub fn decoded_at(&mut self, eip: u32) -> Option<BlockId> {
        self.locate(eip).ok()
    }

    /// Finds or makes the block at `eip`.
    #[cold]
    #[inline(never)]
    fn locate(&mut self, eip: u32) -> Result<BlockId, Exception> {
        let user = self.cpu.sys.cpl == 3;
        debug::require_no_code_breakpoint(&mut self.cpu)?;
        let linear = self.cpu.linear(SegReg::Cs, eip, 1, Access::Fetch)?;
        self.refresh_tag();
        let tag = self.cpu.state.jump_tag;
        let phys = match self.cache.pages.find(linear, tag) {
            Some(phys) => phys,
            None => self.cpu.translate(linear, Access::Fetch, user)?.phys,
        };
        let key = Key {
            phys: phys.0,
            eip,
            mode: self.cpu.state.mode,
        };
        let id = match self.cache.find(&key) {
            Some(id) if self.still_right(id, linear)? => id,
            wrong => {
                wrong.inspect(|&id| self.cache.remove(&mut self.cpu.code, id));
                let before = self.cpu.ledger.enter(Account::DECODE);
                let decoded = self.decode(key, linear, phys);
                self.cpu.ledger.leave(before);
                decoded?
            }
        };
        self.refresh_tag();
        // What was translated before the fetch number changed is not watched any more.
        if self.cpu.state.jump_tag == tag {
            self.cache.pages.remember(linear, tag, phys);
            self.cache.remember(eip, tag, id);
        }
        if let Some(block) = self.cache.get(id)
            && let (Compiled::At(code), None) = (block.compiled, block.crosses_to())
        {
            self.cache.codes.remember(key, id, code);
        }
        Ok(id)
    }

    /// Whether a block is what decoding at its key would give: the page it
    /// crosses into and the limit of CS are not part of the key.
    fn still_right(&mut self, id: BlockId, linear: LinearAddr) -> Result<bool, Exception> {
        let Some(block) = self.cache.get(id) else {
            return Ok(false);
        };
        let (eip, len_bytes, second) = (block.key.eip, block.len_bytes, block.crosses_to());
        if self.fetchable(eip, len_bytes) < len_bytes as usize {
            return Ok(false);
        }
        match second {
            None => Ok(true),
            Some(second) => Ok(self.second_page(linear)? == second),
        }
    }

    /// Frame of the page after that of `linear`, for a block that crosses into it.
    fn second_page(&mut self, linear: LinearAddr) -> Result<PhysAddr, Exception> {
        let next = LinearAddr((linear.0 | 0xfff).wrapping_add(1));
        let user = self.cpu.sys.cpl == 3;
        Ok(self.cpu.translate(next, Access::Fetch, user)?.phys)
    }

    /// Decodes the block at `key` and enters it into the cache.
    fn decode(
        &mut self,
        key: Key,
        linear: LinearAddr,
        phys: PhysAddr,
    ) -> Result<BlockId, Exception> {
        if !self.cpu.asks()
            && let Some(id) = self.cache.twin(key)
        {
            self.tiers.load_twin(&mut self.cache, &mut self.cpu, id);
            return Ok(id);
        }
        let piece = self.decoding.start();
        let in_page = self.decode_in_page(key, linear, phys);
        self.decoding.stop(piece);
        let (block, crosses_to) = match in_page {
            Ok(block) => (block, None),
            Err(Incomplete) => self.decode_crossing(key, linear, phys)?,
        };
        self.cpu.mmu.protect_code(phys);
        if let Some(second) = crosses_to {
            self.cpu.mmu.protect_code(second);
        }
        self.counters.decoded_insns += block.insns.len() as u64;
        let code = &mut self.cpu.code;
        let id = self.cache.insert(code, key, crosses_to, &block);
        let (at, exact) = self.for_breakpoints(key.eip);
        if self.cpu.log.is_some() {
            self.cpu.log_block(&block, phys.0);
        }
        if self.cpu.points.asks(at, exact) || self.cpu.logs_entry(key.eip) {
            self.cache.make_asking(id);
        }
        let before = self.cpu.ledger.enter(Account::LOAD);
        self.tiers.load(&mut self.cache, &mut self.cpu, id);
        self.cpu.ledger.leave(before);
        Ok(id)
    }

    /// Decodes a block that stays in its page.
    pub(crate) fn decode_in_page(
        &self,
        key: Key,
        linear: LinearAddr,
        phys: PhysAddr,
    ) -> Result<Block, Incomplete> {
        let room = self.fetchable(key.eip, 0x1000 - (linear.0 & 0xfff));
        // A debugger's breakpoint begins a block.
        let (at, exact) = self.for_breakpoints(key.eip);
        let (whole, room) = (room, room.min(self.cpu.points.room_at(at, exact)));
        // An instruction that is overwritten often is not part of the block.
        let limit = self.cache.room_at(phys.0).min(room);
        // Most blocks are short; a page takes longer to copy than they to decode.
        let first = limit.min(FIRST_LOOK_BYTES);
        let mut bytes = [0xff; FIRST_LOOK_BYTES];
        let decoded = match self.decode_bytes(key, phys, &mut bytes[..first], MAX_BLOCK_INSNS) {
            Ok(block) if first < limit && block.len_bytes as usize + MAX_INSN_BYTES > first => {
                self.decode_bytes(key, phys, &mut [0xff; 0x1000][..limit], MAX_BLOCK_INSNS)
            }
            decoded => decoded,
        };
        match decoded {
            Ok(block) if limit < room => Ok(volatile::continued(block, phys)),
            Err(Incomplete) if limit < room => Ok(volatile::alone(key.eip, self.cpu.mode(), phys)),
            // A breakpoint in the midst of the first instruction is none.
            Err(Incomplete) if room < whole => {
                self.decode_bytes(key, phys, &mut bytes[..whole.min(MAX_INSN_BYTES)], 1)
            }
            decoded => decoded,
        }
    }

    /// The linear address of `eip` as breakpoints want it: whether other linear
    /// addresses can share the block is a matter of CS.
    pub(crate) fn for_breakpoints(&self, eip: u32) -> (LinearAddr, bool) {
        let base = self.cpu.state.segment(SegReg::Cs).base;
        (LinearAddr(base.wrapping_add(eip)), base == 0)
    }

    fn decode_bytes(
        &self,
        key: Key,
        phys: PhysAddr,
        bytes: &mut [u8],
        max_insns: usize,
    ) -> Result<Block, Incomplete> {
        self.cpu.fetch(phys, bytes);
        let (known, mode) = (self.cpu.model.decodable(), self.cpu.mode());
        decode_block_for(known, bytes, key.eip, mode, max_insns)
    }

    /// Decodes the single instruction that crosses into the next page.
    fn decode_crossing(
        &mut self,
        key: Key,
        linear: LinearAddr,
        phys: PhysAddr,
    ) -> Result<(Block, Option<PhysAddr>), Exception> {
        let in_first = (0x1000 - (linear.0 & 0xfff)) as usize;
        let allowed = self.fetchable(key.eip, MAX_INSN_BYTES as u32);
        if allowed <= in_first.min(MAX_INSN_BYTES - 1) {
            return Err(Exception::GeneralProtection(0)); // Beyond the CS limit.
        }
        let second = self.second_page(linear)?;
        let mut bytes = [0xff; 2 * MAX_INSN_BYTES];
        self.cpu.fetch(phys, &mut bytes[..in_first]);
        self.cpu
            .fetch(second, &mut bytes[in_first..in_first + MAX_INSN_BYTES]);
        let allowed = allowed.min(in_first + MAX_INSN_BYTES);
        let (known, mode) = (self.cpu.model.decodable(), self.cpu.mode());
        match decode_block_for(known, &bytes[..allowed], key.eip, mode, 1) {
            Ok(block) => {
                let in_second = (block.len_bytes as usize).saturating_sub(in_first);
                if self.cache.room_at(second.0) < in_second {
                    return Ok((volatile::alone(key.eip, mode, phys), None));
                }
                Ok((block, Some(second)))
            }
            Err(Incomplete) => Err(Exception::GeneralProtection(0)),
        }
    }

    /// How many of `bytes` bytes from `eip` on the CS limit lets be fetched.
    fn fetchable(&self, eip: u32, bytes: u32) -> usize {
        let cs = self.cpu.state.segment(SegReg::Cs);
        let left = u64::from(cs.hi).saturating_sub(u64::from(eip)) + 1;
        left.min(u64::from(bytes)) as usize
    }
}

impl Cpu {
    /// Reads code from one page; `into` keeps its bytes where nothing answers.
    pub(crate) fn fetch(&self, phys: PhysAddr, into: &mut [u8]) {
        if self.mmu.ram().read_slice(phys, into).is_none() {
            self.pc.mmio_fetch(phys.0, into);
        }
    }
}
