//! Data segments loaded over and over, in every tier.
//!
//! Compiled code may take a load for one that changes nothing. The guest here loads the
//! same selector thousands of times and now and then makes it another segment: by its
//! descriptor's bytes, by another table, by another page in the table's place. It sums up
//! what it reads through the segments; the interpreter is right.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tests::machine::agree;

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// Two descriptor tables that differ in the base of [`DATA`], each in a page of its own.
const TABLES: [u32; 2] = [0x18_0000, 0x18_1000];
/// Where the operands of LGDT are.
const OPERANDS: [u32; 2] = [0x18_2000, 0x18_2010];
/// Page directory and table, for the guest's first 4 MiB.
const PAGING: [u32; 2] = [0x19_0000, 0x19_1000];
/// What is read through the segments; [`BASE`] further on lies something else.
const MARK: u32 = 0x1a_0000;
/// Base of the segments that are not flat.
const BASE: u32 = 0x100;
/// A data segment of ring 3.
const DATA: u32 = 0x13;
/// Rounds of the loop.
const ROUNDS: u32 = 5_000;
/// Rounds between two changes of one kind.
const PERIOD: i32 = 64;

type Written = Result<(), IcedError>;
type Asm = CodeAssembler;

/// Low and high half of a flat data segment of ring 3, accessed.
const FLAT: (u32, u32) = (0x0000_ffff, 0x00cf_f300);

/// Fills tables and marks.
fn prepare(a: &mut Asm) -> Written {
    for (table, base) in TABLES.iter().zip([0, BASE]) {
        a.mov(dword_ptr(table + 16), (FLAT.0 | base << 16) as i32)?;
        a.mov(dword_ptr(table + 20), FLAT.1 as i32)?;
    }
    for (operand, table) in OPERANDS.iter().zip(TABLES) {
        a.mov(word_ptr(*operand), 0x17)?;
        a.mov(dword_ptr(operand + 2), table as i32)?;
    }
    a.mov(dword_ptr(MARK), 3)?;
    a.mov(dword_ptr(MARK + BASE), 0x500)?;
    // Paging that maps everything to itself.
    a.mov(ecx, 1023)?;
    let mut fill = a.create_label();
    a.set_label(&mut fill)?;
    a.mov(edx, ecx)?;
    a.shl(edx, 12)?;
    a.or(edx, 3)?;
    a.mov(dword_ptr(PAGING[1]) + ecx * 4, edx)?;
    a.dec(ecx)?;
    a.jns(fill)?;
    a.mov(dword_ptr(PAGING[0]), (PAGING[1] | 3) as i32)?;
    a.mov(edx, PAGING[0] as i32)?;
    a.mov(cr3, edx)?;
    a.mov(edx, cr0)?;
    a.or(edx, i32::MIN)?;
    a.mov(cr0, edx)?;
    a.lgdt(fword_ptr(OPERANDS[0]))
}

/// Loads DS and ES in two ways and adds what is there to EBX.
fn load(a: &mut Asm) -> Written {
    a.mov(eax, DATA as i32)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.add(ebx, dword_ptr(MARK))?;
    a.add(ebx, dword_ptr(MARK).es())?;
    a.push(DATA as i32)?;
    a.push(DATA as i32)?;
    a.pop(es)?;
    a.pop(ds)?;
    a.add(ebx, dword_ptr(MARK))?;
    a.adc(ebx, dword_ptr(MARK).es())
}

/// In every [`PERIOD`]th round, `phase` rounds late: changes something, loads, and
/// changes it back.
fn now_and_then(
    a: &mut Asm,
    phase: i32,
    change: impl Fn(&mut Asm) -> Written,
    back: impl Fn(&mut Asm) -> Written,
) -> Written {
    let mut over = a.create_label();
    a.lea(eax, edi + phase)?;
    a.test(eax, PERIOD - 1)?;
    a.jne(over)?;
    change(a)?;
    load(a)?;
    back(a)?;
    load(a)?;
    a.set_label(&mut over)?;
    a.zero_bytes()
}

fn guest() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut again = a.create_label();
    a.mov(esp, 0x17_0000)?;
    prepare(&mut a)?;
    a.xor(ebx, ebx)?;
    a.mov(edi, ROUNDS as i32)?;
    a.set_label(&mut again)?;
    load(&mut a)?;
    // The base of the segment, in memory.
    let base = |a: &mut Asm, base: u32| a.mov(byte_ptr(TABLES[0] + 19).ss(), (base >> 8) as i32);
    now_and_then(&mut a, 0, |a| base(a, BASE), |a| base(a, 0))?;
    // Read-only.
    let access = |a: &mut Asm, access: i32| a.mov(byte_ptr(TABLES[0] + 21).ss(), access);
    now_and_then(&mut a, 7, |a| access(a, 0xf1), |a| access(a, 0xf3))?;
    // Another table.
    let table = |a: &mut Asm, n: usize| a.lgdt(fword_ptr(OPERANDS[n]).ss());
    now_and_then(&mut a, 11, |a| table(a, 1), |a| table(a, 0))?;
    // Another page.
    let page = |a: &mut Asm, n: usize| {
        let entry = PAGING[1] + (TABLES[0] >> 12) * 4;
        a.mov(dword_ptr(entry).ss(), (TABLES[n] | 3) as i32)?;
        a.invlpg(byte_ptr(TABLES[0]).ss())
    };
    now_and_then(&mut a, 23, |a| page(a, 1), |a| page(a, 0))?;
    // Nothing at all in between.
    a.xor(eax, eax)?;
    a.mov(es, eax)?;
    a.rol(ebx, 1)?;
    a.dec(edi)?;
    a.jne(again)?;
    a.mov(dword_ptr(RESULT).ss(), ebx)?;
    a.mov(al, i32::from(samples::PASSED))?;
    a.out(0xf4, al)?;
    a.assemble(START.into())
}

#[test]
fn a_load_of_the_selector_that_is_there_may_change_the_segment() {
    let image = guest().expect("the guest can be assembled");
    agree(&image, START, RESULT, "a guest that loads segments");
}
