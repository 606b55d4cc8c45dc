//! A long conversation in short: what the next one begins with. As a cheaper model writes it down, or with old output left out.

use std::fmt::Write as _;

use crate::agent::model::{Model, Spec};
use crate::agent::task::CommandRecord;

/// Whoever puts a conversation in short.
pub struct Summariser {
    pub model: Box<dyn Model>,
    pub spec: Spec,
}

/// What a summariser is told about its work.
pub const SUMMARY: &str = "\
You keep the notes of an engineer on call, whose conversation with a system has become too long to be read again. From its transcript write
down what must be known to go on: what was found out, with names, numbers and lines as they were; what was changed, by which command, and
what came of it; what was ruled out, and why; what was about to be done. Give no advice of your own. At most 500 words.";

/// Characters of a command's output that a new conversation repeats.
const RECALLED: usize = 400;
/// Commands that are repeated beside a summary.
const LAST: usize = 3;
/// Characters of a transcript, commands and output together.
const TRANSCRIPT: usize = 400_000;

/// What a model has said beside its calls, and after how many commands.
pub(super) type Said = (usize, String);

/// All commands with the ends of their output.
pub(super) fn elided(prompt: &str, commands: &[CommandRecord]) -> String {
    let mut text = again(prompt);
    text.push_str("Its commands, with the ends of their output:\n");
    for record in commands {
        recall(&mut text, record, RECALLED);
    }
    text
}

/// A summary, and the last commands as they were.
pub(super) fn summarised(prompt: &str, summary: &str, commands: &[CommandRecord]) -> String {
    let mut text = again(prompt);
    let _ = writeln!(text, "Notes of it:\n\n{}", summary.trim());
    let last = &commands[commands.len().saturating_sub(LAST)..];
    if !last.is_empty() {
        text.push_str("\nIts last commands, with the ends of their output:\n");
        for record in last {
            recall(&mut text, record, RECALLED);
        }
    }
    text
}

fn again(prompt: &str) -> String {
    format!("{prompt}\n\n# What was done so far\nYou have worked on this before; that conversation has become too long. ")
}

/// What a summariser reads.
pub(super) fn transcript(prompt: &str, said: &[Said], commands: &[CommandRecord]) -> String {
    let mut text = format!("# The task\n\n{prompt}\n\n# The transcript\n");
    let each = (TRANSCRIPT / commands.len().max(1)).max(RECALLED);
    let mut said = said.iter().peekable();
    for (at, record) in commands.iter().enumerate() {
        while let Some((_, words)) = said.next_if(|(after, _)| *after <= at) {
            let _ = writeln!(text, "\nThe engineer: {words}");
        }
        if !record.reasoning.is_empty() {
            let _ = writeln!(text, "\nThe engineer: {}", record.reasoning);
        }
        recall(&mut text, record, each);
    }
    for (_, words) in said {
        let _ = writeln!(text, "\nThe engineer: {words}");
    }
    text
}

fn recall(text: &mut String, record: &CommandRecord, most: usize) {
    let output = [record.stdout.text.trim_end(), record.stderr.text.trim_end()].join("\n");
    let from = output.char_indices().rev().nth(most).map_or(0, |(at, _)| at);
    let cut = if from == 0 { "" } else { "…" };
    let _ = writeln!(text, "\n$ {}\n(exit code {})\n{cut}{}", record.command, record.exit_code, output[from..].trim());
}
