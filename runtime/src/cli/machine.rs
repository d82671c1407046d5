//! Machine files: the options of a guest, kept in a file.
//!
//! A file is TOML. Its keys are the long options, its tables the groups in which
//! `ring1 boot --help` shows them, in lower case; both come from clap's definitions, so
//! an option is a key the day it exists. A file becomes words in front of those that were
//! typed, and clap judges all of them together. Options that were typed replace their
//! keys. Paths are relative to the file's folder.
//!
//! Whatever is wrong is said with the line where it is, as far as one line is at fault.

use super::nearest::nearest;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, ValueHint};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a machine file.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// It cannot be read.
    #[error("cannot read the machine file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// One of its lines makes no sense.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A machine file as words, and where they come from.
#[derive(Debug)]
pub struct Machine {
    /// Options of ring1.
    pub words: Vec<OsString>,
    path: PathBuf,
    /// Keys and their lines.
    lines: Vec<(String, usize)>,
}

impl Machine {
    /// Reads a file, but for the keys that were `given` as options. `command` has the options.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(
        path: &Path,
        command: &Command,
        given: &BTreeSet<String>,
    ) -> Result<Self, MachineError> {
        let text = std::fs::read_to_string(path).map_err(|error| MachineError::Unreadable {
            path: path.into(),
            error,
        })?;
        let reader = Reader {
            path,
            text: &text,
            command,
        };
        reader.machine(given)
    }

    /// The line to blame for what clap found, if it is one of this file.
    pub fn blame(&self, error: &clap::Error) -> Option<MachineError> {
        let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
            return None;
        };
        let name = shown.strip_prefix("--")?.split([' ', '=']).next()?;
        let (_, line) = self.lines.iter().find(|(key, _)| key == name)?;
        // The first paragraph is the message; hints and usage are about the command line.
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        let reason = message.trim_start_matches("error: ");
        Some(MachineError::Line {
            path: self.path.clone(),
            line: *line,
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }
}

/// A text and what is needed to make sense of it.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    command: &'a Command,
}

impl Reader<'_> {
    fn machine(&self, given: &BTreeSet<String>) -> Result<Machine, MachineError> {
        let tables = DeTable::parse(self.text).map_err(|error| {
            self.wrong(error.span().unwrap_or_default(), error.message().to_owned())
        })?;
        let mut machine = Machine {
            words: Vec::new(),
            path: self.path.into(),
            lines: Vec::new(),
        };
        for (name, table) in tables.get_ref() {
            for (key, value) in self.table(name, table)? {
                let arg = self.option(name.get_ref(), key)?;
                let word = self.word(arg, key.get_ref(), value)?;
                if !given.contains(key.get_ref().as_ref()) {
                    let line = self.line(key.span().start);
                    machine.lines.push((key.get_ref().to_string(), line));
                    machine.words.extend(word);
                }
            }
        }
        Ok(machine)
    }

    /// The keys of a table that may be there.
    fn table<'t, 'i>(
        &self,
        name: &Spanned<impl AsRef<str>>,
        table: &'t Spanned<DeValue<'i>>,
    ) -> Result<&'t DeTable<'i>, MachineError> {
        let (span, name) = (name.span(), name.get_ref().as_ref());
        let tables: BTreeSet<String> = self.options().map(|(table, _, _)| table).collect();
        if let (true, DeValue::Table(keys)) = (tables.contains(name), table.get_ref()) {
            return Ok(keys);
        }
        if let Some((home, ..)) = self.options().find(|(_, key, _)| *key == name) {
            return Err(self.wrong(span, format!("`{name}` belongs into the table [{home}]")));
        }
        let hint = match nearest(name, tables.iter().map(|table| (table.as_str(), table))) {
            Some(near) => format!("; the nearest is [{near}]"),
            None => {
                let all: Vec<_> = tables.iter().map(|table| format!("[{table}]")).collect();
                format!("; there are {}", all.join(", "))
            }
        };
        Err(self.wrong(span, format!("`{name}` is no table of a machine{hint}")))
    }

    /// All options that can be keys: table, key, definition.
    fn options(&self) -> impl Iterator<Item = (String, &str, &Arg)> {
        let all = self.command.get_arguments();
        all.filter_map(|arg| Some((arg.get_help_heading()?.to_lowercase(), arg.get_long()?, arg)))
    }

    fn option(&self, table: &str, key: &Spanned<impl AsRef<str>>) -> Result<&Arg, MachineError> {
        let (span, key) = (key.span(), key.get_ref().as_ref());
        match self.options().find(|(_, name, _)| *name == key) {
            Some((home, _, arg)) if home == table => return Ok(arg),
            Some((home, ..)) => {
                let reason = format!("`{key}` belongs into the table [{home}]");
                return Err(self.wrong(span, reason));
            }
            None => {}
        }
        let names = self.options().map(|(home, name, _)| (name, (home, name)));
        let hint = match nearest(key, names) {
            Some((home, name)) if home == table => format!("; the nearest is `{name}`"),
            Some((home, name)) => format!("; the nearest is `{name}` in [{home}]"),
            None => String::new(),
        };
        Err(self.wrong(span, format!("unknown key `{key}`{hint}")))
    }

    /// A key and its value as a word; none for a flag that is off.
    fn word(
        &self,
        arg: &Arg,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Option<OsString>, MachineError> {
        let wrong = |what: &str| Err(self.wrong(value.span(), format!("`{key}` must be {what}")));
        if !arg.get_action().takes_values() {
            return match value.get_ref() {
                DeValue::Boolean(on) => Ok(on.then(|| format!("--{key}").into())),
                _ => wrong("true or false"),
            };
        }
        let text = match (value.get_ref(), arg.get_value_delimiter()) {
            (DeValue::Array(items), Some(delimiter)) => {
                let items: Option<Vec<_>> = items.iter().map(|i| scalar(i.get_ref())).collect();
                items.map(|items| items.join(&delimiter.to_string()))
            }
            (value, _) => scalar(value),
        };
        let Some(text) = text else {
            return wrong("text or a number");
        };
        let mut word = OsString::from(format!("--{key}="));
        match arg.get_value_hint() {
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
                if !is_alternative(arg, &text) =>
            {
                let folder = self.path.parent().unwrap_or(Path::new(""));
                word.push(folder.join(text));
            }
            _ => word.push(text),
        }
        Ok(Some(word))
    }

    fn wrong(&self, span: Range<usize>, reason: String) -> MachineError {
        MachineError::Line {
            path: self.path.into(),
            line: self.line(span.start),
            reason,
        }
    }

    /// The line in which a byte of the text is, from 1 on.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Whether a value is one that stands for no path, as "off" where the value is "DIR|off".
fn is_alternative(arg: &Arg, text: &str) -> bool {
    let names = arg.get_value_names().into_iter().flatten();
    names
        .into_iter()
        .flat_map(|name| name.split('|'))
        .any(|name| name == text)
}

/// A value as the text that an option would have; integers in decimal.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => {
            let number = i128::from_str_radix(integer.as_str(), integer.radix());
            Some(number.ok()?.to_string())
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn machine(text: &str, given: &[&str]) -> Result<Vec<String>, String> {
        let program = Cli::command();
        let reader = Reader {
            path: Path::new("machines/vm.toml"),
            text,
            command: program.find_subcommand("boot").unwrap(),
        };
        let given = given.iter().map(|name| String::from(*name)).collect();
        let machine = reader.machine(&given).map_err(|error| error.to_string())?;
        let text = |word: OsString| word.into_string().unwrap();
        Ok(machine.words.into_iter().map(text).collect())
    }

    fn refused(text: &str) -> String {
        machine(text, &[]).unwrap_err()
    }

    #[test]
    fn keys_become_options() {
        let text = "[guest]\nkernel = \"k\"\ninitrd = \"/i\"\nflat = 0x7c00\n\
                    [machine]\nlocal-apic = true\ntest-device = false\ncpu = 486\n\
                    [execution]\ntimeout = 1.5\n";
        let mut words = machine(text, &[]).unwrap();
        words.sort();
        assert_eq!(
            words,
            [
                "--cpu=486",
                "--flat=31744",
                "--initrd=/i",
                "--kernel=machines/k",
                "--local-apic",
                "--timeout=1.5"
            ]
        );
    }

    #[test]
    fn only_paths_are_taken_from_the_folder() {
        let kept = |value: &str| machine(&format!("[execution]\ncode-cache = '{value}'\n"), &[]);
        assert_eq!(kept("off"), Ok(vec!["--code-cache=off".into()]));
        assert_eq!(kept("c"), Ok(vec!["--code-cache=machines/c".into()]));
    }

    #[test]
    fn options_given_replace_keys() {
        let words = machine("[machine]\nmemory = 64\nserial = \"none\"\n", &["memory"]);
        assert_eq!(words, Ok(vec!["--serial=none".into()]));
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        for (text, reason) in [
            (
                "[guest]\n\nkernal = \"k\"\n",
                "machines/vm.toml:3: unknown key `kernal`; the nearest is `kernel`",
            ),
            (
                "[guest]\nmemroy = 1\n",
                "machines/vm.toml:2: unknown key `memroy`; the nearest is `memory` in [machine]",
            ),
            (
                "[guest]\nusb = 1\n",
                "machines/vm.toml:2: unknown key `usb`",
            ),
            (
                "[guest]\nmemory = 1\n",
                "machines/vm.toml:2: `memory` belongs into the table [machine]",
            ),
            (
                "memory = 1\n",
                "machines/vm.toml:1: `memory` belongs into the table [machine]",
            ),
            (
                "[gest]\n",
                "machines/vm.toml:1: `gest` is no table of a machine; the nearest is [guest]",
            ),
            (
                "[machine]\nlocal-apic = 1\n",
                "machines/vm.toml:2: `local-apic` must be true or false",
            ),
            (
                "[machine]\nmemory = true\n",
                "machines/vm.toml:2: `memory` must be text or a number",
            ),
            (
                "[guest]\nhelp = true\n",
                "machines/vm.toml:2: unknown key `help`",
            ),
        ] {
            assert_eq!(refused(text), reason);
        }
        assert!(refused("guest = 1\n").contains("vm.toml:1: "));
        assert!(refused("[guest]\nkernel = \n").starts_with("machines/vm.toml:2: "));
    }
}
