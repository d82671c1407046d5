//! Ring 0: the calls, the handlers of exceptions, and what puts all back.

use super::*;
use iced_x86::code_asm::*;

/// What the tables name.
pub struct Entries {
    /// INT 80h, and another way there.
    pub call: CodeLabel,
    /// See `call`.
    pub other_call: CodeLabel,
    /// In the order of [`label`].
    pub labels: [CodeLabel; 4],
    /// By vector.
    pub handlers: Vec<(u32, CodeLabel)>,
}

struct Labels {
    call: CodeLabel,
    other_call: CodeLabel,
    fast: CodeLabel,
    other_fast: CodeLabel,
    put_back: CodeLabel,
    iret: CodeLabel,
    handler: CodeLabel,
}

/// Exceptions, and which of them have an error code.
const EXCEPTIONS: [(u32, bool); 9] = [
    (1, false),
    (6, false),
    (7, false),
    (10, true),
    (11, true),
    (12, true),
    (13, true),
    (14, true),
    (17, true),
];

const TF: i32 = 1 << 8;
const NT: i32 = 1 << 14;
const VM: i32 = 1 << 17;
const AC: i32 = 1 << 18;
/// DF, IOPL, ID.
const HARMLESS: i32 = 1 << 10 | 3 << 12 | 1 << 21;

/// SMAP, OSFXSR, OSXMMEXCPT.
pub const CR4: u32 = 1 << 21 | 3 << 9;

/// Adds a register to the sum.
pub fn mix(a: &mut Asm, r: AsmRegister32) -> Written {
    a.rol(dword_ptr(RESULT).ss(), 3)?;
    a.add(dword_ptr(RESULT).ss(), r)
}

pub fn write(a: &mut Asm) -> Result<Entries, IcedError> {
    let mut labels = Labels {
        call: a.create_label(),
        other_call: a.create_label(),
        fast: a.create_label(),
        other_fast: a.create_label(),
        put_back: a.create_label(),
        iret: a.create_label(),
        handler: a.create_label(),
    };
    begin(a, &labels)?;
    call(a, &mut labels)?;
    fast(a, &mut labels)?;
    put_back(a, &mut labels)?;
    let mut handlers = Vec::new();
    for (vector, coded) in EXCEPTIONS.into_iter().chain([(IRQ, false)]) {
        let mut label = a.create_label();
        a.set_label(&mut label)?;
        if !coded {
            a.push(0)?;
        }
        a.push(vector as i32)?;
        a.jmp(labels.handler)?;
        handlers.push((vector, label));
    }
    handler(a, &mut labels)?;
    let mut x87_call = a.create_label();
    a.set_label(&mut x87_call)?;
    a.fld1()?;
    a.fstp(dword_ptr(MARK + 8).ss())?;
    a.iretd()?;
    handlers.push((X87_CALL, x87_call));
    Ok(Entries {
        call: labels.call,
        other_call: labels.other_call,
        labels: [
            labels.other_call,
            labels.fast,
            labels.other_fast,
            labels.iret,
        ],
        handlers,
    })
}

/// Where the address of a label is.
pub fn address(number: u32) -> AsmMemoryOperand {
    dword_ptr(LABELS + 4 * number)
}

/// Operand of LGDT or LIDT.
pub fn operand(n: u32) -> AsmMemoryOperand {
    fword_ptr(OPERANDS + 8 * n)
}

fn begin(a: &mut Asm, labels: &Labels) -> Written {
    a.mov(esp, STACKS[0])?;
    a.lgdt(operand(0))?;
    a.mov(eax, selector::TSS)?;
    // It is busy in the table, for LTR to find it otherwise.
    a.mov(byte_ptr(GDT + selector::TSS + 5), 0x89)?;
    a.ltr(ax)?;
    let ports = [
        (0x20, 0x11),
        (0x21, IRQ as i32),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
    ];
    for (port, value) in ports {
        a.mov(al, value)?;
        a.out(port, al)?;
    }
    a.mov(eax, SPACES[0])?;
    a.mov(cr3, eax)?;
    // PE, MP, NE, WP, AM, PG.
    a.mov(eax, 0x8005_0023u32)?;
    a.mov(cr0, eax)?;
    a.fninit()?;
    a.call(labels.put_back)?;
    a.mov(eax, selector::KERNEL_STACK)?;
    a.mov(ss, eax)?;
    let frame = [
        selector::USER_STACK,
        USER_STACK,
        0x202,
        selector::USER_CODE,
        USER,
    ];
    for word in frame {
        a.push(word as i32)?;
    }
    a.mov(eax, selector::USER_DATA)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.xor(eax, eax)?;
    a.mov(fs, eax)?;
    a.mov(gs, eax)?;
    a.iretd()
}

/// Saved by a call, from ESP on: GS, FS, ES, DS, EDX, ECX, EAX, and the frame.
pub const SAVED_GS: i32 = 0;
pub const SAVED_FS: i32 = 4;
pub const SAVED_ES: i32 = 8;
pub const SAVED_DS: i32 = 12;
const SAVED_EAX: i32 = 24;
pub const IMAGE: i32 = 36;
pub const OUTER_SS: i32 = 44;

fn call(a: &mut Asm, labels: &mut Labels) -> Written {
    a.set_label(&mut labels.other_call)?;
    a.rol(dword_ptr(RESULT).ss(), 1)?;
    a.add(dword_ptr(RESULT).ss(), 0x55)?;
    a.set_label(&mut labels.call)?;
    for r in [eax, ecx, edx] {
        a.push(r)?;
    }
    // As the user has left DS.
    a.mov(edx, dword_ptr(MARK))?;
    a.push(ds)?;
    a.push(es)?;
    a.push(fs)?;
    a.push(gs)?;
    a.mov(ecx, selector::KERNEL_DATA)?;
    a.mov(ds, ecx)?;
    a.mov(es, ecx)?;
    a.mov(ecx, selector::PER_CPU)?;
    a.mov(fs, ecx)?;
    a.pushfd()?;
    a.pop(ecx)?;
    mix(a, ecx)?;
    look(a)?;
    for n in 0..5 {
        a.mov(ecx, dword_ptr(esp + (SAVED_EAX + 4 + 4 * n)))?;
        mix(a, ecx)?;
    }
    // Its entries are gone where a frame begins.
    a.invlpg(byte_ptr(STACKS[1] & !0xfff))?;
    // Where the frame usually is.
    a.mov(ecx, dword_ptr(STACKS[0] - 4))?;
    mix(a, ecx)?;
    a.call(dword_ptr(CODE_CALL))?;
    changes::dispatch(a, dword_ptr(esp + SAVED_EAX), labels.put_back)?;
    a.pop(gs)?;
    a.pop(fs)?;
    a.pop(es)?;
    a.pop(ds)?;
    for r in [edx, ecx, eax] {
        a.pop(r)?;
    }
    a.set_label(&mut labels.iret)?;
    a.iretd()
}

/// Where the address of [`CODE_PAGE`] is.
const CODE_CALL: u32 = 0x18_0300;

/// Adds what there is to see of segments and the user's memory.
fn look(a: &mut Asm) -> Written {
    a.mov(ecx, cs)?;
    mix(a, ecx)?;
    a.mov(ecx, ss)?;
    mix(a, ecx)?;
    mix(a, esp)?;
    a.mov(ecx, dword_ptr(MARK).fs())?;
    mix(a, ecx)?;
    a.inc(dword_ptr(MARK + 4).fs())?;
    a.mov(ecx, dword_ptr(MARK).cs())?;
    mix(a, ecx)?;
    a.stac()?;
    a.mov(ecx, dword_ptr(USER_DATA))?;
    a.clac()?;
    mix(a, ecx)
}

/// SYSENTER. EAX is 0, or [`WITH_AC`] if AC is to be set at the end, or
/// [`WITHOUT_ENTRIES`] if no entries are to be there for the GDT.
fn fast(a: &mut Asm, labels: &mut Labels) -> Written {
    let mut usual = a.create_label();
    let mut with_entries = a.create_label();
    let mut without_ac = a.create_label();
    let mut without_x87 = a.create_label();
    let mut no_load = a.create_label();
    let mut no_return = a.create_label();
    a.set_label(&mut labels.other_fast)?;
    a.rol(dword_ptr(RESULT).ss(), 1)?;
    a.add(dword_ptr(RESULT).ss(), 0x77)?;
    a.set_label(&mut labels.fast)?;
    for r in [ecx, edx] {
        a.push(r)?;
    }
    a.pushfd()?;
    a.pop(ecx)?;
    mix(a, ecx)?;
    a.cmp(eax, WITH_X87 as i32)?;
    a.jne(without_x87)?;
    look_at_x87(a)?;
    a.set_label(&mut without_x87)?;
    a.push(fs)?;
    // As the user has left DS.
    a.mov(ecx, dword_ptr(MARK))?;
    a.mov(ecx, selector::PER_CPU)?;
    a.cmp(eax, WITHOUT_ENTRIES as i32)?;
    a.jne(with_entries)?;
    a.invlpg(byte_ptr(GDT))?;
    a.set_label(&mut with_entries)?;
    a.mov(fs, ecx)?;
    look(a)?;
    a.cmp(eax, X87_AND_LOAD as i32)?;
    a.jne(no_load)?;
    a.fld1()?;
    a.fstp(dword_ptr(MARK + 8).fs())?;
    a.set_label(&mut no_load)?;
    a.mov(fs, word_ptr(esp))?;
    a.add(esp, 4)?;
    for r in [edx, ecx] {
        a.pop(r)?;
    }
    a.cmp(eax, WITH_AC as i32)?;
    a.jne(without_ac)?;
    a.stac()?;
    a.jmp(usual)?;
    a.set_label(&mut without_ac)?;
    a.cmp(eax, WITHOUT_ENTRIES as i32)?;
    a.jne(usual)?;
    a.invlpg(byte_ptr(GDT))?;
    a.set_label(&mut usual)?;
    a.cmp(eax, X87_AND_RETURN as i32)?;
    a.jne(no_return)?;
    a.fld1()?;
    a.fstp(dword_ptr(MARK + 8))?;
    a.set_label(&mut no_return)?;
    a.sti()?;
    a.sysexit()
}

/// See [`fast`].
pub const WITH_AC: u32 = 1;
/// See [`fast`].
pub const WITHOUT_ENTRIES: u32 = 2;

/// The x87 unit's pointers are looked at.
pub const WITH_X87: u32 = 3;
/// An x87 instruction runs before FS is loaded, or before SYSEXIT.
pub const X87_AND_LOAD: u32 = 4;
pub const X87_AND_RETURN: u32 = 5;

/// Adds the x87 unit's pointers.
pub fn look_at_x87(a: &mut Asm) -> Written {
    a.fnstenv(ptr(ENVIRONMENT))?;
    for n in 3..7 {
        a.mov(ecx, dword_ptr(ENVIRONMENT + 4 * n))?;
        mix(a, ecx)?;
    }
    a.fldenv(ptr(ENVIRONMENT))
}

/// Makes everything as it was. Changes EAX, ECX and EDX; DS and ES are the kernel's.
fn put_back(a: &mut Asm, labels: &mut Labels) -> Written {
    a.set_label(&mut labels.put_back)?;
    a.push(esi)?;
    a.push(edi)?;
    a.cld()?;
    for (from, to, bytes) in [(SAVED_GDT, GDT, selector::END), (SAVED_IDT, IDT, 0x800)] {
        a.mov(esi, from)?;
        a.mov(edi, to)?;
        a.mov(ecx, bytes / 4)?;
        a.rep().movsd()?;
    }
    a.lgdt(operand(0))?;
    a.lidt(operand(3))?;
    a.mov(dword_ptr(TSS + 4), STACKS[0])?;
    a.mov(dword_ptr(TSS + 8), selector::KERNEL_STACK)?;
    a.mov(dword_ptr(CODE_CALL), CODE_PAGE)?;
    let gdt_page = SPACES[0] + 0x1000 + (GDT >> 12) * 4;
    a.mov(dword_ptr(gdt_page), GDT | 3)?;
    a.mov(eax, SPACES[0])?;
    a.mov(cr3, eax)?;
    a.mov(eax, CR4)?;
    a.mov(cr4, eax)?;
    a.xor(edx, edx)?;
    for (number, value) in [(0x174, selector::KERNEL_CODE), (0x175, STACKS[2])] {
        a.mov(ecx, number)?;
        a.mov(eax, value)?;
        a.wrmsr()?;
    }
    a.mov(ecx, 0x176)?;
    a.mov(eax, address(label::FAST))?;
    a.wrmsr()?;
    a.pop(edi)?;
    a.pop(esi)?;
    a.ret()
}

/// Sums an exception up, puts back what may have raised it, and tries again.
fn handler(a: &mut Asm, labels: &mut Labels) -> Written {
    let mut of_user = a.create_label();
    let mut no_iret = a.create_label();
    let mut no_fault = a.create_label();
    let mut no_irq = a.create_label();
    a.set_label(&mut labels.handler)?;
    for r in [eax, ecx, edx] {
        a.push(r)?;
    }
    a.mov(eax, selector::KERNEL_DATA)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    // Vector, error code, EIP, CS, EFLAGS.
    for n in 0..5 {
        a.mov(ecx, dword_ptr(esp + (12 + 4 * n)))?;
        mix(a, ecx)?;
    }
    a.and(dword_ptr(esp + 28), !(TF | NT | AC))?;
    a.mov(eax, address(label::IRET))?;
    a.cmp(dword_ptr(esp + 20), eax)?;
    a.jne(no_iret)?;
    // IRETD's own frame.
    a.and(dword_ptr(esp + 40), !VM)?;
    a.set_label(&mut no_iret)?;
    a.cmp(dword_ptr(esp + 12), 14)?;
    a.jne(no_fault)?;
    a.or(dword_ptr(esp + 28), AC)?;
    a.mov(ecx, cr2)?;
    mix(a, ecx)?;
    a.set_label(&mut no_fault)?;
    a.cmp(dword_ptr(esp + 12), IRQ as i32)?;
    a.jne(no_irq)?;
    a.mov(al, 0x20)?;
    a.out(0x20, al)?;
    a.set_label(&mut no_irq)?;
    a.call(labels.put_back)?;
    a.test(byte_ptr(esp + 24), 3)?;
    a.jne(of_user)?;
    leave_handler(a, selector::KERNEL_DATA, true)?;
    a.set_label(&mut of_user)?;
    leave_handler(a, selector::USER_DATA, false)
}

fn leave_handler(a: &mut Asm, data: u32, kernel: bool) -> Written {
    a.mov(eax, data)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    if kernel {
        let mut other = a.create_label();
        a.mov(eax, fs)?;
        a.cmp(eax, selector::PER_CPU as i32)?;
        a.jne(other)?;
        a.mov(fs, eax)?;
        a.set_label(&mut other)?;
        a.nop()?;
    } else {
        a.mov(eax, selector::THREAD)?;
        a.mov(fs, eax)?;
    }
    for r in [edx, ecx, eax] {
        a.pop(r)?;
    }
    a.add(esp, 8)?;
    a.iretd()
}

/// Flags of the user's that a change may have set go back, too.
pub fn clear_image(a: &mut Asm) -> Written {
    a.and(dword_ptr(esp + IMAGE), !(TF | NT | AC | HARMLESS))?;
    a.or(dword_ptr(esp + IMAGE), 0x200)
}

pub mod image {
    //! Bits of EFLAGS that changes set.
    pub const TF: i32 = super::TF;
    pub const NT: i32 = super::NT;
    pub const VM: i32 = super::VM;
    pub const AC: i32 = super::AC;
    pub const HARMLESS: i32 = super::HARMLESS;
}
