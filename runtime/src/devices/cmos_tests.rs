//! Scripted port writes against the MC146818 data sheet.

use super::*;
use crate::clock::FakeClock;

/// 2024-02-29 23:59:58 UTC, a Thursday.
const LEAP_EVENING: u64 = 1_709_251_198;

struct Bench {
    clock: Arc<FakeClock>,
    cmos: Cmos,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::new(LEAP_EVENING));
        Self {
            cmos: Cmos::new(clock.clone(), 256 << 20),
            clock,
        }
    }

    fn get(&mut self, register: u8) -> u8 {
        self.cmos.write(0, 1, u32::from(register));
        self.cmos.read(1, 1) as u8
    }

    fn put(&mut self, register: u8, value: u8) {
        self.cmos.write(0, 1, u32::from(register));
        self.cmos.write(1, 1, u32::from(value));
    }

    fn pass_ms(&mut self, ms: u64) {
        self.clock.advance(ms * 1_000_000);
        self.cmos.poll();
    }

    fn time(&mut self) -> [u8; 8] {
        [CENTURY, 9, 8, 7, 6, 4, 2, 0].map(|register| self.get(register))
    }
}

#[test]
fn reads_the_hosts_time_in_bcd() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.time(),
        [0x20, 0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58]
    );
    bench.pass_ms(2_000);
    assert_eq!(
        bench.time(),
        [0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00]
    );
}

#[test]
fn binary_and_twelve_hour_forms() {
    let mut bench = Bench::new();
    bench.put(B, 0x04);
    assert_eq!((bench.get(4), bench.get(2)), (0x8B, 59));
}

#[test]
fn set_stops_the_clock_and_takes_a_new_time() {
    let mut bench = Bench::new();
    bench.put(B, 0x82);
    for (register, value) in [(9, 0x99), (8, 0x12), (7, 0x31), (4, 0x12), (CENTURY, 0x19)] {
        bench.put(register, value);
    }
    bench.pass_ms(10_000);
    assert_eq!(bench.get(0), 0x58, "stands still");
    bench.put(B, 0x02);
    bench.pass_ms(1_000);
    assert_eq!(
        bench.time(),
        [0x19, 0x99, 0x12, 0x31, 0x06, 0x12, 0x59, 0x59]
    );
}

#[test]
fn update_in_progress_before_the_second_ends() {
    let mut bench = Bench::new();
    bench.pass_ms(990);
    assert_eq!(bench.get(A), 0x26);
    bench.pass_ms(9);
    assert_eq!(bench.get(A), 0xA6);
    bench.pass_ms(1);
    assert_eq!(bench.get(A), 0x26);
}

#[test]
fn periodic_interrupt_at_1024_hertz() {
    let mut bench = Bench::new();
    bench.put(B, 0x42);
    assert_eq!(bench.cmos.next_deadline_ns(), Some(976_563));
    bench.clock.advance(976_563);
    bench.cmos.poll();
    assert!(bench.cmos.pin().level());
    assert_eq!(bench.cmos.next_deadline_ns(), None);
    assert_eq!(bench.get(C), 0xC0);
    assert!(!bench.cmos.pin().level());
    assert_eq!(bench.get(C), 0);
}

#[test]
fn update_ended_interrupt_once_a_second() {
    let mut bench = Bench::new();
    bench.get(C);
    bench.put(B, 0x12);
    bench.pass_ms(999);
    assert!(!bench.cmos.pin().level());
    bench.pass_ms(1);
    assert!(bench.cmos.pin().level());
    assert_eq!(bench.get(C) & 0x90, 0x90);
}

#[test]
fn alarm_matches_and_wildcards() {
    let mut bench = Bench::new();
    bench.put(B, 0x22);
    for (register, value) in [(SECONDS_ALARM, 0x00), (MINUTES_ALARM, 0x00)] {
        bench.put(register, value);
    }
    bench.put(HOURS_ALARM, 0xFF);
    bench.pass_ms(1_000);
    assert!(!bench.cmos.pin().level());
    bench.pass_ms(1_000);
    assert!(bench.cmos.pin().level());
    assert_eq!(bench.get(C) & 0xA0, 0xA0);
}

#[test]
fn flags_are_set_without_interrupts() {
    let mut bench = Bench::new();
    bench.pass_ms(1_500);
    assert!(!bench.cmos.pin().level());
    assert_eq!(bench.get(C), 0x50);
    assert_eq!(bench.cmos.next_deadline_ns(), None);
}

#[test]
fn memory_size_and_checksum() {
    let mut bench = Bench::new();
    let word = |bench: &mut Bench, low| u16::from_le_bytes([bench.get(low), bench.get(low + 1)]);
    assert_eq!(word(&mut bench, 0x15), 640);
    assert_eq!(word(&mut bench, 0x30), 0xFFFF);
    assert_eq!(word(&mut bench, 0x34), 240 * 16);
    let sum: u16 = (0x10..0x2E).map(|i| u16::from(bench.get(i))).sum();
    assert_eq!(u16::from_be_bytes([bench.get(0x2E), bench.get(0x2F)]), sum);
}

#[test]
fn index_bit_7_masks_nmi_and_memory_keeps_bytes() {
    let mut bench = Bench::new();
    bench.put(0xC0, 0x5A);
    assert!(bench.cmos.nmi_masked());
    assert_eq!(bench.get(0x40), 0x5A);
    assert!(!bench.cmos.nmi_masked());
    assert_eq!(bench.get(D), 0x80);
    assert_eq!(bench.cmos.read(0, 1), 0xFF);
}
