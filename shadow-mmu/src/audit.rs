//! Invariant 5, checked the slow way: for tests.

use crate::addr::{LinearAddr, PAGE_BYTES};
use crate::fault::Access;
use crate::mmu::ShadowMmu;
use crate::space::SLOT_PAGES;
use crate::table::{Array, Side};
use crate::walk::walk;

impl ShadowMmu {
    /// Compares every shadow entry of every cached space with a fresh walk.
    ///
    /// Each must be allowed by the guest's tables now, have its accessed (for
    /// stores also dirty) flag set, name the right frame, and for stores not be
    /// traced. Where a traced page is remembered as writable, it must be. Takes milliseconds; meant for tests.
    ///
    /// # Errors
    /// The first violation, in words.
    pub fn audit(&self) -> Result<(), String> {
        for space in 0..self.spaces.len() {
            let mut from = 0;
            while let Some(slot) = self.spaces[space].next_active(from) {
                for page in slot * SLOT_PAGES..(slot + 1) * SLOT_PAGES {
                    for array in Array::ALL {
                        self.audit_entry(space, array, page as u32)?;
                    }
                }
                from = slot + 1;
            }
            for side in Side::ALL {
                self.audit_writable(space, side)?;
            }
        }
        self.audit_mirrors()
    }

    fn audit_writable(&self, space: usize, side: Side) -> Result<(), String> {
        let context = self.spaces[space].context;
        let permitted = |page: u32| {
            context.is_some_and(|context| {
                let walk = walk(&self.ram, &context, LinearAddr(page << 12));
                walk.is_ok_and(|walk| {
                    walk.dirty() && context.permits_side(walk.rights, Access::Write, side)
                })
            })
        };
        match self.spaces[space].writable(side).find(|&p| !permitted(p)) {
            Some(page) => Err(format!("space {space}, page {page:#x}: not writable")),
            None => Ok(()),
        }
    }

    fn audit_entry(&self, space: usize, array: Array, page: u32) -> Result<(), String> {
        let entry = self.spaces[space].get(array, page);
        if entry == 0 {
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("space {space}, {array:?}, page {page:#x}: {what}"));
        let Some(context) = self.spaces[space].context else {
            return wrong("the space is evicted");
        };
        let linear = LinearAddr(page << 12);
        let Ok(walk) = walk(&self.ram, &context, linear) else {
            return wrong("the walk fails");
        };
        let Some(frame) = self.traces.ram_frame(walk.page.0 / PAGE_BYTES) else {
            return wrong("the frame is no RAM");
        };
        let access = if array.is_write() {
            Access::Write
        } else {
            Access::Read
        };
        if entry != self.shadow_entry(frame, page) {
            wrong("the frame differs")
        } else if !context.permits_side(walk.rights, access, array.side()) {
            wrong("the guest denies the access")
        } else if !walk.accessed() {
            wrong("accessed is clear")
        } else if array.is_write() && !walk.dirty() {
            wrong("dirty is clear")
        } else if array.is_write() && self.traces.is_traced(frame) {
            wrong("the frame is traced")
        } else {
            Ok(())
        }
    }
}
