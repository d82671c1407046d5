//! Which encodings exist: every opcode, under every prefix that may make another
//! instruction of it, with memory and with registers, raises #UD on the host CPU
//! if and only if it does here.
//!
//! Left out is what the host has and no CPU model announces, and what the random
//! sequences leave out too.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use runtime::config::Tier;
use runtime::cpu_model::{CpuModel, Processor};
use runtime::selftest::case::{Case, Family, Subject};
use runtime::selftest::generate::templates::family;
use runtime::selftest::guest::Guest;
use runtime::selftest::silicon::Silicon;
use runtime::selftest::state::{DATA_BASE, Outcome, State};

const PREFIXES: [&[u8]; 8] = [
    &[],
    &[0x66],
    &[0xf2],
    &[0xf3],
    &[0xf0],
    &[0x66, 0xf0],
    &[0xf0, 0xf3],
    &[0x66, 0xf2],
];
const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

/// Prefixes and escapes, which are no opcodes, and VEX, EVEX and XOP.
const NOT_OPCODES: [u8; 16] = [
    0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f, 0xc4, 0xc5, 0x62, 0x8f,
];

/// #UD on one side only.
#[test]
fn encodings_exist_here_if_they_do_on_silicon() {
    let Some(mut silicon) = Silicon::new() else {
        return;
    };
    let mut guest = Guest::new(Tier::Interp).expect("a machine");
    let model = CpuModel::new(Processor::Max);
    let (mut compared, mut differing) = (0, Vec::new());
    for bytes in encodings() {
        let insn = Decoder::new(32, &bytes, DecoderOptions::NONE).decode();
        if is_left_out(&insn) || is_peculiar(&bytes) || !model.decodable().allows(insn.code()) {
            continue;
        }
        let case = case(&bytes);
        let host = is_invalid(Subject::run(&mut silicon, &case).outcome);
        let here = is_invalid(guest.run(&case).outcome);
        compared += 1;
        if host != here {
            let name = format!("{:?}", insn.code());
            differing.push(format!(
                "{bytes:02x?} {name}: #UD on silicon {host}, here {here}"
            ));
        }
    }
    println!("{compared} encodings");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn encodings() -> impl Iterator<Item = Vec<u8>> {
    let starts = MAPS
        .into_iter()
        .flat_map(|map| PREFIXES.map(|prefix| [prefix, map].concat()));
    starts.flat_map(|start| {
        let one_byte = start
            .last()
            .is_none_or(|&b| !matches!(b, 0x0f | 0x38 | 0x3a));
        let opcodes = (0..=0xff).filter(move |b| !one_byte || !NOT_OPCODES.contains(b));
        opcodes.flat_map(move |opcode| {
            let start = start.clone();
            modrms(&start, opcode).map(move |modrm| {
                let mut bytes = [start.as_slice(), &[opcode, modrm]].concat();
                // Immediates; a relative branch leads to the next instruction.
                bytes.extend([0; 6]);
                let insn = Decoder::new(32, &bytes, DecoderOptions::NONE).decode();
                if !insn.is_invalid() {
                    bytes.truncate(insn.len());
                }
                bytes
            })
        })
    })
}

/// [EBX] for each `reg`, then registers: all where each may be another instruction.
fn modrms(start: &[u8], opcode: u8) -> impl Iterator<Item = u8> + use<> {
    let groups = [0x00, 0x01, 0xae, 0xc7];
    let by_register = match start.last() {
        Some(0x0f) => groups.contains(&opcode),
        _ => opcode & 0xf8 == 0xd8,
    };
    let memory = (0..8).map(|reg| reg << 3 | 3);
    let registers = (0xc0..=0xff).filter(move |modrm| by_register || modrm & 7 == 1);
    memory.chain(registers)
}

/// What the host does that other processors do not: it takes VMCALL from a guest of
/// its own, reaches CR8 by LOCK MOV CR0, and VERW takes a LOCK prefix.
fn is_peculiar(bytes: &[u8]) -> bool {
    let opcode = bytes.iter().position(|&b| b == 0x0f);
    let lock = bytes.contains(&0xf0);
    match opcode.map(|at| &bytes[at + 1..]) {
        Some([0x01, 0xc1, ..]) => true,
        Some([0x20 | 0x22, ..]) => lock,
        Some([0x00, modrm, ..]) => lock && modrm >> 3 & 7 == 5,
        _ => false,
    }
}

fn case(bytes: &[u8]) -> Case {
    let mut entry = State::new();
    entry.gpr[3] = DATA_BASE + 0x100;
    entry.gpr[6] = DATA_BASE + 0x200;
    entry.gpr[7] = DATA_BASE + 0x300;
    Case {
        code: bytes.to_vec(),
        entry,
        data_seed: 1,
        patches: Vec::new(),
        family: Family::Arith,
        seed: 0,
        read_only_page: None,
    }
}

fn is_invalid(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Trap { vector: 6, .. })
}

/// Instructions of no family of the random sequences: they enter the kernel, load
/// segments, depend on the machine, or are hints. POPF may load any flag.
fn is_left_out(insn: &Instruction) -> bool {
    let popf = matches!(insn.mnemonic(), Mnemonic::Popf | Mnemonic::Popfd);
    popf || !insn.is_invalid() && family(insn).is_none()
}
