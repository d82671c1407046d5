//! A virtual machine for 32-bit x86 guests, to be embedded: processor, translation,
//! devices and loaders. The `ring1` program is one embedder; this page is for others.
//!
//! # A machine in a few lines
//!
//! [`Vm::builder`](vm::Vm::builder) starts with the machine that `ring1` alone runs, and
//! each method of the [`Builder`](builder::Builder) changes one thing.
//! [`Vm::run`](vm::Vm::run) runs it on the calling thread until there is a reason to
//! stop, the [`Exit`](exit::Exit).
//!
//! ```
//! use runtime::exit::Exit;
//! use runtime::loader::FlatMode;
//! use runtime::vm::Vm;
//! use shadow_mmu::LinearAddr;
//! use translator::insn::Gpr;
//!
//! // mov eax, [2000h]; add eax, 2; mov [2004h], eax; out 0f4h, al
//! let code = [
//!     0xa1, 0x00, 0x20, 0, 0, 0x83, 0xc0, 0x02, 0xa3, 0x04, 0x20, 0, 0, 0xe6, 0xf4,
//! ];
//! let mut vm = Vm::builder()
//!     .memory_mib(1)
//!     .flat(code, 0x1000, FlatMode::Protected32)
//!     .build()?;
//! vm.write_memory(LinearAddr(0x2000), &40u32.to_le_bytes())?;
//!
//! assert_eq!(vm.run(), Exit::DebugExit(42));
//! assert_eq!(vm.register(Gpr::EAX), 42);
//! let mut sum = [0; 4];
//! vm.read_memory(LinearAddr(0x2004), &mut sum)?;
//! assert_eq!(u32::from_le_bytes(sum), 42);
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! `.kernel(bytes)`, `.initrd(bytes)` and `.append(text)` boot a kernel instead; a
//! [`VmConfig`](config::VmConfig) has every setting.
//!
//! # A device of one's own
//!
//! is a [`Device`](bus::Device), which is read and written at offsets, and a
//! [`Card`](devices::card::Card), whose methods all have defaults: an interrupt output,
//! time, an end of the machine. A [`Slot`](devices::card::Slot) says where it answers.
//!
//! ```
//! use runtime::bus::Device;
//! use runtime::devices::card::{Card, Slot};
//! use runtime::exit::Exit;
//! use runtime::loader::FlatMode;
//! use runtime::vm::Vm;
//!
//! /// Doubles what it is given.
//! struct Doubler(u32);
//!
//! impl Device for Doubler {
//!     fn read(&mut self, _offset: u16, _size: u8) -> u32 {
//!         self.0
//!     }
//!     fn write(&mut self, _offset: u16, _size: u8, value: u32) {
//!         self.0 = 2 * value;
//!     }
//! }
//! impl Card for Doubler {}
//!
//! // mov al, 21; mov dx, 300h; out dx, al; in al, dx; out 0f4h, al
//! let code = [0xb0, 21, 0x66, 0xba, 0x00, 0x03, 0xee, 0xec, 0xe6, 0xf4];
//! let mut vm = Vm::builder()
//!     .flat(code, 0x1000, FlatMode::Protected32)
//!     .card(Slot::new("doubler", Doubler(0)).ports(0x300, 1))
//!     .build()?;
//! assert_eq!(vm.run(), Exit::DebugExit(42));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! The example `embed` of the crate `samples` has one with an interrupt.
//!
//! # Running in pieces, and stopping
//!
//! A machine that has stopped for a limit can run on.
//! [`Vm::run_for`](vm::Vm::run_for) sets one for the piece;
//! [`Vm::reset`](vm::Vm::reset) starts over. Other threads end a run by a
//! [`QuitFlag`](console::stdio::QuitFlag) and the [`Waker`](clock::Waker).
//!
//! ```
//! use runtime::exit::Exit;
//! use runtime::loader::FlatMode;
//! use runtime::vm::Vm;
//! use translator::insn::Gpr;
//!
//! // next: inc ecx; jmp next
//! let mut vm = Vm::builder()
//!     .flat([0x41, 0xeb, 0xfd], 0x1000, FlatMode::Protected32)
//!     .build()?;
//! assert_eq!(vm.run_for(100_000), Exit::Limit);
//! let first = vm.register(Gpr::ECX);
//! assert_eq!(vm.run_for(100_000), Exit::Limit);
//! assert!(vm.register(Gpr::ECX) > first);
//! vm.reset()?;
//! assert_eq!((vm.eip(), vm.register(Gpr::ECX)), (0x1000, 0));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! # Where things are
//!
//! | module | |
//! | --- | --- |
//! | [`builder`], [`config`], [`launch`], [`loader`] | what a machine is made of |
//! | [`vm`], [`run`], [`exit`], [`access`] | the machine, and looking into it |
//! | [`devices`], [`bus`], [`irq`], [`clock`], [`console`] | the PC and its surroundings |
//! | [`vcpu`], [`interp`], [`system`], [`fpu`], [`cpu_model`] | the processor |
//! | [`tier`], [`cache`], [`native`], [`mirrored`], [`volatile`], [`tags`] | translation |
//! | [`gdb`], [`monitor`], [`log`], [`ledger`], [`stats`], [`summary`], [`debug`] | observation |
//! | [`cli`], [`bench`], [`selftest`] | the program |

#![deny(unsafe_code)]

pub mod access;
mod again;
pub mod bench;
pub mod builder;
pub mod bus;
pub mod cache;
mod callouts;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod config;
pub mod console;
pub mod cpu_model;
pub mod debug;
pub mod devices;
pub mod embedded;
pub mod exit;
pub mod fpu;
pub mod gdb;
mod idle;
pub mod interp;
pub mod irq;
pub mod json;
pub mod launch;
pub mod ledger;
pub mod loader;
mod locate;
pub mod log;
pub mod mirrored;
pub mod monitor;
pub mod native;
pub mod run;
pub mod selftest;
pub mod stats;
pub mod stopwatch;
pub mod summary;
pub mod system;
pub mod tags;
pub mod tier;
pub mod vcpu;
pub mod vm;
pub mod volatile;
