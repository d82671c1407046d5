//! Tiers side by side: the same random code in the same random world, compared at
//! every block boundary.
//!
//! The host CPU judges unprivileged flat 32-bit code ([`runtime::selftest::judge`]); this is
//! for all that it cannot run: 16-bit code, based and limited segments, rings,
//! pages that are absent or read-only, code that overwrites itself. Here the
//! interpreter is right by definition, and what is tested is that no tier can be
//! told from it: registers, segments, flags, EIP, memory, page tables, and the
//! handler an exception led to.
//!
//! A [`world`] says what the machine looks like and what lies in memory, [`code`]
//! what the code is made of. Machines run block by block, and as one tier's block
//! may be two of another's (code that was overwritten ends it early), they meet
//! where they have retired the same instructions and taken the same exceptions.
//! Cranelift's machine runs ahead now and then, so that loops go around. Machines
//! serve for few worlds: where code has been overwritten often it is not compiled any
//! more. Some serve for several, as what a machine has seen decides where its blocks end.
//!
//! Cranelift's code comes from the interpreter's definitions and must agree in
//! all. The direct tier leaves undefined flags as the host CPU does: there a
//! difference in a block with such flags counts for nothing, and they are made rare.

pub mod code;
pub mod world;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use runtime::clock::FakeClock;
use runtime::config::{CodeCache, Tier};
use runtime::exit::Exit;
use runtime::selftest::rng::Rng;
use runtime::vm::Vm;
use std::fmt::Write;
use std::sync::Arc;
use translator::decode::MAX_BLOCK_INSNS;
use translator::flags;
use world::World;

/// Blocks from one entry before another is tried.
const BLOCKS_PER_ENTRY: usize = 20;
/// Entries into one world.
const ENTRIES: usize = 12;
/// Steps in which machines must meet again.
const STEPS_TO_MEET: usize = 400;
/// Per cent of worlds after which machines are replaced.
const LAST_WORLDS: usize = 50;

/// The interpreter and another tier in equal worlds.
pub struct Lockstep {
    machines: [Vm; 2],
    tier: Tier,
    code_cache: CodeCache,
    rng: Rng,
    /// How far each had come at the last entry: machines that parted stay apart.
    entered: [Progress; 2],
    /// The worlds of these machines.
    worlds: Vec<u64>,
    /// There will be no more.
    worn: bool,
    /// A machine has stopped in the midst of a repetition since the last comparison.
    paused: bool,
    /// A machine has slept until its time was over, and will run no more.
    expired: bool,
    /// Block boundaries compared.
    pub compared: usize,
    /// Those that the second machine reached by compiled code.
    pub compiled: usize,
    /// Blocks whose code an earlier machine had kept.
    pub loaded: u64,
}

/// How machines are that have come to the same point.
#[derive(PartialEq)]
enum Met {
    Running,
    Stopped,
    /// They are not at the same point, and never will be.
    Expired,
}

/// How far a machine has come: instructions retired, exceptions taken.
type Progress = (u64, u64);

impl Lockstep {
    /// Machines of both tiers.
    ///
    /// # Panics
    /// When the host refuses them.
    pub fn new(tier: Tier) -> Lockstep {
        Self::keeping(tier, CodeCache::Off)
    }

    /// The same, of which the second keeps its code.
    ///
    /// # Panics
    /// When the host refuses them.
    pub fn keeping(tier: Tier, code_cache: CodeCache) -> Lockstep {
        let machine = |tier| {
            let clock = Arc::new(FakeClock::new(0));
            world::machine(tier, clock, code_cache.clone())
        };
        Lockstep {
            machines: [machine(Tier::Interp), machine(tier)],
            tier,
            code_cache: code_cache.clone(),
            rng: Rng::new(0),
            entered: Default::default(),
            worlds: Vec::new(),
            worn: false,
            paused: false,
            expired: false,
            compared: 0,
            compiled: 0,
            loaded: 0,
        }
    }

    /// Runs the world of `seed` from several entries.
    ///
    /// # Errors
    /// A report of the first difference.
    pub fn run(&mut self, seed: u64) -> Result<(), String> {
        if self.expired || self.worn {
            self.save();
            *self = Lockstep {
                compared: self.compared,
                compiled: self.compiled,
                loaded: self.loaded,
                ..Lockstep::keeping(self.tier, self.code_cache.clone())
            };
        }
        let mut rng = Rng::new(seed);
        self.rng = Rng::new(!seed);
        self.worn = self.rng.chance(LAST_WORLDS);
        self.worlds.push(seed);
        let world = World::new(&mut rng, self.tier.pins_direct_code());
        let starts = world.starts();
        let mut agreed = false;
        for _ in 0..ENTRIES {
            if !agreed {
                self.machines.iter_mut().for_each(|vm| world.load(vm));
            }
            let entry = world.entry(rng.pick(&starts), &mut rng);
            for vm in &mut self.machines {
                world.enter(vm, &entry);
            }
            self.entered = self.machines.each_ref().map(retired);
            agreed = self
                .follow(&world)
                .map_err(|difference| format!("{}, {world}: {difference}", self.history()))?;
            if self.expired {
                break;
            }
        }
        Ok(())
    }

    /// Keeps the code of the second machine, which is not used any more then.
    ///
    /// # Panics
    /// When the host refuses that.
    pub fn save(&mut self) {
        let vm = &mut self.machines[1];
        self.loaded += vm.cache.counters.loaded;
        vm.tiers.save().expect("the folder takes the file");
        self.worn = true;
    }

    /// What the machines were made to run, as [`Lockstep::run`] takes it.
    fn history(&self) -> String {
        let worlds: Vec<String> = self.worlds.iter().map(u64::to_string).collect();
        format!("RING1_SEED={}", worlds.join(","))
    }

    /// Runs both machines until they stop, comparing at each boundary. False if
    /// they parted over what need not be the same.
    fn follow(&mut self, world: &World) -> Result<bool, String> {
        for _ in 0..BLOCKS_PER_ENTRY {
            let before = Snapshot::of(&mut self.machines[0], world);
            let entries = self.machines[1].counters.compiled_entries;
            let dropped = self.dropped();
            self.paused = before.resumes();
            let (met, block) = self.step(world, &before);
            // Code that was made by accident may ask for the time.
            // A repeated string instruction stops wherever it overwrites a block, and each
            // machine has blocks of its own; and it stops when it has gone on for long,
            // unless it is the host's. So their pieces need not be the same.
            let stopped = self.dropped() != dropped || self.paused;
            let in_pieces = stopped && block.iter().any(code::is_repeated);
            // What is outside the regions may be any code.
            let undefined = in_pieces
                || block.is_empty()
                || block.iter().any(code::is_never_the_same)
                || self.tier.pins_direct_code() && block.iter().any(code::leaves_undefined);
            if undefined && met.is_err() {
                return Ok(false);
            }
            let met = met.map_err(|problem| report(world, &before, &problem))?;
            if met == Met::Expired {
                return Ok(false);
            }
            let after = self.machines.each_mut().map(|vm| Snapshot::of(vm, world));
            if let Some(difference) = after[0].difference(&after[1]) {
                if undefined {
                    return Ok(false);
                }
                return Err(report(world, &before, &difference));
            }
            self.compared += 1;
            let compiled = self.machines[1].counters.compiled_entries > entries;
            self.compiled += usize::from(compiled);
            if met == Met::Stopped {
                break;
            }
        }
        Ok(true)
    }

    /// Blocks of both machines that were dropped because their bytes were written.
    fn dropped(&self) -> u64 {
        let [one, other] = self.machines.each_ref();
        one.cache.counters.invalidated + other.cache.counters.invalidated
    }

    /// Notes whether a machine has stopped in the midst of a repetition.
    fn note_pause(&mut self) {
        let resumes = |vm: &Vm| vm.cpu.state.eflags & flags::RF != 0;
        self.paused |= self.machines.iter().any(resumes);
    }

    /// How many instructions the second machine may run on after a block. (What
    /// direct code leaves in undefined flags is known of one block only.)
    fn ahead(&mut self) -> u32 {
        match self.tier {
            Tier::Cranelift if self.rng.chance(50) => self.rng.below(100) as u32,
            _ => 0,
        }
    }

    /// One block of the interpreter, or more if need be, and the other machine up to the
    /// same point; and the interpreter's instructions.
    fn step(
        &mut self,
        world: &World,
        before: &Snapshot,
    ) -> (Result<Met, String>, Vec<Instruction>) {
        let mut insns = before.block(world);
        let exit = self.machines[0].step_block();
        let met = self.meet(exit, |vm| {
            insns.extend(Snapshot::of(vm, world).block(world));
        });
        (met, insns)
    }

    /// The machines up to the same point, the first having stopped by `exit`; `next` is
    /// called before each further block of its.
    fn meet(&mut self, exit: Option<Exit>, mut next: impl FnMut(&mut Vm)) -> Result<Met, String> {
        let mut exits = [exit, None];
        for _ in 0..STEPS_TO_MEET {
            self.note_pause();
            if exits.contains(&Some(Exit::Timeout)) {
                // Between slices, whose ends are not the same.
                self.expired = true;
                return Ok(Met::Expired);
            }
            let [one, other] = self.progress();
            match one.cmp(&other) {
                std::cmp::Ordering::Equal if exits[0].is_some() == exits[1].is_some() => {
                    return match exits[0] == exits[1] {
                        true if exits[0].is_some() => Ok(Met::Stopped),
                        true => Ok(Met::Running),
                        false => Err(format!(
                            "one stops by {:?}, one by {:?}",
                            exits[0], exits[1]
                        )),
                    };
                }
                std::cmp::Ordering::Less | std::cmp::Ordering::Equal if exits[0].is_none() => {
                    next(&mut self.machines[0]);
                    exits[0] = self.machines[0].step_block();
                }
                _ if exits[1].is_none() => {
                    let ahead = self.ahead();
                    exits[1] = self.machines[1].step_ahead(ahead);
                }
                _ => break,
            }
        }
        let eips = self.machines.each_ref().map(|vm| vm.cpu.state.eip);
        let at = self.progress();
        Err(format!(
            "the machines do not meet: {at:x?}, {eips:x?}, {exits:?}"
        ))
    }

    /// How far each machine has come since it was entered.
    fn progress(&self) -> [Progress; 2] {
        [0, 1].map(|n| {
            let (now, then) = (retired(&self.machines[n]), self.entered[n]);
            (now.0 - then.0, now.1 - then.1)
        })
    }
}

fn retired(vm: &Vm) -> Progress {
    (vm.counters.retired(), vm.counters.exceptions.iter().sum())
}

/// All that code can see of a machine.
struct Snapshot {
    words: Vec<(String, u32)>,
    fpu: [u8; 512],
    memory: Vec<u8>,
}

impl Snapshot {
    fn of(vm: &mut Vm, world: &World) -> Snapshot {
        let state = &vm.cpu.state;
        let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
        let gprs = names.iter().zip(state.gpr);
        let mut words: Vec<_> = gprs.map(|(name, v)| (name.to_string(), v)).collect();
        words.push(("eip".into(), state.eip));
        words.push(("eflags".into(), state.eflags_image()));
        words.push(("cr2".into(), vm.cpu.sys.cr2));
        words.push(("cpl".into(), vm.cpu.sys.cpl.into()));
        for (name, s) in ["es", "cs", "ss", "ds", "fs", "gs"].iter().zip(&state.seg) {
            let parts = [s.selector.into(), s.base, s.lo, s.hi, s.attributes.into()];
            let part_names = ["", ".base", ".lo", ".hi", ".attributes"];
            let parts = part_names.iter().zip(parts);
            words.extend(parts.map(|(part, v)| (format!("{name}{part}"), v)));
        }
        let fpu = vm.cpu.fpu.image();
        let memory = world.memory(vm);
        Snapshot { words, fpu, memory }
    }

    /// Whether a repetition goes on here.
    fn resumes(&self) -> bool {
        self.words[9].1 & flags::RF != 0
    }

    /// The instructions of the block at EIP.
    fn block(&self, world: &World) -> Vec<Instruction> {
        let eip = self.words[8].1;
        let code = world::bytes_at(&self.memory, world.code_linear(eip));
        let mut block = Vec::new();
        let options = DecoderOptions::NONE;
        for insn in Decoder::with_ip(world.bits(), code, eip.into(), options).iter() {
            block.push(insn);
            if insn.flow_control() != FlowControl::Next || block.len() > MAX_BLOCK_INSNS {
                break;
            }
        }
        block
    }

    /// What differs, `self` being the interpreter's.
    fn difference(&self, other: &Snapshot) -> Option<String> {
        let mut text = String::new();
        for ((name, right), (_, wrong)) in self.words.iter().zip(&other.words) {
            if right != wrong {
                let _ = writeln!(text, "  {name}: {right:08x}, but {wrong:08x}");
            }
        }
        let bytes = |a: &[u8], b: &[u8]| (0..a.len()).find(|&n| a[n] != b[n]);
        if let Some(at) = bytes(&self.fpu, &other.fpu) {
            let (a, b) = (self.fpu[at], other.fpu[at]);
            let _ = writeln!(text, "  fxsave area, byte {at}: {a:02x}, but {b:02x}");
        }
        if let Some(at) = bytes(&self.memory, &other.memory) {
            let (a, b) = (self.memory[at], other.memory[at]);
            let at = world::address_of(at);
            let _ = writeln!(text, "  memory at {at:#x}: {a:02x}, but {b:02x}");
        }
        (!text.is_empty()).then_some(text)
    }
}

/// A readable account of a block that went wrong.
fn report(world: &World, before: &Snapshot, difference: &str) -> String {
    let mut text = format!("\n{difference}before the block:\n");
    for (name, value) in &before.words[..10] {
        let _ = write!(text, "  {name} {value:08x}");
    }
    let _ = writeln!(text, "\nthe block:");
    for insn in before.block(world) {
        let _ = writeln!(text, "  {:08x}  {insn}", insn.ip() as u32);
    }
    text
}
