//! How the demo looks: chapters, calls with their answers, commands, and facts that are ticked or crossed.

use std::io::{self, IsTerminal, Write};

use farebox_tests::Answer;

/// Headers of an answer that tell about metering.
const SHOWN_HEADERS: [&str; 5] =
    ["x-farebox-source", "x-farebox-charge", "ratelimit", "retry-after", "content-type"];

/// How much of a served body is shown; what a refusal says is shown whole.
const BODY_CHARACTERS_MAX: usize = 72;

/// The screen; it counts the facts that were not as told.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    chapters: u32,
    disproved: u32,
}

impl Screen {
    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        println!("\n{} {}", paint("1;36", &self.chapters.to_string()), paint("1", title));
    }

    /// Text for the reader.
    pub(crate) fn say(&self, text: &str) {
        println!("  {text}");
    }

    /// The name of a part that is starting, on one line with its neighbours.
    pub(crate) fn part(&self, name: &str) {
        print!("{} ", paint("2", &format!("· {name}")));
        io::stdout().flush().ok();
    }

    /// A call and its answer, whole.
    pub(crate) fn call(&self, call: &str, answer: &Answer) {
        self.call_briefly(call, answer);
        for name in SHOWN_HEADERS {
            if !answer.header(name).is_empty() {
                println!("      {} {}", paint("2", &format!("{name}:")), answer.header(name));
            }
        }
        let shown = if answer.status.is_success() { BODY_CHARACTERS_MAX } else { usize::MAX };
        let body: String = answer.body.chars().take(shown).collect();
        let ellipsis = if body.len() < answer.body.len() { "…" } else { "" };
        println!("      {}", paint("2", &format!("{body}{ellipsis}")));
    }

    /// A call and its status on one line.
    pub(crate) fn call_briefly(&self, call: &str, answer: &Answer) {
        let color = if answer.status.is_success() { "32" } else { "33" };
        println!(
            "  {} {call}  {} {}",
            paint("36", "→"),
            paint("2", "…"),
            paint(color, answer.status.as_str())
        );
    }

    /// An operator's command and what it printed.
    pub(crate) fn command(&self, line: &str, printed: &str) {
        println!("  {} {line}", paint("36", "$"));
        for line in printed.lines() {
            println!("      {line}");
        }
    }

    /// Ticks or crosses a fact.
    pub(crate) fn fact(&mut self, holds: bool, text: &str) {
        if holds {
            println!("  {} {text}", paint("32", "✓"));
        } else {
            self.disproved += 1;
            println!("  {} {}", paint("1;31", "✗"), paint("31", text));
        }
    }

    /// Compares a figure with what was told.
    pub(crate) fn figure(&mut self, what: &str, found: &str, told: &str) {
        if found == told {
            self.fact(true, &format!("{what}: {found}"));
        } else {
            self.fact(false, &format!("{what}: {found}, told was {told}"));
        }
    }

    /// The number of facts that were not as told.
    pub(crate) fn disproved(&self) -> u32 {
        self.disproved
    }
}

/// Colours text on a terminal.
fn paint(color: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some() || !io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{color}m{text}\x1b[0m") }
}
