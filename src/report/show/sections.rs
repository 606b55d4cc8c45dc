//! Sections of the detailed report: head, phases, faults, tickets, timeline, agent, diagnosis, history and files.

use super::super::evidence::{NAMES, asked, evidence, named};
use super::super::judge;
use super::super::layout::{self, LayoutLine, WIDTH, labelled, printable};
use super::super::lines;
use super::{ShowOptions, beside, heading};
use chaosrun_base::style::Tone;
use chaosrun_event::figures;
use chaosrun_event::timeline;
use chaosrun_event::trial_report::{TimeOrigin, TrialReport};
use chaosrun_event::{AgentMessage, Fit, Grade};

pub(super) fn head(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    if let Some(finished) = &story.finished {
        return lines::trial_lines(&story.trial, &story.started, finished, false);
    }
    let line = lines::head((Tone::Invalid, view.without_end), &story.started, false, lines::ID - 2);
    let phase = story.phases.last().map_or_else(|| "before its first phase".into(), |phase| format!("in phase {}", phase.phase.as_str()));
    let why = match view.without_end {
        "RUNNING" => phase,
        _ => format!("its runner ended before the trial, {phase}"),
    };
    let mut lines = vec![line.to(lines::ID).put(Tone::Id, story.trial.as_str())];
    lines.extend(labelled("why", Tone::Plain, &why));
    lines
}

pub(super) fn about(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    let started = &story.started;
    let mut lines = vec![heading("trial")];
    let mut put = |label: &str, text: &str| lines.extend(labelled(label, Tone::Plain, text));
    if !started.description.is_empty() {
        put("what", &started.description);
    }
    put("file", &started.file);
    put("run", &format!("{} · goal {} · backend {} · {}", view.run, started.goal, started.backend, started.role.as_str()));
    if let Some(times) = story.finished.as_ref().and_then(lines::all_times) {
        put("times", &times);
    }
    put("seed", &format!("{} · repeat {}", started.seed, started.repeat));
    if let Some(cell) = story.cell() {
        put("cell", &cell);
    }
    if let Some(scale) = started.clock_scale {
        put("clocks", &figures::clock_scale(scale));
    }
    put("digest", &format!("yardstick {} · subject {}", started.yardstick, started.subject));
    lines
}

/// Formats each phase of the trial with its start, its duration and its proof. Also shows the part of the duration that the scenario itself
/// prescribes (declared wait).
pub(super) fn phases(story: &TrialReport) -> Vec<LayoutLine> {
    if story.phases.is_empty() {
        return Vec::new();
    }
    let head = heading("phases").ending(22, Tone::Faint, "began").ending(31, Tone::Faint, "took").ending(41, Tone::Faint, "declared");
    let mut lines = vec![head.to(43).put(Tone::Faint, "proof")];
    let (mut took_us, mut declared_us) = (0, 0);
    for phase in &story.phases {
        let line = LayoutLine::new().plain("  ").plain(phase.phase.as_str());
        let began = figures::relative(phase.began_us);
        let Some(end) = &phase.end else {
            lines.push(line.ending(22, Tone::Plain, began).to(43).put(Tone::Invalid, "did not end"));
            continue;
        };
        took_us += end.took_us;
        declared_us += end.declared_us;
        let declared = if end.declared_us > 0 { figures::precise(end.declared_us) } else { String::new() };
        let line = line.ending(22, Tone::Plain, began).ending(31, Tone::Plain, figures::precise(end.took_us));
        let line = line.ending(41, Tone::Faint, declared).to(43);
        let tone = if end.ok { Tone::Plain } else { Tone::Fail };
        let proof = if end.ok { end.proof.clone() } else { format!("not ok: {}", end.proof) };
        lines.extend(beside(line, tone, &proof));
    }
    let rest = format!("{} were not declared", figures::precise(took_us.saturating_sub(declared_us)));
    lines.push(
        LayoutLine::new()
            .put(Tone::Faint, "  all")
            .ending(31, Tone::Strong, figures::precise(took_us))
            .ending(41, Tone::Faint, figures::precise(declared_us))
            .to(43)
            .put(Tone::Faint, rest),
    );
    lines
}

pub(super) fn faults(story: &TrialReport) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for fault in &story.faults {
        lines.push(heading("fault").plain(" ").put(Tone::Strong, printable(&fault.id)));
        lines.extend(named("inject", Tone::Plain, &format!("{} {}", fault.fault, fault.targets.join(" "))));
        lines.extend(asked(&fault.parameters));
        lines.extend(match (fault.injected_us, fault.took_us) {
            (Some(at), Some(took)) => {
                let ahead = figures::short((at - fault.intended_us).unsigned_abs());
                let text = format!("{}, took {}, recorded {ahead} before the injection", figures::relative(at), figures::short(took));
                named("at", Tone::Plain, &text)
            }
            _ => named("at", Tone::Fail, &format!("recorded at {}, not injected", figures::relative(fault.intended_us))),
        });
        lines.extend(fault.evidence.iter().flat_map(|one| evidence(one.step, one.ok, one.after_us, &one.detail)));
        if let Some((at, by)) = fault.healed {
            lines.extend(named("healed", Tone::Plain, &format!("{} {}", figures::relative(at), timeline::actor(by))));
        }
    }
    lines
}

pub(super) fn tickets(story: &TrialReport) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for told in &story.tickets {
        let ticket = &told.ticket;
        lines.push(heading("ticket").plain(" ").put(Tone::Strong, ticket.id.to_string()));
        let named = |invariant: &str, node: Option<&str>| match node {
            Some(node) => format!("{invariant} {node}"),
            None => invariant.to_owned(),
        };
        let mut put = |label: &str, text: &str| {
            lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Faint, label).to(NAMES), Tone::Plain, text));
        };
        let what = named(&ticket.invariant, ticket.node.as_deref());
        put("opened", &format!("{} {what}: {}, expected {}", figures::relative(told.opened_us), ticket.observed, ticket.expected));
        if let Some(spot) = &ticket.place {
            put("at", &format!("{}:{}   {}", spot.file, spot.line, spot.text.trim()));
        }
        for joined in &told.joined {
            let what = named(&joined.invariant, joined.node.as_deref());
            put("joined", &format!("{} {what}: {}", figures::relative(joined.at_us), joined.observed));
        }
        for at in &told.reopened_us {
            put("reopened", &figures::relative(*at));
        }
        put("closed", &told.closed_us.map_or_else(|| "never".into(), figures::relative));
    }
    lines
}

pub(super) fn timeline(story: &TrialReport) -> Vec<LayoutLine> {
    if story.timeline.is_empty() {
        return Vec::new();
    }
    let zero = match story.origin {
        TimeOrigin::Injection => "the first fault",
        TimeOrigin::Ticket => "the first ticket",
        TimeOrigin::Start => "the trial's start",
    };
    let mut lines = vec![heading("timeline").put(Tone::Faint, format!(" from {zero} on"))];
    for moment in &story.timeline {
        let tone = match moment.what {
            "fault" => Tone::Fail,
            "ticket" | "warning" => Tone::Warning,
            "phase" => Tone::Strong,
            _ => Tone::Faint,
        };
        let line = LayoutLine::new().ending(10, Tone::Plain, figures::relative(moment.at_us)).to(12).put(tone, moment.what).to(22);
        // Shortens long texts for an overview. They are complete in their own sections, or with `--events`.
        lines.push(line.plain(layout::fit(&printable(&moment.text), WIDTH - 22)));
    }
    lines
}

pub(super) fn agents(story: &TrialReport) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for agent in &story.agents {
        lines.push(heading("agent").plain(" ").put(Tone::Strong, printable(&agent.variant)));
        let mut put = |label: &str, text: &str| {
            lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Faint, label).to(NAMES), Tone::Plain, text));
        };
        put("began", &format!("{} with ticket {} ({})", figures::relative(agent.began_us), agent.ticket, agent.provider));
        let Some(end) = &agent.end else {
            put("ended", "never");
            continue;
        };
        let detail = if end.detail.is_empty() { String::new() } else { format!(": {}", end.detail) };
        put("ended", &format!("{}{detail}", timeline::agent_end(end.end)));
        put(
            "used",
            &format!(
                "{} · {} · {} tokens · {}",
                figures::plural(end.turns as usize, "turn"),
                figures::short(end.took_us),
                figures::count(end.tokens),
                figures::usd(end.usd)
            ),
        );
    }
    lines
}

pub(super) fn diagnoses(story: &TrialReport) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for diagnosis in &story.diagnoses {
        lines.push(heading("diagnosis"));
        let mut put = |label: &str, text: &str| {
            lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Faint, label).to(NAMES), Tone::Plain, text));
        };
        put("says", &format!("{} of {}, confidence {:.2}", diagnosis.fault_class, diagnosis.component, diagnosis.confidence));
        put("cause", &diagnosis.root_cause);
        diagnosis.evidence.iter().for_each(|text| put("evidence", text));
        for other in &diagnosis.alternatives {
            put("not", &format!("{}: {}", other.cause, other.rejected_because));
        }
        diagnosis.actions.iter().for_each(|text| put("did", text));
    }
    lines.extend(story.finished.as_ref().and_then(|finished| finished.diagnosis.as_ref()).into_iter().flat_map(grade));
    lines
}

/// Formats the grades of the diagnoses by models. These grades are advice, in addition to the grades by rules.
pub(super) fn advisory(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    let grade = story.finished.as_ref().and_then(|finished| finished.diagnosis.as_ref());
    judge::of_trial(&view.advisory, grade.map(chaosrun_judge::Cause::of_grade))
}

/// Formats the grade of a diagnosis by rules, with one entry per fault.
fn grade(grade: &Grade) -> Vec<LayoutLine> {
    let mut lines = vec![heading("graded").put(Tone::Faint, format!(" {} submitted", figures::plural(grade.submitted, "diagnosis")))];
    let mut put = |label: &str, tone: Tone, text: &str| {
        lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Faint, printable(label)).to(NAMES), tone, text));
    };
    let tone = |fit: Fit| match fit {
        Fit::Exact => Tone::Pass,
        Fit::Near => Tone::Warning,
        Fit::Wrong | Fit::None => Tone::Fail,
    };
    for fault in &grade.faults {
        let truth = if fault.nodes.is_empty() { "nothing".to_owned() } else { fault.nodes.join(" ") };
        put(fault.id.as_deref().unwrap_or("truth"), Tone::Plain, &format!("{} of {truth}", fault.class));
        let said = |text: fn(&AgentMessage) -> &String| fault.said.as_ref().map_or("nothing", |said| text(said).as_str());
        for (label, fit, said) in
            [("component", fault.component, said(|said| &said.component)), ("class", fault.fault_class, said(|said| &said.fault_class))]
        {
            put(label, tone(fit), &format!("{}: {said}", fit.as_str()));
        }
    }
    if grade.quotes > 0 {
        let tone = if grade.quotes_found == grade.quotes { Tone::Plain } else { Tone::Warning };
        put("evidence", tone, &format!("{} of {} was shown to the agent", grade.quotes_found, figures::plural(grade.quotes, "quote")));
        grade.not_found.iter().for_each(|text| put("not shown", Tone::Warning, text));
    }
    lines
}

pub(super) fn history(story: &TrialReport) -> Vec<LayoutLine> {
    let Some(history) = &story.history else { return Vec::new() };
    let mut lines = vec![heading("history").put(Tone::Faint, format!(" model {}", history.model.as_str()))];
    let mut put = |label: &str, tone: Tone, text: &str| {
        lines.extend(beside(LayoutLine::new().plain("  ").put(Tone::Faint, label).to(NAMES), tone, text));
    };
    put(
        "ops",
        Tone::Plain,
        &format!(
            "{} {}, {} failed, {} open (may have taken effect)",
            figures::count(history.acknowledged),
            if history.of_limits() { "allowed" } else { "acknowledged" },
            figures::count(history.failed),
            figures::count(history.open)
        ),
    );
    let reads = figures::plural(usize::try_from(history.final_reads).unwrap_or(usize::MAX), "final read");
    match history.durable {
        Some(true) if history.of_limits() => put("limited", Tone::Pass, "yes: no limit was exceeded"),
        Some(false) if history.of_limits() => {
            put("limited", Tone::Fail, &format!("no: {} allowed beyond the limit", figures::count(history.lost)));
        }
        Some(true) => put("durable", Tone::Pass, &format!("yes: no acknowledged write was lost, {reads}")),
        Some(false) => put("durable", Tone::Fail, &format!("no: {} lost, {reads}", figures::count(history.lost))),
        None => put("durable", Tone::Invalid, &format!("unknown: {}", history.why_unknown.as_deref().unwrap_or("no reason given"))),
    }
    let lost = if history.of_limits() { "exceeded" } else { "lost" };
    history.lost_examples.iter().for_each(|text| put(lost, Tone::Fail, text));
    put("impact", Tone::Plain, &format!("{} of client error time", figures::short(history.impact_us)));
    lines
}

pub(super) fn files(story: &TrialReport, view: &ShowOptions) -> Vec<LayoutLine> {
    let mut lines = vec![heading("more")];
    if view.artifacts.is_dir() {
        lines.extend(labelled("files", Tone::Plain, &view.artifacts.display().to_string()));
    }
    lines.extend(labelled("events", Tone::Plain, &format!("chaosrun show {} --events", story.trial)));
    lines.extend(labelled("again", Tone::Plain, &format!("chaosrun run --like {}", story.trial)));
    lines
}
