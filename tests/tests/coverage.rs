//! Which instructions have a definition, as a list that is compared: an
//! instruction that loses its definition fails here, not in somebody's guest.
//!
//! The decoder is asked for every instruction that the most capable CPU model
//! knows in 32-bit mode, on a host that has all its features. Each of its forms has a generic definition or
//! is carried out by the runtime; then it is run once, and raises anything but
//! #UD. The result is `coverage.txt`; `BLESS=1` writes it anew.

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Mnemonic};
use runtime::config::{Tier, VmConfig};
use runtime::cpu_model::{CpuModel, Processor};
use runtime::interp::Op;
use runtime::launch::{self, Files};
use runtime::vcpu::{Cpu, cr4};
use runtime::vm::Vm;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use translator::decode::decode_block;
use translator::exception::Exception;
use translator::insn::Insn;
use translator::mode::Mode;
use translator::semantics;

/// Memory that operands name, aligned for every one of them.
const OPERAND: u32 = 0x0004_0000;
const EIP: u32 = 0x0010_0000;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/coverage.txt");

/// Instructions whose definition is to raise #UD: no one's, and one of a mode
/// that does not exist here (SMM).
const INVALID: [Mnemonic; 4] = [Mnemonic::Ud0, Mnemonic::Ud1, Mnemonic::Ud2, Mnemonic::Rsm];

/// Who carries an instruction out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum By {
    Generic,
    System,
    X87,
    Vector,
    Nobody,
}

impl By {
    const ALL: [(By, &str); 5] = [
        (By::Generic, "Generic definitions, interpreted and compiled"),
        (By::System, "System definitions, carried out by the runtime"),
        (By::X87, "x87"),
        (By::Vector, "MMX, SSE, AES"),
        (By::Nobody, "Not implemented: #UD"),
    ];
}

fn is_vector(code: Code) -> bool {
    use CpuidFeature as F;
    let mut features = code.cpuid_features().iter();
    features.any(|f| {
        matches!(
            f,
            F::MMX
                | F::SSE
                | F::SSE2
                | F::FXSR
                | F::CLFSH
                | F::SSE3
                | F::SSSE3
                | F::SSE4_1
                | F::SSE4_2
                | F::AES
                | F::PCLMULQDQ
                | F::XSAVE
        )
    })
}

fn is_x87(code: Code) -> bool {
    use CpuidFeature as F;
    let mut features = code.cpuid_features().iter();
    features.any(|f| matches!(f, F::FPU | F::FPU287 | F::FPU387))
}

/// One encoding of every form of every instruction.
fn encodings() -> BTreeMap<u32, Vec<u8>> {
    const PREFIXES: [&[u8]; 4] = [&[], &[0x66], &[0xf2], &[0xf3]];
    const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let model = CpuModel::new(Processor::Max);
    let mut found = BTreeMap::new();
    for (prefix, map) in PREFIXES.iter().flat_map(|p| MAPS.map(|m| (p, m))) {
        for (opcode, modrm) in (0..=0xff).flat_map(|opcode| modrms().map(move |m| (opcode, m))) {
            let mut bytes = [prefix, map, &[opcode, modrm]].concat();
            bytes.extend(OPERAND.to_le_bytes());
            bytes.extend([0; 8]);
            let insn = Decoder::new(32, &bytes, DecoderOptions::NONE).decode();
            let op = insn.code().op_code();
            let known = !insn.is_invalid() && op.mode32();
            if known && model.decodable().allows(insn.code()) {
                bytes.truncate(insn.len());
                found.entry(insn.code() as u32).or_insert(bytes);
            }
        }
    }
    found
}

/// ModRM bytes: memory at a displacement for each `reg`, then all registers.
fn modrms() -> impl Iterator<Item = u8> {
    let memory = (0..8).map(|reg| reg << 3 | 5);
    memory.chain(0xc0..=0xff)
}

/// A machine in flat protected mode, ring 0, vectors enabled.
fn machine() -> Vm {
    let config = VmConfig {
        tier: Tier::Interp,
        memory_mib: 2,
        ..VmConfig::default()
    };
    let files = Files::read(&config).expect("nothing to read");
    let mut vm = launch::machine(&config, |_| Ok(launch::silent_console())).expect("a machine");
    files.load(&config, &mut vm).expect("the default guest");
    vm
}

/// Puts what an instruction may have changed back.
fn reset(cpu: &mut Cpu, fresh: &Fresh) {
    cpu.state = fresh.state.clone();
    cpu.sys = fresh.sys.clone();
    cpu.sys.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    cpu.state.gpr[..8].fill(OPERAND);
    cpu.state.gpr[1] = 1; // ECX, for repetitions.
    cpu.raised = None;
    cpu.halted = false;
    cpu.shutdown = false;
    cpu.paging_changed();
    cpu.mode_changed();
}

struct Fresh {
    state: translator::state::CpuState,
    sys: runtime::vcpu::SystemRegs,
}

/// Who carries this form out.
fn carried_out_by(cpu: &mut Cpu, fresh: &Fresh, insn: &Insn) -> By {
    if semantics::lookup::<Cpu>(insn).is_some() {
        return By::Generic;
    }
    reset(cpu, fresh);
    let raised = Op::new(*insn).run(cpu).err().and(cpu.raised);
    match raised {
        Some(Exception::InvalidOpcode) if !INVALID.contains(&insn.mnemonic) => By::Nobody,
        _ if is_vector(insn.code) => By::Vector,
        _ if is_x87(insn.code) => By::X87,
        _ => By::System,
    }
}

/// All mnemonics of each kind. One with forms of two kinds is listed twice.
fn coverage() -> BTreeMap<By, BTreeSet<String>> {
    let mut vm = machine();
    let fresh = Fresh {
        state: vm.cpu.state.clone(),
        sys: vm.cpu.sys.clone(),
    };
    let mut found = BTreeMap::<By, BTreeSet<String>>::new();
    for bytes in encodings().values() {
        let block = decode_block(bytes, EIP, Mode::flat32(), 1).expect("a whole instruction");
        let insn = &block.insns[0];
        let by = carried_out_by(&mut vm.cpu, &fresh, insn);
        // Hints have names here, and decode as NOPs there.
        let named = Decoder::new(32, bytes, DecoderOptions::NONE).decode();
        let name = format!("{:?}", named.mnemonic()).to_lowercase();
        found.entry(by).or_default().insert(name);
    }
    found
}

/// The list as text, a paragraph for each kind.
fn text(coverage: &BTreeMap<By, BTreeSet<String>>) -> String {
    let mut text = String::new();
    for (by, title) in By::ALL {
        let none = BTreeSet::new();
        let names = coverage.get(&by).unwrap_or(&none);
        let _ = writeln!(text, "# {title} ({})", names.len());
        let mut line = String::new();
        for name in names {
            if line.len() + name.len() > 95 {
                let _ = writeln!(text, "{}", line.trim_end());
                line.clear();
            }
            line.push_str(name);
            line.push(' ');
        }
        let _ = writeln!(text, "{}\n", line.trim_end());
    }
    text.trim_end().to_owned() + "\n"
}

#[test]
fn no_instruction_loses_its_definition() {
    let now = text(&coverage());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(GOLDEN, &now).expect("the list can be written");
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        golden == now,
        "coverage.txt says otherwise; now it is\n{now}"
    );
}
