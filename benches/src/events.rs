//! Machines whose program leaves the straight path once a round, each in another
//! way: callouts, side exits, jumps whose target is only known when they run,
//! system calls.

use crate::guest::{CODE, END, Guest, Ring, assemble};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::Tier;

/// Where handlers go: behind any program here, on a page of their own.
pub const HANDLER: u32 = CODE + 0x1000;
/// In the legacy video hole: no RAM.
const NO_RAM: u32 = 0xa_0000;

/// What writing a program gives.
pub type Written = Result<(), IcedError>;

/// A loop in ring 0 around `body`.
pub fn kernel_loop(body: impl FnOnce(&mut CodeAssembler) -> Written) -> Vec<u8> {
    assemble(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        body(a)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.hlt()
    })
}

/// MOV from CR0.
pub fn callout(tier: Tier) -> Guest {
    let code = kernel_loop(|a| a.mov(eax, cr0));
    Guest::new(tier, Ring::Kernel, &code)
}

/// IN from port 61h.
pub fn port(tier: Tier) -> Guest {
    let code = kernel_loop(|a| a.in_(al, 0x61));
    Guest::new(tier, Ring::Kernel, &code)
}

/// A load from where no RAM is.
pub fn side_exit(tier: Tier) -> Guest {
    let code = kernel_loop(|a| a.mov(eax, dword_ptr(NO_RAM)));
    Guest::new(tier, Ring::Kernel, &code)
}

/// A call through a register, and the return.
pub fn indirect_call(tier: Tier) -> Guest {
    let code = kernel_loop(|a| {
        a.mov(eax, HANDLER)?;
        a.call(eax)
    });
    let mut guest = Guest::new(tier, Ring::Kernel, &code);
    guest.write(HANDLER, &assemble(|a| a.ret()));
    guest
}

/// INT 80h of ring 3, answered by IRET alone.
pub fn software_interrupt(tier: Tier) -> Guest {
    let code = assemble(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.int(0x80)?;
        a.dec(ecx)?;
        a.jnz(top)?;
        a.int(i32::from(END))
    });
    let mut guest = Guest::new(tier, Ring::User, &code);
    guest.write(HANDLER, &assemble(|a| a.iretd()));
    guest.set_vector(0x80, HANDLER);
    guest
}

/// SYSENTER of ring 3, answered by SYSEXIT alone.
pub fn fast_call(tier: Tier) -> Guest {
    // Behind two register moves, a move of 32 bits and SYSENTER.
    const BACK: u32 = CODE + 2 + 2 + 5 + 2;
    let code = assemble(|a| {
        let mut top = a.create_label();
        a.mov(ebx, ecx)?;
        a.set_label(&mut top)?;
        a.mov(ecx, esp)?;
        a.mov(edx, BACK)?;
        a.sysenter()?;
        a.dec(ebx)?;
        a.jnz(top)?;
        a.int(i32::from(END))
    });
    let mut guest = Guest::new(tier, Ring::User, &code);
    guest.write(HANDLER, &assemble(|a| a.sysexit()));
    guest.set_sysenter(HANDLER);
    guest
}
