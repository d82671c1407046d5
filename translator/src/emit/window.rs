//! Windows: what a loop remembers of the pages it works in.
//!
//! Inside a loop the same few pages are looked up again and again, and each
//! lookup is a load that the access has to wait for. So a loop carries, for each
//! checked range, the last page it was found in and that page's host address:
//!
//! ```text
//! distance = linear − page             page is far outside at first
//! refill if distance > 1000h − size    cold: the tables, as everywhere else
//! host  = host page + distance
//! ```
//!
//! The guess costs a compare and a jump that is nearly always predicted, and the
//! access starts as soon as the address is known.
//!
//! Invariant: nothing inside a loop changes the tables. Loops have no callouts,
//! and a store that would change them (to a page table, to code) is not
//! permitted by them.

use super::Emitter;
use super::value::{Bool, Val};
use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value, types};

/// Most windows in a loop: each takes two registers or spill slots.
pub const MAX_WINDOWS: usize = 6;

/// A page that no 32-bit address lies in.
const NOWHERE: i64 = 1 << 40;

const PAGE_BYTES: i64 = 0x1000;

/// The page that a checked range was last found in.
#[derive(Clone, Copy)]
pub struct Window {
    /// Linear address of the page, 64 bits.
    page: Value,
    /// Host address of the page.
    host: Value,
}

impl Window {
    /// A window that has seen no page, as arguments of the loop's head.
    pub fn empty(e: &mut Emitter) -> [BlockArg; 2] {
        let page = e.ins().iconst(types::I64, NOWHERE);
        let host = e.ins().iconst(types::I64, 0);
        [BlockArg::Value(page), BlockArg::Value(host)]
    }

    /// The parameters of a block that a window is passed to.
    pub fn params(e: &mut Emitter, block: Block) -> Self {
        let mut param = || e.cur.func.dfg.append_block_param(block, types::I64);
        let (page, host) = (param(), param());
        Window { page, host }
    }

    /// The window as arguments of a block.
    pub fn args(self) -> [BlockArg; 2] {
        [BlockArg::Value(self.page), BlockArg::Value(self.host)]
    }
}

impl Emitter<'_> {
    /// The host address of `len` bytes at `first`, through window number `n`.
    pub(super) fn through_window(&mut self, n: usize, first: Val, len: u32, write: bool) -> Value {
        let linear = self.value(first);
        let linear = self.ins().uextend(types::I64, linear);
        let window = self.windows[n];
        let distance = self.ins().isub(linear, window.page);
        let fits = PAGE_BYTES - i64::from(len);
        let miss = self
            .ins()
            .icmp_imm_u(IntCC::UnsignedGreaterThan, distance, fits);
        let (refill, found) = (
            self.cur.func.dfg.make_block(),
            self.cur.func.dfg.make_block(),
        );
        let after = Window::params(self, found);
        let at = self.cur.func.dfg.append_block_param(found, types::I64);
        let [page, host] = window.args();
        let hit = [page, host, BlockArg::Value(distance)];
        self.ins().brif(miss, refill, &[], found, &hit);
        self.cur.insert_block(refill);
        self.refill(first, linear, len, write, found);
        self.cur.insert_block(found);
        self.windows[n] = after;
        self.ins().iadd(after.host, at)
    }

    /// Looks the page up in the tables, and goes to `found` with it.
    fn refill(&mut self, first: Val, linear: Value, len: u32, write: bool, found: Block) {
        self.cold_here();
        let table = self.table(write);
        let entry = self.entry(table, first);
        let none = self.ins().icmp_imm_u(IntCC::Equal, entry, 0);
        self.exit_if(Bool::Computed(none));
        self.cold_here();
        if len > 1 {
            let last = self.add_values(first, Val::Imm(len - 1));
            let other = self.entry(table, last);
            let apart = self.ins().icmp(IntCC::NotEqual, entry, other);
            self.exit_if(Bool::Computed(apart));
            self.cold_here();
        }
        let distance = self.ins().band_imm_u(linear, PAGE_BYTES - 1);
        let page = self.ins().isub(linear, distance);
        let host = self.ins().iadd(entry, page);
        let args = [page, host, distance].map(BlockArg::Value);
        self.ins().jump(found, &args);
    }

    /// The block being emitted is seldom reached.
    fn cold_here(&mut self) {
        if let Some(block) = self.cur.current_block() {
            self.cur.func.layout.set_cold(block);
        }
    }
}
