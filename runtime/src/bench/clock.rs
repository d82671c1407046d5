//! The CPU time of another process, to the nanosecond.
//!
//! What Linux shows below `/proc` is as old as the last clock tick, so that a
//! program that ran for 3 ms may seem not to have run at all. The CPU-time clock
//! of a process (POSIX, `clock_getcpuclockid`) counts all its threads, those that
//! have ended included, up to the moment of reading. It can be read until the
//! process has been waited for.

#![allow(unsafe_code)] // Two calls of the C library that no safe crate has.

use std::io;
use std::time::Duration;

/// CPU time that the threads of process `id` have used so far.
///
/// # Errors
/// There is no such process.
pub fn process_cpu_time(id: u32) -> io::Result<Duration> {
    let id = libc::pid_t::try_from(id).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a place for the number of a clock.
    let error = unsafe { libc::clock_getcpuclockid(id, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a place for a time; any number of a clock may be asked for.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn less_than_a_tick_is_seen() {
        let id = std::process::id();
        let before = process_cpu_time(id).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
        assert!(process_cpu_time(id).unwrap() > before);
    }

    #[test]
    fn no_process_has_no_clock() {
        assert!(process_cpu_time(u32::MAX).is_err());
    }
}
