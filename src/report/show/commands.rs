//! Section about the agent's actions: its commands with their output, and its calls to the docker proxy.

use super::super::layout::{self, LayoutLine, WIDTH, printable};
use super::{ShowOptions, beside, heading};
use chaosrun_base::style::Tone;
use chaosrun_event::Output;
use chaosrun_event::figures;
use chaosrun_event::timeline::changes;
use chaosrun_event::trial_report::{CommandEnd, TrialReport};

/// Number of lines at the beginning of an output that are shown by default. `LAST` is the number of lines at the end.
const FIRST: usize = 8;
const LAST: usize = 4;
/// Maximum number of calls to the docker proxy that are shown by default.
const CALLS: usize = 20;
const INDENT: usize = 5;

pub(super) fn commands(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    if story.commands.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![heading("commands")];
    for command in &story.commands {
        let number = LayoutLine::new().ending(3, Tone::Faint, command.number.to_string()).to(INDENT);
        lines.extend(beside(number, Tone::Strong, &command.command));
        if !command.reasoning.is_empty() {
            lines.extend(beside(LayoutLine::new().to(INDENT).put(Tone::Faint, "because "), Tone::Plain, &command.reasoning));
        }
        let at = figures::relative(command.began_us);
        let Some(end) = &command.end else {
            lines.push(LayoutLine::new().to(INDENT).put(Tone::Invalid, format!("at {at}, did not end")));
            continue;
        };
        let (tone, code) = match end {
            CommandEnd { timed_out: true, exit_code, .. } => (Tone::Fail, format!("timed out, exit {exit_code}")),
            CommandEnd { exit_code: 0, .. } => (Tone::Pass, "exit 0".to_owned()),
            CommandEnd { exit_code, .. } => (Tone::Fail, format!("exit {exit_code}")),
        };
        let took = figures::short(end.took_us);
        lines.push(LayoutLine::new().to(INDENT).put(tone, code).put(Tone::Faint, format!(" at {at}, took {took}")));
        lines.extend(output("|", &end.stdout, view));
        lines.extend(output("!", &end.stderr, view));
    }
    lines
}

/// Formats the output of a command. Each line begins with `mark`, which is `|` for stdout and `!` for stderr.
fn output(mark: &str, output: &Output, view: &ShowOptions) -> Vec<LayoutLine> {
    let marked = |tone: Tone, text: &str| {
        let line = LayoutLine::new().to(INDENT).put(Tone::Faint, mark).plain(" ");
        let text = printable(text);
        let room = WIDTH - line.width();
        // Shows whole lines if all is requested, so that they can be copied. Otherwise cuts lines, so that the page stays readable.
        if view.full { line.put(tone, text) } else { line.put(tone, layout::fit(&text, room)) }
    };
    let all: Vec<&str> = output.text.lines().collect();
    let hidden = if view.full { 0 } else { all.len().saturating_sub(FIRST + LAST) };
    let mut lines = Vec::new();
    if hidden > 1 {
        lines.extend(all[..FIRST].iter().map(|text| marked(Tone::Plain, text)));
        lines.push(marked(Tone::Faint, &format!("... {} (--full shows them)", figures::plural(hidden, "more line"))));
        lines.extend(all[all.len() - LAST..].iter().map(|text| marked(Tone::Plain, text)));
    } else {
        lines.extend(all.iter().map(|text| marked(Tone::Plain, text)));
    }
    if output.truncated {
        let bytes = figures::count(output.bytes);
        let text = match &output.file {
            Some(file) => format!("{bytes} bytes in all: {}", view.artifacts.join(file).display()),
            None => format!("{bytes} bytes in all"),
        };
        lines.extend(beside(LayoutLine::new().to(INDENT).put(Tone::Faint, mark).plain(" "), Tone::Faint, &text));
    }
    lines
}

pub(super) fn engine_calls(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    if story.engine_calls.is_empty() {
        return Vec::new();
    }
    let head = heading("engine calls").put(Tone::Faint, format!(" {} in all", figures::count(story.engine_calls.len() as u64)));
    let mut lines = vec![head];
    let shown = if view.full { usize::MAX } else { CALLS };
    // Omits calls that only read before calls that change something.
    let looks = story.engine_calls.iter().filter(|call| !changes(&call.verb)).count();
    let mut looks_left = shown.saturating_sub(story.engine_calls.len() - looks);
    let mut hidden = 0;
    for call in &story.engine_calls {
        if !changes(&call.verb) {
            if looks_left == 0 {
                hidden += 1;
                continue;
            }
            looks_left -= 1;
        }
        let tone = if call.status < 400 { Tone::Plain } else { Tone::Fail };
        let line = LayoutLine::new().ending(10, Tone::Plain, figures::relative(call.at_us)).to(12);
        let what = format!("{} {}", call.verb, call.node.as_deref().unwrap_or_default());
        let line = line.plain(layout::fit(&printable(&what), 27)).to(40).put(tone, call.status.to_string());
        let line = line.ending(54, Tone::Faint, figures::short(call.took_us)).to(56);
        lines.push(line.put(Tone::Faint, layout::fit(&printable(&call.detail), WIDTH - 56)));
    }
    if hidden > 0 {
        let text = format!("... {} that only read (--full shows them)", figures::plural(hidden, "more call"));
        lines.push(LayoutLine::new().to(12).put(Tone::Faint, text));
    }
    lines
}
