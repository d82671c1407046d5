//! Every encoding on random states: thunks that move only the registers their
//! instruction uses against thunks that move all, and nothing that a guest does
//! may reach the host as a signal.

use super::super::host::{Entry, Place, State};
use super::super::{Fpu, plan, table, thunk};
use super::{DATA, cpu, poke};
use crate::cache::arena::Arena;
use crate::vcpu::{Cpu, cr0};
use iced_x86::{OpAccess, Register};
use shadow_mmu::PhysAddr;
use translator::decode::decode_block;
use translator::insn::Insn;
use translator::mode::Mode;

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = match self.next() % 8 {
                0 => 0,
                1 => 1.5f64.to_bits(),
                2 => u64::from(2.5f32.to_bits()) << 32 | u64::from((-1f32).to_bits()),
                3 => f64::INFINITY.to_bits(),
                4 => 1,
                _ => self.next(),
            };
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Decodes one instruction.
fn decode(bytes: &[u8]) -> Option<Insn> {
    let block = decode_block(bytes, 0x1000, Mode::flat32(), 1).ok()?;
    block.insns.first().copied()
}

/// Each opcode with the second map's escape, mandatory prefixes and some ModRM bytes.
fn vector_instructions() -> impl Iterator<Item = Insn> {
    let prefixes: [&[u8]; 4] = [&[], &[0x66], &[0xf2], &[0xf3]];
    let modrm = [0xc1u8, 0xca, 0xdb, 0x06, 0x16];
    prefixes.into_iter().flat_map(move |prefix| {
        (0..=255u8).flat_map(move |opcode| {
            modrm.into_iter().filter_map(move |modrm| {
                let mut bytes = prefix.to_vec();
                bytes.extend([0x0f, opcode, modrm, 0x1b, 0, 0, 0, 0, 0, 0, 0]);
                decode(&bytes)
            })
        })
    })
}

/// Both thunks of an instruction of the XMM registers.
fn thunks(arena: &mut Arena, i: &Insn) -> Option<[Entry; 2]> {
    if plan::unit(i)? != plan::Unit::Sse {
        return None;
    }
    let host = thunk::host_form(i);
    let info = thunk::info(&host);
    let mut plan = plan::plan(i, plan::Unit::Sse, &host, &info, Entry::NONE);
    let least = thunk::generate(&host, &thunk::xmm_registers(&info), &plan)?;
    plan.mxcsr = true;
    let all: Vec<_> = (0..8)
        .map(|n| (Register::XMM0 + n, OpAccess::ReadWrite))
        .collect();
    let most = thunk::generate(&host, &all, &plan)?;
    Some([
        Entry::publish(arena, &least)?,
        Entry::publish(arena, &most)?,
    ])
}

#[test]
fn thunks_move_all_that_their_instruction_uses() {
    let mut arena = Arena::new(1 << 20).unwrap();
    let mut random = Random(0x5eed_0001);
    let mut tried = 0;
    for insn in vector_instructions() {
        let Some(entries) = thunks(&mut arena, &insn) else {
            continue;
        };
        tried += 1;
        for _ in 0..50 {
            let (mut xmm, mut memory) = ([[0; 16]; 8], [0; 128]);
            xmm.iter_mut().for_each(|r| random.fill(r));
            random.fill(&mut memory);
            // Rounding, flushing and denormals vary; all is masked.
            let mxcsr = 0x1f80 | random.next() as u32 & 0xe040;
            let input = u64::from(random.next() as u32);
            let after = entries.map(|entry| {
                let mut state = State {
                    xmm,
                    mxcsr,
                    ..State::default()
                };
                state.scratch = memory;
                let place = Place::scratch(&mut state);
                let output = entry.call(place, &mut state, input);
                (state.xmm, state.scratch, state.mxcsr, output as u32)
            });
            let [least, most] = after;
            assert_eq!(
                (least.0, least.1, least.2),
                (most.0, most.1, most.2),
                "{insn:?}"
            );
        }
    }
    assert!(tried > 600, "{tried} forms");
}

/// Fills memory, registers and control words.
fn randomise(cpu: &mut Cpu, random: &mut Random) {
    let mut page = [0; 0x1000];
    random.fill(&mut page);
    poke(cpu, 0, &page);
    let mut image = [0; 512];
    random.fill(&mut image);
    image[4] = 0xff;
    cpu.fpu.set_image(&image);
    if random.next().is_multiple_of(2) {
        cpu.fpu.set_x87_control(0x37f);
        cpu.fpu.summarise();
    }
    for r in &mut cpu.state.gpr[..8] {
        *r = DATA + 0x100 + 16 * (random.next() as u32 % 32);
    }
    cpu.sys.cr0 = cpu.sys.cr0 & !cr0::NE | (random.next() as u32 & cr0::NE);
}

/// A few instructions of the FPU's opcodes with random operands.
fn random_instruction(random: &mut Random) -> Option<Insn> {
    let mut bytes = random.next().to_le_bytes().to_vec();
    bytes.extend([0; 8]);
    match random.next() % 4 {
        0 => bytes[0] = 0xd8 | bytes[0] & 7,
        1 => (bytes[0], bytes[1]) = (0x66, 0xd8 | bytes[1] & 7),
        2 => bytes[0] = 0x0f,
        _ => (bytes[0], bytes[1]) = ([0x66, 0xf2, 0xf3, 0x9b][usize::from(bytes[0] & 3)], 0x0f),
    }
    decode(&bytes)
}

#[test]
fn no_guest_code_signals_the_host() {
    let mut cpu = cpu();
    let mut random = Random(0x5eed_0002);
    let mut ran = 0;
    for _ in 0..2000 {
        randomise(&mut cpu, &mut random);
        for _ in 0..50 {
            let Some(insn) = random_instruction(&mut random) else {
                continue;
            };
            ran += u32::from(matches!(super::dispatch(&mut cpu, &insn), Some(Ok(()))));
            cpu.code_writes.clear();
        }
    }
    assert!(ran > 10_000, "{ran} ran");
}

/// Runs `insn` on a copy of the state, resident or with everything moved
/// between each step, and returns what can be seen.
fn outcome(cpu: &mut Cpu, image: &[u8; 512], page: &[u8], insns: &[Insn], away: bool) -> Vec<u8> {
    poke(cpu, 0, page);
    cpu.fpu.set_image(image);
    cpu.state.gpr = [DATA + 0x200; 9];
    cpu.state.gpr[8] = 0;
    cpu.state.set_eflags_image(2);
    for insn in insns {
        let _ = super::dispatch(cpu, insn);
        if !away {
            cpu.fpu.x87.leave();
        }
    }
    let mut seen = cpu.fpu.image().to_vec();
    let mut memory = vec![0; 0x1000];
    let data = PhysAddr(u64::from(DATA));
    cpu.mmu.ram().read_slice(data, &mut memory).unwrap();
    seen.extend(memory);
    seen.extend(cpu.state.gpr.iter().flat_map(|r| r.to_le_bytes()));
    seen.extend(cpu.state.eflags_image().to_le_bytes());
    seen
}

#[test]
fn residency_changes_nothing() {
    let mut cpu = cpu();
    let mut random = Random(0x5eed_0003);
    for round in 0..1000 {
        let (mut page, mut image) = ([0; 0x1000], [0; 512]);
        random.fill(&mut page);
        random.fill(&mut image);
        image[..2].copy_from_slice(&0x37fu16.to_le_bytes());
        image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        let insns: Vec<_> = (0..20)
            .filter_map(|_| random_instruction(&mut random))
            .collect();
        let stay = outcome(&mut cpu, &image, &page, &insns, true);
        let moved = outcome(&mut cpu, &image, &page, &insns, false);
        assert!(stay == moved, "round {round}: {insns:?}");
    }
}

#[test]
fn a_guest_cannot_make_the_table_grow_without_end() {
    let mut fpu = Fpu::new(&crate::cpu_model::CpuModel::default());
    for immediate in 0..=255u8 {
        for modrm in 0xc0..=0xffu8 {
            for opcode in [0x70, 0xc6] {
                let insn = decode(&[0x66, 0x0f, opcode, modrm, immediate]).unwrap();
                assert!(matches!(
                    fpu.thunks.find(&insn, plan::key(&insn)),
                    table::Action::Thunk(_)
                ));
            }
        }
    }
}
