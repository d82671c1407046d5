//! The commands: their names, their help, and which function carries each out.
//!
//! [`COMMANDS`] is the whole vocabulary. Names of QEMU's monitor that people have in their
//! fingers are accepted for the same things.

use super::answer::{Answer, Outcome};
use super::{Effect, Monitor, blocks, info, memory, shadow};
use crate::cli::number;
use crate::vm::Vm;
use serde_json::{Value, json};
use shadow_mmu::LinearAddr;
use translator::insn::Gpr;

/// An answer, and what else is to be done.
type Done = Result<(Answer, Effect), String>;

/// Most instructions of one step.
const MOST_STEPS: u64 = 1_000_000;

/// A command.
pub struct Command {
    /// Its name, and other names for it.
    pub names: &'static [&'static str],
    /// What follows the name.
    pub arguments: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// What else there is to know.
    pub more: &'static str,
    run: fn(&mut Vm, &Monitor, &str) -> Done,
}

/// What `info` tells about.
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// What follows the name.
    pub arguments: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    run: fn(&mut Vm, &Monitor, &str) -> Outcome,
}

/// All commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { names: &["help", "h", "?"], arguments: "[COMMAND]", help: "this list, or more about one command", more: "", run: |_, _, about| plain(help(about)) },
    Command { names: &["info", "i"], arguments: "TOPIC", help: "look into the machine", more: "Without a topic, the list of topics.", run: |vm, monitor, topic| plain(about(vm, monitor, topic)) },
    Command { names: &["x"], arguments: "[/FMT] ADDRESS", help: "memory at a linear address", more: memory::FORMATS, run: |vm, _, text| plain(memory::examine(vm, text, memory::Kind::Linear)) },
    Command { names: &["xp"], arguments: "[/FMT] ADDRESS", help: "memory at a physical address", more: memory::FORMATS, run: |vm, _, text| plain(memory::examine(vm, text, memory::Kind::Physical)) },
    Command { names: &["dump"], arguments: "block EIP [FILE] | hottest N [FILE] | memory ADDRESS BYTES FILE | physical ADDRESS BYTES FILE", help: "blocks with their translation; memory into a file", more: "A block is shown as guest assembly and as the code that runs instead of it. FILE is a file on the host; it is replaced.", run: |vm, _, what| plain(blocks::dump(vm, what)) },
    Command { names: &["pause", "stop"], arguments: "", help: "let the guest stand", more: "Its time goes on.", run: |vm, _, rest| { none(rest)?; Ok((info::position(vm), Effect::Pause)) } },
    Command { names: &["continue", "cont", "c"], arguments: "", help: "let the guest run", more: "A guest that a debugger holds stands all the same.", run: |_, _, rest| { none(rest)?; Ok((Answer::new("", json!({})), Effect::Continue)) } },
    Command { names: &["step", "s"], arguments: "[N]", help: "run one instruction, or N, and pause", more: "Interrupts wait meanwhile, unless the processor is halted: then the step ends when one has been delivered.", run: |vm, _, count| Ok((info::position(vm), Effect::Step(steps(count)?))) },
    Command { names: &["reset", "system_reset"], arguments: "", help: "reset the machine; the image is loaded anew", more: "A paused guest stands before its first instruction then. Counts and limits go on.", run: reset },
    Command { names: &["power", "system_powerdown"], arguments: "", help: "press the power button", more: "The guest is told by an ACPI event, PWRBTN_STS with the SCI, if it has enabled that. What it does then is its own affair.", run: |vm, _, rest| { none(rest)?; plain(Ok(power(vm))) } },
    Command { names: &["nmi"], arguments: "", help: "signal a non-maskable interrupt", more: "", run: |vm, _, rest| { none(rest)?; vm.signal_nmi(); plain(Ok(Answer::new("", json!({})))) } },
    Command { names: &["screenshot", "screendump"], arguments: "", help: "answers that there is no screen", more: "", run: |_, _, _| Err("there is no screen: the guest's display is its serial port".into()) },
    Command { names: &["quit", "q"], arguments: "", help: "end the machine", more: "The guest is not asked; `power` asks it.", run: |_, _, rest| { none(rest)?; Ok((Answer::new("", json!({})), Effect::Quit)) } },
];

/// All topics of `info`.
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    Topic { name: "status", arguments: "", help: "whether the guest runs, and how far it is", run: |vm, monitor, _| Ok(info::status(vm, monitor)) },
    Topic { name: "registers", arguments: "", help: "all registers but those of the FPU", run: |vm, _, _| Ok(info::registers(vm)) },
    Topic { name: "tlb", arguments: "[ADDRESS]", help: "what the shadow tables hold, or know of an address", run: |vm, _, at| shadow::tlb(vm, at) },
    Topic { name: "shadow", arguments: "", help: "counts of the shadow MMU", run: |vm, _, _| Ok(shadow::counts(vm)) },
    Topic { name: "blocks", arguments: "[N]", help: "the translation cache, and its N hottest blocks", run: |vm, _, count| blocks::list(vm, count) },
    Topic { name: "devices", arguments: "", help: "devices, their ports and accesses", run: |vm, _, _| Ok(info::devices(vm)) },
    Topic { name: "irq", arguments: "", help: "the interrupt controllers and what waits", run: |vm, _, _| Ok(info::irq(vm)) },
    Topic { name: "stats", arguments: "", help: "what the VMM did, and where the time went", run: |vm, _, _| Ok(info::stats(vm)) },
];

/// Carries out a line.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn run(vm: &mut Vm, monitor: &Monitor, line: &str) -> Done {
    let (name, rest) = split(line);
    // The format may follow at once, as in x/4xw.
    let (name, rest) = match name.split_once('/') {
        Some((name @ ("x" | "xp"), _)) => (name, line.trim_start()[name.len()..].trim()),
        _ => (name, rest),
    };
    let command = find(name).ok_or_else(|| format!("there is no command `{name}`; try help"))?;
    (command.run)(vm, monitor, rest)
}

/// The first word, and the rest.
pub(super) fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (first, rest.trim())
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.names.contains(&name))
}

fn plain(outcome: Outcome) -> Done {
    outcome.map(|answer| (answer, Effect::None))
}

/// Nothing may follow.
fn none(rest: &str) -> Result<(), String> {
    match rest {
        "" => Ok(()),
        rest => Err(format!("nothing is expected here, not `{rest}`")),
    }
}

fn usage(name: &str, arguments: &str) -> String {
    format!("{name} {arguments}").trim_end().to_owned()
}

fn help(about: &str) -> Outcome {
    if about.is_empty() {
        let rows = COMMANDS.iter().map(|c| (c.names[0], c.arguments, c.help));
        return Ok(list(rows));
    }
    let (name, topic) = split(about);
    let command = find(name).ok_or_else(|| format!("there is no command `{name}`"))?;
    if command.names[0] == "info" && !topic.is_empty() {
        let topic = find_topic(topic)?;
        let text = format!(
            "info {}\n  {}",
            usage(topic.name, topic.arguments),
            topic.help
        );
        return Ok(Answer::new(
            text,
            json!({"usage": topic.arguments, "help": topic.help}),
        ));
    }
    let mut text = format!(
        "{}\n  {}\n",
        usage(command.names[0], command.arguments),
        command.help
    );
    for line in command.more.lines() {
        text += &format!("  {line}\n");
    }
    if command.names.len() > 1 {
        text += &format!("  also: {}\n", command.names[1..].join(", "));
    }
    let data = json!({
        "names": command.names,
        "usage": usage(command.names[0], command.arguments),
        "help": command.help,
        "more": command.more,
    });
    Ok(Answer::new(text, data))
}

fn list<'a>(rows: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Answer {
    let mut text = String::new();
    let mut data = Vec::new();
    for (name, arguments, help) in rows {
        let short = match arguments.len() {
            0..20 => arguments,
            _ => "…",
        };
        text += &format!("{:<24} {help}\n", usage(name, short));
        data.push(json!({"name": name, "arguments": arguments, "help": help}));
    }
    Answer::new(text, Value::Array(data))
}

fn find_topic(name: &str) -> Result<&'static Topic, String> {
    let found = TOPICS.iter().find(|topic| topic.name == name);
    found.ok_or_else(|| format!("there is no topic `{name}`; try info"))
}

fn about(vm: &mut Vm, monitor: &Monitor, topic: &str) -> Outcome {
    let (name, rest) = split(topic);
    if name.is_empty() {
        return Ok(list(TOPICS.iter().map(|t| (t.name, t.arguments, t.help))));
    }
    let topic = find_topic(name)?;
    if topic.arguments.is_empty() {
        none(rest)?;
    }
    (topic.run)(vm, monitor, rest)
}

fn steps(count: &str) -> Result<u64, String> {
    let wrong = || format!("a number of instructions is 1 to {MOST_STEPS}, not `{count}`");
    let steps = match count {
        "" => 1,
        count => count.parse().map_err(|_| wrong())?,
    };
    match steps {
        1..=MOST_STEPS => Ok(steps),
        _ => Err(wrong()),
    }
}

fn reset(vm: &mut Vm, _: &Monitor, rest: &str) -> Done {
    none(rest)?;
    if vm.origin.is_none() {
        return Err("this machine was put together by hand: nobody knows what to load".into());
    }
    Ok((Answer::new("", json!({})), Effect::Reset))
}

fn power(vm: &mut Vm) -> Answer {
    let heard = vm.cpu.pc.press_power_button();
    vm.cpu.request_attention();
    let text = match heard {
        true => "",
        false => "pressed; the guest has not enabled the button's event",
    };
    Answer::new(text, json!({"enabled": heard}))
}

/// An address: a number, or `$` and a register's name, or two of these with `+` or `-`
/// between.
///
/// # Errors
/// What it is not, in words.
pub(super) fn address(vm: &Vm, text: &str) -> Result<LinearAddr, String> {
    let mut sum = 0u32;
    let mut rest = text;
    let mut sign = '+';
    loop {
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let term = term(vm, &rest[..end])?;
        sum = match sign {
            '-' => sum.wrapping_sub(term),
            _ => sum.wrapping_add(term),
        };
        match rest[end..].chars().next() {
            Some(next) => (sign, rest) = (next, &rest[end + 1..]),
            None => return Ok(LinearAddr(sum)),
        }
    }
}

fn term(vm: &Vm, text: &str) -> Result<u32, String> {
    const REGISTERS: [(&str, Gpr); 8] = [
        ("eax", Gpr::EAX),
        ("ecx", Gpr::ECX),
        ("edx", Gpr::EDX),
        ("ebx", Gpr::EBX),
        ("esp", Gpr::ESP),
        ("ebp", Gpr::EBP),
        ("esi", Gpr::ESI),
        ("edi", Gpr::EDI),
    ];
    let wrong = || format!("`{text}` is no address such as 0xc0100000, $eip or $esp+8");
    let Some(name) = text.strip_prefix('$') else {
        return number(text).map_err(|_| wrong());
    };
    let found = REGISTERS.iter().find(|(register, _)| *register == name);
    match (name, found) {
        ("eip", _) => Ok(vm.eip()),
        (_, Some(&(_, register))) => Ok(vm.register(register)),
        _ => Err(wrong()),
    }
}
