//! Scripted port writes against the 8254 data sheet, on a clock that tests move.

use super::*;
use crate::clock::FakeClock;

const CONTROL: u16 = 3;
const PORT_B: u16 = 4;

struct Bench {
    clock: Arc<FakeClock>,
    pit: Pit,
    ticks: u64,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::new(0));
        Self {
            pit: Pit::new(clock.clone()),
            clock,
            ticks: 0,
        }
    }

    fn write(&mut self, offset: u16, value: u32) {
        self.pit.write(offset, 1, value);
    }

    fn count(&mut self, counter: u16, value: u16) {
        let [low, high] = value.to_le_bytes();
        self.write(counter, u32::from(low));
        self.write(counter, u32::from(high));
    }

    fn read(&mut self, offset: u16) -> u32 {
        self.pit.read(offset, 1)
    }

    fn read_word(&mut self, counter: u16) -> u32 {
        self.read(counter) | self.read(counter) << 8
    }

    fn pass(&mut self, ticks: u64) {
        self.ticks += ticks;
        let now = self.clock.now_ns();
        self.clock.advance(ns_of(self.ticks) - now);
    }

    fn edge(&mut self) -> bool {
        self.pit.poll(self.clock.now_ns());
        let drive = self.pit.pin().take();
        drive.level && drive.dipped
    }

    fn out_2(&mut self) -> bool {
        self.read(PORT_B) & 0x20 != 0
    }
}

#[test]
fn ticks_and_nanoseconds_agree() {
    for tick in [0, 1, 2, 104, 105, 1_193_182, 1 << 40] {
        assert_eq!(tick_at(ns_of(tick)), tick);
        assert!(tick == 0 || tick_at(ns_of(tick) - 1) == tick - 1);
    }
    assert_eq!(tick_at(1_000_000_000), 1_193_181);
}

#[test]
fn mode_0_counts_down_once_and_wraps() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x30);
    bench.count(0, 100);
    bench.pit.pin().take();
    bench.pass(41);
    assert_eq!(bench.read_word(0), 60);
    assert!(!bench.edge());
    bench.pass(60);
    assert!(bench.edge());
    assert_eq!(bench.read_word(0), 0);
    bench.pass(1);
    assert_eq!(bench.read_word(0), 0xFFFF);
    bench.pass(100_000);
    assert!(!bench.edge());
}

#[test]
fn quick_calibration_sees_the_high_byte_fall_every_256_ticks() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 1);
    bench.write(CONTROL, 0xB0);
    bench.count(2, 0xFFFF);
    bench.pass(1);
    for high in (0xF0..=0xFFu32).rev() {
        assert_eq!(bench.read_word(2) >> 8, high);
        bench.pass(256);
    }
}

#[test]
fn mode_0_on_counter_2_shows_at_port_61() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 1);
    bench.write(CONTROL, 0xB0);
    bench.count(2, 50);
    assert!(!bench.out_2());
    bench.pass(50);
    assert!(!bench.out_2());
    bench.pass(1);
    assert!(bench.out_2());
}

#[test]
fn gate_holds_mode_0() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 1);
    bench.write(CONTROL, 0xB0);
    bench.count(2, 100);
    bench.pass(31);
    bench.write(PORT_B, 0);
    bench.pass(1_000);
    assert_eq!(bench.read_word(2), 70);
    bench.write(PORT_B, 1);
    bench.pass(70);
    assert!(bench.out_2());
}

#[test]
fn mode_1_is_started_by_the_gate() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0xB2);
    bench.count(2, 10);
    bench.pass(100);
    assert!(bench.out_2());
    bench.write(PORT_B, 1);
    bench.pass(1);
    assert!(!bench.out_2());
    bench.pass(10);
    assert!(bench.out_2());
}

#[test]
fn mode_2_ticks_at_the_rate() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34);
    bench.count(0, 11_932);
    bench.edge();
    bench.pit.acknowledged();
    assert_eq!(bench.pit.next_deadline_ns(), Some(ns_of(11_933)));
    bench.pass(11_932);
    assert!(!bench.edge());
    bench.pass(1);
    assert!(bench.edge());
    bench.pit.acknowledged();
    bench.pass(11_931);
    assert!(!bench.edge());
    bench.pass(1);
    assert!(bench.edge());
}

#[test]
fn mode_2_output_is_low_for_one_tick_and_counts_to_one() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 1);
    bench.write(CONTROL, 0xB4);
    bench.count(2, 4);
    bench.pass(1);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push((bench.read_word(2), bench.out_2()));
        bench.pass(1);
    }
    assert_eq!(
        seen,
        [(4, true), (3, true), (2, true), (1, false), (4, true)]
    );
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34);
    bench.count(0, 1_000);
    bench.edge();
    bench.pit.acknowledged();
    bench.pass(501);
    bench.count(0, 10);
    assert_eq!(bench.read_word(0), 500);
    bench.pass(499);
    assert!(!bench.edge());
    bench.pass(1);
    assert!(bench.edge());
    bench.pit.acknowledged();
    bench.pass(10);
    assert!(bench.edge());
}

#[test]
fn mode_3_is_high_for_the_longer_half() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 1);
    bench.write(CONTROL, 0xB6);
    bench.count(2, 5);
    bench.pass(1);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push((bench.read_word(2), bench.out_2()));
        bench.pass(1);
    }
    let outputs: Vec<bool> = seen.iter().map(|&(_, out)| out).collect();
    assert_eq!(outputs, [true, true, true, false, false, true]);
    assert_eq!(seen[0].0, 4, "counts by two from the even number below");
}

#[test]
fn mode_4_strobes_once() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x38);
    bench.count(0, 100);
    bench.edge();
    bench.pit.acknowledged();
    bench.pass(101);
    assert!(!bench.edge());
    bench.pass(1);
    assert!(bench.edge());
    bench.pit.acknowledged();
    bench.pass(200_000);
    assert!(!bench.edge());
    assert_eq!(bench.pit.next_deadline_ns(), None);
}

#[test]
fn mode_5_strobes_after_the_trigger() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0xBA);
    bench.count(2, 10);
    bench.pass(50);
    assert!(bench.out_2());
    bench.write(PORT_B, 1);
    bench.pass(11);
    assert!(!bench.out_2());
    bench.pass(1);
    assert!(bench.out_2());
}

#[test]
fn latched_count_stays_until_read() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34);
    bench.count(0, 0);
    bench.pass(101);
    bench.write(CONTROL, 0x00);
    bench.pass(50);
    assert_eq!(bench.read_word(0), 0x1_0000 - 100);
    assert_eq!(bench.read_word(0), 0x1_0000 - 150);
}

#[test]
fn read_back_gives_status_then_count() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x36);
    bench.write(CONTROL, 0xE2);
    assert_eq!(
        bench.read(0),
        0xF6,
        "output high, null count, both bytes, mode 3"
    );
    bench.count(0, 1_000);
    bench.pass(1);
    bench.write(CONTROL, 0xC2);
    bench.pass(10);
    assert_eq!(bench.read(0), 0xB6);
    assert_eq!(bench.read_word(0), 1_000);
}

#[test]
fn bcd_counts_in_decimal() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x31);
    bench.count(0, 0x1000);
    bench.pass(2);
    assert_eq!(bench.read_word(0), 0x0999);
    bench.count(0, 0);
    bench.pass(2);
    assert_eq!(bench.read_word(0), 0x9999);
}

#[test]
fn single_byte_access() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x10);
    bench.write(0, 20);
    bench.pass(6);
    assert_eq!(bench.read(0), 15);
    bench.write(CONTROL, 0x20);
    bench.write(0, 2);
    bench.pass(1);
    assert_eq!(bench.read(0), 2);
}

#[test]
fn lost_ticks_are_coalesced() {
    let mut bench = Bench::new();
    bench.write(CONTROL, 0x34);
    bench.count(0, 1_000);
    bench.edge();
    bench.pit.acknowledged();
    bench.pass(1_000_001);
    assert!(bench.edge());
    let mut followers = 0;
    loop {
        bench.pit.acknowledged();
        if !bench.edge() {
            break;
        }
        followers += 1;
    }
    assert_eq!(followers, MAX_BACKLOG);
}

#[test]
fn refresh_bit_toggles() {
    let mut bench = Bench::new();
    let first = bench.read(PORT_B) & 0x10;
    bench.pass(18);
    assert_ne!(bench.read(PORT_B) & 0x10, first);
}

#[test]
fn port_61_keeps_its_four_bits() {
    let mut bench = Bench::new();
    bench.write(PORT_B, 0xFF);
    assert_eq!(bench.read(PORT_B) & 0xCF, 0x0F);
}
