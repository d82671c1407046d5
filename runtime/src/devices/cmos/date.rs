//! Seconds since 1970 to the clock's calendar registers and back.
//!
//! The registers are in BCD or binary (B.DM), the hour in 24-hour form or 1–12
//! with bit 7 for the afternoon (B.24/12). The day count uses years that begin
//! in March, so that the leap day comes last (Hinnant, "chrono-compatible
//! low-level date algorithms"). Whatever a guest writes becomes some time:
//! fields out of range carry into the next.

use super::CENTURY;

/// Seconds in a day.
pub const SECONDS_PER_DAY: i64 = 86_400;

const B_BINARY: u8 = 0x04;
const B_24_HOURS: u8 = 0x02;
const AFTERNOON: u8 = 0x80;

/// A date and time of day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Full year.
    pub year: i64,
    /// 1–12.
    pub month: i64,
    /// 1–31.
    pub day: i64,
    /// Seconds since midnight.
    pub second_of_day: i64,
}

impl Calendar {
    /// The calendar at a Unix time.
    pub fn from_unix(seconds: i64) -> Self {
        // Days since 0000-03-01.
        let days = seconds.div_euclid(SECONDS_PER_DAY) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = (shifted_month + 2) % 12 + 1;
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            second_of_day: seconds.rem_euclid(SECONDS_PER_DAY),
        }
    }

    /// The Unix time of the calendar.
    pub fn to_unix(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era - 719_468) * SECONDS_PER_DAY + self.second_of_day
    }

    /// 1 for Sunday to 7.
    fn weekday(self) -> i64 {
        (self.to_unix().div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7) + 1
    }

    /// Writes registers 0–9 and the century in the form that register B asks for.
    pub fn store(self, ram: &mut [u8; 128], b: u8) {
        let [hours, minutes, seconds] = time_registers(self.second_of_day, b);
        let byte = |value: i64| encode(value as u8, b);
        for (register, value) in [
            (0x00, seconds),
            (0x02, minutes),
            (0x04, hours),
            (0x06, byte(self.weekday())),
            (0x07, byte(self.day)),
            (0x08, byte(self.month)),
            (0x09, byte(self.year.rem_euclid(100))),
            (
                usize::from(CENTURY),
                encode((self.year.div_euclid(100)).rem_euclid(100) as u8, 0),
            ),
        ] {
            ram[register] = value;
        }
    }

    /// Reads registers 0–9 and the century.
    pub fn load(ram: &[u8; 128], b: u8) -> Self {
        let field = |register: usize| i64::from(decode(ram[register], b));
        let century = i64::from(decode(ram[usize::from(CENTURY)], 0));
        Self {
            year: century * 100 + field(9),
            month: (field(8) - 1).rem_euclid(12) + 1,
            day: field(7),
            second_of_day: load_hour(ram[4], b) * 3_600 + field(2) * 60 + field(0),
        }
    }
}

/// Hours, minutes and seconds registers at a Unix time.
pub fn time_registers(seconds: i64, b: u8) -> [u8; 3] {
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let hour = (second_of_day / 3_600) as u8;
    let hours = if b & B_24_HOURS != 0 {
        encode(hour, b)
    } else {
        // Midnight and noon are 12.
        let twelve = (hour + 11) % 12 + 1;
        encode(twelve, b) | if hour >= 12 { AFTERNOON } else { 0 }
    };
    let minute = (second_of_day / 60 % 60) as u8;
    [
        hours,
        encode(minute, b),
        encode((second_of_day % 60) as u8, b),
    ]
}

fn load_hour(register: u8, b: u8) -> i64 {
    if b & B_24_HOURS != 0 {
        return i64::from(decode(register, b));
    }
    let hour = i64::from(decode(register & !AFTERNOON, b)) % 12;
    hour + if register & AFTERNOON != 0 { 12 } else { 0 }
}

fn encode(value: u8, b: u8) -> u8 {
    if b & B_BINARY != 0 {
        value
    } else {
        ((value / 10 % 10) << 4) | (value % 10)
    }
}

fn decode(register: u8, b: u8) -> u8 {
    if b & B_BINARY != 0 {
        register
    } else {
        (register >> 4) * 10 + (register & 0xF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (unix, year, month, day) in [
            (0, 1970, 1, 1),
            (951_782_400, 2000, 2, 29),
            (4_107_542_400, 2100, 3, 1),
            (-86_400, 1969, 12, 31),
        ] {
            let calendar = Calendar::from_unix(unix);
            assert_eq!(
                (calendar.year, calendar.month, calendar.day),
                (year, month, day)
            );
            assert_eq!(calendar.to_unix(), unix);
        }
    }

    #[test]
    fn every_form_reads_back() {
        for b in [0, B_BINARY, B_24_HOURS, B_BINARY | B_24_HOURS] {
            for hour in 0..24 {
                let unix = 1_700_000_000 / 86_400 * 86_400 + hour * 3_600 + 59;
                let mut ram = [0; 128];
                Calendar::from_unix(unix).store(&mut ram, b);
                assert_eq!(Calendar::load(&ram, b).to_unix(), unix);
            }
        }
    }

    #[test]
    fn any_registers_are_some_time() {
        for byte in 0..=0xFF {
            let ram = [byte; 128];
            for b in [0, B_BINARY, B_24_HOURS, B_BINARY | B_24_HOURS] {
                let unix = Calendar::load(&ram, b).to_unix();
                assert_eq!(Calendar::from_unix(unix).to_unix(), unix);
            }
        }
    }
}
