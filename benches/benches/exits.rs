//! What it costs to leave the straight path: callouts, side exits, jumps whose
//! target is only known when they run, system calls, interrupts.
//!
//! Each program is a loop around one such event, in compiled code; elements are
//! rounds, so figures hold the loop itself, which `empty loop` has alone.

use benches::cpu_time::CpuTime;
use benches::events::{self, HANDLER, Written, kernel_loop};
use benches::guest::{CODE, DATA, END, Guest, IRQ_BASE, Ring, assemble};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iced_x86::code_asm::*;
use runtime::config::Tier;

const TIER: Tier = Tier::Cranelift;
const ROUNDS: u32 = 2_000;
/// Interrupt enable register of COM1, and its interrupt identification register.
const COM1_IER: u32 = 0x3f9;
const COM1_IIR: u32 = 0x3fa;
/// COM1's line.
const COM1_IRQ: u8 = 4;

fn measure(c: &mut Criterion<CpuTime>, name: &str, mut guest: Guest) {
    guest.run(ROUNDS);
    let mut group = c.benchmark_group("exits");
    group.throughput(Throughput::Elements(u64::from(ROUNDS)));
    group.bench_function(name, |b| b.iter(|| guest.run(ROUNDS)));
}

fn kernel(code: &[u8]) -> Guest {
    Guest::new(TIER, Ring::Kernel, code)
}

fn callouts(c: &mut Criterion<CpuTime>) {
    measure(c, "empty loop", kernel(&kernel_loop(|a| a.nop())));
    measure(c, "callout, MOV from CR0", events::callout(TIER));
    measure(c, "callout, IN from port 61h", events::port(TIER));
}

fn side_exits(c: &mut Criterion<CpuTime>) {
    measure(c, "side exit, load from no RAM", events::side_exit(TIER));
    let beside_code = kernel_loop(|a| a.mov(dword_ptr(CODE + 0x800), eax));
    measure(c, "side exit, store beside code", kernel(&beside_code));
    let across = kernel_loop(|a| a.mov(eax, dword_ptr(DATA + 0xffe)));
    measure(c, "load across pages", kernel(&across));
}

fn jumps(c: &mut Criterion<CpuTime>) {
    let direct = kernel_loop(|a| {
        let mut next = a.create_label();
        a.jmp(next)?;
        a.nop()?;
        a.set_label(&mut next)?;
        a.nop()
    });
    measure(c, "direct jump, linked", kernel(&direct));
    let indirect = events::indirect_call(TIER);
    measure(c, "indirect call and return, jump cache", indirect);
}

fn system_calls(c: &mut Criterion<CpuTime>) {
    measure(c, "INT 80h and IRET", events::software_interrupt(TIER));
    measure(c, "SYSENTER and SYSEXIT", events::fast_call(TIER));
}

/// Programs the master 8259A: vectors from [`IRQ_BASE`], only COM1's line open.
fn init_pic(a: &mut CodeAssembler) -> Written {
    for (port, value) in [
        (0x20, 0x11),
        (0x21, i32::from(IRQ_BASE)),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xff ^ 1 << COM1_IRQ),
    ] {
        a.mov(eax, value)?;
        a.out(port, al)?;
    }
    // OUT2 of the modem control register lets the line through.
    a.mov(edx, COM1_IIR + 2)?;
    a.mov(eax, 8)?;
    a.out(dx, al)
}

/// Toggles the interrupt enable register of COM1 in ring 3. With `interrupts`,
/// each enabling interrupts at once, as the transmitter is empty.
fn device_interrupts(interrupts: bool) -> Guest {
    let code = assemble(|a| {
        let mut top = a.create_label();
        init_pic(a)?;
        if !interrupts {
            a.cli()?;
        }
        a.mov(edx, COM1_IER)?;
        a.set_label(&mut top)?;
        a.xor(eax, eax)?;
        a.out(dx, al)?;
        a.mov(eax, 2)?;
        a.out(dx, al)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.int(i32::from(END))
    });
    let handler = assemble(|a| {
        a.push(eax)?;
        a.push(edx)?;
        a.mov(edx, COM1_IIR)?;
        a.in_(al, dx)?;
        a.mov(eax, 0x20)?;
        a.out(0x20, al)?;
        a.pop(edx)?;
        a.pop(eax)?;
        a.iretd()
    });
    let mut guest = Guest::new(TIER, Ring::User, &code);
    guest.write(HANDLER, &handler);
    guest.set_vector(IRQ_BASE + COM1_IRQ, HANDLER);
    guest
}

fn interrupts(c: &mut Criterion<CpuTime>) {
    measure(c, "two OUTs to COM1", device_interrupts(false));
    let mut guest = device_interrupts(true);
    guest.run(ROUNDS);
    let delivered = guest.vm().counters.interrupts;
    assert!(delivered >= u64::from(ROUNDS), "{delivered} interrupts");
    measure(c, "the same with an interrupt, IN, OUT and IRET", guest);
}

criterion_group! {
    name = exits;
    config = Criterion::default().with_measurement(CpuTime);
    targets = callouts, side_exits, jumps, system_calls, interrupts
}
criterion_main!(exits);
