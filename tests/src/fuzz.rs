//! Bytes without sense, in every mode, through everything that takes guest code.
//!
//! Whatever a guest's code is, it must not hurt the host: no panic, no hang, no
//! host fault. Cases follow from their number and a seed, and are of several kinds
//! in turn:
//!
//! - *decode*: bytes in a mode made of any bits, decoded to a block, which is then
//!   compiled by both compilers; direct code must pass its verifier;
//! - *run*: a random [`World`](crate::lockstep::world::World) whose code is such
//!   bytes, run in one tier from any address, with what it can do to the machine;
//! - *lockstep*: sensible code in random modes, where moreover a tier must do as
//!   the interpreter does.
//!
//! The bytes are pieces of a corpus with some damage, and noise. The corpus is
//! `tests/corpus`, and the code of the hand-written cases.

use crate::cases;
use crate::lockstep::Lockstep;
use crate::lockstep::world::World;
use crate::machine::Setup;
use runtime::clock::FakeClock;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::selftest::helper::{Found, Work};
use runtime::selftest::rng::Rng;
use runtime::vm::Vm;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use translator::block::Block;
use translator::compile::{CompileRequest, Compiler};
use translator::decode::{MAX_BLOCK_INSNS, decode_block};
use translator::direct::DirectCompiler;
use translator::direct::verify::verify;
use translator::mode::Mode;

const CORPUS: &str = include_str!("../corpus/code.txt");
/// What cases are, in turn.
const KINDS: [Kind; 14] = [
    Kind::Decode,
    Kind::Run(Tier::Interp),
    Kind::Run(Tier::Direct),
    Kind::Lockstep(Tier::Direct),
    Kind::Decode,
    Kind::Run(Tier::Cranelift),
    Kind::Run(Tier::Direct),
    Kind::Run(Tier::Auto),
    Kind::Decode,
    Kind::Run(Tier::Interp),
    Kind::Run(Tier::Direct),
    Kind::Lockstep(Tier::Cranelift),
    Kind::Run(Tier::Mirror),
    Kind::Lockstep(Tier::Mirror),
];
/// Numbers after which the kinds of cases begin anew.
pub const TURNS: u64 = KINDS.len() as u64;
/// Blocks decoded in one case.
const BLOCKS: usize = 40;
/// Every how many-th of them Cranelift compiles too.
const CRANELIFT_EVERY: usize = 16;
/// Entries into the code of one case, and blocks run from each.
const ENTRIES: usize = 16;
const STEPS: usize = 60;
/// Fewer where each block takes long to compile.
const CRANELIFT_ENTRIES: usize = 4;
/// Cases in one machine.
const CASES_PER_MACHINE: usize = 40;
/// Guest time of a machine; it passes in HLT alone, and at once.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a case does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Decode,
    Run(Tier),
    Lockstep(Tier),
}

/// A machine and the cases it has had.
struct Machine {
    vm: Vm,
    cases: usize,
}

/// Runs cases.
pub struct Fuzzer {
    seed: u64,
    corpus: Vec<Vec<u8>>,
    direct: DirectCompiler,
    cranelift: Compiler,
    machines: [Option<Machine>; 5],
    locksteps: [Option<Lockstep>; 5],
}

impl Fuzzer {
    /// The cases of `seed`.
    ///
    /// # Panics
    /// If Cranelift does not know the host, or the corpus is not hex.
    pub fn new(seed: u64) -> Fuzzer {
        Fuzzer {
            seed,
            corpus: corpus(),
            direct: DirectCompiler::new(),
            cranelift: Compiler::new().expect("a host that Cranelift knows"),
            machines: [const { None }; 5],
            locksteps: [const { None }; 5],
        }
    }

    /// The kind of a case, for reports.
    pub fn kind(index: u64) -> String {
        format!("{:?}", KINDS[(index % TURNS) as usize])
    }

    fn rng(&self, index: u64) -> Rng {
        Rng::new(
            self.seed
                .wrapping_add(index)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
    }

    /// Decodes and compiles. An error names a rule that was broken.
    fn decode(&mut self, rng: &mut Rng) -> Result<(), String> {
        let bytes = self.bytes(rng, 600);
        let mode = Mode(rng.u32() & rng.pick(&[u32::MAX, 0xffff_ff0f]));
        for n in 0..BLOCKS {
            let at = rng.below(bytes.len());
            let any = rng.u32();
            let eip = rng.pick(&[0x10_0000, 0, 0xffff_fff8, 0xfffa, any]);
            let Ok(block) = decode_block(&bytes[at..], eip, mode, MAX_BLOCK_INSNS) else {
                continue;
            };
            let problem = self.compile(&block, n % CRANELIFT_EVERY == 0).err();
            let further = eip.wrapping_add(rng.u32() & !0xfff);
            let there = decode_block(&bytes[at..], further, mode, MAX_BLOCK_INSNS);
            let moved = there.map_or(Ok(()), |there| self.moved(&block, &there));
            let problem = problem.or_else(|| moved.err());
            let length = block.len_bytes as usize;
            let short = block.insns.is_empty() || length > bytes.len() - at;
            let problem = problem.or_else(|| short.then(|| "a wrong length".into()));
            if let Some(problem) = problem {
                let code = &bytes[at..bytes.len().min(at + length)];
                return Err(format!(
                    "{problem}\n  {mode:x?}, EIP {eip:x}: {}",
                    hex(code)
                ));
            }
        }
        Ok(())
    }

    /// Code of a block that moves is, moved, what is made of the block elsewhere.
    fn moved(&mut self, here: &Block, there: &Block) -> Result<(), String> {
        let by = there.eip.wrapping_sub(here.eip);
        if !here.moves() || !there.moves() {
            return Ok(());
        }
        if here.len_bytes != there.len_bytes || here.terminal.moved(by) != there.terminal {
            return Err("a block that moves is another one elsewhere".into());
        }
        let [here, there] = [here, there].map(|block| {
            self.direct.compile(&CompileRequest {
                block,
                link_base: 0,
                grouped: true,
                native_vectors: true,
                mirrored: block.mode.settled(),
                gs: true,
                callout_base: 0,
                listing: false,
            })
        });
        match (here, there) {
            (Ok(mut moved), Ok(there)) => {
                let same = moved.move_by(by) && moved.bytes == there.bytes;
                let same = same && moved.links == there.links;
                same.then_some(())
                    .ok_or_else(|| "moved code is not code for that address".into())
            }
            (Err(_), Err(_)) => Ok(()),
            _ => Err("only one of two equal blocks can be compiled".into()),
        }
    }

    fn compile(&mut self, block: &Block, cranelift: bool) -> Result<(), String> {
        let request = CompileRequest {
            block,
            link_base: 0,
            grouped: true,
            native_vectors: true,
            mirrored: block.mode.settled(),
            gs: true,
            callout_base: 0,
            listing: false,
        };
        // What cannot be compiled is interpreted.
        if let Ok(mut code) = self.direct.compile(&request) {
            verify(&code.bytes, request.relies_on_gs())
                .map_err(|violation| violation.to_string())?;
            let elsewhere = CompileRequest {
                link_base: 0x1_2345,
                callout_base: 0x6_7890,
                ..request
            };
            let there = self.direct.compile(&elsewhere);
            let renumbered = code.renumber(elsewhere.link_base, elsewhere.callout_base);
            if !renumbered || there.is_ok_and(|there| there.bytes != code.bytes) {
                return Err("renumbered code is not code with those numbers".into());
            }
        }
        if cranelift {
            let _ = self.cranelift.compile(&request);
        }
        Ok(())
    }

    /// Runs bytes from several entries.
    fn run(&mut self, tier: Tier, rng: &mut Rng) -> Result<(), String> {
        let code = self.bytes(rng, World::CODE_BYTES);
        let world = World::new(rng, false).with_code(code);
        let slot = &mut self.machines[tier as usize];
        let used_up = |machine: &mut Machine| machine.cases >= CASES_PER_MACHINE;
        if slot.as_mut().is_none_or(used_up) {
            *slot = None;
        }
        let machine = slot.get_or_insert_with(|| new_machine(tier));
        machine.cases += 1;
        let vm = &mut machine.vm;
        world.load(vm);
        let entries = match tier {
            Tier::Cranelift => CRANELIFT_ENTRIES,
            _ => ENTRIES,
        };
        let mut ended = None;
        for _ in 0..entries {
            let eip = world.any_eip(rng);
            let entry = world.entry(eip, rng);
            world.enter(vm, &entry);
            ended = (0..STEPS).find_map(|_| vm.step_block());
            if matches!(ended, Some(Exit::Timeout | Exit::PowerOff)) {
                break;
            }
        }
        let blocks: Vec<Block> = match tier {
            Tier::Direct => vm.blocks().collect(),
            _ => Vec::new(),
        };
        if !matches!(ended, None | Some(Exit::Halted | Exit::TripleFault)) {
            // Time is over, or devices are in a state of their own.
            *slot = None;
        }
        blocks
            .iter()
            .try_for_each(|block| self.compile(block, false))
    }

    fn lockstep(&mut self, tier: Tier, seed: u64) -> Result<(), String> {
        let slot = &mut self.locksteps[tier as usize];
        let result = slot.get_or_insert_with(|| Lockstep::new(tier)).run(seed);
        if result.is_err() {
            // After a difference the machines may disagree for good.
            *slot = None;
        }
        result
    }

    /// `count` bytes: damaged pieces of the corpus, and noise.
    fn bytes(&self, rng: &mut Rng, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 64);
        let noise = rng.pick(&[5, 20, 60]);
        while bytes.len() < count {
            let from = bytes.len();
            if rng.chance(noise) {
                bytes.extend_from_slice(&rng.u64().to_le_bytes()[..1 + rng.clone().below(8)]);
            } else {
                bytes.extend_from_slice(&self.corpus[rng.below(self.corpus.len())]);
            }
            if rng.chance(40) {
                damage(rng, &mut bytes, from);
            }
        }
        bytes.truncate(count);
        bytes
    }
}

impl Work for Fuzzer {
    fn case(&mut self, index: u64) -> Found {
        let kind = KINDS[(index % TURNS) as usize];
        let mut rng = self.rng(index);
        let (group, result) = match kind {
            Kind::Decode => ("decode".into(), self.decode(&mut rng)),
            Kind::Run(tier) => (format!("run-{tier:?}"), self.run(tier, &mut rng)),
            Kind::Lockstep(tier) => {
                let result = self.lockstep(tier, rng.u64());
                (format!("lockstep-{tier:?}"), result)
            }
        };
        match result {
            Ok(()) => Found::Agree(group),
            Err(text) => Found::Differs {
                group,
                kind: format!("{kind:?}"),
                text,
            },
        }
    }
}

fn new_machine(tier: Tier) -> Machine {
    let setup = Setup {
        memory_mib: 4,
        clock: Some(Arc::new(FakeClock::new(0))),
        timeout: TIMEOUT,
        ..Setup::new(&[], tier)
    };
    Machine {
        vm: setup.machine().0,
        cases: 0,
    }
}

/// Changes what begins at `from`.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, from: usize) {
    if from >= bytes.len() {
        return;
    }
    let at = from + rng.below(bytes.len() - from);
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.u32() as u8,
        2 => bytes.insert(
            from,
            rng.pick(&[0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x0f]),
        ),
        3 => bytes.truncate(at.max(from + 1)),
        4 => bytes.insert(at, rng.u32() as u8),
        _ => {
            bytes.remove(at);
        }
    }
}

/// The pieces: of the file, and the code of the hand-written cases.
fn corpus() -> Vec<Vec<u8>> {
    let lines = CORPUS
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let byte = |word: &str| u8::from_str_radix(word, 16).expect("the corpus is hex");
    let pieces = lines.map(|line| line.split_whitespace().map(byte).collect::<Vec<u8>>());
    let cases = cases::all().into_iter().map(|named| named.case.code);
    pieces
        .chain(cases)
        .filter(|piece| !piece.is_empty())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    text
}
