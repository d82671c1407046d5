//! Repeated string instructions (SDM vol. 2, "REP/REPE/REPZ/REPNE/REPNZ").
//!
//! One iteration without prefix is a generic definition; with REP the work is
//! done here, in bulk where memory is plain RAM and the direction is up: page by
//! page, each page translated once. Everything else (direction down, MMIO, an
//! element that straddles a page, segment limits in the way) goes element by
//! element through the checked accessors.
//!
//! Registers are updated after every chunk, so a fault or an interruption leaves
//! exactly the completed iterations behind. A long repetition gives the run loop
//! a chance after [`QUANTUM`] bytes by leaving EIP at the instruction, and ends the
//! slice, which counts instructions and would last for ages of such ones.

use crate::vcpu::Cpu;
use iced_x86::Code;
use shadow_mmu::{Access, PhysAddr};
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Gpr, Insn, Rep, SegReg, Width};

/// Bytes moved before the run loop gets to look around.
const QUANTUM: u32 = 256 << 10;
/// Elements in a run that take as long as one by itself, which goes the careful way: to
/// a device, or across pages.
const CAREFUL: u32 = 4096;

/// Bytes looked at or copied through a small buffer.
const CHUNK: usize = 256;

/// Runs a string instruction with a repeat prefix, or returns `None` if `i` is not one.
pub fn dispatch(cpu: &mut Cpu, i: &Insn) -> Option<Result<(), Exception>> {
    if i.rep == Rep::None {
        return None;
    }
    let body = match i.code {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 => movs,
        Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX => stos,
        Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 => lods,
        Code::Scasb_AL_m8 | Code::Scasw_AX_m16 | Code::Scasd_EAX_m32 => scas,
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 => cmps,
        _ => return None,
    };
    Some(repeat(cpu, i, body))
}

/// What a body did: iterations completed, and whether REPE/REPNE ended it.
struct Progress {
    done: u32,
    ended: bool,
}

/// One chunk of at least one iteration, at most `count`.
type Body = fn(&mut Cpu, &Pass, u32) -> Result<Progress, Exception>;

/// The constants of one repeated instruction.
struct Pass {
    w: Width,
    source: SegReg,
    /// All ones in the address size.
    mask: u32,
    down: bool,
    /// REPE or REPNE: the ZF that goes on.
    while_zf: bool,
}

fn repeat(cpu: &mut Cpu, i: &Insn, body: Body) -> Result<(), Exception> {
    let pass = Pass {
        w: i.width,
        source: i.mem.seg,
        mask: if i.mem.addr16 { 0xffff } else { u32::MAX },
        down: cpu.state.eflags & flags::DF != 0,
        while_zf: i.rep == Rep::Repe,
    };
    let mut quantum = match cpu.mode().single() {
        false => QUANTUM / pass.w.bytes(),
        true => 1, // Debug traps come after each iteration.
    };
    loop {
        let count = pass.get(cpu, Gpr::ECX);
        if count == 0 {
            break;
        }
        if quantum == 0 {
            cpu.slice_over = true;
            pause(cpu, i);
            return Ok(());
        }
        let progress = body(cpu, &pass, count.min(quantum))?;
        quantum = quantum.saturating_sub(match progress.done {
            1 => CAREFUL,
            many => many,
        });
        pass.put(cpu, Gpr::ECX, count.wrapping_sub(progress.done));
        // A write into translated code may have hit this very instruction.
        if cpu.attention && !progress.ended && count != progress.done {
            pause(cpu, i);
            return Ok(());
        }
        if progress.ended {
            break;
        }
    }
    cpu.state.eflags &= !flags::RF;
    Ok(())
}

/// Not finished: the run loop comes back to the same instruction. What is
/// delivered before shows RF, and a breakpoint does not stop there again.
fn pause(cpu: &mut Cpu, i: &Insn) {
    cpu.state.eip = i.eip;
    cpu.state.eflags |= flags::RF;
    cpu.request_attention();
}

impl Pass {
    fn get(&self, cpu: &Cpu, r: Gpr) -> u32 {
        cpu.state.gpr[usize::from(r.0)] & self.mask
    }

    fn put(&self, cpu: &mut Cpu, r: Gpr, v: u32) {
        let slot = &mut cpu.state.gpr[usize::from(r.0)];
        *slot = *slot & !self.mask | v & self.mask;
    }

    /// Moves an index register over `n` elements.
    fn advance(&self, cpu: &mut Cpu, r: Gpr, n: u32) {
        let distance = n.wrapping_mul(self.w.bytes());
        let old = self.get(cpu, r);
        let new = if self.down {
            old.wrapping_sub(distance)
        } else {
            old.wrapping_add(distance)
        };
        self.put(cpu, r, new);
    }

    /// A run of at most `count` elements upwards from `seg:r` inside one page of
    /// RAM: where it is in physical memory and how many elements, or `None` if
    /// the next element must go the careful way.
    fn run(
        &self,
        cpu: &mut Cpu,
        seg: SegReg,
        r: Gpr,
        count: u32,
        access: Access,
    ) -> Result<Option<Run>, Exception> {
        let offset = self.get(cpu, r);
        let w = self.w.bytes();
        let before_wrap = (self.mask - offset) / w;
        let Ok(first) = cpu.linear(seg, offset, w, access) else {
            return Ok(None);
        };
        let elements = ((0x1000 - (first.0 & 0xfff)) / w)
            .min(count)
            .min(before_wrap);
        if self.down
            || elements == 0
            || cpu.examines()
            || cpu.linear(seg, offset, elements * w, access).is_err()
        {
            return Ok(None);
        }
        let user = cpu.sys.cpl == 3;
        let t = cpu.translate(first, access, user)?;
        Ok(t.host.map(|_| Run {
            phys: t.phys,
            elements,
            traced: t.traced,
        }))
    }
}

/// Elements in one page of RAM.
struct Run {
    phys: PhysAddr,
    elements: u32,
    traced: bool,
}

impl Run {
    /// Reads the run's first bytes.
    fn read(&self, cpu: &Cpu, into: &mut [u8]) {
        // Translation said this is RAM.
        let _ = cpu.mmu.ram().read_slice(self.phys, into);
    }

    /// Copies `bytes` bytes from the start of another run.
    fn copy_from(&self, cpu: &mut Cpu, source: &Run, bytes: usize) {
        // Most repetitions are short: clearing a page for them costs more than
        // copying.
        if bytes <= CHUNK {
            let mut buffer = [0; CHUNK];
            source.read(cpu, &mut buffer[..bytes]);
            self.write(cpu, &buffer[..bytes]);
        } else {
            let mut buffer = [0; 0x1000];
            source.read(cpu, &mut buffer[..bytes]);
            self.write(cpu, &buffer[..bytes]);
        }
    }

    /// Writes `bytes` bytes of the repeated pattern.
    fn fill(&self, cpu: &mut Cpu, pattern: &[u8], bytes: usize) {
        let mut buffer = [0; CHUNK];
        if bytes <= CHUNK {
            repeat_pattern(&mut buffer[..bytes], pattern);
            return self.write(cpu, &buffer[..bytes]);
        }
        let mut buffer = [0; 0x1000];
        repeat_pattern(&mut buffer[..bytes], pattern);
        self.write(cpu, &buffer[..bytes]);
    }

    /// Writes the run's bytes.
    fn write(&self, cpu: &mut Cpu, bytes: &[u8]) {
        if self.traced {
            cpu.write_phys(self.phys, bytes);
        } else {
            // Translation said this is RAM.
            let _ = cpu.mmu.ram().write_slice(self.phys, bytes);
        }
    }
}

fn movs(cpu: &mut Cpu, p: &Pass, count: u32) -> Result<Progress, Exception> {
    let source = p.run(cpu, p.source, Gpr::ESI, count, Access::Read)?;
    let Some(source) = source else {
        return movs_one(cpu, p);
    };
    let Some(target) = p.run(cpu, SegReg::Es, Gpr::EDI, source.elements, Access::Write)? else {
        return movs_one(cpu, p);
    };
    let w = p.w.bytes();
    let mut elements = target.elements;
    // A target shortly above its source repeats the source: bytes written early
    // are read again later. Chunks no longer than the distance keep that.
    let ahead = target.phys.0.wrapping_sub(source.phys.0);
    if ahead < u64::from(elements * w) && ahead != 0 {
        elements = ahead as u32 / w;
        if elements == 0 {
            return movs_one(cpu, p);
        }
    }
    target.copy_from(cpu, &source, (elements * w) as usize);
    p.advance(cpu, Gpr::ESI, elements);
    p.advance(cpu, Gpr::EDI, elements);
    Ok(Progress {
        done: elements,
        ended: false,
    })
}

fn movs_one(cpu: &mut Cpu, p: &Pass) -> Result<Progress, Exception> {
    let v = cpu.read_mem(p.source, p.get(cpu, Gpr::ESI), p.w)?;
    cpu.write_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w, v)?;
    p.advance(cpu, Gpr::ESI, 1);
    p.advance(cpu, Gpr::EDI, 1);
    Ok(Progress {
        done: 1,
        ended: false,
    })
}

fn stos(cpu: &mut Cpu, p: &Pass, count: u32) -> Result<Progress, Exception> {
    let value = cpu.state.gpr[0];
    let Some(target) = p.run(cpu, SegReg::Es, Gpr::EDI, count, Access::Write)? else {
        cpu.write_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w, value)?;
        p.advance(cpu, Gpr::EDI, 1);
        return Ok(Progress {
            done: 1,
            ended: false,
        });
    };
    let w = p.w.bytes() as usize;
    let pattern = value.to_le_bytes();
    target.fill(cpu, &pattern[..w], target.elements as usize * w);
    p.advance(cpu, Gpr::EDI, target.elements);
    Ok(Progress {
        done: target.elements,
        ended: false,
    })
}

/// Only the last element counts of those that nobody sees being read.
fn lods(cpu: &mut Cpu, p: &Pass, count: u32) -> Result<Progress, Exception> {
    let done = match p.run(cpu, p.source, Gpr::ESI, count, Access::Read)? {
        Some(source) => source.elements,
        None => 1,
    };
    p.advance(cpu, Gpr::ESI, done - 1);
    let v = cpu.read_mem(p.source, p.get(cpu, Gpr::ESI), p.w)?;
    let eax = &mut cpu.state.gpr[0];
    *eax = *eax & !p.w.mask() | v & p.w.mask();
    p.advance(cpu, Gpr::ESI, 1);
    Ok(Progress { done, ended: false })
}

/// Fills `bytes` with repetitions of a 1-, 2- or 4-byte pattern.
fn repeat_pattern(bytes: &mut [u8], pattern: &[u8]) {
    if pattern.iter().all(|&byte| byte == pattern[0]) {
        return bytes.fill(pattern[0]);
    }
    // The length is a constant in each arm, so that stores become wide.
    match *pattern {
        [a, b] => {
            let elements = bytes.chunks_exact_mut(2);
            elements.for_each(|element| element.copy_from_slice(&[a, b]));
        }
        [a, b, c, d] => {
            let elements = bytes.chunks_exact_mut(4);
            elements.for_each(|element| element.copy_from_slice(&[a, b, c, d]));
        }
        _ => {}
    }
}

fn scas(cpu: &mut Cpu, p: &Pass, count: u32) -> Result<Progress, Exception> {
    let a = cpu.state.gpr[0] & p.w.mask();
    let Some(run) = p.run(cpu, SegReg::Es, Gpr::EDI, count, Access::Read)? else {
        let b = cpu.read_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w)?;
        p.advance(cpu, Gpr::EDI, 1);
        return Ok(compare(cpu, p, a, b));
    };
    let w = p.w.bytes() as usize;
    let mut buffer = [0; CHUNK];
    let bytes = &mut buffer[..(run.elements as usize * w).min(CHUNK)];
    run.read(cpu, bytes);
    let goes_on = |b: &[u8]| (element(b) == a) == p.while_zf;
    let same = bytes.chunks_exact(w).take_while(|b| goes_on(b)).count();
    let last = same.min(bytes.len() / w - 1);
    let b = element(&bytes[last * w..][..w]);
    p.advance(cpu, Gpr::EDI, last as u32 + 1);
    Ok(Progress {
        done: last as u32 + 1,
        ..compare(cpu, p, a, b)
    })
}

fn cmps(cpu: &mut Cpu, p: &Pass, count: u32) -> Result<Progress, Exception> {
    let source = p.run(cpu, p.source, Gpr::ESI, count, Access::Read)?;
    let Some(source) = source else {
        return cmps_one(cpu, p);
    };
    let Some(target) = p.run(cpu, SegReg::Es, Gpr::EDI, source.elements, Access::Read)? else {
        return cmps_one(cpu, p);
    };
    let w = p.w.bytes() as usize;
    let bytes = (target.elements as usize * w).min(CHUNK);
    let (mut left, mut right) = ([0; CHUNK], [0; CHUNK]);
    let (left, right) = (&mut left[..bytes], &mut right[..bytes]);
    source.read(cpu, left);
    target.read(cpu, right);
    let pairs = left.chunks_exact(w).zip(right.chunks_exact(w));
    let same = pairs.take_while(|(a, b)| (a == b) == p.while_zf).count();
    let last = same.min(bytes / w - 1);
    let (a, b) = (
        element(&left[last * w..][..w]),
        element(&right[last * w..][..w]),
    );
    p.advance(cpu, Gpr::ESI, last as u32 + 1);
    p.advance(cpu, Gpr::EDI, last as u32 + 1);
    Ok(Progress {
        done: last as u32 + 1,
        ..compare(cpu, p, a, b)
    })
}

fn cmps_one(cpu: &mut Cpu, p: &Pass) -> Result<Progress, Exception> {
    let a = cpu.read_mem(p.source, p.get(cpu, Gpr::ESI), p.w)?;
    let b = cpu.read_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w)?;
    p.advance(cpu, Gpr::ESI, 1);
    p.advance(cpu, Gpr::EDI, 1);
    Ok(compare(cpu, p, a, b))
}

/// The value of an element of up to 4 bytes.
fn element(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b))
}

/// Sets the flags of `a - b` and says whether the repetition ends.
fn compare(cpu: &mut Cpu, p: &Pass, a: u32, b: u32) -> Progress {
    use translator::machine::Machine;
    let r = a.wrapping_sub(b) & p.w.mask();
    cpu.set_flags(flags::LazyFlags::Sub { a, b, r, w: p.w });
    Progress {
        done: 1,
        ended: (r == 0) != p.while_zf,
    }
}
