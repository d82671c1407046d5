//! Jumps that compiled code makes its own: to other pages, through gates, and to what has
//! been placed behind, by falling through; in every tier.
//!
//! The guests change what such jumps lead to: by the page tables, by the address space, by
//! their bytes. Each leaves a checksum that the interpreter judges. Others never end, and
//! must be stopped where the limit says.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use tests::machine::{Setup, TIERS, agree};

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// The page that is mapped to different frames, and these frames.
const WINDOW: u32 = 0x1b_0000;
const FRAMES: [u32; 2] = [0x1b_0000, 0x1b_1000];
/// Two page directories with a table each, for the guest's first 4 MiB.
const DIRECTORIES: [u32; 2] = [0x19_0000, 0x19_2000];
/// Where the function is in the window, and where what jumps back is.
const FUNCTION: u32 = 0x123;
const DETOUR: u32 = 0xff7;
/// Rounds of the loops.
const ROUNDS: u32 = 6_000;

type Asm = CodeAssembler;
type Written = Result<(), IcedError>;
type Piece<'a> = &'a dyn Fn(&mut Asm) -> Written;

/// The bytes of `write` at `address`, stored by instructions.
fn store_code(
    a: &mut Asm,
    frame: u32,
    linear: u32,
    write: impl Fn(&mut Asm) -> Written,
) -> Written {
    let mut code = Asm::new(32)?;
    write(&mut code)?;
    let bytes = code.assemble(u64::from(WINDOW + linear))?;
    for (n, byte) in bytes.iter().enumerate() {
        a.mov(byte_ptr(frame + linear + n as u32), i32::from(*byte))?;
    }
    Ok(())
}

/// Paging that maps everything to itself, but the window to one frame in each directory.
fn begin_paging(a: &mut Asm) -> Written {
    for (directory, frame) in DIRECTORIES.into_iter().zip(FRAMES) {
        let table = directory + 0x1000;
        let mut fill = a.create_label();
        a.mov(ecx, 1023)?;
        a.set_label(&mut fill)?;
        a.mov(edx, ecx)?;
        a.shl(edx, 12)?;
        a.or(edx, 3)?;
        a.mov(dword_ptr(table) + ecx * 4, edx)?;
        a.dec(ecx)?;
        a.jns(fill)?;
        a.mov(dword_ptr(directory), (table | 3) as i32)?;
        a.mov(dword_ptr(entry(directory)), (frame | 3) as i32)?;
    }
    a.mov(edx, DIRECTORIES[0] as i32)?;
    a.mov(cr3, edx)?;
    a.mov(edx, cr0)?;
    a.or(edx, i32::MIN)?;
    a.mov(cr0, edx)
}

/// Where a directory's table has the window.
fn entry(directory: u32) -> u32 {
    directory + 0x1000 + (WINDOW >> 12) * 4
}

/// Pieces of code at their addresses, as one image from [`START`] on.
fn image(pieces: &[(u32, Piece)]) -> Result<Vec<u8>, IcedError> {
    let mut image = Vec::new();
    for (address, write) in pieces {
        let mut a = Asm::new(32)?;
        write(&mut a)?;
        image.resize((address - START) as usize, 0x90);
        image.extend(a.assemble(u64::from(*address))?);
    }
    Ok(image)
}

/// A guest whose loop calls and jumps into the window while its mapping changes every
/// `remap` rounds and the address space every `switch` rounds.
fn remapping(remap: i32, switch: i32) -> Vec<u8> {
    let (round, end) = (START + 0x2000, START + 0x3000);
    let begin = |a: &mut Asm| {
        a.mov(esp, 0x17_0000)?;
        for (frame, value) in FRAMES.into_iter().zip([3, 0x55]) {
            store_code(a, frame, FUNCTION, |a| {
                a.add(ebx, value)?;
                a.ret()
            })?;
            // The jump back is the last thing in the page.
            store_code(a, frame, DETOUR, |a| {
                a.xor(bl, value)?;
                a.nop()?;
                a.jmp(u64::from(end))
            })?;
        }
        begin_paging(a)?;
        a.xor(ebx, ebx)?;
        a.mov(edi, ROUNDS)?;
        a.jmp(u64::from(round))
    };
    let turn = |a: &mut Asm| {
        let (mut same, mut stay) = (a.create_label(), a.create_label());
        a.call(u64::from(WINDOW + FUNCTION))?;
        a.test(edi, remap - 1)?;
        a.jne(same)?;
        // The first directory's window shows the other frame now.
        let other = (FRAMES[0] ^ FRAMES[1]) as i32;
        a.xor(dword_ptr(entry(DIRECTORIES[0])), other)?;
        a.invlpg(byte_ptr(WINDOW))?;
        a.set_label(&mut same)?;
        a.test(edi, switch - 1)?;
        a.jne(stay)?;
        a.mov(eax, cr3)?;
        a.xor(eax, (DIRECTORIES[0] ^ DIRECTORIES[1]) as i32)?;
        a.mov(cr3, eax)?;
        a.set_label(&mut stay)?;
        a.test(bl, 4)?;
        // Taken or not, to another page.
        a.je(u64::from(WINDOW + DETOUR))?;
        a.jmp(u64::from(end))
    };
    let finish = |a: &mut Asm| {
        a.rol(ebx, 3)?;
        a.dec(edi)?;
        a.jne(u64::from(round))?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)
    };
    image(&[(START, &begin), (round, &turn), (end, &finish)]).expect("it can be assembled")
}

#[test]
fn a_gate_leads_to_what_is_mapped() {
    for (remap, switch) in [
        (64, 4096),
        (4096, 1),
        (4096, 2),
        (4096, 32),
        (1, 1),
        (16, 4),
    ] {
        let what = format!("remapped every {remap}, switched every {switch}");
        agree(&remapping(remap, switch), START, RESULT, &what);
    }
}

/// A chain of short blocks, one jumping to the next, some of which are patched: one to
/// skip the next, one to add something else.
fn chain(period: i32) -> Vec<u8> {
    let turn = START + 0x100;
    let begin = |a: &mut Asm| {
        a.mov(esp, 0x17_0000)?;
        a.xor(ebx, ebx)?;
        a.mov(edi, ROUNDS)?;
        a.jmp(u64::from(turn))
    };
    // Of two bytes each but the adding ones, so their addresses are known.
    let blocks = |a: &mut Asm| {
        let mut labels: [CodeLabel; 8] = std::array::from_fn(|_| a.create_label());
        for n in 0..8 {
            a.set_label(&mut labels[n])?;
            if n % 3 == 2 {
                a.add(ebx, 0x11 << n)?;
            }
            match labels.get(n + 1) {
                Some(&next) => a.jmp(next)?,
                None => a.nop()?,
            }
        }
        a.jmp(u64::from(turn + 0x100))
    };
    let patches = |a: &mut Asm| {
        let mut over = a.create_label();
        a.rol(ebx, 1)?;
        a.test(edi, period - 1)?;
        a.jne(over)?;
        // The second jump skips the third, or does not; the constant changes.
        a.xor(byte_ptr(turn + 3), 5)?;
        a.add(byte_ptr(turn + 6), 3)?;
        a.set_label(&mut over)?;
        a.dec(edi)?;
        a.jne(u64::from(turn))?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)
    };
    let pieces: [(u32, Piece); 3] = [(START, &begin), (turn, &blocks), (turn + 0x100, &patches)];
    image(&pieces).expect("it can be assembled")
}

#[test]
fn what_is_fallen_into_may_go() {
    for period in [1, 2, 16, 512, 2048] {
        agree(
            &chain(period),
            START,
            RESULT,
            &format!("patched every {period}"),
        );
    }
}

/// Loops without an end over two pages, or over calls whose returns are not used.
#[test]
fn a_loop_without_end_is_left() {
    let (here, there) = (START + 0x40, START + 0x1040);
    let begin = |a: &mut Asm| {
        a.mov(esp, 0x17_0000)?;
        a.jmp(u64::from(here))
    };
    let jump_there = |a: &mut Asm| a.jmp(u64::from(there));
    let jump_here = |a: &mut Asm| a.jmp(u64::from(here));
    let call_there = |a: &mut Asm| a.call(u64::from(there));
    let call_near = |a: &mut Asm| {
        let mut next = a.create_label();
        a.call(next)?;
        a.nop()?;
        a.set_label(&mut next)?;
        a.pop(eax)?;
        a.jmp(u64::from(here))
    };
    let drop_and_jump = |a: &mut Asm| {
        a.add(esp, 4)?;
        a.jmp(u64::from(here))
    };
    let loops: [[Piece; 2]; 3] = [
        [&jump_there, &jump_here],
        [&call_there, &drop_and_jump],
        [&call_near, &jump_here],
    ];
    for (n, [first, second]) in loops.into_iter().enumerate() {
        let image = image(&[(START, &begin), (here, first), (there, second)]);
        let image = image.expect("it can be assembled");
        for (name, tier) in TIERS {
            let setup = Setup::flat(&image, START, FlatMode::Protected32, tier);
            let limit = Some(3_000_000);
            let ended = Setup { limit, ..setup }.run();
            assert_eq!(ended.exit, Exit::Limit, "loop {n} in {name}");
        }
    }
}
