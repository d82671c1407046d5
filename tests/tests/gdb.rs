//! A real GDB on a guest of our own, in every tier: breakpoints, steps, watchpoints,
//! registers and memory there and back, Ctrl-C, detaching and killing.
//!
//! The guest counts in a loop, stores over its own code, calls an interrupt handler,
//! spins until a word is set, and sleeps for ever; what it makes of all that is the
//! same as without a debugger. The protocol itself is tried in `gdb_protocol`.

use iced_x86::code_asm::{CodeAssembler, CodeLabel};
use iced_x86::code_asm::{al, bl, byte_ptr, dword_ptr, ecx, edi, edx, esp, fword_ptr};
use iced_x86::{BlockEncoderOptions, IcedError};
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use std::time::Duration;
use tests::gdb::{debugged, gdb, have_gdb};
use tests::images::debian_folder;
use tests::machine::{Ended, Setup, TIERS};

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;
/// Its words.
const COUNTER: u32 = 0x20_0000;
const FLAG: u32 = 0x20_1000;
const CALLS: u32 = 0x20_2000;
const BUFFER: u32 = 0x20_3000;
const POINTER: u32 = 0x20_4000;
const IDT: u32 = 0x20_5000;
/// Rounds of its loop.
const ROUNDS: u32 = 3_000;
/// The vector that it calls.
const VECTOR: u32 = 0x40;

/// The guest, and the addresses that tests stop at, by name.
struct Guest {
    image: Vec<u8>,
    places: Vec<(&'static str, u32)>,
}

/// Assembles the guest, the second time with the addresses that it names.
fn guest() -> Guest {
    let draft = assemble(START, START).expect("the guest can be assembled");
    let (handler, patched) = (draft.place("handler"), draft.place("patched"));
    assemble(handler, patched).expect("the guest can be assembled")
}

fn assemble(handler: u32, patched: u32) -> Result<Guest, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut places: Vec<(&'static str, CodeLabel)> = Vec::new();
    let mut here = |a: &mut CodeAssembler, name| {
        let mut label = a.create_label();
        a.set_label(&mut label)?;
        places.push((name, label));
        Ok::<_, IcedError>(label)
    };
    a.mov(esp, 0x30_0000)?;
    // An interrupt gate: offset, selector 10h, present, 32 bits.
    let gate = IDT + 8 * VECTOR;
    a.mov(dword_ptr(gate), 0x10_0000 | handler & 0xffff)?;
    a.mov(dword_ptr(gate + 4), 0x8e00 | handler & 0xffff_0000)?;
    a.mov(dword_ptr(POINTER), (IDT << 16 | 0x7ff) as i32)?;
    a.mov(dword_ptr(POINTER + 4), (IDT >> 16) as i32)?;
    a.lidt(fword_ptr(POINTER))?;
    a.xor(ecx, ecx)?;
    let hot = here(&mut a, "hot")?;
    a.inc(ecx)?;
    here(&mut a, "middle")?;
    a.add(dword_ptr(COUNTER), 3)?;
    a.cmp(ecx, ROUNDS as i32)?;
    a.jne(hot)?;
    here(&mut a, "after")?;
    a.mov(edi, BUFFER)?;
    a.mov(ecx, 5)?;
    a.mov(al, 0x5a)?;
    here(&mut a, "repeat")?;
    a.rep().stosb()?;
    here(&mut a, "patch")?;
    a.mov(byte_ptr(patched + 1), 0x22)?;
    here(&mut a, "patched")?;
    a.mov(bl, 0x11)?;
    here(&mut a, "call")?;
    a.int(VECTOR as i32)?;
    let spin = here(&mut a, "spin")?;
    a.inc(edx)?;
    a.cmp(dword_ptr(FLAG), 0)?;
    a.je(spin)?;
    a.sti()?;
    a.hlt()?;
    here(&mut a, "done")?;
    a.mov(al, 0x10)?;
    here(&mut a, "out")?;
    a.out(0xf4, al)?;
    here(&mut a, "handler")?;
    a.inc(dword_ptr(CALLS))?;
    a.iretd()?;
    let done = a.assemble_options(
        START.into(),
        BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS,
    )?;
    let places = places
        .iter()
        .map(|(name, label)| Ok((*name, done.label_ip(label)? as u32)))
        .collect::<Result<_, IcedError>>()?;
    Ok(Guest {
        image: done.inner.code_buffer,
        places,
    })
}

impl Guest {
    fn place(&self, name: &str) -> u32 {
        let found = self.places.iter().find(|(other, _)| *other == name);
        found.expect("a place of the guest").1
    }

    fn setup(&self, tier: Tier) -> Setup<'_> {
        Setup::flat(&self.image, START, FlatMode::Protected32, tier)
    }

    /// Runs a GDB script in every tier; `$hot` and so on are the guest's places.
    /// It must print `expected`, and the guest end by `exit`.
    fn session(&self, script: &str, expected: &[&str], exit: Exit) -> Vec<Ended> {
        if !have_gdb() {
            return Vec::new();
        }
        let mut text = String::from(INTERRUPT);
        for (name, at) in &self.places {
            text.push_str(&format!("set ${name} = {at:#x}\n"));
        }
        text.push_str(script);
        let run = |(name, tier)| {
            let (ended, said) = debugged(&self.setup(tier), true, |at| gdb(at, &text));
            let said = said.unwrap_or_default();
            let told: Vec<_> = said.lines().filter(|line| line.starts_with("> ")).collect();
            let told: Vec<_> = told.iter().map(|line| &line[2..]).collect();
            assert_eq!(told, expected, "{name}: {said}");
            assert_eq!(ended.exit, exit, "{name}: {said}");
            ended
        };
        TIERS.map(run).into()
    }
}

/// `interrupt-soon` has GDB send Ctrl-C some time after the guest runs on.
const INTERRUPT: &str = "python
import os, signal, threading
class Soon(gdb.Command):
    def __init__(self):
        super().__init__('interrupt-soon', gdb.COMMAND_USER)
    def invoke(self, argument, tty):
        def running(event):
            gdb.events.cont.disconnect(running)
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        gdb.events.cont.connect(running)
Soon()
end
";

fn word(ended: &Ended, at: u32) -> Option<u32> {
    ended.vm.cpu.mmu.ram().read_u32(PhysAddr(at.into()))
}

/// What the guest leaves behind, debugged or not.
fn check_work(ended: &Ended, rounds: u32) {
    assert_eq!(word(ended, COUNTER), Some(3 * rounds));
    assert_eq!(word(ended, BUFFER), Some(0x5a5a_5a5a));
    assert_eq!(word(ended, CALLS), Some(1));
}

/// Lets the guest run from the spinning loop to its end.
const FINISH: &str = "delete
set *(int *) 0x201000 = 1
break *$done
interrupt-soon
continue
printf \"> halted at %d\\n\", $eip - $done
set $eip = $out
set $eax = 0x10
delete
continue
";

#[test]
fn breakpoints_stop_before_their_instruction_and_nothing_is_lost() {
    let script = format!(
        "break *$middle
ignore 1 1999
continue
printf \"> %d %d %d\\n\", $eip == $middle, $ecx, *(int *) 0x200000
delete 1
hbreak *$after
continue
printf \"> %d %d %d\\n\", $eip == $after, $ecx, *(int *) 0x200000
break *$spin
continue
printf \"> %d %#x\\n\", $eip == $spin, $ebx & 0xff
{FINISH}"
    );
    let expected = ["1 2000 5997", "1 3000 9000", "1 0x22", "halted at 0"];
    let ended = guest().session(&script, &expected, Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn steps_run_one_instruction_or_iteration() {
    let script = format!(
        "hbreak *$repeat
continue
delete
set $n = 0
while $eip == $repeat
  stepi
  set $n = $n + 1
end
printf \"> %d iterations, %d\\n\", $n, $eip == $patch
stepi
x/2xb $eip
printf \"> patched to %#x\\n\", *(unsigned char *) ($eip + 1)
stepi
printf \"> bl %#x, %d\\n\", $ebx & 0xff, $eip == $call
stepi
printf \"> handler %d, TF %d\\n\", $eip == $handler, ($eflags >> 8) & 1
printf \"> returns to %d, flags %#x\\n\", *(int *) $esp == $spin, *(int *) ($esp + 8) & 0x10100
stepi
stepi
printf \"> back %d\\n\", $eip == $spin
{FINISH}"
    );
    let expected = [
        "5 iterations, 1",
        "patched to 0x22",
        "bl 0x22, 1",
        "handler 1, TF 0",
        "returns to 1, flags 0",
        "back 1",
        "halted at 0",
    ];
    let ended = guest().session(&script, &expected, Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn a_breakpoint_on_a_repetition_stops_before_each_iteration() {
    let script = format!(
        "break *$repeat
break *$patch
continue
printf \"> %d %d\\n\", $eip == $repeat, $ecx
continue
printf \"> %d %d\\n\", $eip == $repeat, $ecx
delete 1
continue
printf \"> %d %d\\n\", $eip == $patch, $ecx
break *$spin
continue
{FINISH}"
    );
    let expected = ["1 5", "1 4", "1 0", "halted at 0"];
    guest().session(&script, &expected, Exit::DebugExit(0x10));
}

#[test]
fn watchpoints_show_what_was_and_what_is() {
    let script = format!(
        "hbreak *$hot
continue
delete
watch *(int *) 0x200000 if $ecx == 1000
continue
printf \"> %d at %d, ecx %d\\n\", *(int *) 0x200000, $eip - $middle, $ecx
delete
rwatch *(int *) 0x202000
awatch *(char *) 0x203003
continue
printf \"> buffer %d, ecx %d\\n\", $eip == $repeat || $eip == $patch, $ecx
continue
printf \"> handler %d, calls %d\\n\", $eip > $handler, *(int *) 0x202000
delete
break *$spin
continue
{FINISH}"
    );
    let expected = [
        "3000 at 7, ecx 1000",
        "buffer 1, ecx 1",
        "handler 1, calls 1",
        "halted at 0",
    ];
    let ended = guest().session(&script, &expected, Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn registers_memory_and_code_can_be_changed() {
    // Ten rounds fewer, another immediate in code that has been run and compiled.
    let script = format!(
        "hbreak *$middle
ignore 1 1999
continue
set $ecx = $ecx + 10
set $xmm3.v2_int64[0] = 0x2233445566778899
set $xmm3.v2_int64[1] = 17
set $st0 = 1.5
set $mxcsr = 0x1fa0
set $eflags = $eflags | 0x400
printf \"> %ld, %#x, DF %d\\n\", $xmm3.v2_int64[1], $mxcsr, ($eflags >> 10) & 1
set $eflags = $eflags & ~0x400
delete
hbreak *$after
continue
printf \"> %d %.1f\\n\", *(int *) 0x200000, $st0
printf \"> %#lx\\n\", $xmm3.v2_int64[0]
set *(unsigned char *) ($middle + 6) = 7
set $ecx = {again}
set $eip = $middle
continue
printf \"> %d\\n\", *(int *) 0x200000
set *(int *) 0x200000 = {counted}
delete
break *$spin
continue
{FINISH}",
        again = ROUNDS - 9,
        counted = 3 * ROUNDS,
    );
    let expected = [
        "17, 0x1fa0, DF 1",
        "8970 1.5",
        "0x2233445566778899",
        "9040",
        "halted at 0",
    ];
    let ended = guest().session(&script, &expected, Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn ctrl_c_stops_a_busy_guest() {
    let script = format!(
        "interrupt-soon
continue
printf \"> spins %d\\n\", $eip >= $spin && $eip < $done
interrupt-soon
continue
printf \"> spins %d\\n\", $eip >= $spin && $eip < $done
{FINISH}"
    );
    let expected = ["spins 1", "spins 1", "halted at 0"];
    let ended = guest().session(&script, &expected, Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn memory_that_is_not_there_is_an_error_for_gdb_alone() {
    let script = "python
try:
    gdb.execute('x/x 0xa0000', to_string=True)
    print('> video memory is nothing to read, but no error')
except gdb.error as error:
    print('>', error)
end
kill
";
    let expected = ["video memory is nothing to read, but no error"];
    guest().session(script, &expected, Exit::Quit);
}

#[test]
fn who_detaches_leaves_no_breakpoint() {
    let script = "break *$hot
continue
printf \"> %d\\n\", $ecx
set *(int *) 0x201000 = 1
set *(unsigned char *) ($done - 1) = 0x90
detach
";
    let ended = guest().session(script, &["0"], Exit::DebugExit(0x10));
    ended.iter().for_each(|ended| check_work(ended, ROUNDS));
}

#[test]
fn killing_ends_the_machine() {
    guest().session("stepi\nkill\n", &[], Exit::Quit);
}

#[test]
fn the_end_of_the_guest_is_told() {
    let script = "set $eip = $done
continue
printf \"> status %d\\n\", $_exitcode
";
    guest().session(script, &["status 33"], Exit::DebugExit(0x10));
    // Nothing answers at 3 GiB, and there is no handler for what comes of it.
    let script = "set *(short *) $after = 0x0b0f
set $eip = $after
continue
printf \"> signal %d\\n\", $_exitsignal
";
    guest().session(script, &["signal 6"], Exit::TripleFault);
}

#[test]
fn debians_kernel_stops_at_its_first_instruction_and_boots_on() {
    let folder = debian_folder();
    let read = |file: &str| std::fs::read(folder.join(file)).ok();
    let (Some(kernel), Some(initrd)) = (read("vmlinuz-686"), read("initrd.gz")) else {
        eprintln!("SKIPPED: no kernel; samples/debian.sh --fetch-only makes it");
        return;
    };
    // Unpacked to 16 MiB it starts without paging, and goes on at 3 GiB above.
    let script = "hbreak *0x1000000
continue
printf \"> unpacked: %d\\n\", $eip == 0x1000000
delete
stepi
stepi
interrupt-soon
continue
printf \"> moved: %d\\n\", *(int *) 0xc1000000 != 0 && $cs != 0x10
detach
";
    let setup = Setup {
        initrd: Some(&initrd),
        append: "console=ttyS0 quiet nokaslr ring1.run=\"uname -s\"",
        memory_mib: 128,
        timeout: Duration::from_secs(120),
        ..Setup::new(&kernel, Tier::Auto)
    };
    if have_gdb() {
        let text = format!("{INTERRUPT}{script}");
        let (ended, said) = debugged(&setup, true, |at| gdb(at, &text));
        let said = said.unwrap_or_default();
        for line in ["> unpacked: 1", "> moved: 1"] {
            assert!(said.contains(line), "{said}");
        }
        assert_eq!(ended.exit, Exit::PowerOff, "{said}");
        assert!(ended.serial.contains("\nLinux"), "{}", ended.serial);
    }
}
