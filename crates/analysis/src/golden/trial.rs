//! Text of a golden file, derived from the events of a trial.

use std::fmt::Write as _;

use indexmap::IndexMap;
use serde_json::Value;

use super::normal;
use chaosrun_event::trial_report::{CommandReport, FaultReport, PhaseReport, TicketReport, TrialReport};
use chaosrun_event::{Actor, Diagnosis, Event, EventKind, NodeState, ScorePart, TrialFinished, TrialStarted};
use chaosrun_scenario::model::Buckets;

/// Formats the text of a golden file. Returns `None` if the events are not those of a complete trial.
#[must_use]
pub fn text(events: &[Event], buckets: &Buckets) -> Option<String> {
    let story = TrialReport::of(events)?;
    let finished = story.finished.as_ref()?;
    let mut text = String::new();
    head(&mut text, &story.started, finished, buckets);
    section(&mut text, "phases", story.phases.iter().filter_map(phase));
    section(&mut text, "faults", story.faults.iter().map(fault));
    // Only this ticket is listed. Other tickets depend on the agent's commands and on the instants at which the monitor looks.
    section(&mut text, "ticket", handed(&story).map(ticket).into_iter());
    section(&mut text, "commands", commands(&story.commands).into_iter());
    section(&mut text, "nodes the agent changed", changes(events).into_iter());
    section(&mut text, "diagnosis", story.diagnoses.last().into_iter().flat_map(diagnosis));
    section(&mut text, "times", times(finished, buckets).into_iter());
    section(&mut text, "score", finished.parts.iter().map(|part| self::part(part, &buckets.score)));
    Some(text.trim_end().to_owned())
}

fn head(text: &mut String, started: &TrialStarted, finished: &TrialFinished, buckets: &Buckets) {
    let score = finished.score.map_or_else(|| "none".to_owned(), |score| bucket(score, &buckets.score, ""));
    let _ = writeln!(text, "verdict  {}", finished.verdict.as_str());
    let _ = writeln!(text, "score    {score}");
    let _ = writeln!(text, "goal     {}", started.goal);
    if let Some(reason) = &finished.reason {
        let _ = writeln!(text, "reason   {}: {}", reason.code, normal::text(&reason.message));
        if let Some(place) = &reason.place {
            let _ = writeln!(text, "         {}: {}", place.file, place.text.trim());
        }
    }
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n{title}");
    }
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

fn phase(story: &PhaseReport) -> Option<String> {
    let end = story.end.as_ref()?;
    // Omits two proofs with details that differ from run to run. The score is listed in full below. The answers to probes depend on timing.
    let proof = if matches!(story.phase.as_str(), "score" | "felt") { String::new() } else { normal::text(&end.proof) };
    Some(format!("{:<10} {:<6} {proof}", story.phase.as_str(), if end.ok { "ok" } else { "failed" }).trim_end().to_owned())
}

fn fault(story: &FaultReport) -> String {
    let mut steps: IndexMap<String, bool> = IndexMap::new();
    for evidence in &story.evidence {
        let step = serde_json::to_value(evidence.step).ok().and_then(|step| step.as_str().map(str::to_owned)).unwrap_or_default();
        // The result of the last attempt replaces earlier results.
        steps.insert(step, evidence.ok);
    }
    let steps: Vec<String> = steps.into_iter().map(|(step, ok)| if ok { step } else { format!("not {step}") }).collect();
    format!("{} = {} {}: {}", story.id, story.fault, story.targets.join(" "), steps.join(", "))
}

/// Returns the ticket that the agent received, or the first ticket if there was no agent.
fn handed(story: &TrialReport) -> Option<&TicketReport> {
    match story.agents.first() {
        Some(agent) => story.tickets.iter().find(|told| told.ticket.id == agent.ticket),
        None => story.tickets.first(),
    }
}

fn ticket(story: &TicketReport) -> String {
    let node = story.ticket.node.as_ref().map_or(String::new(), |node| format!(" of {node}"));
    format!("{}{node}: {}, expected {}", story.ticket.invariant, normal::text(&story.ticket.observed), story.ticket.expected)
}

/// Formats the agent's commands. Consecutive repetitions of one command are listed once, with the last result.
fn commands(stories: &[CommandReport]) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for story in stories {
        let command = normal::command(&story.command);
        let end = match &story.end {
            Some(end) if end.timed_out => "timed out".to_owned(),
            Some(end) => format!("exit {}", end.exit_code),
            None => "did not end".to_owned(),
        };
        match lines.last_mut() {
            Some((last, ended)) if *last == command => *ended = end,
            _ => lines.push((command, end)),
        }
    }
    lines.into_iter().map(|(command, end)| format!("{end:<10} {}", command.replace('\n', "\n             "))).collect()
}

fn changes(events: &[Event]) -> Vec<String> {
    let mut nodes: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for event in events {
        if let EventKind::NodeChanged { node, state, by: Some(Actor::Agent) } = &event.kind {
            let word = match state {
                NodeState::Created => "created",
                NodeState::Running => "running",
                NodeState::Paused => "paused",
                NodeState::Exited { .. } => "exited",
            };
            nodes.entry(node).or_default().push(word);
        }
    }
    nodes.sort_keys();
    nodes.into_iter().map(|(node, states)| format!("{node}: {}", states.join(", "))).collect()
}

fn diagnosis(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = vec![
        format!("component    {}", diagnosis.component),
        format!("fault class  {}", diagnosis.fault_class),
        format!("root cause   {}", normal::text(&diagnosis.root_cause)),
    ];
    lines.extend(diagnosis.evidence.iter().map(|evidence| format!("evidence     {}", normal::text(evidence))));
    lines
}

fn times(finished: &TrialFinished, buckets: &Buckets) -> Vec<String> {
    let seconds = |micros: Option<u64>| micros.map(|micros| std::time::Duration::from_micros(micros).as_secs_f64());
    let line = |name: &str, value: Option<f64>, limits: &[f64]| value.map(|value| format!("{name:<10} {}", bucket(value, limits, " s")));
    [
        line("detect", seconds(finished.detect_us), &buckets.detect_s),
        line("repair", seconds(finished.repair_us), &buckets.repair_s),
        line("impact", seconds(finished.impact_us), &buckets.impact_s),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Formats a number as the interval between the adjacent `limits`. Without limits, returns only whether the number is above 0.
fn bucket(value: f64, limits: &[f64], unit: &str) -> String {
    let above = limits.partition_point(|limit| *limit <= value);
    match (above.checked_sub(1).and_then(|at| limits.get(at)), limits.get(above)) {
        (Some(low), Some(high)) => format!("{low} to {high}{unit}"),
        (None, Some(high)) => format!("under {high}{unit}"),
        (Some(low), None) => format!("{low}{unit} or more"),
        (None, None) if value > 0.0 => "above 0".to_owned(),
        (None, None) => "0".to_owned(),
    }
}

fn part(part: &ScorePart, limits: &[f64]) -> String {
    let value = match &part.measured {
        // Nothing was measured; the text gives the reason.
        Value::Null => normal::text(&part.why),
        // A share other than 0, 0.5 or 1 depends on times or on chance.
        Value::Number(number) if number.is_f64() && ![0.0, 0.5, 1.0].contains(&number.as_f64().unwrap_or_default()) => {
            bucket(part.value, limits, "")
        }
        _ => format!("{:.2}", part.value),
    };
    let name = format!("{}.{}", part.group.as_str(), part.name);
    format!("{name:<28} x {:<4} {value}", part.weight).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_gallery as gallery;

    #[test]
    fn numbers_are_put_into_buckets() {
        let told: Vec<String> = [0.1, 0.5, 1.9, 2.0].iter().map(|at| bucket(*at, &[0.5, 2.0], " s")).collect();
        assert_eq!(told, ["under 0.5 s", "0.5 to 2 s", "0.5 to 2 s", "2 s or more"]);
        assert_eq!((bucket(0.0, &[], ""), bucket(0.3, &[], "")), ("0".to_owned(), "above 0".to_owned()));
    }

    #[test]
    fn golden_text_omits_what_chance_decides() {
        let stream = gallery::told();
        let events: Vec<Event> = stream.events.iter().map(|event| (**event).clone()).collect();
        insta::assert_snapshot!(text(&events, &Buckets::default()).unwrap());
    }
}
