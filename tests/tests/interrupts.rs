//! Interrupts while compiled code runs, and the CPU asleep when nothing does.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, dword_ptr, eax, ebx, ecx, esp, fword_ptr};
use runtime::clock::Clock;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::machine::{Ended, Setup, TIERS};
use translator::flags;

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;
/// Its handler of IRQ 0.
const HANDLER: u32 = START + 0x1000;
/// Its interrupt descriptor table.
const IDT: u32 = 0x20_0000;
/// Where it counts ticks, and where it leaves its result.
const TICKS: u32 = 0x20_1000;
const RESULT: u32 = 0x20_1004;
/// Vector of IRQ 0 after the controller has been set up.
const TIMER_VECTOR: u32 = 0x20;
/// What the timer counts in a second.
const PIT_HZ: u64 = 1_193_182;
/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// A guest whose timer ticks every `divisor` counts while `body` runs, which
/// leaves its result in EBX.
fn guest(
    divisor: u16,
    body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<Vec<u8>, IcedError> {
    let mut main = CodeAssembler::new(32)?;
    set_up(&mut main, divisor)?;
    main.sti()?;
    body(&mut main)?;
    main.cli()?;
    main.mov(dword_ptr(RESULT), ebx)?;
    out(&mut main, 0xf4, samples::PASSED)?;
    let mut handler = CodeAssembler::new(32)?;
    handler.push(eax)?;
    handler.inc(dword_ptr(TICKS))?;
    out(&mut handler, 0x20, 0x20)?;
    handler.pop(eax)?;
    handler.iretd()?;
    let mut image = main.assemble(START.into())?;
    image.resize((HANDLER - START) as usize, 0x90);
    image.extend(handler.assemble(HANDLER.into())?);
    Ok(image)
}

/// The gate of IRQ 0, the controller and the timer.
fn set_up(a: &mut CodeAssembler, divisor: u16) -> Result<(), IcedError> {
    a.mov(esp, 0x30_0000)?;
    // An interrupt gate: offset, selector 10h, present, 32 bits.
    let gate = IDT + 8 * TIMER_VECTOR;
    a.mov(dword_ptr(gate), 0x10_0000 | HANDLER & 0xffff)?;
    a.mov(dword_ptr(gate + 4), 0x8e00 | HANDLER & 0xffff_0000)?;
    a.mov(dword_ptr(RESULT), IDT << 16 | 0x7ff)?;
    a.mov(dword_ptr(RESULT + 4), IDT >> 16)?;
    a.lidt(fword_ptr(RESULT))?;
    let ports = [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
    ];
    for (port, value) in ports {
        out(a, port, value)?;
    }
    let [low, high] = divisor.to_le_bytes();
    for (port, value) in [(0x43, 0x34), (0x40, low), (0x40, high)] {
        out(a, port, value)?;
    }
    Ok(())
}

fn out(a: &mut CodeAssembler, port: i32, value: u8) -> Result<(), IcedError> {
    a.mov(al, i32::from(value))?;
    a.out(port, al)
}

fn word(ended: &Ended, address: u32) -> u32 {
    let mut bytes = [0; 4];
    let ram = ended.vm.cpu.mmu.ram();
    let read = ram.read_slice(PhysAddr(address.into()), &mut bytes);
    read.map_or(0, |()| u32::from_le_bytes(bytes))
}

/// A clock that moves by a fixed step each time it is read, so that time passes
/// with the slices of a busy guest and is the same in every run.
struct SteppingClock(AtomicU64);

/// Nanoseconds by which it moves.
const STEP_NS: u64 = 40_000;

impl Clock for SteppingClock {
    fn now_ns(&self) -> u64 {
        self.0.fetch_add(STEP_NS, Ordering::Relaxed)
    }

    fn unix_ns(&self) -> u64 {
        0
    }

    fn skip_to(&self, deadline_ns: u64) -> bool {
        self.0.fetch_max(deadline_ns, Ordering::Relaxed);
        true
    }
}

/// Rounds of the checksum loop.
const ROUNDS: u32 = 4_000_000;

fn checksum() -> u32 {
    (1..=ROUNDS)
        .rev()
        .fold(0, |sum: u32, n| sum.rotate_left(1) ^ n)
}

#[test]
fn a_timer_at_1_khz_disturbs_no_computation() {
    let divisor = (PIT_HZ / 1000) as u16;
    let image = guest(divisor, |a| {
        a.xor(ebx, ebx)?;
        a.mov(ecx, ROUNDS)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.rol(ebx, 1)?;
        a.xor(ebx, ecx)?;
        a.dec(ecx)?;
        a.jne(again)
    });
    let image = image.expect("the guest can be assembled");
    for (name, tier) in TIERS {
        let clock = Arc::new(SteppingClock(AtomicU64::new(0)));
        let setup = Setup {
            clock: Some(clock.clone()),
            ..Setup::flat(&image, START, FlatMode::Protected32, tier)
        };
        let ended = setup.run();
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
        assert_eq!(word(&ended, RESULT), checksum(), "{name}: the checksum");
        let elapsed_ns = clock.now_ns();
        let expected = elapsed_ns * (PIT_HZ / u64::from(divisor)) / SECOND_NS;
        let ticks = u64::from(word(&ended, TICKS));
        assert!(expected > 20, "{name}: {elapsed_ns} ns are too short");
        assert!(
            ticks.abs_diff(expected) <= 2,
            "{name}: {ticks} ticks, {expected} expected"
        );
        if tier != Tier::Interp {
            let share = ended.counters.compiled_share();
            assert!(share > 0.9, "{name}: only {share:.3} compiled");
        }
    }
}

/// A guest whose NMI handler counts in EBX, and ends the machine at the second.
fn counting_nmis() -> Result<Vec<u8>, IcedError> {
    let mut main = CodeAssembler::new(32)?;
    set_up(&mut main, 0)?;
    let gate = IDT + 8 * 2;
    main.mov(dword_ptr(gate), 0x10_0000 | HANDLER & 0xffff)?;
    main.mov(dword_ptr(gate + 4), 0x8e00 | HANDLER & 0xffff_0000)?;
    main.xor(ebx, ebx)?;
    let mut again = main.create_label();
    main.set_label(&mut again)?;
    main.inc(ecx)?;
    main.jmp(again)?;
    let mut handler = CodeAssembler::new(32)?;
    let mut second = handler.create_label();
    let mut spin = handler.create_label();
    handler.inc(ebx)?;
    handler.cmp(ebx, 2)?;
    handler.je(second)?;
    // The first handler takes its time, in which the second NMI must wait.
    handler.mov(ecx, 50_000)?;
    handler.set_label(&mut spin)?;
    handler.dec(ecx)?;
    handler.jne(spin)?;
    handler.mov(dword_ptr(RESULT), ebx)?;
    handler.iretd()?;
    handler.set_label(&mut second)?;
    out(&mut handler, 0xf4, samples::PASSED)?;
    let mut image = main.assemble(START.into())?;
    image.resize((HANDLER - START) as usize, 0x90);
    image.extend(handler.assemble(HANDLER.into())?);
    Ok(image)
}

#[test]
fn an_nmi_breaks_in_and_the_next_waits_for_iret() {
    let image = counting_nmis().expect("the guest can be assembled");
    for (name, tier) in TIERS {
        let setup = Setup {
            limit: Some(200_000),
            ..Setup::flat(&image, START, FlatMode::Protected32, tier)
        };
        let mut ended = setup.run();
        assert_eq!(ended.exit, Exit::Limit, "{name}");
        ended.vm.signal_nmi();
        // As far as into the handler.
        while ended.vm.cpu.state.gpr[3] == 0 {
            ended.vm.step_block();
        }
        ended.vm.signal_nmi();
        assert_eq!(ended.vm.cpu.state.gpr[3], 1, "{name}: blocked");
        while ended.vm.step_block().is_none_or(|exit| exit == Exit::Limit) {}
        assert_eq!(word(&ended, RESULT), 1, "{name}: the first went to its end");
        assert_eq!(ended.vm.cpu.state.gpr[3], 2, "{name}");
    }
}

/// A guest to which a tick comes in the shadow of STI, behind a SUB whose flags
/// the next instruction defines anew; the handler leaves those it finds.
fn showing_flags() -> Result<Vec<u8>, IcedError> {
    let mut main = CodeAssembler::new(32)?;
    set_up(&mut main, 100)?;
    main.mov(ecx, 200_000)?;
    let mut again = main.create_label();
    main.set_label(&mut again)?;
    main.dec(ecx)?;
    main.jne(again)?;
    main.sti()?;
    main.sub(ecx, 1)?;
    main.cmp(ebx, ebx)?;
    main.hlt()?;
    let mut handler = CodeAssembler::new(32)?;
    for _ in 0..3 {
        handler.pop(eax)?;
    }
    handler.mov(dword_ptr(RESULT), eax)?;
    out(&mut handler, 0xf4, samples::PASSED)?;
    let mut image = main.assemble(START.into())?;
    image.resize((HANDLER - START) as usize, 0x90);
    image.extend(handler.assemble(HANDLER.into())?);
    Ok(image)
}

#[test]
fn an_interrupt_behind_the_shadow_of_sti_shows_exact_flags() {
    let image = showing_flags().expect("the guest can be assembled");
    for (name, tier) in TIERS {
        let setup = Setup {
            clock: Some(Arc::new(SteppingClock(AtomicU64::new(0)))),
            ..Setup::flat(&image, START, FlatMode::Protected32, tier)
        };
        let ended = setup.run();
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
        let arithmetic = word(&ended, RESULT) & flags::ARITHMETIC;
        let minus_one = flags::CF | flags::PF | flags::AF | flags::SF;
        assert_eq!(arithmetic, minus_one, "{name}");
    }
}

/// Nanoseconds that this thread has been running for.
fn thread_ns() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok()
}

#[test]
fn an_idle_guest_sleeps() {
    const TICKS_OF_IDLENESS: u32 = 200;
    let image = guest((PIT_HZ / 100) as u16, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.hlt()?;
        a.cmp(dword_ptr(TICKS), TICKS_OF_IDLENESS)?;
        a.jb(again)
    });
    let image = image.expect("the guest can be assembled");
    let setup = Setup::flat(&image, START, FlatMode::Protected32, Tier::Auto);
    let (start, before) = (Instant::now(), thread_ns());
    let ended = setup.run();
    let (elapsed, after) = (start.elapsed(), thread_ns());
    assert_eq!(ended.exit, Exit::DebugExit(0x10));
    assert!(
        elapsed > Duration::from_millis(1800),
        "{elapsed:?} for two seconds"
    );
    let (Some(before), Some(after)) = (before, after) else {
        eprintln!("SKIPPED: this kernel does not count a thread's time");
        return;
    };
    let share = (after - before) as f64 / elapsed.as_nanos() as f64;
    assert!(
        share < 0.03,
        "idle, the guest takes {:.1} % of a core",
        share * 100.0
    );
}
