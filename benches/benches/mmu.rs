//! What the shadow MMU costs, without a machine around it.
//!
//! Two address spaces of 32-bit paging map the same 4 MiB. A hidden fault is
//! provoked by INVLPG, whose own part is measured beside it.

use benches::cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use shadow_mmu::{Access, CR0_PG, GuestRam, LinearAddr, PagingRegs, PhysAddr, ShadowMmu};
use std::hint::black_box;

const DIRECTORIES: [u32; 2] = [0x1000, 0x2000];
const TABLES: [u32; 2] = [0x3000, 0x4000];
/// Linear address of what is mapped, and its physical one.
const LINEAR: u32 = 0x0800_0000;
const PHYS: u32 = 0x40_0000;
/// Present, writable, user, accessed, dirty.
const RIGHTS: u32 = 0x67;

/// An MMU over both spaces; the first is current.
fn mmu() -> ShadowMmu {
    let ram = GuestRam::new(16 << 20).expect("the host gives memory");
    for (directory, table) in DIRECTORIES.into_iter().zip(TABLES) {
        let pde = u64::from(directory + 4 * (LINEAR >> 22));
        ram.write_u32(PhysAddr(pde), table | RIGHTS);
        for page in 0..1024 {
            let pte = u64::from(table + 4 * page);
            ram.write_u32(PhysAddr(pte), (PHYS + 0x1000 * page) | RIGHTS);
        }
    }
    let mut mmu = ShadowMmu::new(ram).expect("the host gives address space");
    enter(&mut mmu, 0);
    mmu
}

/// MOV CR3 to one of the spaces.
fn enter(mmu: &mut ShadowMmu, space: usize) {
    mmu.set_paging(&PagingRegs {
        cr0: CR0_PG,
        cr3: DIRECTORIES[space],
        ..PagingRegs::default()
    });
}

fn touch(mmu: &mut ShadowMmu, linear: u32, access: Access) {
    let translation = mmu.translate(LinearAddr(black_box(linear)), access, true);
    assert!(translation.is_ok());
}

fn lookup_and_fill(c: &mut Criterion<CpuTime>) {
    let mut mmu = mmu();
    touch(&mut mmu, LINEAR, Access::Read);
    c.bench_function("answer from the shadow table", |b| {
        b.iter(|| touch(&mut mmu, LINEAR, Access::Read));
    });
    for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
        let mut fault = || {
            mmu.invlpg(LinearAddr(LINEAR));
            touch(&mut mmu, LINEAR, access);
        };
        c.bench_function(&format!("INVLPG and hidden fault, {name}"), |b| {
            b.iter(&mut fault);
        });
        fault();
    }
    assert!(mmu.counters().hidden_faults >= 3, "no hidden faults");
    c.bench_function("INVLPG alone", |b| {
        b.iter(|| mmu.invlpg(LinearAddr(black_box(LINEAR))));
    });
    c.bench_function("true fault", |b| {
        b.iter(|| {
            let absent = LinearAddr(black_box(0x1000));
            assert!(mmu.translate(absent, Access::Read, true).is_err());
        });
    });
}

fn traced_stores(c: &mut Criterion<CpuTime>) {
    let mut mmu = mmu();
    let pte = PhysAddr(u64::from(TABLES[0]));
    c.bench_function("traced PTE store and hidden fault", |b| {
        b.iter(|| {
            touch(&mut mmu, LINEAR, Access::Read);
            mmu.ram().write_u32(pte, PHYS | RIGHTS);
            mmu.note_write(pte, 4);
        });
    });
    let code = PhysAddr(u64::from(PHYS));
    mmu.protect_code(code);
    c.bench_function("store into a code page", |b| {
        b.iter(|| assert!(mmu.note_write(black_box(code), 4).code));
    });
}

fn space_switch(c: &mut Criterion<CpuTime>) {
    let mut mmu = mmu();
    c.bench_function("two space switches", |b| {
        b.iter(|| {
            enter(&mut mmu, 1);
            touch(&mut mmu, LINEAR, Access::Read);
            enter(&mut mmu, 0);
            touch(&mut mmu, LINEAR, Access::Read);
        });
    });
    assert_eq!(mmu.counters().spaces_evicted, 0);
}

criterion_group! {
    name = shadow;
    config = Criterion::default().with_measurement(CpuTime);
    targets = lookup_and_fill, traced_stores, space_switch
}
criterion_main!(shadow);
