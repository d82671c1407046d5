//! IA32_DEBUGCTL: steps from branch to branch, and records of branches, as each
//! processor has them, in every tier.

use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, byte_ptr, dword_ptr, eax, ecx, edi, edx, esp, fword_ptr,
};
use iced_x86::{BlockEncoderOptions, IcedError};
use runtime::config::Tier;
use runtime::cpu_model::Processor;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup, TIERS};

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;
/// Its interrupt descriptor table, and what LIDT reads.
const IDT: u32 = 0x20_0000;
const IDTR: u32 = 0x20_1000;
/// Where it keeps the address of its next result, and the results.
const NEXT: u32 = 0x20_1008;
const RESULTS: u32 = 0x20_2000;
/// What the guest does not use.
const SCRATCH: u32 = 0x20_4000;

const DEBUGCTL: u32 = 0x1d9;
const LBR: u32 = 1;
const BTF: u32 = 2;
const TF: i32 = 0x100;

/// A program in the making.
struct Program {
    a: CodeAssembler,
    /// Labels whose addresses are asked for.
    marks: Vec<CodeLabel>,
}

impl Program {
    /// Sets the stack up, and the handlers of #DB and of INT 80h, which only returns.
    /// That of #DB stores where it was entered and IA32_DEBUGCTL, then sets that.
    fn new(rearmed: u32) -> Result<Self, IcedError> {
        let mut program = Self {
            a: CodeAssembler::new(32)?,
            marks: Vec::new(),
        };
        program.a.mov(esp, 0x30_0000)?;
        program.handler(1, |p| {
            p.a.pushad()?;
            p.a.mov(edi, dword_ptr(NEXT))?;
            p.a.mov(eax, dword_ptr(esp + 32))?;
            p.a.stosd()?;
            p.store_msr(DEBUGCTL)?;
            p.set_debugctl(rearmed)?;
            p.a.mov(dword_ptr(NEXT), edi)?;
            p.a.popad()
        })?;
        program.handler(0x80, |p| p.mark().map(drop))?;
        let a = &mut program.a;
        a.mov(dword_ptr(IDTR), IDT << 16 | 0x7ff)?;
        a.mov(dword_ptr(IDTR + 4), IDT >> 16)?;
        a.lidt(fword_ptr(IDTR))?;
        a.mov(dword_ptr(NEXT), RESULTS)?;
        Ok(program)
    }

    /// Puts the handler of a vector here, and goes on behind it.
    fn handler(
        &mut self,
        vector: u32,
        body: impl Fn(&mut Self) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        let mut over = self.a.create_label();
        self.a.call(over)?; // Pushes the handler's address.
        body(self)?;
        self.a.iretd()?;
        self.a.set_label(&mut over)?;
        self.a.pop(eax)?;
        self.a.and(eax, 0xffff)?;
        self.a.or(eax, 0x10_0000)?; // Selector 10h.
        self.a.mov(dword_ptr(IDT + 8 * vector), eax)?;
        self.a.mov(dword_ptr(IDT + 8 * vector + 4), START | 0x8e00)
    }

    /// Asks for the address of what follows.
    fn mark(&mut self) -> Result<CodeLabel, IcedError> {
        let label = self.a.create_label();
        self.place(label)?;
        Ok(label)
    }

    /// Puts a label here, and asks for its address.
    fn place(&mut self, mut label: CodeLabel) -> Result<(), IcedError> {
        self.a.set_label(&mut label)?;
        self.marks.push(label);
        Ok(())
    }

    fn set_debugctl(&mut self, value: u32) -> Result<(), IcedError> {
        self.a.mov(ecx, DEBUGCTL)?;
        self.a.mov(eax, value)?;
        self.a.mov(edx, 0)?;
        self.a.wrmsr()
    }

    /// Stores a register's two halves at EDI.
    fn store_msr(&mut self, number: u32) -> Result<(), IcedError> {
        self.a.mov(ecx, number)?;
        self.a.rdmsr()?;
        self.a.stosd()?;
        self.a.mov(eax, edx)?;
        self.a.stosd()
    }

    fn set_tf(&mut self, on: bool) -> Result<(), IcedError> {
        self.a.pushfd()?;
        match on {
            true => self.a.or(dword_ptr(esp), TF)?,
            false => self.a.and(dword_ptr(esp), !TF)?,
        }
        self.a.popfd()
    }

    /// Runs it, and returns the first results and the addresses asked for.
    fn run(mut self, processor: Processor, tier: Tier) -> Result<(Vec<u32>, Vec<u32>), IcedError> {
        self.a.mov(al, i32::from(samples::PASSED))?;
        self.a.out(0xf4, al)?;
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let code = self.a.assemble_options(START.into(), options)?;
        let marks: Result<Vec<u32>, _> = self
            .marks
            .iter()
            .map(|l| Ok(code.label_ip(l)? as u32))
            .collect();
        let mut setup = Setup::flat(&code.inner.code_buffer, START, FlatMode::Protected32, tier);
        setup.cpu = processor;
        let ended = setup.run();
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{processor:?} {tier:?}");
        let end = word(&ended, NEXT);
        let results = (RESULTS..end).step_by(4).map(|at| word(&ended, at));
        Ok((results.collect(), marks?))
    }
}

fn word(ended: &Ended, address: u32) -> u32 {
    let ram = ended.vm.cpu.mmu.ram();
    ram.read_u32(PhysAddr(address.into()))
        .expect("an address in RAM")
}

const PROCESSORS: [Processor; 3] = [Processor::Pentium3, Processor::Pentium4, Processor::Max];

/// Each tier runs the program of each processor.
fn everywhere(
    program: impl Fn(Processor) -> Result<Program, IcedError>,
    expected: impl Fn(Processor, &[u32]) -> Vec<u32>,
) {
    for (name, tier) in TIERS {
        for processor in PROCESSORS {
            let program = program(processor).expect("it can be assembled");
            let (results, marks) = program.run(processor, tier).expect("it can be assembled");
            let expected = expected(processor, &marks);
            assert_eq!(results, expected, "{name} {processor:?} {marks:x?}");
        }
    }
}

/// Branches of all kinds, single-stepped; the marks are where a trap is due.
fn stepped() -> Result<Program, IcedError> {
    let mut p = Program::new(BTF)?;
    p.set_debugctl(BTF)?;
    p.a.xor(edx, edx)?;
    p.set_tf(true)?;
    p.a.test(edx, edx)?;
    p.a.db(&[0x74, 0])?; // JZ to the next instruction: taken, though EIP does not tell.
    p.mark()?;
    p.a.db(&[0x75, 0])?; // JNZ there: not taken.
    p.a.mov(ecx, 2)?;
    let top = p.mark()?;
    p.a.nop()?;
    p.a.loop_(top)?;
    let (function, over) = (p.a.create_label(), p.a.create_label());
    p.a.call(function)?;
    p.mark()?;
    p.a.jmp(over)?;
    p.place(function)?;
    p.a.mov(edi, SCRATCH)?;
    p.a.mov(ecx, 3)?;
    p.a.rep().stosb()?; // Thrice the same EIP, and no branch.
    p.a.ret()?;
    p.place(over)?;
    // The address for RETF is that of the JMP behind the CALL.
    let (far, end) = (p.a.create_label(), p.a.create_label());
    p.a.push(0x10)?;
    p.a.call(far)?;
    p.mark()?;
    p.a.jmp(end)?;
    p.place(far)?;
    p.a.retf()?;
    p.place(end)?;
    p.a.int(0x80)?; // TF is clear in the handler, so neither INT nor IRET traps.
    p.a.inc(byte_ptr(SCRATCH))?;
    p.set_tf(false)?;
    p.a.db(&[0xeb, 0])?;
    p.a.nop()?;
    Ok(p)
}

#[test]
fn btf_steps_from_branch_to_branch() {
    let expected = |_, marks: &[u32]| {
        // By their places in the code; the first is the handler of INT 80h.
        let &[_, after_jz, top, returned, function, over, behind, far, end] = marks else {
            panic!("{marks:x?}");
        };
        let traps = [after_jz, top, function, returned, over, far, behind, end];
        // The processor has cleared BTF each time.
        traps.into_iter().flat_map(|at| [at, 0, 0]).collect()
    };
    everywhere(|_| stepped(), expected);
}

/// Registers of a processor with what is in them after [`recorded`], by its marks.
fn registers(processor: Processor, m: &[u32]) -> Vec<(u32, u32, u32)> {
    let &[handler, jump, call, int, back, jz, end] = m else {
        panic!("{m:x?}");
    };
    let branches = [
        (jump, call),
        (call, int),
        (int, handler),
        (handler, back),
        (jz, end),
    ];
    match processor {
        Processor::Pentium3 => vec![
            (0x1db, jz, 0),
            (0x1dc, end, 0),
            (0x1dd, call, 0),
            (0x1de, int, 0),
        ],
        Processor::Pentium4 => vec![
            (0x1da, 1, 0),
            (0x1db, handler, back),
            (0x1dc, jz, end),
            (0x1dd, call, int),
            (0x1de, int, handler),
            (0x1d7, call, 0),
            (0x1d8, int, 0),
        ],
        _ => {
            let from = (0..)
                .zip(branches)
                .map(|(n, (from, _))| (0x41 + n, from, 0));
            let to = (0..).zip(branches).map(|(n, (_, to))| (0x61 + n, to, 0));
            let others = [
                (0x40, 0, 0),
                (0x1c9, 5, 0),
                (0x1dd, call, 0),
                (0x1de, int, 0),
            ];
            from.chain(to).chain(others).collect()
        }
    }
}

/// Records five branches, then stores `registers`.
fn recorded(registers: &[u32]) -> Result<Program, IcedError> {
    let mut p = Program::new(0)?;
    p.set_debugctl(LBR)?;
    let (target, function) = (p.a.create_label(), p.a.create_label());
    p.mark()?;
    p.a.jmp(target)?;
    p.a.nop()?;
    p.place(target)?;
    p.a.call(function)?;
    p.a.nop()?;
    p.place(function)?;
    p.a.int(0x80)?;
    p.mark()?;
    p.a.test(edx, edx)?;
    p.a.db(&[0x75, 0])?; // Not taken.
    p.mark()?;
    p.a.db(&[0x74, 0])?; // Taken.
    p.mark()?;
    p.set_debugctl(0)?;
    p.a.db(&[0xeb, 0])?;
    p.a.mov(edi, RESULTS)?;
    for &number in registers {
        p.store_msr(number)?;
    }
    p.a.mov(dword_ptr(NEXT), edi)?;
    Ok(p)
}

#[test]
fn lbr_records_branches_as_each_processor_does() {
    let numbers = |processor| registers(processor, &[0; 7]).into_iter().map(|(n, ..)| n);
    everywhere(
        |processor| recorded(&numbers(processor).collect::<Vec<_>>()),
        |processor, marks| {
            let values = registers(processor, marks);
            values
                .into_iter()
                .flat_map(|(_, low, high)| [low, high])
                .collect()
        },
    );
}

/// The registers of the first record on the stack.
fn first_record(processor: Processor) -> &'static [u32] {
    match processor {
        Processor::Pentium3 => &[0x1db, 0x1dc],
        Processor::Pentium4 => &[0x1dc],
        _ => &[0x41, 0x61],
    }
}

/// Records a branch, then steps four instructions, marked behind.
fn traced(processor: Processor) -> Result<Program, IcedError> {
    let mut p = Program::new(0)?;
    p.set_debugctl(LBR)?;
    p.mark()?;
    p.a.db(&[0xeb, 0])?;
    p.mark()?;
    p.set_tf(true)?;
    p.a.nop()?;
    p.mark()?;
    p.a.pushfd()?;
    p.mark()?;
    p.a.and(dword_ptr(esp), !TF)?;
    p.mark()?;
    p.a.popfd()?;
    p.mark()?;
    p.a.mov(edi, dword_ptr(NEXT))?;
    for &number in first_record(processor) {
        p.store_msr(number)?;
    }
    p.a.mov(dword_ptr(NEXT), edi)?;
    Ok(p)
}

#[test]
fn a_debug_exception_ends_recording_and_is_not_recorded() {
    everywhere(traced, |processor, marks| {
        let &[_, from, to, ref traps @ ..] = marks else {
            panic!("{marks:x?}");
        };
        let traps = traps.iter().flat_map(|&at| [at, 0, 0]);
        let record = match processor {
            Processor::Pentium4 => vec![from, to],
            _ => vec![from, 0, to, 0],
        };
        traps.chain(record).collect()
    });
}
