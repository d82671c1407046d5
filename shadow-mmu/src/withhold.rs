//! Withheld pages: linear pages that no shadow entry permits, in any space, so that
//! each access to them is translated one by one.
//!
//! A debugger that watches data needs that. It costs a look at an empty list where
//! entries are filled; mirrors and compiled code follow, as they go by the entries.

use crate::addr::LinearAddr;
use crate::mmu::ShadowMmu;
use crate::space::slot_of;

impl ShadowMmu {
    /// Withholds the pages of these addresses, and no others any more.
    pub fn withhold(&mut self, pages: &[LinearAddr]) {
        self.withheld = pages.iter().map(|at| at.page()).collect();
        for space in 0..self.spaces.len() {
            for n in 0..self.withheld.len() {
                let page = self.withheld[n];
                if self.spaces[space].slot(slot_of(page)).active {
                    let dropped = self.spaces[space].drop_page(page);
                    self.account(space, dropped);
                }
            }
        }
    }

    /// Whether a page is withheld.
    #[inline]
    pub(crate) fn withholds(&self, page: u32) -> bool {
        !self.withheld.is_empty() && self.withheld.contains(&page)
    }

    /// Whether any page of this one's slot is.
    #[inline]
    pub(crate) fn withholds_in_slot(&self, page: u32) -> bool {
        self.withheld
            .iter()
            .any(|&other| slot_of(other) == slot_of(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Access;
    use crate::memory::GuestRam;

    #[test]
    fn a_withheld_page_has_no_entry_until_it_is_given_back() {
        let mut mmu = ShadowMmu::new(GuestRam::new(4 << 20).unwrap()).unwrap();
        let (at, next) = (LinearAddr(0x12_3456), LinearAddr(0x12_4000));
        let hidden = |mmu: &mut ShadowMmu, at| {
            let before = mmu.counters().hidden_faults;
            mmu.translate(at, Access::Write, false).unwrap();
            mmu.counters().hidden_faults > before
        };
        hidden(&mut mmu, at);
        assert!(!hidden(&mut mmu, at), "filled");
        mmu.withhold(&[at]);
        assert!(hidden(&mut mmu, at) && hidden(&mut mmu, at), "never filled");
        assert!(!hidden(&mut mmu, next), "its neighbour is");
        assert!(!mmu.mirror(at, Access::Read, false));
        mmu.withhold(&[]);
        assert!(hidden(&mut mmu, at) && !hidden(&mut mmu, at));
        assert_eq!(mmu.audit(), Ok(()));
    }
}
