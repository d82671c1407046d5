//! Where and when something was measured.

use super::subject::{QEMU, version};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The circumstances of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The processor's name and how many of it.
    pub processor: String,
    /// The host kernel's release.
    pub kernel: String,
    /// The day and time, UTC.
    pub date: String,
    /// This ring1's version, and how it was built.
    pub ring1: String,
    /// QEMU's version, if it is installed.
    pub qemu: Option<String>,
    /// Load average when it began.
    pub load_before: String,
    /// Load average when it was over.
    pub load_after: String,
}

impl Host {
    /// The circumstances now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            kernel: format!("Linux {}", release.trim()),
            date: date(since.map_or(0, |since| since.as_secs())),
            ring1: format!("ring1 {}, {}", env!("CARGO_PKG_VERSION"), build()),
            qemu: version(QEMU),
            load_before: load(),
            load_after: String::new(),
        }
    }

    /// Notes that the measurement is over.
    pub fn finish(&mut self) {
        self.load_after = load();
    }

    /// All of it, each with its name.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let (before, after) = (&self.load_before, &self.load_after);
        vec![
            ("date", self.date.clone()),
            ("ring1", self.ring1.clone()),
            ("QEMU", self.qemu.clone().unwrap_or_else(|| "none".into())),
            ("processor", self.processor.clone()),
            ("kernel", self.kernel.clone()),
            ("load", format!("{before} before, {after} after")),
        ]
    }
}

/// Whether this build is one to measure.
fn build() -> &'static str {
    match cfg!(debug_assertions) {
        true => "a development build, slower than a release",
        false => "optimised build",
    }
}

/// The model name in a `/proc/cpuinfo`, and how many processors have it.
fn processor(cpuinfo: &str) -> String {
    let lines = cpuinfo
        .lines()
        .filter(|line| line.starts_with("model name"));
    let mut names = lines.filter_map(|line| Some(line.split_once(':')?.1.trim()));
    match names.next() {
        Some(name) => format!("{} × {name}", 1 + names.count()),
        None => "unknown".into(),
    }
}

/// One-minute load average of the host, as the kernel prints it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// A time in seconds since 1970 as people write it.
fn date(seconds: u64) -> String {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut day, mut year, mut month) = (seconds / 86_400, 1970, 1);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    let day = day + 1;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599), "2024-12-31 23:59 UTC");
    }

    #[test]
    fn processors_are_counted() {
        let text = "processor : 0\nmodel name\t: A CPU\n\nprocessor : 1\nmodel name\t: A CPU\n";
        assert_eq!(processor(text), "2 × A CPU");
        assert_eq!(processor(""), "unknown");
    }
}
