//! What of the host makes figures doubtful: a clock that does not tick evenly, other
//! work, a processor that is itself virtual.

use std::fs;

/// What should be known of this host; empty of a quiet machine of today.
pub fn of_host() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let clocks = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    let mut doubts = of_processor(&read("/proc/cpuinfo"));
    doubts.extend(of_clocks(&read(clocks)));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    doubts.extend(of_load(&read("/proc/loadavg"), processors));
    doubts
}

/// What the first processor's flags in a `/proc/cpuinfo` say.
fn of_processor(cpuinfo: &str) -> Vec<String> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let has = |flag: &str| flags.is_some_and(|line| line.split_whitespace().any(|f| f == flag));
    let mut doubts = Vec::new();
    if flags.is_some() && !(has("constant_tsc") && has("nonstop_tsc")) {
        doubts.push(
            "the host's TSC is not invariant: its cycles are not always equally long, \
             and all figures are doubtful"
                .to_owned(),
        );
    }
    if has("hypervisor") {
        doubts.push(
            "the host is itself a virtual machine: what enters its kernel or touches new \
             pages, in the native column above all, has that machine's share in it"
                .to_owned(),
        );
    }
    doubts
}

/// Whether the kernel has given the TSC up.
fn of_clocks(available: &str) -> Option<String> {
    let given_up = !available.is_empty() && !available.split_whitespace().any(|c| c == "tsc");
    given_up.then(|| "the host's kernel does not trust the TSC: all figures are doubtful".into())
}

/// Whether there is other work for all processors.
fn of_load(loadavg: &str, processors: usize) -> Option<String> {
    let load = loadavg.split(' ').next()?.parse::<f64>().ok()?;
    (load >= processors as f64)
        .then(|| format!("the host is busy, with a load of {load} on {processors} processors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uneven_clock_and_a_virtual_host_are_seen() {
        let good = "processor : 0\nflags : tsc constant_tsc nonstop_tsc\n";
        assert!(of_processor(good).is_empty());
        let uneven = of_processor("flags : tsc constant_tsc\n");
        assert!(uneven[0].contains("not invariant"), "{uneven:?}");
        let virtual_host = of_processor(&good.replace("nonstop_tsc", "nonstop_tsc hypervisor"));
        assert!(virtual_host[0].contains("itself a virtual machine"));
        assert!(of_processor("").is_empty());
    }

    #[test]
    fn a_clock_that_was_given_up_is_not_offered() {
        assert!(of_clocks("kvm-clock tsc acpi_pm\n").is_none());
        assert!(of_clocks("").is_none());
        assert!(of_clocks("hpet acpi_pm\n").is_some());
    }

    #[test]
    fn load_is_measured_by_the_processors() {
        assert!(of_load("1.90 1.00 1.00 1/100 7\n", 2).is_none());
        assert!(
            of_load("2.00 1.00 1.00 1/100 7\n", 2)
                .unwrap()
                .contains("busy")
        );
        assert!(of_load("", 2).is_none());
    }
}
