//! QEMU's spellings of the options that ring1 has, too.
//!
//! [`TABLE`] is the vocabulary: each option of QEMU that people use to boot a kernel,
//! and what it means here. That is one of three things: options of ring1; nothing, as
//! ring1 does what it asks for anyway; or a refusal, in a sentence that says what comes
//! nearest. An option that would change what the guest sees is never quietly dropped.
//! `docs/qemu-options.md` has the same table for readers; a test compares the two.

mod values;

use std::ffi::{OsStr, OsString};
use values::{cpu, device, gdb, log, machine, memory, monitor, serial};

/// What an option of QEMU means here.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// A flag that asks for what ring1 does anyway.
    Nothing,
    /// The same for these values, of which `*` is any; others are refused with this sentence.
    Only(&'static [&'static str], &'static str),
    /// The option of ring1 with this name, with the same value.
    Same(&'static str),
    /// This word; no value follows.
    Word(&'static str),
    /// The words that this makes of the value, or the reason why there are none.
    Words(fn(&str) -> Result<Vec<String>, String>),
    /// Refused with this sentence.
    Refused(&'static str),
}

use Meaning::{Nothing, Only, Refused, Same, Word, Words};

const NO_DISK: &str = "ring1 has no disks; an --initrd can hold a file system";
const NO_NETWORK: &str = "ring1 has no network; '-nic none' is accepted";
const NO_DISPLAY: &str = "ring1 has no display; '-nographic' is what it does";
const NO_QMP: &str = "ring1's monitor does not speak QMP; --monitor has JSON of its own";
const NOTHING_TO_SAVE: &str = "ring1 saves and loads no states; '-snapshot' is accepted";

/// QEMU's options, without their dash, by what they are about.
pub const TABLE: &[(&str, Meaning)] = &[
    ("kernel", Same("kernel")),
    ("initrd", Same("initrd")),
    ("append", Same("append")),
    ("bios", Same("rom")),
    ("m", Words(memory)),
    ("cpu", Words(cpu)),
    ("serial", Words(serial)),
    ("device", Words(device)),
    ("s", Word("--gdb=127.0.0.1:1234")),
    ("S", Word("--gdb-wait")),
    ("gdb", Words(gdb)),
    ("d", Words(log)),
    ("D", Same("log-file")),
    ("dfilter", Same("log-filter")),
    ("nographic", Nothing),
    ("no-reboot", Nothing),
    ("snapshot", Nothing),
    ("enable-kvm", Nothing),
    ("nodefaults", Nothing),
    ("no-user-config", Nothing),
    ("no-hpet", Nothing),
    ("no-fd-bootchk", Nothing),
    (
        "accel",
        Only(
            &["tcg", "kvm"],
            "ring1 translates, as '-accel tcg' does; see --tier",
        ),
    ),
    ("M", Words(machine)),
    ("machine", Words(machine)),
    ("smp", Only(&["1"], "ring1 has one processor")),
    ("display", Only(&["none"], NO_DISPLAY)),
    ("vga", Only(&["none"], NO_DISPLAY)),
    ("monitor", Words(monitor)),
    ("parallel", Only(&["none"], "ring1 has no parallel port")),
    ("net", Only(&["none"], NO_NETWORK)),
    ("nic", Only(&["none"], NO_NETWORK)),
    (
        "rtc",
        Only(
            &["base=utc"],
            "ring1's clock shows the host's UTC, as '-rtc base=utc' asks",
        ),
    ),
    ("name", Only(&["*"], "")),
    ("netdev", Refused(NO_NETWORK)),
    ("hda", Refused(NO_DISK)),
    ("hdb", Refused(NO_DISK)),
    ("hdc", Refused(NO_DISK)),
    ("hdd", Refused(NO_DISK)),
    ("fda", Refused(NO_DISK)),
    ("fdb", Refused(NO_DISK)),
    ("cdrom", Refused(NO_DISK)),
    ("drive", Refused(NO_DISK)),
    ("blockdev", Refused(NO_DISK)),
    ("boot", Refused(NO_DISK)),
    ("sdl", Refused(NO_DISPLAY)),
    ("curses", Refused(NO_DISPLAY)),
    ("vnc", Refused(NO_DISPLAY)),
    ("qmp", Refused(NO_QMP)),
    (
        "usb",
        Refused("ring1 has no USB; the serial port is the keyboard"),
    ),
    (
        "pflash",
        Refused("ring1 has no flash memory; --rom starts a firmware ROM"),
    ),
    (
        "chardev",
        Refused("ring1 has no character devices; --serial says where the serial port leads"),
    ),
    ("loadvm", Refused(NOTHING_TO_SAVE)),
    (
        "debugcon",
        Refused("what the guest writes to port E9h is on standard error, without an option"),
    ),
    (
        "icount",
        Refused("ring1 counts instructions, but time is the host's; --limit stops by count"),
    ),
    (
        "no-acpi",
        Refused("ring1's board has ACPI; 'acpi=off' in --append makes Linux ignore it"),
    ),
    (
        "no-shutdown",
        Refused("ring1 ends with the guest; --stats shows what it did"),
    ),
    (
        "daemonize",
        Refused("ring1 stays in the foreground; a shell's '&' puts it elsewhere"),
    ),
];

/// The meaning of an option, by its name without the dash.
pub fn meaning(name: &str) -> Option<Meaning> {
    let row = TABLE.iter().find(|(known, _)| *known == name)?;
    Some(row.1)
}

impl Meaning {
    /// Whether the next word is the option's value.
    pub fn takes_value(self) -> bool {
        matches!(self, Only(..) | Same(_) | Words(_))
    }

    /// The option of ring1 that it always means.
    pub fn option(self) -> Option<&'static str> {
        match self {
            Same(name) => Some(name),
            Word(word) => word.trim_start_matches('-').split('=').next(),
            _ => None,
        }
    }

    /// The option with this value, which is empty if it takes none, in words of ring1.
    ///
    /// # Errors
    /// A sentence that says why there are none.
    pub fn words(self, value: &OsStr) -> Result<Vec<OsString>, String> {
        let text = value.to_str().ok_or("the value is not UTF-8");
        match self {
            Nothing => Ok(Vec::new()),
            Only(values, otherwise) => match values.contains(&"*") || values.contains(&text?) {
                true => Ok(Vec::new()),
                false => Err(otherwise.into()),
            },
            Same(name) => {
                let mut word = OsString::from(format!("--{name}="));
                word.push(value);
                Ok(vec![word])
            }
            Word(word) => Ok(vec![word.into()]),
            Words(make) => Ok(make(text?)?.into_iter().map(OsString::from).collect()),
            Refused(sentence) => Err(sentence.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_option() {
        let document = include_str!("../../../docs/qemu-options.md");
        for (name, _) in TABLE {
            let shown = format!("`-{name}");
            let listed = document.match_indices(&shown).any(|(at, _)| {
                let after = document[at + shown.len()..].chars().next();
                after.is_some_and(|c| c == '`' || c == ' ')
            });
            assert!(listed, "-{name} is not in docs/qemu-options.md");
        }
    }
}
