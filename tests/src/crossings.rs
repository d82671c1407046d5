//! A guest that makes system calls and changes what decides them.
//!
//! [`kernel`] runs in ring 0 and [`user`] in ring 3. The user makes calls in turns with
//! *changes*: calls by whose number the kernel changes one thing before it returns. What
//! that does is seen in this return or in the calls that follow, until another call has it
//! all put back.

mod changes;
mod kernel;
mod tables;
mod user;

use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

/// Where the guest is loaded and entered.
pub const START: u32 = 0x10_0000;
/// Where the sum is left.
pub const RESULT: u32 = 0x18_0000;

type Written = Result<(), IcedError>;
type Asm = CodeAssembler;

/// The user's code, and the page that another address space has in its place.
const USER: u32 = 0x14_0000;
const OTHER_USER: u32 = 0x14_8000;
/// Top of the user's stack.
const USER_STACK: u32 = 0x14_2000;
/// The user's data.
const USER_DATA: u32 = 0x14_2000;
/// What is read through segments; [`BASE`] further on lies something else.
const MARK: u32 = 0x18_0100;
/// A base of segments that are not flat.
const BASE: u32 = 0x40;
/// Environment of the x87 unit.
const ENVIRONMENT: u32 = 0x18_0200;
const USER_ENVIRONMENT: u32 = 0x14_2040;
/// The descriptor tables, and others that differ.
const GDT: u32 = 0x18_1000;
const IDT: u32 = 0x18_2000;
const OTHER_IDT: u32 = 0x18_3000;
const TSS: u32 = 0x18_4000;
const OTHER_GDT: u32 = 0x18_5000;
/// Copies of what [`kernel`] puts back.
const SAVED_GDT: u32 = 0x18_6000;
const SAVED_IDT: u32 = 0x18_7000;
/// Where the addresses of labels are: [`label`].
const LABELS: u32 = 0x18_0400;
/// Operands of LGDT and LIDT, 8 bytes each.
const OPERANDS: u32 = 0x18_8000;
/// Page directories, each with a table behind it.
const SPACES: [u32; 2] = [0x19_0000, 0x19_2000];
/// Stacks of ring 0: the usual one, another, one of SYSENTER, another.
/// The second one's frames begin a page.
const STACKS: [u32; 4] = [0x1a_1000, 0x1a_3014, 0x1a_5000, 0x1a_7000];
/// One whose top is 8 bytes into a page that lies elsewhere than the one before.
const SPLIT_STACK: u32 = 0x1b_1008;
/// One in a page with code.
const CODE_STACK: u32 = 0x1c_0800;
/// The code.
const CODE_PAGE: u32 = 0x1c_0000;

/// Selectors: of the kernel, the user, the handlers of exceptions, and others that stand
/// for the same.
mod selector {
    pub const KERNEL_CODE: u32 = 0x08;
    pub const KERNEL_DATA: u32 = 0x10;
    pub const USER_CODE: u32 = 0x1b;
    pub const USER_DATA: u32 = 0x23;
    pub const HANDLER_CODE: u32 = 0x28;
    pub const TSS: u32 = 0x30;
    pub const OTHER_CODE: u32 = 0x38;
    pub const KERNEL_STACK: u32 = 0x40;
    pub const THREAD: u32 = 0x4b;
    pub const USER_STACK: u32 = 0x53;
    pub const OTHER_STACK: u32 = 0x58;
    /// For SYSENTER, with the three behind it.
    pub const FAST_CODE: u32 = 0x60;
    pub const PER_CPU: u32 = 0x88;
    pub const END: u32 = 0x90;
}

/// Labels whose address code needs, by number.
mod label {
    pub const OTHER_CALL: u32 = 0;
    pub const FAST: u32 = 1;
    pub const OTHER_FAST: u32 = 2;
    pub const IRET: u32 = 3;
}

/// Functions of INT 80h; changes are numbered from [`CHANGES`] on.
const PUT_BACK: u32 = 1;
const FINISH: u32 = 2;
const CHANGES: u32 = 3;
/// Makes [`selector::THREAD`] a flat segment, and loads GDTR.
const FLAT_THREAD: u32 = 0x1000;
/// Gives it its base again.
const BASED_THREAD: u32 = 0x1001;
/// Has the GDT looked up anew.
const INVALIDATE: u32 = 0x1002;
/// Runs x87 instructions by GS.
const BY_GS: u32 = 0x1003;
/// Returns with [`selector::THREAD`] of another RPL in FS, or in GS.
const OTHER_RPL: [u32; 2] = [0x1004, 0x1005];

/// Vectors of the system calls and of IRQ 0.
const CALL: u32 = 0x80;
const OTHER_CALL: u32 = 0x82;
/// An x87 instruction and IRETD.
const X87_CALL: u32 = 0x84;
const IRQ: u32 = 0x60;

/// The guest.
///
/// # Panics
/// When it cannot be assembled.
pub fn image() -> Vec<u8> {
    tables::image().expect("the guest can be assembled")
}
