//! What self-modifying code costs: loops that store into code, each beside the
//! same loop storing to a page without code.
//!
//! A form is a program written twice, the second time with its stores moved to
//! [`DATA`]. Printed are nanoseconds of CPU time a round and their ratio, by tier.
//! Arguments are beginnings of the names of the forms wanted, and tiers wanted.

use benches::guest::{CODE, DATA, Guest, Ring};
use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, IcedError};
use runtime::config::Tier;
use runtime::vcpu::{cr0, cr4};
use rustix::time::{ClockId, clock_gettime};

const TIERS: [(&str, Tier); 3] = [
    ("auto", Tier::Auto),
    ("direct", Tier::Direct),
    ("interp", Tier::Interp),
];
/// Rounds of one run, and runs of which the fastest counts.
const ROUNDS: u32 = 100_000;
const RUNS: usize = 5;
/// From what is stored into to where it is stored without harm.
const HARMLESS: u32 = DATA - CODE;
/// Linear distance of a second mapping of all memory.
const ALIAS: u32 = 0x4000_0000;
/// Page directory of what needs paging.
const DIRECTORY: u32 = 0x5000;

type Written = Result<CodeLabel, IcedError>;

/// A loop body. It sets the label it returns where it will store, and is told that
/// label's address, or one in a page without code.
struct Form {
    name: &'static str,
    /// Bytes before the loop.
    pad: usize,
    body: fn(&mut CodeAssembler, u32) -> Written,
}

const FORMS: [Form; 21] = [
    Form {
        name: "a  immediate, 32 bits",
        pad: 0,
        body: immediate32,
    },
    Form {
        name: "a  immediate, 8 bits",
        pad: 0,
        body: immediate8,
    },
    Form {
        name: "a  displacement",
        pad: 0,
        body: displacement,
    },
    Form {
        name: "a  immediate in a long loop",
        pad: 0,
        body: long_loop,
    },
    Form {
        name: "b  opcode, two of them",
        pad: 0,
        body: two_opcodes,
    },
    Form {
        name: "b  opcode, eight of them",
        pad: 0,
        body: eight_opcodes,
    },
    Form {
        name: "c  next instruction, rewritten",
        pad: 0,
        body: next_instruction,
    },
    Form {
        name: "d  by a function of another page",
        pad: 0,
        body: other_page,
    },
    Form {
        name: "d  by another linear address",
        pad: 0,
        body: alias,
    },
    Form {
        name: "e  counter in the page",
        pad: 0,
        body: counter,
    },
    Form {
        name: "e  counter beside the loop",
        pad: 0,
        body: close_counter,
    },
    Form {
        name: "e  counter within the loop",
        pad: 0,
        body: inner_counter,
    },
    Form {
        name: "e  stack in the page",
        pad: 0,
        body: stack,
    },
    Form {
        name: "e  array in the page",
        pad: 0,
        body: array,
    },
    Form {
        name: "f  REP STOSD of 16 beside code",
        pad: 0,
        body: rep_stos,
    },
    Form {
        name: "f  REP MOVSD of a function",
        pad: 0,
        body: rep_movs,
    },
    Form {
        name: "g  immediate of a function",
        pad: 0,
        body: function_immediate,
    },
    Form {
        name: "g  a function, rewritten",
        pad: 0,
        body: function,
    },
    Form {
        name: "g  a function, ever elsewhere",
        pad: 0,
        body: bump_allocated,
    },
    Form {
        name: "h  immediate at a page's end",
        pad: 0xff0, // The loop has 15 bytes.
        body: immediate32,
    },
    Form {
        name: "h  immediate across a page's end",
        pad: 0xffc,
        body: immediate32,
    },
];

fn immediate32(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.add(ebx, 0x1234_5678)?;
    a.set_label(&mut at)?;
    a.mov(dword_ptr(to - 4), ecx)?;
    Ok(at)
}

fn immediate8(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(byte_ptr(to + 2), cl)?;
    a.set_label(&mut at)?;
    a.add(ebx, 1)?;
    Ok(at)
}

fn displacement(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(edx, ecx)?;
    a.and(edx, 0xfc)?;
    a.add(edx, DATA as i32)?;
    a.mov(dword_ptr(to + 2), edx)?;
    a.set_label(&mut at)?;
    a.add(ebx, dword_ptr(DATA))?;
    Ok(at)
}

fn long_loop(a: &mut CodeAssembler, to: u32) -> Written {
    for n in 1..=12 {
        a.lea(edx, esi + ebx * 2 + n)?;
        a.xor(esi, edx)?;
    }
    immediate32(a, to)
}

fn two_opcodes(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.xor(al, 0x28)?;
    a.mov(edx, eax)?;
    a.or(dl, 3)?;
    a.mov(byte_ptr(to), dl)?;
    a.set_label(&mut at)?;
    a.db(&[0x03, 0xde])?; // ADD EBX, ESI or SUB EBX, ESI.
    Ok(at)
}

fn eight_opcodes(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    // 03, 0B, 13, … 3B: ADD, OR, ADC, SBB, AND, SUB, XOR, CMP.
    a.lea(edx, ptr(ecx * 8))?;
    a.and(edx, 0x38)?;
    a.or(edx, 3)?;
    a.mov(byte_ptr(to), dl)?;
    a.set_label(&mut at)?;
    a.db(&[0x03, 0xde])?;
    Ok(at)
}

fn next_instruction(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(edx, ecx)?;
    a.and(edx, 7)?;
    a.lea(edx, edx + edx * 8)?; // Registers 0 to 7, each with itself.
    a.shl(edx, 8)?;
    a.or(edx, 0x9090_c085u32 as i32)?; // TEST r32, r32; NOP; NOP
    a.mov(dword_ptr(to), edx)?;
    a.set_label(&mut at)?;
    a.db(&[0x85, 0xc0, 0x90, 0x90])?;
    Ok(at)
}

fn other_page(a: &mut CodeAssembler, to: u32) -> Written {
    let (mut at, mut over) = (a.create_label(), a.create_label());
    a.call(u64::from(CODE + 0x1000))?;
    a.set_label(&mut at)?;
    a.add(ebx, 0x1234_5678)?;
    a.jmp(over)?;
    a.mov(dword_ptr(to + 2), ecx)?; // Copied to the other page, see `guest`.
    a.ret()?;
    a.set_label(&mut over)?;
    Ok(at)
}

fn alias(a: &mut CodeAssembler, to: u32) -> Written {
    immediate32(a, to.wrapping_add(ALIAS))
}

fn counter(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.add(ebx, ecx)?;
    a.set_label(&mut at)?;
    a.inc(dword_ptr(to + 0x800))?;
    Ok(at)
}

fn close_counter(a: &mut CodeAssembler, to: u32) -> Written {
    let (mut at, mut over) = (a.create_label(), a.create_label());
    a.inc(byte_ptr(to))?;
    a.add(ebx, ecx)?;
    a.dec(ecx)?;
    a.jz(over)?;
    a.db(&[0xeb, 0xf3])?; // JMP to the body's beginning.
    a.set_label(&mut at)?;
    a.db(&[0])?;
    a.set_label(&mut over)?;
    a.inc(ecx)?;
    Ok(at)
}

fn inner_counter(a: &mut CodeAssembler, to: u32) -> Written {
    let (mut at, mut over) = (a.create_label(), a.create_label());
    a.jmp(over)?;
    a.set_label(&mut at)?;
    a.db(&[0])?;
    a.set_label(&mut over)?;
    a.inc(byte_ptr(to))?;
    a.add(ebx, ecx)?;
    Ok(at)
}

fn stack(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(esp, to + 0x800)?;
    a.set_label(&mut at)?;
    a.push(ecx)?;
    a.push(ebx)?;
    a.pop(edx)?;
    a.pop(edx)?;
    Ok(at)
}

fn array(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(edx, ecx)?;
    a.set_label(&mut at)?;
    a.and(edx, 0xff)?;
    a.mov(dword_ptr(edx * 4 + (to + 0x800)), ecx)?;
    Ok(at)
}

fn rep_stos(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(edi, to + 0x800)?;
    a.set_label(&mut at)?;
    a.mov(edx, ecx)?;
    a.mov(ecx, 16)?;
    a.rep().stosd()?;
    a.mov(ecx, edx)?;
    Ok(at)
}

fn rep_movs(a: &mut CodeAssembler, to: u32) -> Written {
    let (mut at, mut over) = (a.create_label(), a.create_label());
    a.mov(esi, CODE + 0x1000)?;
    a.mov(edi, to)?;
    a.mov(edx, ecx)?;
    a.mov(ecx, 4)?;
    a.mov(dword_ptr(esi + 1), edx)?;
    a.rep().movsd()?;
    a.mov(ecx, edx)?;
    a.call(at)?;
    a.jmp(over)?;
    a.set_label(&mut at)?;
    a.db(&FUNCTION)?;
    a.set_label(&mut over)?;
    Ok(at)
}

/// MOV EAX, 0; ADD EBX, EAX; NOPs; RET.
const FUNCTION: [u8; 16] = [
    0xb8, 0, 0, 0, 0, 0x01, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3,
];

/// Calls the function, which lies there.
fn call_function(a: &mut CodeAssembler) -> Written {
    let (mut at, mut over) = (a.create_label(), a.create_label());
    a.call(at)?;
    a.jmp(over)?;
    a.set_label(&mut at)?;
    a.db(&FUNCTION)?;
    a.set_label(&mut over)?;
    Ok(at)
}

fn function_immediate(a: &mut CodeAssembler, to: u32) -> Written {
    a.mov(dword_ptr(to + 1), ecx)?;
    call_function(a)
}

fn function(a: &mut CodeAssembler, to: u32) -> Written {
    a.mov(byte_ptr(to), 0xb8)?;
    a.mov(dword_ptr(to + 1), ecx)?;
    a.mov(dword_ptr(to + 5), 0xc3_c301)?; // ADD EBX, EAX; RET
    call_function(a)
}

fn bump_allocated(a: &mut CodeAssembler, to: u32) -> Written {
    let mut at = a.create_label();
    a.mov(edi, ecx)?;
    a.set_label(&mut at)?;
    a.and(edi, 0x7f0)?;
    a.lea(edx, edi + (CODE + 0x1000))?;
    a.add(edi, (to - (at_offset(to)) + 0x1000) as i32)?;
    a.mov(byte_ptr(edi), 0xb8)?;
    a.mov(dword_ptr(edi + 1), ecx)?;
    a.mov(dword_ptr(edi + 5), 0xc3_c301)?;
    a.call(edx)?;
    Ok(at)
}

/// Offset in its page.
fn at_offset(to: u32) -> u32 {
    to & 0xfff
}

/// The program with the stores of its body at `to`; the addresses of the body's
/// label and of its end, too.
fn program(form: &Form, to: u32) -> Result<(Vec<u8>, u32), IcedError> {
    let mut a = CodeAssembler::new(32)?;
    (0..form.pad).try_for_each(|_| a.nop())?;
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    let at = (form.body)(&mut a, to)?;
    a.dec(ecx)?;
    a.jnz(top)?;
    a.hlt()?;
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let code = a.assemble_options(u64::from(CODE), options)?;
    Ok((code.inner.code_buffer.clone(), code.label_ip(&at)? as u32))
}

/// A machine with the program, and the other page filled with what forms want there.
fn guest(form: &Form, tier: Tier, moved: u32) -> Guest {
    let (_, at) = program(form, CODE).expect("the program can be assembled");
    let to = at.wrapping_add(moved);
    let (code, _) = program(form, to).expect("the program can be assembled");
    let mut guest = Guest::new(tier, Ring::Kernel, &code);
    for n in 0..0x80 {
        guest.write(CODE + 0x1000 + 16 * n, &FUNCTION);
    }
    guest.write(CODE, &code);
    if form.name.contains("another page") {
        let mut store = vec![0x89, 0x0d]; // MOV [to + 2], ECX; RET
        store.extend((to + 2).to_le_bytes());
        store.push(0xc3);
        guest.write(CODE + 0x1000, &store);
    }
    // All of memory in pages of 4 MiB, twice.
    for n in 0..2u32 {
        let entry = (n << 22 | 0xe3).to_le_bytes();
        guest.write(DIRECTORY + 4 * n, &entry);
        guest.write(DIRECTORY + 4 * (n + (ALIAS >> 22)), &entry);
    }
    let cpu = &mut guest.vm().cpu;
    cpu.sys.cr3 = DIRECTORY;
    cpu.sys.cr4 |= cr4::PSE;
    cpu.sys.cr0 |= cr0::PG;
    cpu.paging_changed();
    guest
}

fn now_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds a round, of the fastest run.
fn measure(mut guest: Guest, rounds: u32) -> f64 {
    guest.run(rounds);
    let runs = (0..RUNS).map(|_| {
        let start = now_ns();
        guest.run(rounds);
        (now_ns() - start) / f64::from(rounds)
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn main() {
    let wanted = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let is_tier = |arg: &String| TIERS.iter().any(|(name, _)| name == arg);
    let (tiers, forms): (Vec<String>, Vec<String>) = wanted.partition(is_tier);
    let chosen = |list: &[String], name: &str| {
        list.is_empty() || list.iter().any(|part| name.starts_with(part))
    };
    let tiers = || TIERS.iter().filter(|(name, _)| chosen(&tiers, name));
    println!("ns a round: storing into code, elsewhere, ratio");
    print!("{:36}", "");
    tiers().for_each(|(name, _)| print!("{name:>26}"));
    println!();
    for form in FORMS.iter().filter(|form| chosen(&forms, form.name)) {
        print!("{:36}", form.name);
        for &(_, tier) in tiers() {
            let patching = measure(guest(form, tier, 0), ROUNDS);
            let plain = measure(guest(form, tier, HARMLESS), 10 * ROUNDS);
            print!("{patching:11.1}{plain:7.2}{:8.1}", patching / plain);
        }
        println!();
    }
}
