//! Cases written by hand: for each instruction the normal one, the edges of its
//! widths, and its faults. No results are written down, the host CPU has them;
//! a row only says how it ends, which keeps its author honest.
//!
//! A row is four strings:
//!
//! - a name;
//! - the code in hex;
//! - what differs from [`State::new`]: `eax=ff`, flags by name (`cf df`), bytes in
//!   memory (`[D+10]=01020304`, in the order of addresses), with hex numbers that
//!   may be relative to `D` data arena, `E` its end, `S` stack arena, `T` its end,
//!   `P` the page boundary in the middle of the data arena, `C` code pages;
//! - how it ends: empty for the end of the sequence, or `#GP(0)`, `#PF(6) E`.
//!
//! [`grid`] adds the products of edge values that nobody wants to write.

mod addresses;
mod grid;
mod integer;
mod memory;
mod protected;
mod vector;

pub use grid::grid;

use runtime::selftest::case::{Case, Family};
use runtime::selftest::state::{
    CODE_BASE, DATA_BASE, DATA_BYTES, Outcome, STACK_BASE, STACK_BYTES, State, fxsave,
};

/// Name, code, entry, end; see the module.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// A case with the name and the end its author gave it.
pub struct Named {
    /// What it is about.
    pub name: &'static str,
    /// The case.
    pub case: Case,
    /// How it ends; `None` for its regular end.
    pub end: Option<Outcome>,
}

/// Every case of the tables.
///
/// # Panics
/// If a row is not well formed.
pub fn all() -> Vec<Named> {
    let tables: [(Family, &[Row]); 12] = [
        (Family::Arith, integer::ARITH),
        (Family::Shift, integer::SHIFT_BITS),
        (Family::Muldiv, integer::MULDIV_DECIMAL),
        (Family::Transfer, memory::TRANSFER),
        (Family::Stack, memory::STACK),
        (Family::Strings, memory::STRINGS),
        (Family::Branch, protected::BRANCH_FLAGS),
        (Family::Branch, protected::FAULTS),
        (Family::Branch, protected::LIMITS),
        (Family::Sse2, vector::VECTOR),
        (Family::Transfer, addresses::ADDRESSES),
        (Family::Sse2, addresses::VECTOR_ADDRESSES),
    ];
    let named = |(family, rows)| table(family, rows);
    tables.into_iter().flat_map(named).collect()
}

fn table(family: Family, rows: &[Row]) -> Vec<Named> {
    rows.iter().map(|row| named(family, row)).collect()
}

fn named(family: Family, row: &Row) -> Named {
    let (name, code, entry, end) = *row;
    let mut case = Case {
        code: bytes(code),
        entry: State::new(),
        data_seed: 1,
        patches: Vec::new(),
        read_only_page: None,
        family,
        seed: 0,
    };
    for word in entry.split_whitespace() {
        assert!(set(&mut case, word).is_some(), "{name}: {word}");
    }
    let end = (!end.is_empty()).then(|| outcome(end).unwrap_or_else(|| panic!("{name}: {end}")));
    Named { name, case, end }
}

/// Applies one word of the entry column.
fn set(case: &mut Case, word: &str) -> Option<()> {
    if let Some(bit) = flag(word) {
        case.entry.eflags |= bit;
        return Some(());
    }
    let (what, value) = word.split_once('=')?;
    if let Some(addr) = what.strip_prefix('[') {
        let addr = number(addr.strip_suffix(']')?)?;
        case.patches.push((addr, bytes(value)));
        return Some(());
    }
    let image = &mut case.entry.fxsave;
    let registers = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    if let Some(register) = registers.iter().position(|&r| r == what) {
        case.entry.gpr[register] = number(value)?;
    } else if what == "eip" {
        case.entry.eip = number(value)?;
    } else if what == "mxcsr" {
        image[fxsave::MXCSR..][..4].copy_from_slice(&number(value)?.to_le_bytes());
    } else if what == "fcw" {
        image[fxsave::FCW..][..2].copy_from_slice(&(number(value)? as u16).to_le_bytes());
    } else {
        let register: usize = what.strip_prefix("xmm")?.parse().ok()?;
        let value = bytes(value);
        image[fxsave::XMM + 16 * register..][..value.len()].copy_from_slice(&value);
    }
    Some(())
}

fn flag(name: &str) -> Option<u32> {
    let table = [
        ("cf", 0),
        ("pf", 2),
        ("af", 4),
        ("zf", 6),
        ("sf", 7),
        ("df", 10),
        ("of", 11),
    ];
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, bit)| 1 << bit)
}

/// Hex digits, spaces between them allowed.
fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let pair = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16);
    let pairs: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(pair).collect();
    pairs.unwrap_or_else(|_| panic!("not hex: {text}"))
}

/// A hex number, or a letter of the module's list with an offset.
fn number(text: &str) -> Option<u32> {
    let base = match text.chars().next()? {
        'D' => DATA_BASE,
        'P' => DATA_BASE + 0x1000,
        'E' => DATA_BASE + DATA_BYTES as u32,
        'S' => STACK_BASE,
        'T' => STACK_BASE + STACK_BYTES as u32,
        'C' => CODE_BASE,
        _ => return u32::from_str_radix(text, 16).ok(),
    };
    let offset = |digits| u32::from_str_radix(digits, 16).ok();
    match text[1..].split_at_checked(1) {
        None => Some(base),
        Some(("+", digits)) => Some(base.wrapping_add(offset(digits)?)),
        Some(("-", digits)) => Some(base.wrapping_sub(offset(digits)?)),
        Some(_) => None,
    }
}

/// `#GP(0)`, `#PF(6) E`: mnemonic, error code, address.
fn outcome(text: &str) -> Option<Outcome> {
    let names = [
        ("#DE", 0),
        ("#DB", 1),
        ("#BP", 3),
        ("#OF", 4),
        ("#BR", 5),
        ("#UD", 6),
        ("#NP", 11),
        ("#SS", 12),
        ("#GP", 13),
        ("#PF", 14),
        ("#MF", 16),
        ("#AC", 17),
        ("#XM", 19),
    ];
    let vector = names.iter().find(|(name, _)| text.starts_with(name))?.1;
    let error = match text[3..]
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
    {
        Some((error, _)) => u32::from_str_radix(error, 16).ok()?,
        None => 0,
    };
    let addr = match text.split_once(' ') {
        Some((_, addr)) => number(addr)?,
        None => 0,
    };
    Some(Outcome::Trap {
        vector,
        error,
        addr,
    })
}
