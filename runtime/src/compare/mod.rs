//! `ring1 compare`: what virtualization costs, operation by operation.
//!
//! A system call, a port read, a page fault: of some instructions a virtual machine
//! makes more than the processor does, of some less, and a sum over a whole program
//! hides which. So each is timed alone, in cycles, by a small guest kernel of our
//! own ([`GUEST`](crate::embedded::COMPARE_GUEST)), in ring1 and in QEMU; what a
//! program can do, a small Linux program measures on the host, and in any Linux guest.
//! Beside them stand the figures that Adams and Agesen published for VMware's
//! monitors, the measure of software virtualization since.
//!
//! [`rows`] has the operations and what each means, [`results`] what was heard,
//! [`doubts`] what speaks against it; [`machine`] starts guests and programs,
//! [`image`] and [`initrd`] hand our own to them. The rest is [`options`],
//! [`command`] and [`report`], in the style of [`bench`](crate::bench), parts of which
//! this uses.

pub mod command;
pub mod doubts;
pub mod image;
pub mod initrd;
pub mod machine;
pub mod options;
pub mod report;
pub mod results;
pub mod rows;
