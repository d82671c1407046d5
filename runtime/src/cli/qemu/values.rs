//! The values of QEMU's options, in words of ring1's.
//!
//! Each function takes a value as QEMU spells it and gives the words that say the same
//! to ring1, none if ring1 does so anyway, or a sentence that says why there are none.

/// `-m 256`, `256M`, `1G`, `size=256`; MiB unless a suffix says otherwise.
pub fn memory(value: &str) -> Result<Vec<String>, String> {
    let size = value.strip_prefix("size=").unwrap_or(value);
    let end = size.find(|c: char| !c.is_ascii_digit());
    let (digits, suffix) = size.split_at(end.unwrap_or(size.len()));
    let shift = match suffix {
        "b" | "B" => Some(0),
        "k" | "K" => Some(10),
        "" | "m" | "M" => Some(20),
        "g" | "G" => Some(30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let bytes = number.zip(shift).and_then(|(n, s)| n.checked_mul(1 << s));
    match bytes.filter(|bytes| bytes % (1 << 20) == 0) {
        Some(bytes) => Ok(vec![format!("--memory={}", bytes >> 20)]),
        None => Err(String::from(
            "not whole MiB such as 256, 256M or 1G; --memory takes MiB",
        )),
    }
}

/// QEMU's processors and the one of ring1 that is most like each, and whether it is
/// enough like it to stand for it.
const PROCESSORS: &[(&str, &str, bool)] = &[
    ("486", "486", true),
    ("pentium", "pentium", true),
    ("pentium3", "pentium3", true),
    ("qemu32", "pentium4", true),
    ("kvm32", "pentium4", true),
    ("max", "max", true),
    ("host", "max", true),
    ("pentium2", "pentium3", false),
    ("athlon", "pentium3", false),
    ("coreduo", "max", false),
    ("core2duo", "max", false),
    ("n270", "max", false),
    ("phenom", "max", false),
    ("qemu64", "max", false),
    ("kvm64", "max", false),
];

/// `-cpu NAME`.
pub fn cpu(value: &str) -> Result<Vec<String>, String> {
    let (name, features) = value.split_once(',').unwrap_or((value, ""));
    let own = <crate::cpu_model::Processor as clap::ValueEnum>::from_str(name, false);
    let known = PROCESSORS.iter().find(|(qemu, ..)| *qemu == name);
    let (nearest, alike) = match (own, known) {
        (Ok(_), _) => (name, true),
        (_, Some((_, nearest, alike))) => (*nearest, *alike),
        _ => {
            let names = PROCESSORS.iter().map(|(qemu, nearest, _)| (*qemu, nearest));
            let nearest = crate::cli::nearest::nearest(name, names);
            (nearest.map_or("max", |nearest| nearest), false)
        }
    };
    match (alike, features) {
        (true, "") => Ok(vec![format!("--cpu={nearest}")]),
        (true, _) => Err(format!(
            "features cannot be added to or taken from a processor; the nearest is --cpu {nearest}"
        )),
        _ => Err(format!(
            "ring1 has no such processor; the nearest is --cpu {nearest}"
        )),
    }
}

/// `-serial stdio`, `mon:stdio`, `none`, `null`.
pub fn serial(value: &str) -> Result<Vec<String>, String> {
    match value {
        "stdio" | "mon:stdio" => Ok(vec!["--serial=stdio".into()]),
        "none" | "null" => Ok(vec!["--serial=none".into()]),
        _ => Err("ring1's serial port is on standard input and output, --serial stdio, or nowhere, --serial none".into()),
    }
}

/// `-device NAME,PROPERTY=VALUE…`, for the two that ring1 has.
pub fn device(value: &str) -> Result<Vec<String>, String> {
    let (name, properties) = value.split_once(',').unwrap_or((value, ""));
    match name {
        "pc-testdev" => Ok(vec!["--test-device".into()]),
        // Without a property, QEMU's is at 501h.
        "isa-debug-exit" => match properties.split(',').any(|text| text == "iobase=0xf4") {
            true => Ok(Vec::new()),
            false => Err("ring1's debug-exit port is at F4h: say iobase=0xf4".into()),
        },
        _ => Err(
            "ring1 has no such device; isa-debug-exit is there, pc-testdev is --test-device".into(),
        ),
    }
}

/// `-machine pc`, with properties that change nothing.
pub fn machine(value: &str) -> Result<Vec<String>, String> {
    let known = |part: &str| {
        let part = part.strip_prefix("type=").unwrap_or(part);
        matches!(part, "pc" | "isapc" | "accel=tcg" | "accel=kvm")
    };
    match value.split(',').all(known) {
        true => Ok(Vec::new()),
        false => Err("ring1 has one board, a small PC; '-M pc' is accepted".into()),
    }
}

/// `-gdb tcp::1234`, `tcp:HOST:PORT`, `unix:PATH`.
pub fn gdb(value: &str) -> Result<Vec<String>, String> {
    let address = value.strip_prefix("tcp:").or(value.strip_prefix("unix:"));
    Ok(vec![format!("--gdb={}", address.unwrap_or(value))])
}

/// `-monitor none`, `unix:PATH,server,nowait`: the console has one in any case.
pub fn monitor(value: &str) -> Result<Vec<String>, String> {
    if value == "none" {
        return Ok(Vec::new());
    }
    let Some(rest) = value.strip_prefix("unix:") else {
        let reason =
            "ring1's monitor is on the console, behind Ctrl-A c, and with 'unix:PATH' at a socket";
        return Err(reason.into());
    };
    let mut parts = rest.split(',');
    let path = parts.next().unwrap_or_default();
    let known = ["server", "server=on", "nowait", "wait=off"];
    match parts.find(|part| !known.contains(part)) {
        Some(part) => Err(format!(
            "ring1 serves the monitor at 'unix:PATH', without '{part}'"
        )),
        None => Ok(vec![format!("--monitor={path}")]),
    }
}

/// `-d int,in_asm`: the names differ for blocks only.
pub fn log(value: &str) -> Result<Vec<String>, String> {
    let items = value.split(',').map(|item| match item {
        "in_asm" => "block",
        other => other,
    });
    let items = items.collect::<Vec<_>>().join(",");
    Ok(vec![format!("--log={items}")])
}

#[cfg(test)]
mod tests {
    use crate::cli::qemu::meaning;
    use std::ffi::{OsStr, OsString};

    fn words(name: &str, value: &str) -> Result<Vec<OsString>, String> {
        meaning(name).unwrap().words(OsStr::new(value))
    }

    fn one(name: &str, value: &str) -> String {
        let words = words(name, value).unwrap();
        assert_eq!(words.len(), 1, "-{name} {value}");
        words[0].to_str().unwrap().to_owned()
    }

    #[test]
    fn memory_has_suffixes() {
        for (value, mib) in [
            ("256", "256"),
            ("256M", "256"),
            ("size=64m", "64"),
            ("1G", "1024"),
            ("2048k", "2"),
            ("1048576B", "1"),
        ] {
            assert_eq!(one("m", value), format!("--memory={mib}"), "{value}");
        }
        for value in ["", "M", "1T", "1.5G", "1k", "99999999999999999999", "1,2"] {
            assert!(words("m", value).is_err(), "{value}");
        }
        assert!(words("m", "18014398509481984G").is_err(), "beyond 64 bits");
    }

    #[test]
    fn processors_are_mapped_or_the_nearest_is_named() {
        for (value, own) in [
            ("486", "486"),
            ("pentium4", "pentium4"),
            ("qemu32", "pentium4"),
            ("host", "max"),
        ] {
            assert_eq!(one("cpu", value), format!("--cpu={own}"));
        }
        for (value, nearest) in [
            ("pentium2", "--cpu pentium3"),
            ("pentuim", "--cpu pentium"),
            ("Nehalem", "--cpu max"),
            ("pentium3,+sse2", "--cpu pentium3"),
        ] {
            let reason = words("cpu", value).unwrap_err();
            assert!(reason.ends_with(nearest), "{value}: {reason}");
        }
    }

    #[test]
    fn what_ring1_does_anyway_needs_no_words() {
        for (name, value) in [
            ("nographic", ""),
            ("accel", "tcg"),
            ("display", "none"),
            ("M", "pc,accel=tcg"),
            ("smp", "1"),
            ("device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
        ] {
            assert_eq!(words(name, value), Ok(Vec::new()), "-{name} {value}");
        }
    }

    #[test]
    fn what_ring1_has_not_is_refused_with_a_reason() {
        for (name, value, reason) in [
            ("smp", "2", "one processor"),
            ("hda", "x.img", "no disks"),
            ("display", "gtk", "-nographic"),
            ("M", "q35", "-M pc"),
            ("serial", "pty", "--serial none"),
            ("device", "isa-debug-exit,iobase=0x501", "F4h"),
            ("device", "isa-debug-exit", "F4h"),
            ("device", "e1000", "no such device"),
        ] {
            let error = words(name, value).unwrap_err();
            assert!(error.contains(reason), "-{name} {value}: {error}");
        }
    }

    #[test]
    fn debugging_options_are_translated() {
        assert_eq!(one("s", ""), "--gdb=127.0.0.1:1234");
        assert_eq!(one("S", ""), "--gdb-wait");
        assert_eq!(one("gdb", "tcp::1234"), "--gdb=:1234");
        assert_eq!(one("d", "int,in_asm"), "--log=int,block");
        assert_eq!(one("D", "file"), "--log-file=file");
    }
}
