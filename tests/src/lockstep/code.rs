//! Random code for the lockstep worlds.
//!
//! Encodings are drawn from the whole opcode maps and kept if they decode, so no
//! list of instructions can forget one. What would only end a run is left out or
//! made rare: privileged instructions, ports, far transfers, segment loads.
//! Displacements are replaced, since random ones would hardly ever meet memory,
//! and branch targets are moved into the code.

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use runtime::selftest::case::is_near_branch;
use runtime::selftest::rng::Rng;

/// Prefixes: operand and address size, segments, LOCK, repeats.
const PREFIXES: [u8; 11] = [
    0x66, 0x67, 0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0xf2, 0xf3,
];

/// How many instructions a branch may go back: few, so that loops of one block occur.
const LOOP_INSNS: usize = 6;

/// Code for one world.
pub struct CodeMaker<'a> {
    /// Random numbers.
    pub rng: &'a mut Rng,
    /// 16 or 32: the default operand and address size.
    pub bits: u32,
    /// EIP of the first byte.
    pub first_eip: u32,
    /// Number of bytes to make.
    pub bytes: usize,
    /// For the direct tier: make instructions that leave flags undefined rare.
    pub avoid_undefined: bool,
    /// Offsets that meet memory when there is neither base nor index.
    pub offsets: &'a [u32],
}

impl CodeMaker<'_> {
    /// The code, and the EIP of each instruction.
    pub fn make(&mut self) -> (Vec<u8>, Vec<u32>) {
        let (mut code, mut starts) = (Vec::new(), Vec::new());
        while code.len() + 15 < self.bytes {
            let eip = self.first_eip.wrapping_add(code.len() as u32);
            let recent = &starts[starts.len().saturating_sub(LOOP_INSNS)..];
            let insn = self.instruction(eip, recent);
            starts.push(eip);
            code.extend_from_slice(&insn);
        }
        code.resize(self.bytes, 0x90);
        (code, starts)
    }

    /// One instruction at `eip`; a branch often goes back to one of `recent`.
    fn instruction(&mut self, eip: u32, recent: &[u32]) -> Vec<u8> {
        loop {
            let mut bytes = self.draw();
            let mut decoder = Decoder::with_ip(self.bits, &bytes, eip.into(), DecoderOptions::NONE);
            let insn = decoder.decode();
            let offsets = decoder.get_constant_offsets(&insn);
            if insn.is_invalid() || !self.wanted(&insn) {
                continue;
            }
            bytes.truncate(insn.len());
            if offsets.has_displacement() && offsets.displacement_size() > 1 {
                let displacement = self.displacement(&insn);
                let at = offsets.displacement_offset();
                patch(&mut bytes, at, offsets.displacement_size(), displacement);
            }
            let back = !recent.is_empty() && self.rng.chance(40);
            if is_near_branch(&insn) && (back || offsets.immediate_size() > 1) {
                let target = match back {
                    true => self.rng.pick(recent),
                    false => self.anywhere(),
                };
                let relative = target.wrapping_sub(eip.wrapping_add(insn.len() as u32));
                let at = offsets.immediate_offset();
                patch(&mut bytes, at, offsets.immediate_size(), relative);
            }
            return bytes;
        }
    }

    fn anywhere(&mut self) -> u32 {
        let offset = self.rng.below(self.bytes) as u32;
        self.first_eip.wrapping_add(offset)
    }

    /// Sixteen bytes that may begin with an instruction.
    fn draw(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        while self.rng.chance(12) {
            bytes.push(self.rng.pick(&PREFIXES));
        }
        if self.rng.chance(3) {
            bytes.push(0xf0);
        }
        if self.rng.chance(25) {
            bytes.push(0x0f);
        }
        while bytes.len() < 16 {
            bytes.push(self.rng.u32() as u8);
        }
        bytes
    }

    /// Keeps out what ends a run, most of the time.
    fn wanted(&mut self, insn: &Instruction) -> bool {
        use Mnemonic as M;
        let never = matches!(
            insn.mnemonic(),
            M::Hlt
                | M::In
                | M::Out
                | M::Insb
                | M::Insw
                | M::Insd
                | M::Outsb
                | M::Outsw
                | M::Outsd
                | M::Lgdt
                | M::Lidt
                | M::Lldt
                | M::Ltr
                | M::Lmsw
                | M::Wrmsr
                | M::Rdmsr
                | M::Sysenter
                | M::Sysexit
                | M::Iret
                | M::Iretd
                | M::Invd
                | M::Wbinvd
                | M::Fxrstor
                | M::Frstor
                | M::Fldenv
        );
        let control = |n| insn.op_kind(n) == OpKind::Register && is_control(insn.op_register(n));
        if never || is_never_the_same(insn) || (0..insn.op_count()).any(control) {
            return false;
        }
        let rare = matches!(
            insn.flow_control(),
            FlowControl::Interrupt | FlowControl::Exception
        ) || is_far(insn)
            || loads_segment(insn)
            || matches!(
                insn.mnemonic(),
                M::Cli | M::Sti | M::Cpuid | M::Clts | M::Invlpg | M::Ud2
            )
            || (insn.has_lock_prefix() && insn.op0_kind() != OpKind::Memory);
        let x87 = insn.cpuid_features().contains(&CpuidFeature::FPU);
        if self.avoid_undefined && leaves_undefined(insn) && self.rng.chance(90) {
            return false;
        }
        !(rare && self.rng.chance(92) || x87 && self.rng.chance(70))
    }

    fn displacement(&mut self, insn: &Instruction) -> u32 {
        let alone = insn.memory_base() == Register::None && insn.memory_index() == Register::None;
        match alone {
            true => {
                let offset = self.rng.pick(self.offsets);
                offset.wrapping_add(self.rng.below(0x200) as u32)
            }
            false => (self.rng.below(0x100) as u32).wrapping_sub(0x80),
        }
    }
}

/// Whether the instruction is a repeated string instruction.
pub fn is_repeated(insn: &Instruction) -> bool {
    insn.is_string_instruction() && (insn.has_rep_prefix() || insn.has_repne_prefix())
}

/// What the instruction loads is another each time.
pub fn is_never_the_same(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Rdtsc | M::Rdtscp | M::Rdpmc | M::Rdrand | M::Rdseed
    )
}

/// Whether the manual leaves a flag open. For AF after logic all agree on 0.
pub fn leaves_undefined(insn: &Instruction) -> bool {
    use Mnemonic as M;
    let logic = matches!(insn.mnemonic(), M::And | M::Or | M::Xor | M::Test);
    !logic && insn.rflags_undefined() != 0
}

/// Writes the low `size` bytes of `value`.
fn patch(bytes: &mut [u8], at: usize, size: usize, value: u32) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

fn is_control(register: Register) -> bool {
    register.is_cr() || register.is_dr() || register.is_tr()
}

fn is_far(insn: &Instruction) -> bool {
    let direct = matches!(insn.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32);
    direct
        || insn.is_jmp_far_indirect()
        || insn.is_call_far_indirect()
        || insn.mnemonic() == Mnemonic::Retf
}

fn loads_segment(insn: &Instruction) -> bool {
    use Mnemonic as M;
    let named = matches!(insn.mnemonic(), M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss);
    named || (insn.op0_register().is_segment_register() && insn.mnemonic() != M::Push)
}
