//! The I/O bus: from a port number to a device and an offset inside it.
//!
//! A device does not know where it lives; it sees offsets from zero. The board
//! (`devices::pc`) lists its ranges in one table, and [`Bus`] turns that table
//! into one byte per port, so that a look-up is a single load. Ports nobody
//! claims read as all ones, as an undriven ISA bus does, and ignore writes.
//!
//! Invariants: ranges do not overlap; a device never sees an offset outside of
//! what its ranges name; a range marked narrow only ever sees single bytes
//! (the bus splits wider accesses into consecutive ports, as the ISA bridge
//! does for 8-bit cards).

use crate::devices::DeviceId;

/// What the processor may do with a device: read and write registers.
///
/// `size` is 1, 2 or 4 bytes, always 1 on narrow ranges. Values are in the low
/// `size` bytes.
pub trait Device {
    /// Reads the register at `offset`; may have the side effects of hardware.
    fn read(&mut self, offset: u16, size: u8) -> u32;
    /// Writes `value` to the register at `offset`.
    fn write(&mut self, offset: u16, size: u8, value: u32);
}

/// Width of the accesses a range takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// An 8-bit card: wider accesses are split.
    Narrow,
    /// The device takes accesses of 1, 2 and 4 bytes itself.
    Wide,
}

/// Consecutive ports that belong to one device.
#[derive(Clone, Copy, Debug)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Number of ports, at least 1.
    pub count: u16,
    /// Who answers.
    pub device: DeviceId,
    /// The device's offset of the first port.
    pub offset: u16,
    /// Access width.
    pub lanes: Lanes,
}

/// The port map of one board.
pub struct Bus {
    ranges: Vec<PortRange>,
    /// For each port, the index of its range plus one; 0 is unclaimed.
    index: Box<[u8; 0x1_0000]>,
}

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who answers.
    pub device: DeviceId,
    /// The offset the device sees.
    pub offset: u16,
    /// Access width.
    pub lanes: Lanes,
}

impl Bus {
    /// Builds the map.
    ///
    /// # Panics
    /// If two ranges overlap or there are more than 255: the table is part of
    /// the program, not input.
    pub fn new(ranges: &[PortRange]) -> Self {
        let mut bus = Self {
            ranges: Vec::new(),
            index: Box::new([0u8; 0x1_0000]),
        };
        for range in ranges {
            let first = range.first;
            assert!(bus.add(*range), "the ports from {first:#x} are claimed");
        }
        bus
    }

    /// Adds a range. False, and nothing is added, if it is empty, ends beyond the last
    /// port, has a port of another range, or is one too many.
    #[must_use]
    pub fn add(&mut self, range: PortRange) -> bool {
        let first = usize::from(range.first);
        let Ok(tag) = u8::try_from(self.ranges.len() + 1) else {
            return false;
        };
        match self.index.get_mut(first..first + usize::from(range.count)) {
            Some(ports) if !ports.is_empty() && ports.iter().all(|&tag| tag == 0) => {
                ports.fill(tag);
                self.ranges.push(range);
                true
            }
            _ => false,
        }
    }

    /// All ranges, in the order in which they were added.
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges
    }

    /// The device behind `port`, if any.
    #[inline]
    pub fn find(&self, port: u16) -> Option<Target> {
        let tag = self.index[usize::from(port)];
        let range = self.ranges.get(usize::from(tag).checked_sub(1)?)?;
        Some(Target {
            device: range.device,
            offset: range.offset.wrapping_add(port.wrapping_sub(range.first)),
            lanes: range.lanes,
        })
    }
}

/// All ones in the low `size` bytes: what an undriven bus reads.
pub fn undriven(size: u8) -> u32 {
    match size {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => 0xFFFF_FFFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static RANGES: [PortRange; 2] = [
        PortRange {
            first: 0x20,
            count: 2,
            device: DeviceId::Pic,
            offset: 0,
            lanes: Lanes::Narrow,
        },
        PortRange {
            first: 0xFFFE,
            count: 2,
            device: DeviceId::Pic,
            offset: 2,
            lanes: Lanes::Wide,
        },
    ];

    #[test]
    fn ports_map_to_offsets() {
        let bus = Bus::new(&RANGES);
        assert_eq!(bus.find(0x21).map(|t| t.offset), Some(1));
        assert_eq!(bus.find(0xFFFF).map(|t| t.offset), Some(3));
        assert_eq!(bus.find(0x22), None);
        assert_eq!(bus.find(0), None);
    }

    #[test]
    fn a_range_that_does_not_fit_is_not_added() {
        let mut bus = Bus::new(&RANGES);
        let range = |first, count| PortRange {
            first,
            count,
            ..RANGES[1]
        };
        for (first, count) in [(0x1f, 2), (0x30, 0), (0xfffd, 2)] {
            assert!(!bus.add(range(first, count)), "{first:#x}");
        }
        assert_eq!(bus.find(0x1f), None);
        assert!(bus.add(range(0xfffd, 1)));
    }

    #[test]
    fn undriven_bus_reads_ones() {
        assert_eq!(
            [undriven(1), undriven(2), undriven(4)],
            [0xFF, 0xFFFF, 0xFFFF_FFFF]
        );
    }
}
