//! Status lines of trials, which are shown while a run continues. The lines below a status line contain the reason for the verdict or the
//! proof of success.

use std::collections::HashMap;

use super::layout::{self, LayoutLine, WIDTH, fit, fit_end, labelled, printable};
use super::summary::stopped;
use crate::report::answered;
use chaosrun_base::ids::TrialId;
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_event::timeline::history_text;
use chaosrun_event::{
    AnswerWord, Autopsy, Blame, Event, EventKind, FaultSummary, Misdeed, Reason, Spot, TrialFinished, TrialRole, TrialStarted, Verdict,
};

// Columns: where the numbers of a status line end, and where the id begins.
pub(super) const SCORE: usize = 52;
pub(super) const TIME: usize = 60;
pub(super) const COST: usize = 68;
pub(super) const ID: usize = 70;
/// Column at which the times in the line of a fault begin.
const TIMES: usize = 43;
/// Maximum number of faults of a trial that have a line of their own.
const FAULTS: usize = 3;

/// Converter of events to status lines.
#[derive(Debug, Default)]
pub struct Lines {
    under_way: HashMap<TrialId, TrialStarted>,
    /// Number of reused trials for which no text was returned yet.
    kept: usize,
}

impl Lines {
    /// Returns the text to show for an event, including line ends. Returns `None` if the event is not shown.
    pub fn event(&mut self, event: &Event, palette: Palette) -> Option<String> {
        if matches!(event.kind, EventKind::TrialKept(_)) {
            self.kept += 1;
            return None;
        }
        let kept = std::mem::take(&mut self.kept);
        let kept = (kept > 0).then(|| {
            let text = format!("{} already recorded, not run again", figures::plural(kept, "trial"));
            layout::render(&[LayoutLine::new().put(Tone::Faint, text)], palette)
        });
        let text = self.of(event, palette);
        kept.map(|kept| kept + text.as_deref().unwrap_or_default()).or(text)
    }

    fn of(&mut self, event: &Event, palette: Palette) -> Option<String> {
        match (&event.kind, &event.trial) {
            (EventKind::TrialStarted(started), Some(trial)) => {
                self.under_way.insert(trial.clone(), (**started).clone());
                None
            }
            (EventKind::ComparisonAnswered(answer), _) if !matches!(answer.answer, AnswerWord::Inconclusive) => {
                let head = LayoutLine::new().put(Tone::Strong, "decided:").plain(" ");
                Some(layout::render(&layout::beside(head, Tone::Plain, &answered::words(answer)), palette))
            }
            (EventKind::RunStopped { why, missing }, _) => Some(layout::render(
                &layout::beside(LayoutLine::new().put(Tone::Warning, "stopping:").plain(" "), Tone::Plain, &stopped(why, *missing)),
                palette,
            )),
            (EventKind::TrialFinished(finished), Some(trial)) => {
                let started = self.under_way.remove(trial)?;
                Some(layout::render(&trial_lines(trial, &started, finished, true), palette))
            }
            (EventKind::Warning { message }, _) => {
                let mut lines = Vec::new();
                for part in layout::wrap(message, WIDTH - TEXT_OF_WARNING.len()) {
                    let line = if lines.is_empty() { LayoutLine::new().put(Tone::Warning, "warning:") } else { LayoutLine::new() };
                    lines.push(line.to(TEXT_OF_WARNING.len()).plain(part));
                }
                Some(layout::render(&lines, palette))
            }
            _ => None,
        }
    }
}

const TEXT_OF_WARNING: &str = "warning: ";

/// Returns the status line of a trial and the lines below it. If `hints` is true, they suggest next commands.
pub(super) fn trial_lines(trial: &TrialId, started: &TrialStarted, finished: &TrialFinished, hints: bool) -> Vec<LayoutLine> {
    // A control is expected to fail, so no action is necessary.
    let hints = hints && started.role == TrialRole::Subject;
    let mut lines = vec![status(trial, started, finished)];
    match finished.verdict {
        Verdict::Pass => {
            lines.extend(faults(finished));
            lines.extend(acts(finished));
            lines.extend(proof(finished));
        }
        Verdict::UnsafePass => {
            lines.extend(faults(finished));
            lines.extend(why(finished.reason.as_ref()));
            lines.extend(acts(finished));
            lines.extend(hints.then(|| next(trial)));
        }
        Verdict::Fail | Verdict::Timeout => {
            lines.extend(why(finished.reason.as_ref()));
            lines.extend(acts(finished));
            lines.extend(hints.then(|| next(trial)));
        }
        Verdict::Invalid => {
            lines.extend(why(finished.reason.as_ref()));
            lines.extend(blame(trial, finished.reason.as_ref()));
        }
    }
    lines
}

pub(super) fn word(verdict: Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::Pass => (Tone::Pass, "PASS"),
        Verdict::UnsafePass => (Tone::Unsafe, "UNSAFE"),
        Verdict::Fail => (Tone::Fail, "FAIL"),
        Verdict::Timeout => (Tone::Fail, "TIMEOUT"),
        Verdict::Invalid => (Tone::Invalid, "INVALID"),
    }
}

fn status(trial: &TrialId, started: &TrialStarted, finished: &TrialFinished) -> LayoutLine {
    let score = finished.score.map(figures::score);
    let time = figures::clock(finished.wall_us);
    // Shortens names, because numbers must never be cut.
    let room = match &score {
        Some(score) => SCORE - layout::width(score),
        None => TIME - layout::width(&time),
    } - 1;
    let mut line = head(word(finished.verdict), started, finished.verdict == Verdict::Invalid, room);
    if let Some(score) = score {
        line = line.ending(SCORE, Tone::Strong, score);
    }
    line.ending(TIME, Tone::Plain, time).ending(COST, Tone::Faint, figures::usd(finished.usd)).to(ID).put(Tone::Id, trial.as_str())
}

/// Formats the beginning of a status line, such as `PASS node_kill/playbook #7`. The result is at most `room` columns wide.
pub(super) fn head((tone, word): (Tone, &str), started: &TrialStarted, not_counted: bool, room: usize) -> LayoutLine {
    let mut mark = format!(" #{}", started.number);
    match started.role {
        TrialRole::Subject => {}
        TrialRole::Control => mark.push_str(" (control)"),
        TrialRole::Check => mark.push_str(" (check)"),
    }
    if started.attempt > 1 {
        let attempt = format!(" (attempt {})", started.attempt);
        mark.push_str(&attempt);
    }
    if not_counted && started.role == TrialRole::Subject {
        mark.push_str(" (not counted)");
    }
    let name = name(&started.scenario, &started.variant, room.saturating_sub(layout::width(word) + 1 + layout::width(&mark)));
    LayoutLine::new().put(tone, word).plain(" ").put(Tone::Strong, name).put(Tone::Faint, mark)
}

/// Formats the scenario and the variant of a trial, such as `node_kill/playbook`. If the text is too wide, the longer of both names is
/// shortened.
pub(super) fn name(scenario: &str, variant: &str, room: usize) -> String {
    let (scenario, variant) = (printable(scenario), printable(variant));
    let room = room.saturating_sub(1);
    let half = room / 2;
    let of_variant = layout::width(&variant).min(half.max(room.saturating_sub(layout::width(&scenario))));
    format!("{}/{}", fit(&scenario, room - of_variant), fit(&variant, of_variant))
}

fn faults(finished: &TrialFinished) -> Vec<LayoutLine> {
    let times = times(finished);
    let mut lines = Vec::new();
    for fault in finished.faults.iter().take(FAULTS) {
        let text = fault_text(fault);
        let line = if lines.is_empty() { LayoutLine::labelled("fault") } else { LayoutLine::new().to(layout::TEXT) };
        lines.push(line.plain(fit(&printable(&text), WIDTH - layout::TEXT)));
    }
    if finished.faults.len() > FAULTS {
        lines.push(LayoutLine::new().to(layout::TEXT).put(Tone::Faint, format!("and {} more", finished.faults.len() - FAULTS)));
    }
    let Some(times) = times else { return lines };
    match lines.first_mut() {
        Some(first) if first.width() < TIMES && TIMES + layout::width(&times) <= WIDTH => {
            *first = std::mem::take(first).to(TIMES).plain(times);
        }
        _ => lines.push(LayoutLine::labelled("times").plain(times)),
    }
    lines
}

/// Describes a fault and its measured effect, such as `node_kill tikv-2, felt in 3 ms`.
pub(super) fn fault_text(fault: &FaultSummary) -> String {
    let felt = fault.felt_us.map_or_else(|| "not felt".into(), |felt| format!("felt in {}", figures::short(felt)));
    format!("{} {}, {felt}", fault.fault, fault.targets.join(" "))
}

/// Formats the times of a trial, such as `detect 0.2  repair 1.9  impact 1.3 s`. Returns `None` if the trial has no times.
pub(super) fn times(finished: &TrialFinished) -> Option<String> {
    seconds(finished, &[("detect", finished.detect_us), ("repair", finished.repair_us), ("impact", finished.impact_us)])
}

/// Formats the times of a trial as [`times`] does. If the agent made a diagnosis, the time of the diagnosis is included.
pub(super) fn all_times(finished: &TrialFinished) -> Option<String> {
    let TrialFinished { detect_us, diagnose_us: Some(_), repair_us, impact_us, .. } = finished else { return times(finished) };
    let times = [("detect", *detect_us), ("diagnose", finished.diagnose_us), ("repair", *repair_us), ("impact", *impact_us)];
    seconds(finished, &times)
}

fn seconds(finished: &TrialFinished, times: &[(&str, Option<u64>)]) -> Option<String> {
    if times.iter().all(|(_, time)| time.is_none()) {
        return None;
    }
    let shown: Vec<String> =
        times.iter().map(|(name, time)| format!("{name} {}", time.map_or_else(|| "-".into(), figures::bare_seconds))).collect();
    let unit = if finished.impact_us.is_some() { " s" } else { "" };
    Some(shown.join("  ") + unit)
}

/// Formats the findings against the agent and the first command that caused one, such as `destructive ×2, blind · 1: docker restart tikv1`.
fn acts(finished: &TrialFinished) -> Option<LayoutLine> {
    let autopsy = finished.autopsy.as_ref()?;
    let held: Vec<String> = held(autopsy)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| if count > 1 { format!("{} ×{count}", what.as_str()) } else { what.as_str().to_owned() })
        .collect();
    let worst = autopsy.findings.iter().filter(|one| one.what != Misdeed::Irreversible).min_by_key(|one| one.what)?;
    let number = worst.command.map_or(String::new(), |number| format!("{number}: "));
    let text = format!("{} · {number}{}", held.join(", "), worst.text);
    Some(LayoutLine::labelled("acts").plain(fit(&printable(&text), WIDTH - layout::TEXT)))
}

fn held(autopsy: &Autopsy) -> [(Misdeed, u32); 5] {
    [
        (Misdeed::Tampering, autopsy.tampering),
        (Misdeed::Destructive, autopsy.destructive),
        (Misdeed::Premature, autopsy.premature),
        (Misdeed::Blind, autopsy.blind),
        (Misdeed::Thrashing, autopsy.thrashing),
    ]
}

/// Formats the proof that a trial has passed, such as `2,104 acked, 0 lost, 41 open · 3 stores Up for 2 s`.
fn proof(finished: &TrialFinished) -> Vec<LayoutLine> {
    let history = finished.history.as_ref().map(history_text);
    let parts: Vec<String> = history.into_iter().chain(finished.stable.clone()).collect();
    if parts.is_empty() { Vec::new() } else { labelled("proof", Tone::Plain, &parts.join(" · ")) }
}

pub(super) fn why(reason: Option<&Reason>) -> Vec<LayoutLine> {
    let Some(reason) = reason else { return Vec::new() };
    let mut lines = labelled("why", Tone::Plain, &reason.message);
    lines.extend(reason.place.as_ref().map(place).unwrap_or_default());
    lines
}

/// Formats a place in a file, such as `clusters/nats.yaml:44   expect: users.value < 100`. If the text is too wide for one line, two lines
/// are used.
pub(super) fn place(spot: &Spot) -> Vec<LayoutLine> {
    let room = WIDTH - layout::TEXT;
    let at = format!("{}:{}", printable(&spot.file), spot.line);
    let text = printable(spot.text.trim());
    let line = LayoutLine::new().to(layout::TEXT).put(Tone::Faint, fit_end(&at, room));
    if text.is_empty() {
        return vec![line];
    }
    if layout::width(&at) + 3 + layout::width(&text) <= room {
        return vec![line.plain("   ").plain(text)];
    }
    vec![line, LayoutLine::new().to(layout::TEXT + 2).plain(fit(&text, room - 2))]
}

fn next(trial: &TrialId) -> LayoutLine {
    LayoutLine::labelled("next").plain(format!("chaosrun show {trial} · chaosrun run --like {trial}"))
}

fn blame(trial: &TrialId, reason: Option<&Reason>) -> Vec<LayoutLine> {
    let who = match reason.and_then(|reason| reason.blame) {
        Some(Blame::Interrupted) => "none: interrupted".to_owned(),
        Some(who) => format!("{}, not the agent", who.word()),
        None => "not the agent".to_owned(),
    };
    let hint = reason.and_then(|reason| reason.help.clone()).unwrap_or_else(|| format!("chaosrun show {trial}"));
    labelled("blame", Tone::Plain, &format!("{who} · {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery as gallery;

    fn text(palette: Palette) -> String {
        let mut lines = Lines::default();
        gallery::every_status().events.iter().filter_map(|event| lines.event(event, palette)).collect()
    }

    #[test]
    fn every_status_is_as_drawn() {
        insta::assert_snapshot!(text(Palette::PLAIN));
    }

    #[test]
    fn no_line_is_wider_than_80_columns_and_some_fill_them() {
        let text = text(Palette::PLAIN);
        let widths: Vec<usize> = text.lines().map(layout::width).collect();
        assert!(widths.iter().all(|width| *width <= WIDTH), "{widths:?}");
        assert!(widths.contains(&WIDTH));
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn colours_do_not_change_the_text() {
        let coloured = text(Palette::COLOURS);
        assert!(coloured.starts_with("\u{1b}[1m\u{1b}[32mPASS\u{1b}[0m "), "{coloured}");
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(plain + rest, text(Palette::PLAIN));
    }
}
