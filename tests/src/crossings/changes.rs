//! What changes, by the numbers of the calls that change it.

use super::kernel::{
    self, CR4, IMAGE, OUTER_SS, SAVED_DS, SAVED_ES, SAVED_FS, SAVED_GS, image, mix, operand,
};
use super::*;
use iced_x86::code_asm::*;

type Change = Box<dyn Fn(&mut Asm) -> Written>;

/// Sets a byte.
fn byte(at: u32, value: u32) -> Change {
    Box::new(move |a| a.mov(byte_ptr(at), value as i32))
}

/// Sets a doubleword.
fn word(at: u32, value: u32) -> Change {
    Box::new(move |a| a.mov(dword_ptr(at), value))
}

/// Sets the access byte of a descriptor.
fn access(selector: u32, value: u32) -> Change {
    byte(GDT + (selector & !7) + 5, value)
}

/// Writes an MSR.
fn msr(number: u32, value: u32) -> Change {
    Box::new(move |a| {
        a.mov(ecx, number)?;
        a.mov(eax, value)?;
        a.xor(edx, edx)?;
        a.wrmsr()
    })
}

/// Sets bits of the image of EFLAGS that is returned with.
fn flags(bits: i32) -> Change {
    Box::new(move |a| a.or(dword_ptr(esp + IMAGE), bits))
}

fn of(change: impl Fn(&mut Asm) -> Written + 'static) -> Change {
    Box::new(change)
}

/// Number of changes.
pub fn count() -> u32 {
    all().len() as u32
}

fn all() -> Vec<Change> {
    let mut all = of_gates();
    all.extend(of_tables());
    all.extend(of_segments());
    all.extend(of_msrs());
    all.extend(of_flags());
    all.extend(of_memory());
    all
}

fn of_gates() -> Vec<Change> {
    let gate = IDT + 8 * CALL;
    vec![
        of(move |a| {
            a.mov(eax, kernel::address(label::OTHER_CALL))?;
            a.mov(word_ptr(gate), ax)
        }),
        // A trap gate, out of ring 3's reach, not present.
        byte(gate + 5, 0xef),
        byte(gate + 5, 0x8e),
        byte(gate + 5, 0x6e),
        byte(gate + 2, selector::OTHER_CODE),
    ]
}

fn of_tables() -> Vec<Change> {
    vec![
        word(TSS + 4, STACKS[1]),
        word(TSS + 8, selector::OTHER_STACK),
        word(TSS + 4, SPLIT_STACK),
        word(TSS + 4, CODE_STACK),
        of(|a| a.invlpg(byte_ptr(TSS))),
        of(|a| a.invlpg(byte_ptr(IDT))),
        of(|a| a.lidt(operand(5))),
        of(|a| a.lidt(operand(4))),
        of(|a| a.lgdt(operand(1))),
        of(|a| a.lgdt(operand(2))),
        of(|a| {
            let entry = SPACES[0] + 0x1000 + (GDT >> 12) * 4;
            a.mov(dword_ptr(entry), OTHER_GDT | 3)?;
            a.invlpg(byte_ptr(GDT))
        }),
    ]
}

fn of_segments() -> Vec<Change> {
    vec![
        // Not readable, not present.
        access(selector::KERNEL_CODE, 0x99),
        access(selector::KERNEL_CODE, 0x1b),
        byte(GDT + selector::KERNEL_STACK + 2, 0x10),
        byte(GDT + selector::PER_CPU + 2, 2 * BASE),
        access(selector::PER_CPU, 0x91),
        access(selector::PER_CPU, 0x13),
        access(selector::USER_CODE, 0xf9),
        access(selector::USER_CODE, 0x7b),
        access(selector::USER_STACK, 0x73),
        access(selector::THREAD, 0x73),
        word(GDT + (selector::THREAD & !7), (2 * BASE) << 16 | 0xffff),
        of(|a| a.mov(dword_ptr(esp + SAVED_DS), selector::KERNEL_DATA)),
        of(|a| a.mov(dword_ptr(esp + SAVED_ES), selector::KERNEL_DATA)),
        of(|a| a.mov(dword_ptr(esp + OUTER_SS), selector::USER_DATA)),
        of(|a| a.mov(dword_ptr(esp + SAVED_FS), selector::PER_CPU)),
        of(|a| a.mov(dword_ptr(esp + SAVED_FS), selector::THREAD)),
        of(|a| a.mov(dword_ptr(esp + SAVED_GS), selector::THREAD)),
        // A null selector that is not 0.
        of(|a| a.mov(dword_ptr(esp + SAVED_FS), 2)),
        of(|a| a.mov(dword_ptr(esp + SAVED_GS), 3)),
    ]
}

fn of_msrs() -> Vec<Change> {
    vec![
        msr(0x174, 0),
        msr(0x174, selector::FAST_CODE),
        msr(0x175, STACKS[3]),
        of(|a| {
            a.mov(ecx, 0x176)?;
            a.mov(eax, kernel::address(label::OTHER_FAST))?;
            a.xor(edx, edx)?;
            a.wrmsr()
        }),
    ]
}

fn of_flags() -> Vec<Change> {
    vec![
        flags(image::TF),
        flags(image::AC),
        flags(image::VM),
        flags(image::NT),
        flags(image::HARMLESS),
        of(|a| a.and(dword_ptr(esp + IMAGE), !0x200)),
        of(|a| {
            a.pushfd()?;
            a.or(dword_ptr(esp), image::NT)?;
            a.popfd()
        }),
        of(|a| a.stac()),
        of(pend_interrupt),
        // TSD.
        of(|a| {
            a.mov(eax, CR4 | 1 << 2)?;
            a.mov(cr4, eax)
        }),
    ]
}

/// Has IRQ 0 wait for IF.
fn pend_interrupt(a: &mut Asm) -> Written {
    let mut again = a.create_label();
    for (port, value) in [(0x43, 0x30), (0x40, 1), (0x40, 0), (0x20, 0x0a)] {
        a.mov(al, value)?;
        a.out(port, al)?;
    }
    a.set_label(&mut again)?;
    a.in_(al, 0x20)?;
    a.test(al, 1)?;
    a.je(again)
}

fn of_memory() -> Vec<Change> {
    vec![
        of(|a| {
            // SMAP forbids it, until the handler lifts that.
            a.mov(ecx, dword_ptr(USER_DATA))?;
            mix(a, ecx)?;
            a.clac()
        }),
        of(|a| {
            a.mov(eax, SPACES[1])?;
            a.mov(cr3, eax)
        }),
        of(kernel::look_at_x87),
    ]
}

/// Changes that the user asks for by number.
fn on_request() -> [(u32, Change); 6] {
    let thread = GDT + (selector::THREAD & !7);
    let flat = of(move |a| {
        a.lgdt(operand(0))?;
        a.mov(dword_ptr(thread), 0xffff)
    });
    let saved = |at| of(move |a| a.mov(dword_ptr(esp + at), selector::THREAD & !3));
    let by_gs = of(|a| {
        a.mov(eax, selector::PER_CPU)?;
        a.mov(gs, eax)?;
        a.fld1()?;
        a.fstp(dword_ptr(MARK + 8).gs())
    });
    [
        (FLAT_THREAD, flat),
        (BASED_THREAD, word(thread, BASE << 16 | 0xffff)),
        (INVALIDATE, of(|a| a.invlpg(byte_ptr(GDT)))),
        (BY_GS, by_gs),
        (OTHER_RPL[0], saved(SAVED_FS)),
        (OTHER_RPL[1], saved(SAVED_GS)),
    ]
}

/// Does what the number says.
pub fn dispatch(a: &mut Asm, number: AsmMemoryOperand, put_back: CodeLabel) -> Written {
    let mut done = a.create_label();
    a.mov(eax, number)?;
    let put: Change = of(move |a| {
        a.call(put_back)?;
        kernel::clear_image(a)
    });
    let finish = of(|a| {
        a.stac()?;
        a.mov(ecx, dword_ptr(user::SUM))?;
        mix(a, ecx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)
    });
    for (n, change) in [(PUT_BACK, put), (FINISH, finish)]
        .into_iter()
        .chain((CHANGES..).zip(all()))
        .chain(on_request())
    {
        let mut next = a.create_label();
        a.cmp(eax, n as i32)?;
        a.jne(next)?;
        change(a)?;
        a.jmp(done)?;
        a.set_label(&mut next)?;
    }
    a.nop()?;
    a.set_label(&mut done)?;
    a.nop()
}
