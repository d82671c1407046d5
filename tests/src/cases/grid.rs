//! Products of operation, width, edge operands and carry.

use runtime::selftest::case::{Case, Family};
use runtime::selftest::state::State;

/// Edge values; narrower widths see their low parts, which are edges again.
const EDGES: [u32; 14] = [
    0,
    1,
    2,
    0x0f,
    0x10,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];
/// Shift counts around every width and the mask.
const COUNTS: [u32; 18] = [
    0, 1, 2, 7, 8, 9, 10, 15, 16, 17, 18, 24, 30, 31, 32, 33, 63, 255,
];
const ENTRY_FLAGS: [u32; 2] = [0x0000, 0x08d5];

/// Every product, each a sequence of one instruction on EAX, ECX, EDX.
pub fn grid() -> impl Iterator<Item = Case> {
    let alu = (0..8u8).flat_map(|op| modrm_forms(op << 3, 0xc8));
    let test = modrm_forms(0x84, 0xc8);
    // XADD, CMPXCHG, IMUL, BT, BTS, BTR, BTC, BSF, BSR, POPCNT of EAX and ECX.
    let two_byte = [0xc0u8, 0xb0].into_iter().flat_map(|op| {
        modrm_forms(op, 0xc8)
            .into_iter()
            .map(|code| with_escape(&code))
    });
    let wide = [0xaf, 0xa3, 0xab, 0xb3, 0xbb, 0xbc, 0xbd]
        .into_iter()
        .flat_map(|op| [vec![0x0f, op, 0xc1], vec![0x66, 0x0f, op, 0xc1]]);
    let popcnt = [
        vec![0xf3, 0x0f, 0xb8, 0xc1],
        vec![0x66, 0xf3, 0x0f, 0xb8, 0xc1],
    ];
    // NOT, NEG, MUL, IMUL, DIV, IDIV of ECX; INC, DEC of EAX.
    let unary = (2..8u8).flat_map(|op| modrm_forms(0xf6, 0xc1 | op << 3));
    let step = (0..2u8).flat_map(|op| modrm_forms(0xfe, 0xc0 | op << 3));
    let decimal = [0x27, 0x2f, 0x37, 0x3f].map(|op| vec![op]);
    let codes = alu
        .chain(test)
        .chain(two_byte)
        .chain(wide)
        .chain(popcnt)
        .chain(unary)
        .chain(step)
        .chain(decimal);
    let arithmetic =
        codes.flat_map(|code| pairs(&EDGES, &EDGES).map(move |(a, b)| (code.clone(), a, b)));
    arithmetic
        .chain(shifts())
        .flat_map(|(code, eax, ecx)| ENTRY_FLAGS.map(|flags| case(&code, eax, ecx, flags)))
}

/// Shifts and rotates of EAX by CL, and the double ones from EDX.
fn shifts() -> impl Iterator<Item = (Vec<u8>, u32, u32)> {
    let single = (0..8u8).flat_map(|op| modrm_forms(0xd2, 0xc0 | op << 3));
    let double = [0xa5, 0xad]
        .into_iter()
        .flat_map(|op| [vec![0x0f, op, 0xd0], vec![0x66, 0x0f, op, 0xd0]]);
    single.chain(double).flat_map(|code| {
        pairs(&EDGES, &COUNTS).map(move |(value, count)| (code.clone(), value, count))
    })
}

/// The 8-, 16- and 32-bit forms of an opcode whose low bit is the width.
fn modrm_forms(opcode: u8, modrm: u8) -> [Vec<u8>; 3] {
    [
        vec![opcode, modrm],
        vec![0x66, opcode | 1, modrm],
        vec![opcode | 1, modrm],
    ]
}

/// Puts the 0F escape behind the operand-size prefix.
fn with_escape(code: &[u8]) -> Vec<u8> {
    match code {
        [0x66, rest @ ..] => [&[0x66, 0x0f], rest].concat(),
        rest => [&[0x0f], rest].concat(),
    }
}

fn pairs<'a>(a: &'a [u32], b: &'a [u32]) -> impl Iterator<Item = (u32, u32)> + 'a {
    a.iter().flat_map(move |&x| b.iter().map(move |&y| (x, y)))
}

fn case(code: &[u8], eax: u32, ecx: u32, flags: u32) -> Case {
    let mut entry = State::new();
    entry.gpr[0] = eax;
    entry.gpr[1] = ecx;
    // The high half of dividends, and the source of double shifts.
    entry.gpr[2] = if eax & 1 == 0 { 0 } else { eax.rotate_left(7) };
    entry.eflags |= flags;
    Case {
        code: code.to_vec(),
        entry,
        data_seed: 1,
        patches: Vec::new(),
        read_only_page: None,
        family: Family::Arith,
        seed: 0,
    }
}
