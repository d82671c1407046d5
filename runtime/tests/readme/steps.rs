//! What a text shows: a command in a `sh` block, and in the `text` block after it what the
//! command prints, before the next heading.
//!
//! A line that begins with a prompt is what somebody types there.

/// Prompts of Debian's shell and of GDB.
pub const PROMPTS: [&str; 2] = ["/root # ", "(gdb) "];

/// A command and its output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The one command of the block.
    pub command: String,
    /// The lines of the block after it.
    pub shown: Vec<String>,
}

impl Step {
    /// What is typed at the prompts.
    pub fn typed(&self) -> Vec<String> {
        let typed = |line: &String| {
            let mut rests = PROMPTS
                .iter()
                .filter_map(|prompt| line.strip_prefix(prompt));
            rests.next().map(|rest| format!("{rest}\n"))
        };
        self.shown.iter().filter_map(typed).collect()
    }
}

/// The steps of a text in Markdown.
///
/// # Panics
/// A block with output is not of one command.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut commands: Vec<String> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line {
            "```sh" => commands = block(&mut lines),
            "```text" => {
                let shown = block(&mut lines);
                if let Some(command) = commands.pop() {
                    assert!(commands.is_empty(), "not one command: {commands:?}");
                    steps.push(Step { command, shown });
                }
            }
            _ if line.starts_with('#') => commands.clear(),
            _ => {}
        }
    }
    steps
}

/// The lines up to the end of a block.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let inside = lines.take_while(|line| *line != "```");
    inside.map(String::from).collect()
}

#[test]
fn a_step_is_a_command_and_what_it_prints() {
    let text =
        "```sh\na\n```\nprints\n```text\nb\n/root # c\n```\n```sh\nd\n```\n# e\n```text\nf\n```\n";
    let found = steps(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].command, "a");
    assert_eq!(found[0].shown, ["b", "/root # c"]);
    assert_eq!(found[0].typed(), ["c\n"]);
}
