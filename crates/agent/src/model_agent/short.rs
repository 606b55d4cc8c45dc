//! Summary of a long conversation, with which the next conversation begins. A cheaper model writes the summary, or old output is omitted.

use std::fmt::Write as _;

use crate::task::CommandRecord;
use chaosrun_models::{ModelBackend, Spec};

/// Model that summarises a conversation.
pub(crate) struct Summariser {
    pub model: Box<dyn ModelBackend>,
    pub spec: Spec,
}

/// Instructions for the model that summarises conversations.
pub const SUMMARY: &str = "\
You keep notes for an on-call engineer. The transcript of the engineer's work has become too long to read again. From the transcript, write
down what is needed to continue: findings, with names, numbers and lines quoted exactly; changes, with the command and its result; causes
that were ruled out, and why; planned next steps. Do not give advice. Use at most 500 words.";

/// Maximum number of characters of a command's output that a new conversation repeats.
const RECALLED: usize = 400;
/// Number of most recent commands that a new conversation repeats after the summary.
const LAST: usize = 3;
/// Maximum length of a transcript in characters, commands and output together.
const TRANSCRIPT: usize = 400_000;

/// Text written by a model outside its tool calls, with the number of commands that ran before the text.
pub(super) type SpokenText = (usize, String);

/// Returns the prompt and all commands, each with only the end of its output, as the start of a new conversation.
pub(super) fn elided(prompt: &str, commands: &[CommandRecord]) -> String {
    let mut text = again(prompt);
    text.push_str("Commands that you ran, each with the end of its output:\n");
    for record in commands {
        recall(&mut text, record, RECALLED);
    }
    text
}

/// Returns the prompt, the summary and the last commands as the start of a new conversation. Each command has the end of its output.
pub(super) fn summarised(prompt: &str, summary: &str, commands: &[CommandRecord]) -> String {
    let mut text = again(prompt);
    let _ = writeln!(text, "Notes on the earlier conversation:\n\n{}", summary.trim());
    let last = &commands[commands.len().saturating_sub(LAST)..];
    if !last.is_empty() {
        text.push_str("\nThe last commands that you ran, each with the end of its output:\n");
        for record in last {
            recall(&mut text, record, RECALLED);
        }
    }
    text
}

fn again(prompt: &str) -> String {
    format!("{prompt}\n\n# Work so far\nYou have already worked on this task. The earlier conversation became too long and was shortened. ")
}

/// Returns the transcript of a conversation, from which the summariser writes a summary.
pub(super) fn transcript(prompt: &str, said: &[SpokenText], commands: &[CommandRecord]) -> String {
    let mut text = format!("# Task\n\n{prompt}\n\n# Transcript\n");
    let each = (TRANSCRIPT / commands.len().max(1)).max(RECALLED);
    let mut said = said.iter().peekable();
    for (at, record) in commands.iter().enumerate() {
        while let Some((_, words)) = said.next_if(|(after, _)| *after <= at) {
            let _ = writeln!(text, "\nEngineer: {words}");
        }
        if !record.reasoning.is_empty() {
            let _ = writeln!(text, "\nEngineer: {}", record.reasoning);
        }
        recall(&mut text, record, each);
    }
    for (_, words) in said {
        let _ = writeln!(text, "\nEngineer: {words}");
    }
    text
}

fn recall(text: &mut String, record: &CommandRecord, most: usize) {
    let output = [record.stdout.text.trim_end(), record.stderr.text.trim_end()].join("\n");
    let from = output.char_indices().rev().nth(most).map_or(0, |(at, _)| at);
    let cut = if from == 0 { "" } else { "…" };
    let _ = writeln!(text, "\n$ {}\n(exit code {})\n{cut}{}", record.command, record.exit_code, output[from..].trim());
}
