//! shadow-mmu.
