//! The command line as a user meets it: `ring1` is started, and what it says, where
//! and with which exit status, is looked at.

use runtime::cli;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn ring1(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    // Code that is kept is none of the user's.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(words).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it says on standard error, with the exit status for wrong usage.
fn refusal(words: &[&str]) -> String {
    let output = ring1(words);
    assert_eq!(output.status.code(), Some(2), "{words:?}");
    assert_eq!(said(&output.stdout), "", "{words:?}");
    said(&output.stderr)
}

#[test]
fn a_command_line_of_qemu_runs_a_guest() {
    // The embedded guest, whose report needs no kernel.
    let words = "-m 64M -accel tcg -cpu qemu32 -display none -serial mon:stdio -no-reboot";
    let output = ring1(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    assert!(said(&output.stdout).contains("hello from a guest"));
}

#[test]
fn the_embedded_guest_can_be_had_as_a_file() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest.elf");
    let name = file.to_str().unwrap();
    let output = ring1(&["guest", name]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    let image = fs::read(&file).unwrap();
    // What debuggers read, and sources named from the repository's root on.
    let has = |text: &str| {
        image
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has(".debug_line") && has("samples/guests/default/syscall.c"));
    assert!(!has("/samples/guests/default/syscall.c"));
    // It is the same guest.
    let output = ring1(&["boot", "--kernel", name]);
    assert_eq!(output.status.code(), Some(33), "{}", said(&output.stderr));
    assert!(said(&output.stdout).contains("all is well"));
    let output = ring1(&["guest", "/nonexistent/guest.elf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output.stderr).contains("cannot write /nonexistent/guest.elf"));
}

#[test]
fn the_serial_port_can_lead_nowhere() {
    let output = ring1(&["-serial", "none"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!said(&output.stdout).contains("hello from a guest"));
}

#[test]
fn refusals_name_the_nearest() {
    assert_eq!(
        refusal(&["-kernal", "vmlinuz"]),
        "error: '-kernal' is no option of ring1, nor one of QEMU's that it knows; \
         the nearest is '--kernel'\n\n\
         Usage: ring1 boot [OPTIONS] [FILE.toml]\n\n\
         For more information, try '--help'.\n"
    );
    let error = refusal(&["boot", "-cpu", "athlon"]);
    assert!(
        error.contains("'-cpu athlon': ring1 has no such processor; the nearest is --cpu pentium3")
    );
    let error = refusal(&["-drive", "file=disk.img"]);
    assert!(error.contains("ring1 has no disks; an --initrd can hold a file system"));
    let error = refusal(&["-kernel", "vmlinuz", "-m", "lots"]);
    assert!(error.contains("not whole MiB such as 256, 256M or 1G"));
}

/// `--help` of a command, which is an empty word for the program.
fn help(command: &str, environment: &[(&str, &str)]) -> String {
    let words = command.split_whitespace().chain(["--help"]);
    let mut program = Command::new(env!("CARGO_BIN_EXE_ring1"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        program.env_remove(name);
    }
    let output = program
        .args(words)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{command}");
    said(&output.stdout)
}

#[test]
fn help_has_examples_and_exit_statuses() {
    for command in ["", "boot", "dump", "selftest", "bench", "compare"] {
        let text = help(command, &[]);
        assert!(text.contains("\nExamples:\n  ring1"), "{command}: {text}");
        assert!(text.contains("\nExit status:\n  0  "), "{command}: {text}");
    }
    for line in [
        "  0  the guest powered off",
        "  1  a file, a setting or the host is at fault",
        "  2  wrong usage",
        "  3  the timeout or the instruction limit was reached",
        "  4  the guest ended by a triple fault, a reset, or HLT with interrupts off",
        "  NO_COLOR        if not empty, no colours",
    ] {
        assert!(help("", &[]).contains(line), "{line}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    const ESCAPE: char = '\x1b';
    let force = ("CLICOLOR_FORCE", "1");
    assert!(!help("boot", &[]).contains(ESCAPE));
    assert!(help("boot", &[force]).contains(ESCAPE));
    assert!(!help("boot", &[force, ("NO_COLOR", "1")]).contains(ESCAPE));
}

#[test]
fn what_ring1_itself_prints_has_no_colours() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ring1"));
    program.args(["boot", "--code-cache", "off"]);
    let output = program.env("CLICOLOR_FORCE", "1").output().unwrap();
    let text = said(&output.stdout) + &said(&output.stderr);
    assert!(text.contains("guest instructions") && !text.contains('\x1b'));
}

#[test]
fn completions_know_every_command_and_option() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ring1(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = said(&output.stdout);
        for word in [
            "selftest",
            "local-apic",
            "hottest",
            "pentium3",
            "completions",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("selftest-helper"), "{shell}");
    }
}

#[test]
fn bash_takes_its_completions() {
    let script = said(&ring1(&["completions", "bash"]).stdout);
    let ask = "COMP_WORDS=(ring1 boot --loc); COMP_CWORD=2; _ring1 ring1 --loc boot; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", &format!("{script}\n{ask}")])
        .output()
        .unwrap();
    assert_eq!(
        said(&output.stdout),
        "--local-apic\n",
        "{}",
        said(&output.stderr)
    );
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let page = said(&ring1(&["man"]).stdout);
    assert!(page.contains(".TH ring1 1"), "{page}");
    assert!(page.contains("HLT with interrupts off"), "{page}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("man");
    let _ = fs::remove_dir_all(&folder);
    let output = ring1(&["man", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    let page = fs::read_to_string(folder.join("ring1-boot.1")).unwrap();
    assert!(page.contains("local\\-apic"), "{page}");
    assert!(folder.join("ring1.1").exists());
    assert!(!folder.join("ring1-selftest-helper.1").exists());
    fs::remove_dir_all(&folder).unwrap();
}

/// A machine file with this text, and what `ring1 boot` with it and more words says.
fn boot_machine(name: &str, text: &str, more: &[&str]) -> Output {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    let output = ring1(&[&["boot", file.to_str().unwrap()], more].concat());
    fs::remove_file(&file).unwrap();
    output
}

#[test]
fn a_machine_file_describes_the_guest() {
    let text = "[machine]\nmemory = 64\nserial = 'none'\n[execution]\ntier = 'interp'\n";
    let quiet = boot_machine("quiet.toml", text, &[]);
    assert_eq!(quiet.status.code(), Some(0), "{}", said(&quiet.stderr));
    assert!(!said(&quiet.stdout).contains("hello from a guest"));
    let loud = boot_machine("loud.toml", text, &["-serial", "stdio", "--tier=auto"]);
    assert!(said(&loud.stdout).contains("hello from a guest"));
}

#[test]
fn a_machine_files_mistakes_are_named_with_file_and_line() {
    for (name, text, reason) in [
        (
            "key.toml",
            "[machine]\n\nmemroy = 64\n",
            ":3: unknown key `memroy`; the nearest is `memory`\n",
        ),
        (
            "value.toml",
            "[execution]\ntier = 'jit'\n",
            ":2: invalid value 'jit' for '--tier <TIER>' [possible values: ",
        ),
        (
            "range.toml",
            "[machine]\nmemory = -1\n",
            ":2: invalid value '-1' for '--memory <MIB>': ",
        ),
        ("syntax.toml", "[machine\n", ":1: "),
    ] {
        let output = boot_machine(name, text, &[]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let error = said(&output.stderr);
        assert!(
            error.starts_with("ring1: ") && error.contains(&format!("{name}{reason}")),
            "{error}"
        );
    }
}

#[test]
fn the_fault_of_an_option_is_not_blamed_on_the_file() {
    let output = boot_machine(
        "fine.toml",
        "[machine]\nmemory = 64\n",
        &["--memory", "lots"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output.stderr).contains("invalid value 'lots'"));
    let error = refusal(&["boot", "disk.img"]);
    assert!(
        error.contains("the name of a machine file ends in .toml"),
        "{error}"
    );
}

#[test]
fn the_sample_machine_is_a_machine() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/machines/debian.toml");
    let words = ["ring1", "boot", file.to_str().unwrap(), "-m", "64"];
    let cli = cli::parse(words.map(Into::into)).unwrap();
    let Some(cli::Command::Boot(guest)) = cli.command else {
        panic!("not parsed as boot");
    };
    let config = guest.to_config().unwrap();
    assert_eq!(config.memory_mib, 64);
    assert!(config.stats);
    let folder = file.parent().unwrap();
    assert_eq!(
        config.kernel,
        Some(folder.join("../../target/debian/vmlinuz-686-pae"))
    );
}
