//! Names for guest addresses: from a kernel's `System.map`, from `/proc/kallsyms`, which
//! looks the same, or from the symbol table of an ELF file.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};
use std::fmt::Write as _;
use std::path::Path;

/// Farthest that an address may be behind a symbol whose size is not known.
const FARTHEST: u32 = 64 << 10;

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(String, #[source] std::io::Error),
    /// Neither kind of file, or an empty one.
    #[error("{0} has no symbols: neither lines such as \"c1000000 T _stext\" nor an ELF file's")]
    None(String),
}

/// A symbol of code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u32,
    /// 0 if it is not known.
    bytes: u32,
    name: String,
}

/// Symbols, by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Vec<Symbol>);

impl Symbols {
    /// Reads a file of either kind.
    ///
    /// # Errors
    /// It cannot be read, or has no symbols.
    pub fn read(path: &Path) -> Result<Self, SymbolError> {
        let name = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Err(SymbolError::Unreadable(name, error)),
        };
        let symbols = Self::parse(&bytes);
        match symbols.0.is_empty() {
            false => Ok(symbols),
            true => Err(SymbolError::None(name)),
        }
    }

    /// Those of a file, if one is named, or of the kernel, if that is ELF and has any.
    ///
    /// # Errors
    /// See [`Symbols::read`].
    pub fn of_guest(file: Option<&Path>, kernel: &[u8]) -> Result<Self, SymbolError> {
        match file {
            Some(path) => Self::read(path),
            // A kernel of another kind is megabytes of what is no text.
            None if kernel.starts_with(&object::elf::ELFMAG) => Ok(Self::parse(kernel)),
            None => Ok(Self::default()),
        }
    }

    /// Those that a file of either kind has, if any.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut symbols = match object::File::parse(bytes) {
            Ok(file) => of_elf(&file),
            Err(_) => of_map(&String::from_utf8_lossy(bytes)),
        };
        symbols.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
        Self(symbols)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Address of the symbol called `name`, or of a place behind it: `name+OFFSET`.
    pub fn address(&self, name: &str) -> Option<u32> {
        let (name, offset) = match name.split_once('+') {
            Some((name, offset)) => (name, crate::cli::number(offset).ok()?),
            None => (name, 0),
        };
        let symbol = self.0.iter().find(|symbol| symbol.name == name)?;
        Some(symbol.address.wrapping_add(offset))
    }

    /// The symbol that holds an address, and how far behind its beginning that is.
    pub fn find(&self, address: u32) -> Option<(&str, u32)> {
        let after = self.0.partition_point(|symbol| symbol.address <= address);
        let symbol = self.0.get(after.checked_sub(1)?)?;
        let offset = address - symbol.address;
        let farthest = match symbol.bytes {
            0 => FARTHEST,
            bytes => bytes,
        };
        (offset == 0 || offset < farthest).then_some((&symbol.name, offset))
    }

    /// The same as text: `symbol` or `symbol+0x10`.
    pub fn name(&self, address: u32) -> Option<String> {
        let (name, offset) = self.find(address)?;
        let mut text = name.to_owned();
        if offset > 0 {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "+{offset:#x}");
        }
        Some(text)
    }
}

/// Lines of address, kind and name; others are passed over.
fn of_map(text: &str) -> Vec<Symbol> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u32::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?;
        // Code, also weak code.
        matches!(kind, "t" | "T" | "w" | "W").then_some(())?;
        Some(Symbol {
            address,
            bytes: 0,
            name: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Functions, and labels that assemblers leave without a kind.
fn of_elf(file: &object::File<'_>) -> Vec<Symbol> {
    let in_code = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index();
        let section = section.and_then(|index| file.section_by_index(index).ok());
        section.is_some_and(|section| section.kind() == SectionKind::Text)
    };
    let code = |symbol: &object::Symbol<'_, '_>| match symbol.kind() {
        SymbolKind::Text => symbol.is_definition(),
        SymbolKind::Label | SymbolKind::Unknown => in_code(symbol),
        _ => false,
    };
    let symbols = file.symbols().filter(code);
    let symbol = |symbol: object::Symbol<'_, '_>| {
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        Some(Symbol {
            address: u32::try_from(symbol.address()).ok()?,
            bytes: u32::try_from(symbol.size()).unwrap_or(0),
            name: name.to_owned(),
        })
    };
    symbols.filter_map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &[u8] = b"c1000000 T _stext\r\nc1000040 t do_one\nc1000050 D data\nnonsense\n\
        c1000100 T last\t[module]\n";

    #[test]
    fn a_map_names_code_by_what_precedes_it() {
        let symbols = Symbols::parse(MAP);
        assert_eq!(symbols.name(0xc100_0000).as_deref(), Some("_stext"));
        assert_eq!(symbols.name(0xc100_0051).as_deref(), Some("do_one+0x11"));
        assert_eq!(symbols.name(0xc0ff_ffff), None);
        assert_eq!(symbols.name(0xc100_0100 + FARTHEST), None);
    }

    #[test]
    fn names_have_addresses() {
        let symbols = Symbols::parse(MAP);
        assert_eq!(symbols.address("last"), Some(0xc100_0100));
        assert_eq!(symbols.address("_stext+0x10"), Some(0xc100_0010));
        assert_eq!(symbols.address("data"), None);
        assert!(Symbols::parse(b"no symbols").is_empty());
    }

    #[test]
    fn the_default_guest_has_symbols_of_its_own() {
        let symbols = Symbols::parse(crate::embedded::IMAGE);
        let start = symbols.address("_start").expect("an entry");
        assert_eq!(symbols.name(start).as_deref(), Some("_start"));
    }
}
