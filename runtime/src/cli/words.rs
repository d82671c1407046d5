//! From the words that a user typed to those that clap parses.
//!
//! clap knows the options of ring1 and nothing else; this walks the words before it
//! does and rewrites those of QEMU ([`super::qemu`]). What takes a value, and which names
//! exist, it asks clap's own definitions, so there is no second list of them. Words that
//! neither vocabulary has are refused here if they begin with one dash, as clap would
//! take them for a heap of one-letter options, and left to clap otherwise.
//!
//! A machine file ([`super::machine`]) is put in front of the options, as words, too.
//!
//! Only commands that take a guest are touched, and a command line that begins with an
//! option means `boot`.

use super::machine::{Machine, MachineError};
use super::nearest::nearest;
use super::qemu::{self, Meaning};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The commands that take a guest.
const GUEST_COMMANDS: [&str; 2] = ["boot", "dump"];
/// The option that names a machine file; it can be given without the option, too.
const MACHINE: &str = "machine";
/// Options of the program itself: ring1's spellings, and QEMU's with their translations.
const PROGRAM_OPTIONS: [(&str, &str); 6] = [
    ("-h", "-h"),
    ("--help", "--help"),
    ("-help", "--help"),
    ("-V", "-V"),
    ("--version", "--version"),
    ("-version", "--version"),
];

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    /// Its words.
    #[error(transparent)]
    Usage(#[from] Error),
    /// Its machine file.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// A command line that clap understands.
#[derive(Debug)]
pub struct Translated {
    /// Its words, the program's name first.
    pub words: Vec<OsString>,
    /// The machine file that some of them come from.
    pub machine: Option<Machine>,
}

/// The words of a command line, the program's name first, in ring1's spelling.
///
/// # Errors
/// An option of QEMU that means nothing here, or one that neither program has; a machine
/// file that makes no sense.
pub fn translate(program: &Command, words: Vec<OsString>) -> Result<Translated, CommandLineError> {
    let mut typed = VecDeque::from(words);
    let mut done: Vec<OsString> = typed.pop_front().into_iter().collect();
    let first = typed.front().and_then(|word| word.to_str()).unwrap_or("");
    let own = PROGRAM_OPTIONS.iter().find(|(option, _)| *option == first);
    if let Some((_, option)) = own {
        typed.pop_front();
        done.push(option.into());
    } else if let Some(command) = GUEST_COMMANDS.iter().find(|name| **name == first) {
        typed.pop_front();
        done.push(command.into());
        return Walk::new(program, command, typed, done)?.run();
    } else if first.len() > 1 && first.starts_with('-') {
        done.push("boot".into());
        return Walk::new(program, "boot", typed, done)?.run();
    }
    done.extend(typed);
    Ok(Translated {
        words: done,
        machine: None,
    })
}

/// A walk through the words behind a command.
struct Walk {
    command: Command,
    typed: VecDeque<OsString>,
    done: Vec<OsString>,
    /// Where the words behind the command begin.
    start: usize,
    /// The options among them.
    given: BTreeSet<String>,
    file: Option<PathBuf>,
}

impl Walk {
    fn new(
        program: &Command,
        name: &str,
        typed: VecDeque<OsString>,
        done: Vec<OsString>,
    ) -> Result<Self, Error> {
        let mut program = program.clone();
        // Only a built command has its -h, and its name in messages.
        program.build();
        let command = program.find_subcommand(name).cloned();
        Ok(Self {
            command: command.ok_or_else(|| Error::new(ErrorKind::InvalidSubcommand))?,
            typed,
            start: done.len(),
            done,
            given: BTreeSet::new(),
            file: None,
        })
    }

    fn run(mut self) -> Result<Translated, CommandLineError> {
        while let Some(word) = self.typed.pop_front() {
            let text = word.to_string_lossy().into_owned();
            match text.as_str() {
                "--" => {
                    self.done.push(word);
                    for word in std::mem::take(&mut self.typed) {
                        self.positional(word);
                    }
                }
                text if text.starts_with("--") => self.double_dash(text, word)?,
                text if text.len() > 1 && text.starts_with('-') => self.single_dash(text)?,
                _ => self.positional(word),
            }
        }
        self.with_machine()
    }

    /// Puts the words of the machine file, if there is one, in front of the others.
    fn with_machine(mut self) -> Result<Translated, CommandLineError> {
        let machine = match &self.file {
            Some(file) => Some(Machine::read(file, &self.command, &self.given)?),
            None => None,
        };
        if let Some(machine) = &machine {
            let words = machine.words.iter().cloned();
            self.done.splice(self.start..self.start, words);
        }
        Ok(Translated {
            words: self.done,
            machine,
        })
    }

    fn positional(&mut self, word: OsString) {
        if is_machine_file(&word) {
            self.file.get_or_insert_with(|| PathBuf::from(&word));
        }
        self.done.push(word);
    }

    /// ring1's own spelling, or QEMU's with the second dash that it lets pass.
    fn double_dash(&mut self, text: &str, word: OsString) -> Result<(), Error> {
        let (name, value) = option(text);
        let arg = find(&self.command, |arg| arg.get_long() == Some(name));
        let meaning = qemu::meaning(name);
        let follows = match (arg.map(takes_value), meaning) {
            (None, Some(meaning)) if value.is_none() => return self.qemu(text, meaning),
            (Some(true), _) if value.is_none() => self.typed.pop_front(),
            _ => None,
        };
        if name == MACHINE {
            let value = value.map(OsString::from).or(follows.clone());
            self.file = value.map(PathBuf::from);
        }
        self.done.push(word);
        self.done.extend(follows);
        self.given.insert(name.into());
        Ok(())
    }

    fn single_dash(&mut self, word: &str) -> Result<(), Error> {
        let name = &word[1..];
        let letter = |arg: &Arg| arg.get_short().is_some_and(|c| name == c.to_string());
        let meaning = qemu::meaning(name);
        if find(&self.command, letter).is_some() {
            let option = meaning.and_then(Meaning::option);
            self.given.extend(option.map(String::from));
            self.done.push(word.into());
            return Ok(());
        }
        if let Some(meaning) = meaning {
            return self.qemu(word, meaning);
        }
        match find(&self.command, |arg| arg.get_long() == Some(name)) {
            Some(_) => {
                let word = format!("-{word}");
                self.double_dash(&word, OsString::from(&word))
            }
            None => Err(self.unknown(word)),
        }
    }

    fn qemu(&mut self, word: &str, meaning: Meaning) -> Result<(), Error> {
        let value = match meaning.takes_value() {
            false => OsString::new(),
            true => self.typed.pop_front().ok_or_else(|| {
                let message = format!("a value is required for '{word}' but none was supplied");
                self.error(ErrorKind::InvalidValue, &message)
            })?,
        };
        match meaning.words(&value) {
            Ok(words) => {
                let texts = words.iter().map(|word| word.to_string_lossy());
                self.given.extend(texts.map(|text| option(&text).0.into()));
                self.done.extend(words);
            }
            Err(reason) => return Err(self.refused(word, &value, &reason)),
        }
        Ok(())
    }

    fn refused(&mut self, word: &str, value: &OsStr, reason: &str) -> Error {
        let space = if value.is_empty() { "" } else { " " };
        let message = format!("'{word}{space}{}': {reason}", value.to_string_lossy());
        self.error(ErrorKind::InvalidValue, &message)
    }

    /// An option that neither vocabulary has.
    fn unknown(&mut self, word: &str) -> Error {
        let longs = self.command.get_arguments().filter_map(Arg::get_long);
        let own = longs.map(|long| (long, format!("'--{long}'")));
        let foreign = qemu::TABLE.iter().map(|(name, meaning)| {
            let shown = match meaning.option() {
                Some(option) => format!("'--{option}', QEMU's '-{name}'"),
                None => format!("QEMU's '-{name}'"),
            };
            (*name, shown)
        });
        let hint = match nearest(&word[1..], own.chain(foreign)) {
            Some(name) => format!("; the nearest is {name}"),
            None => String::from("; docs/qemu-options.md lists those"),
        };
        let message =
            format!("'{word}' is no option of ring1, nor one of QEMU's that it knows{hint}");
        self.error(ErrorKind::UnknownArgument, &message)
    }

    fn error(&mut self, kind: ErrorKind, message: &str) -> Error {
        self.command.error(kind, message)
    }
}

/// Name and value of a word that begins with two dashes.
fn option(word: &str) -> (&str, Option<&str>) {
    match word[2..].split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&word[2..], None),
    }
}

/// Whether a file's name says that it describes a machine.
pub fn is_machine_file(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(b".toml")
}

fn find(command: &Command, found: impl Fn(&Arg) -> bool) -> Option<&Arg> {
    command.get_arguments().find(|arg| found(arg))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn translated(words: &[&str]) -> Result<Vec<String>, String> {
        let words = ["ring1"].iter().chain(words).map(OsString::from).collect();
        let done = translate(&Cli::command(), words).map_err(|error| error.to_string())?;
        let text = |word: OsString| word.into_string().unwrap();
        Ok(done.words.into_iter().skip(1).map(text).collect())
    }

    fn expect(typed: &[&str], words: &[&str]) {
        let words = words.iter().map(|word| String::from(*word)).collect();
        assert_eq!(translated(typed), Ok(words), "{typed:?}");
    }

    #[test]
    fn a_command_line_of_qemu_boots() {
        expect(
            &[
                "-kernel",
                "k",
                "-m",
                "1G",
                "-append",
                "-x",
                "-nographic",
                "-no-reboot",
            ],
            &["boot", "--kernel=k", "--memory=1024", "--append=-x"],
        );
        expect(&["-nographic"], &["boot"]);
        expect(&["--nographic", "--m", "64"], &["boot", "--memory=64"]);
    }

    #[test]
    fn own_spellings_stay_as_they_are() {
        for words in [
            &["boot", "--kernel", "-m", "--append", "-nographic"][..],
            &["boot", "--append=-hda x", "-h"],
            &["boot", "--", "-m", "1"],
            &["boot", "--unknown", "--unknown=1"],
            &["selftest", "-m", "1"],
            &["help", "boot"],
            &["-V"],
            &[],
        ] {
            expect(words, words);
        }
        expect(&["--kernel", "k"], &["boot", "--kernel", "k"]);
    }

    #[test]
    fn a_machine_file_is_looked_for_where_clap_sees_one() {
        for words in [
            &["boot", "no.toml"][..],
            &["boot", "--", "no.toml"],
            &["dump", "--machine", "no.toml"],
            &["--machine=no.toml"],
        ] {
            let error = translated(words).unwrap_err();
            assert!(
                error.starts_with("cannot read the machine file no.toml"),
                "{error}"
            );
        }
        expect(
            &["boot", "--kernel", "no.toml"],
            &["boot", "--kernel", "no.toml"],
        );
    }

    #[test]
    fn one_dash_does_for_long_options() {
        expect(
            &["boot", "-tier", "interp", "-stats"],
            &["boot", "--tier", "interp", "--stats"],
        );
        expect(&["dump", "-hottest", "3"], &["dump", "--hottest", "3"]);
        expect(&["-help"], &["--help"]);
        expect(&["-version"], &["--version"]);
    }

    #[test]
    fn the_unknown_is_answered_with_the_nearest() {
        for (words, answer) in [
            (&["-kernal", "k"][..], "the nearest is '--kernel'"),
            (&["-nografic"], "the nearest is QEMU's '-nographic'"),
            (&["-gbd", "x"], "-gdb'"),
            (&["-hottest", "1"], "is no option of ring1"),
            (&["-xyzzy"], "docs/qemu-options.md"),
            (&["-hda", "disk"], "ring1 has no disks"),
            (&["-smp", "4"], "'-smp 4': ring1 has one processor"),
            (&["-m"], "a value is required for '-m'"),
        ] {
            let error = translated(words).unwrap_err();
            assert!(error.contains(answer), "{words:?}: {error}");
        }
    }
}
