//! The ACPI tables that describe this PC to a system.
//!
//! RSDP (where systems search for it) → RSDT → FADT → FACS and DSDT.
//! All is 32-bit, so an RSDT by hand instead of an XSDT; there is no MADT, for
//! interrupts go through the pair of 8259A. The DSDT names the serial port, the
//! clock and the timer, and says how to power off. The FADT tells the truth
//! about what is missing: no keyboard controller worth probing, no display, no
//! sleep button.

use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Name, Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, facs::FACS};

use super::{RESET_VALUE, SLEEP_TYPE_S5};
use crate::devices::cmos;
use crate::devices::pc::{
    COM1_PORT, IRQ_CLOCK, IRQ_COM1, IRQ_SCI, IRQ_TIMER, POWER_PORT, RESET_PORT,
};

/// Where the root pointer, and with it all tables, belong: systems search
/// 0xE0000–0xFFFFF on 16-byte boundaries.
pub const RSDP_ADDRESS: u32 = 0x000E_0000;

const OEM: [u8; 6] = *b"RING1 ";
const OEM_TABLE: [u8; 8] = *b"RING1PC ";
const OEM_REVISION: u32 = 1;

/// IAPC_BOOT_ARCH: there are ISA devices and no VGA; bit 1 (8042) and bit 5
/// (no CMOS clock) are clear.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 2;

/// The tables and where each goes: the root pointer at `base`, the rest above.
///
/// `base` must be 64-byte aligned, for the FACS, and is [`RSDP_ADDRESS`] for a
/// system that searches. Together they take less than 4 KiB. The memory must be
/// reserved in the memory map.
pub fn acpi_tables(base: u32) -> Vec<(u32, Vec<u8>)> {
    let mut next = base.wrapping_add(64);
    let mut place = |table: &[u8]| {
        let address = next;
        next = next.wrapping_add((table.len() as u32).next_multiple_of(64));
        address
    };
    let facs = bytes_of(&FACS::new());
    let facs_address = place(&facs);
    let dsdt = dsdt();
    let dsdt_address = place(&dsdt);
    let fadt = fadt(facs_address, dsdt_address);
    let fadt_address = place(&fadt);
    let rsdt = rsdt(&[fadt_address]);
    let rsdt_address = place(&rsdt);
    vec![
        (base, rsdp(rsdt_address).to_vec()),
        (facs_address, facs),
        (dsdt_address, dsdt),
        (fadt_address, fadt),
        (rsdt_address, rsdt),
    ]
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The revision 0 root pointer, which has only a 32-bit address.
fn rsdp(rsdt: u32) -> [u8; 20] {
    let mut rsdp = [0; 20];
    rsdp[0..8].copy_from_slice(b"RSD PTR ");
    rsdp[9..15].copy_from_slice(&OEM);
    rsdp[16..20].copy_from_slice(&rsdt.to_le_bytes());
    rsdp[8] = rsdp
        .iter()
        .fold(0u8, |sum, &byte| sum.wrapping_add(byte))
        .wrapping_neg();
    rsdp
}

fn rsdt(tables: &[u32]) -> Vec<u8> {
    let mut rsdt = Sdt::new(*b"RSDT", 36, 1, OEM, OEM_TABLE, OEM_REVISION);
    for address in tables {
        rsdt.append_slice(&address.to_le_bytes());
    }
    rsdt.as_slice().to_vec()
}

fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let power = u32::from(POWER_PORT);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .firmware_ctrl_32(facs)
        .dsdt_32(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // There is no such button; the power button is the one of the fixed registers.
        .flag(Flags::SlpButton)
        // The clock cannot wake the machine through fixed registers.
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.sci_int = u16::from(IRQ_SCI).into();
    fadt.pm1a_evt_blk = power.into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = (power + 4).into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = (power + 8).into();
    fadt.pm_tmr_len = 4;
    // Latencies above 100 and 1000 µs mean that C2 and C3 do not exist.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.century = cmos::CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.reset_reg = GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(RESET_PORT),
    );
    fadt.reset_value = RESET_VALUE;
    bytes_of(&fadt.finalize())
}

fn dsdt() -> Vec<u8> {
    let mut aml = Vec::new();
    Name::new(
        "_S5_".into(),
        &Package::new(vec![&SLEEP_TYPE_S5, &ZERO, &ZERO, &ZERO]),
    )
    .to_aml_bytes(&mut aml);
    let devices = [
        isa_device("COM1", "PNP0501", (COM1_PORT, 8), IRQ_COM1),
        isa_device("RTC_", "PNP0B00", (0x70, 2), IRQ_CLOCK),
        isa_device("TIMR", "PNP0100", (0x40, 4), IRQ_TIMER),
    ]
    .concat();
    aml.extend(Scope::raw("_SB_".into(), devices));
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    dsdt.append_slice(&aml);
    dsdt.as_slice().to_vec()
}

/// A device with one port range and one edge-triggered interrupt.
fn isa_device(name: &str, id: &str, (port, count): (u16, u8), irq: u8) -> Vec<u8> {
    let io = IO::new(port, port, 1, count);
    let interrupt = Interrupt::new(true, true, false, false, u32::from(irq));
    let resources = ResourceTemplate::new(vec![&io, &interrupt]);
    bytes_of(&Device::new(
        Path::new(name),
        vec![
            &Name::new("_HID".into(), &EISAName::new(id)),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
    }

    fn dword(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn pointers_and_checksums_hold() {
        let tables = acpi_tables(RSDP_ADDRESS);
        let at = |address: u32| {
            &tables
                .iter()
                .find(|(a, _)| *a == address)
                .expect("placed")
                .1
        };
        let rsdp = at(RSDP_ADDRESS);
        assert_eq!((sum(rsdp), &rsdp[..8]), (0, &b"RSD PTR "[..]));
        let rsdt = at(dword(rsdp, 16));
        assert_eq!((sum(rsdt), &rsdt[..4]), (0, &b"RSDT"[..]));
        let fadt = at(dword(rsdt, 36));
        assert_eq!((sum(fadt), &fadt[..4]), (0, &b"FACP"[..]));
        assert_eq!(&at(dword(fadt, 36))[..4], b"FACS");
        let dsdt = at(dword(fadt, 40));
        assert_eq!((sum(dsdt), &dsdt[..4]), (0, &b"DSDT"[..]));
        for (_, table) in tables.iter().skip(1) {
            assert_eq!(dword(table, 4) as usize, table.len());
        }
    }

    #[test]
    fn tables_do_not_overlap() {
        let mut tables = acpi_tables(RSDP_ADDRESS);
        tables.sort();
        for pair in tables.windows(2) {
            assert!(pair[0].0 + pair[0].1.len() as u32 <= pair[1].0);
        }
        let (address, last) = tables.last().expect("not empty");
        assert!(address + (last.len() as u32) < RSDP_ADDRESS + 0x1000);
    }

    #[test]
    fn fadt_names_the_registers_of_the_board() {
        let fadt = fadt(0x1000, 0x2000);
        assert_eq!(dword(&fadt, 56), u32::from(POWER_PORT));
        assert_eq!(dword(&fadt, 64), u32::from(POWER_PORT) + 4);
        assert_eq!(dword(&fadt, 76), u32::from(POWER_PORT) + 8);
        assert_eq!(fadt[109] & 0x02, 0, "no 8042 to probe");
        assert_eq!(&fadt[116..120], &[1, 8, 0, 1]);
        assert_eq!((fadt[120], fadt[121], fadt[128]), (0xF9, 0x0C, 0x06));
    }
}
