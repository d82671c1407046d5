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
//! a chance after [`QUANTUM`] bytes by leaving EIP at the instruction.

use crate::vcpu::Cpu;
use iced_x86::Code;
use shadow_mmu::{Access, PhysAddr};
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Gpr, Insn, Rep, SegReg, Width};

/// Bytes moved before the run loop gets to look around.
const QUANTUM: u32 = 256 << 10;

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
    let mut quantum = QUANTUM / pass.w.bytes();
    loop {
        let count = pass.get(cpu, Gpr::ECX);
        if count == 0 {
            return Ok(());
        }
        if quantum == 0 {
            cpu.state.eip = i.eip;
            cpu.request_attention();
            return Ok(());
        }
        let progress = body(cpu, &pass, count.min(quantum))?;
        quantum = quantum.saturating_sub(progress.done);
        pass.put(cpu, Gpr::ECX, count.wrapping_sub(progress.done));
        // A write into translated code may have hit this very instruction.
        if cpu.attention && !progress.ended && count != progress.done {
            cpu.state.eip = i.eip;
            return Ok(());
        }
        if progress.ended {
            return Ok(());
        }
    }
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
        if self.down || elements == 0 || cpu.linear(seg, offset, elements * w, access).is_err() {
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
    let mut buffer = [0; 0x1000];
    let bytes = &mut buffer[..(elements * w) as usize];
    // Translation said this is RAM.
    let _ = cpu.mmu.ram().read_slice(source.phys, bytes);
    target.write(cpu, bytes);
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
    let mut buffer = [0; 0x1000];
    let bytes = &mut buffer[..target.elements as usize * w];
    let pattern = value.to_le_bytes();
    match p.w {
        Width::B => bytes.fill(pattern[0]),
        Width::W | Width::D => bytes
            .chunks_exact_mut(w)
            .for_each(|c| c.copy_from_slice(&pattern[..w])),
    }
    target.write(cpu, bytes);
    p.advance(cpu, Gpr::EDI, target.elements);
    Ok(Progress {
        done: target.elements,
        ended: false,
    })
}

fn lods(cpu: &mut Cpu, p: &Pass, _count: u32) -> Result<Progress, Exception> {
    let v = cpu.read_mem(p.source, p.get(cpu, Gpr::ESI), p.w)?;
    let eax = &mut cpu.state.gpr[0];
    *eax = *eax & !p.w.mask() | v & p.w.mask();
    p.advance(cpu, Gpr::ESI, 1);
    Ok(Progress {
        done: 1,
        ended: false,
    })
}

fn scas(cpu: &mut Cpu, p: &Pass, _count: u32) -> Result<Progress, Exception> {
    let b = cpu.read_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w)?;
    let a = cpu.state.gpr[0] & p.w.mask();
    p.advance(cpu, Gpr::EDI, 1);
    Ok(compare(cpu, p, a, b))
}

fn cmps(cpu: &mut Cpu, p: &Pass, _count: u32) -> Result<Progress, Exception> {
    let a = cpu.read_mem(p.source, p.get(cpu, Gpr::ESI), p.w)?;
    let b = cpu.read_mem(SegReg::Es, p.get(cpu, Gpr::EDI), p.w)?;
    p.advance(cpu, Gpr::ESI, 1);
    p.advance(cpu, Gpr::EDI, 1);
    Ok(compare(cpu, p, a, b))
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
