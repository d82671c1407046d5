//! Ring 3: calls, and changes between them.

use super::*;
use iced_x86::code_asm::*;

/// What it sums up, the rounds left, and a number in memory.
pub const SUM: u32 = USER_DATA + 16;
const ROUNDS: u32 = USER_DATA + 20;
const NUMBER: u32 = USER_DATA + 24;

/// Rounds of all changes.
const ALL_ROUNDS: u32 = 40;

/// Calls before each change.
const CALLS: u32 = 3;

struct Labels {
    calls: CodeLabel,
    look: CodeLabel,
    step: CodeLabel,
}

/// Adds a register to the sum.
fn add(a: &mut Asm, r: AsmRegister32) -> Written {
    a.rol(dword_ptr(SUM).ss(), 3)?;
    a.add(dword_ptr(SUM).ss(), r)
}

fn call(a: &mut Asm, number: u32) -> Written {
    a.mov(eax, number)?;
    a.int(CALL as i32)
}

/// SYSENTER, and where SYSEXIT comes back to.
fn fast(a: &mut Asm, number: u32) -> Written {
    let mut here = a.create_label();
    a.mov(eax, number)?;
    a.call(here)?;
    a.set_label(&mut here)?;
    a.pop(edx)?;
    // The length of all this.
    a.lea(edx, dword_ptr(edx + 8))?;
    a.mov(ecx, esp)?;
    a.sysenter()
}

pub fn write(a: &mut Asm, constant: u32) -> Written {
    let mut labels = Labels {
        calls: a.create_label(),
        look: a.create_label(),
        step: a.create_label(),
    };
    let mut again = a.create_label();
    let mut next = a.create_label();
    a.mov(dword_ptr(ROUNDS), ALL_ROUNDS)?;
    a.set_label(&mut again)?;
    a.mov(esi, CHANGES)?;
    a.set_label(&mut next)?;
    step(a, &labels, |a| {
        a.mov(eax, esi)?;
        a.int(CALL as i32)
    })?;
    a.inc(esi)?;
    a.cmp(esi, (CHANGES + changes::count()) as i32)?;
    a.jb(next)?;
    for change in of_user() {
        step(a, &labels, change)?;
    }
    a.dec(dword_ptr(ROUNDS))?;
    a.jne(again)?;
    call(a, FINISH)?;
    calls(a, &mut labels)?;
    look(a, &mut labels, constant)?;
    end_step(a, &mut labels)
}

/// Calls as usual, a change, and what comes of it.
fn step(a: &mut Asm, labels: &Labels, change: impl Fn(&mut Asm) -> Written) -> Written {
    a.call(labels.calls)?;
    // What the x87 unit remembers of.
    a.fld1()?;
    a.fstp(dword_ptr(NUMBER))?;
    change(a)?;
    a.call(labels.step)
}

fn end_step(a: &mut Asm, labels: &mut Labels) -> Written {
    a.set_label(&mut labels.step)?;
    a.call(labels.look)?;
    a.call(labels.calls)?;
    a.call(labels.look)?;
    call(a, PUT_BACK)?;
    a.jmp(labels.look)
}

/// Calls by both ways.
fn calls(a: &mut Asm, labels: &mut Labels) -> Written {
    let mut again = a.create_label();
    a.set_label(&mut labels.calls)?;
    a.mov(ebx, CALLS)?;
    a.set_label(&mut again)?;
    call(a, 0)?;
    fast(a, 0)?;
    a.mov(eax, cs)?;
    add(a, eax)?;
    a.mov(eax, ss)?;
    add(a, eax)?;
    a.mov(eax, selector::USER_STACK)?;
    a.mov(ss, eax)?;
    a.dec(ebx)?;
    a.jne(again)?;
    a.ret()
}

/// Adds what there is to see.
fn look(a: &mut Asm, labels: &mut Labels, constant: u32) -> Written {
    a.set_label(&mut labels.look)?;
    a.pushfd()?;
    a.pop(eax)?;
    add(a, eax)?;
    for seg in [cs, ss, ds, es, fs, gs] {
        a.mov(eax, seg)?;
        add(a, eax)?;
    }
    a.mov(eax, selector::USER_DATA)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.xor(eax, eax)?;
    a.mov(fs, eax)?;
    a.mov(gs, eax)?;
    a.mov(eax, dword_ptr(USER_DATA).cs())?;
    // Misaligned.
    a.add(eax, dword_ptr(USER_DATA + 1))?;
    add(a, eax)?;
    a.rdtsc()?;
    a.mov(eax, constant)?;
    add(a, eax)?;
    a.push(0x202)?;
    a.popfd()?;
    a.ret()
}

/// Makes calls with this selector in FS, and reads through it.
fn with_thread(a: &mut Asm, selector: u32, call: fn(&mut Asm) -> Written) -> Written {
    a.mov(eax, selector)?;
    a.mov(fs, eax)?;
    for _ in 0..3 {
        call(a)?;
    }
    a.mov(eax, dword_ptr(USER_DATA).fs())?;
    add(a, eax)
}

/// Adds the x87 unit's pointers.
fn look_at_x87(a: &mut Asm) -> Written {
    a.fnstenv(ptr(USER_ENVIRONMENT))?;
    for n in 3..7 {
        a.mov(eax, dword_ptr(USER_ENVIRONMENT + 4 * n))?;
        add(a, eax)?;
    }
    a.fldenv(ptr(USER_ENVIRONMENT))
}

/// Calls that change the base of the segment in `seg`.
fn with_base(a: &mut Asm, seg: AsmRegisterSegment) -> Written {
    a.mov(eax, selector::THREAD)?;
    a.mov(seg, eax)?;
    for _ in 0..3 {
        call(a, FLAT_THREAD)?;
    }
    call(a, BASED_THREAD)?;
    let read = |a: &mut Asm| {
        match seg == fs {
            true => a.mov(eax, dword_ptr(USER_DATA).fs())?,
            false => a.mov(eax, dword_ptr(USER_DATA).gs())?,
        }
        add(a, eax)
    };
    read(a)?;
    call(a, INVALIDATE)?;
    call(a, 0)?;
    read(a)?;
    call(a, OTHER_RPL[usize::from(seg == gs)])
}

type Change = fn(&mut Asm) -> Written;

/// Changes that the user makes itself.
fn of_user() -> [Change; 20] {
    fn with_flags(a: &mut Asm, flags: i32) -> Written {
        a.push(flags)?;
        a.popfd()?;
        call(a, 0)
    }
    [
        |a| with_flags(a, 0x202 | 1 << 18),
        |a| with_flags(a, 0x202 | 1 << 8),
        |a| with_flags(a, 0x202 | 1 << 14),
        // All arithmetic flags, and DF.
        |a| with_flags(a, 0x202 | 0xcd5),
        |a| {
            a.xor(eax, eax)?;
            a.mov(ds, eax)?;
            a.mov(es, eax)?;
            call(a, 0)
        },
        |a| {
            for thread in [fs, gs] {
                a.mov(eax, selector::THREAD)?;
                a.mov(thread, eax)?;
                call(a, 0)?;
                call(a, 0)?;
            }
            Ok(())
        },
        |a| {
            a.xor(eax, eax)?;
            a.int(OTHER_CALL as i32)
        },
        // AC set when the kernel goes back.
        |a| {
            fast(a, kernel::WITH_AC)?;
            a.mov(eax, selector::USER_STACK)?;
            a.mov(ss, eax)
        },
        |a| {
            fast(a, kernel::WITHOUT_ENTRIES)?;
            a.mov(eax, selector::USER_STACK)?;
            a.mov(ss, eax)?;
            call(a, 0)
        },
        // DS null, AC set for SYSENTER.
        |a| {
            a.xor(eax, eax)?;
            a.mov(ds, eax)?;
            fast(a, 0)
        },
        |a| {
            a.push(0x202 | 1 << 18)?;
            a.popfd()?;
            fast(a, 0)
        },
        // FS null in place of one that may be read by.
        |a| {
            call(a, PUT_BACK)?;
            with_thread(a, selector::THREAD, |a| fast(a, 0))?;
            with_thread(a, 0, |a| fast(a, 0))
        },
        // The base of FS comes and goes, its selector does not.
        |a| {
            call(a, FLAT_THREAD)?;
            with_thread(a, selector::THREAD, |a| call(a, 0))?;
            call(a, PUT_BACK)?;
            with_thread(a, selector::THREAD, |a| call(a, 0))
        },
        |a| with_base(a, fs),
        |a| with_base(a, gs),
        // x87 instructions before each way.
        |a| {
            fast(a, 0)?;
            a.fld1()?;
            a.fstp(dword_ptr(NUMBER))?;
            fast(a, kernel::WITH_X87)
        },
        |a| {
            fast(a, kernel::X87_AND_LOAD)?;
            look_at_x87(a)
        },
        |a| {
            fast(a, kernel::X87_AND_RETURN)?;
            look_at_x87(a)
        },
        |a| {
            call(a, BY_GS)?;
            look_at_x87(a)
        },
        |a| {
            for _ in 0..3 {
                a.int(X87_CALL as i32)?;
            }
            look_at_x87(a)
        },
    ]
}
