//! Resolution of a variant file.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::{Checker, cluster::stem, program, provider};
use crate::model::{LimitsOverride, Provider, Rule, RuleCommand, RuleDiagnosis, RuleDoing, RuleEnd, Tool, Variant, Wire};
use crate::raw::{RawCommand, RawDiagnosis, RawEnd, RawLimits, RawProvider, RawRule, RawVariant, Short, Text};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile};
use chaosrun_expr::Scope;
use chaosrun_input::Document;
use chaosrun_input::names;

/// Resolves a variant. `files` contains the templates listed by [`prompts`](super::prompts) and the files listed by
/// [`brought`](super::brought).
pub fn variant(doc: &Document, raw: &RawVariant, files: &IndexMap<String, Arc<SourceFile>>) -> (Variant, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    if raw.provider != RawProvider::Scripted && !raw.rules.is_empty() {
        let problem =
            Diagnostic::error("bad_variant", "`rules` are only valid with `provider: scripted`").label("not used by this provider");
        check.wrong_key(&root.key("rules"), problem);
    }
    if raw.provider == RawProvider::Scripted && raw.rules.is_empty() && !doc.lost("rules") {
        let problem = Diagnostic::error("bad_variant", "a scripted variant needs `rules`").label("expected `rules` in this file");
        check.wrong(&root.key("provider"), problem.help("for a variant that does nothing, use `provider: noop`"));
    }
    let rules: Vec<Rule> =
        raw.rules.iter().enumerate().filter_map(|(at, raw)| rule(&mut check, &root.key("rules").index(at), raw)).collect();
    let provider = match raw.provider {
        RawProvider::Scripted => Provider::Scripted { rules },
        RawProvider::Noop => Provider::Noop,
        RawProvider::RestartAll => Provider::RestartAll,
        RawProvider::Oracle => Provider::Oracle,
        RawProvider::Anthropic => provider::model(&mut check, raw, Wire::Anthropic, files),
        RawProvider::Openai => provider::model(&mut check, raw, Wire::Openai, files),
        RawProvider::Command => program::program(&mut check, raw, files),
        // The loader replaces this with the recorded model.
        RawProvider::Cassette => Provider::Noop,
    };
    provider::cassette(&mut check, raw);
    if !matches!(raw.provider, RawProvider::Anthropic | RawProvider::Openai) {
        provider::no_model(&mut check, raw);
    }
    if raw.provider != RawProvider::Command {
        program::no_program(&mut check, raw);
    }
    let name = name(&mut check, raw);
    let limits = override_limits(&mut check, &root.key("limits"), &raw.limits);
    // A model without a shell needs no sandbox.
    let shell = matches!(&provider, Provider::Model(model) if model.tools.contains(&Tool::Shell));
    let sandbox = raw.sandbox || shell || matches!(provider, Provider::Command(_));
    let variant = Variant { name, description: raw.description.clone(), file: Arc::clone(&doc.file), provider, limits, sandbox };
    (variant, check.problems)
}

/// Returns the name of the variant. If the file declares no name, the name of the file is used.
pub(super) fn name(check: &mut Checker, raw: &RawVariant) -> String {
    let name = raw.name.clone().unwrap_or_else(|| stem(&check.doc.file));
    if !name.split('-').all(|part| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) || name.is_empty() {
        let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a variant"));
        check.wrong(&Pointer::default().key("name"), problem.label("expected letters, digits, `_` and `-`"));
    }
    name
}

/// Resolves the limits that a file declares. Other limits stay `None`.
pub(super) fn override_limits(check: &mut Checker, pointer: &Pointer, raw: &RawLimits) -> LimitsOverride {
    if raw.usd.is_some_and(|usd| !(0.0..=1e9).contains(&usd)) {
        check.wrong(
            &pointer.key("usd"),
            Diagnostic::error("out_of_range", "a limit in US dollars must not be negative").label("expected at least 0"),
        );
    }
    if raw.turns == Some(0) {
        check.wrong(
            &pointer.key("turns"),
            Diagnostic::error("out_of_range", "an agent needs at least one turn").label("expected at least 1"),
        );
    }
    for (key, value) in [("wall", &raw.wall), ("command", &raw.command)] {
        if value.as_ref().is_some_and(|value| super::quantity::duration(&value.0) == Ok(Duration::ZERO)) {
            check.wrong(&pointer.key(key), Diagnostic::error("out_of_range", format!("`{key}` is zero")).label("expected more than 0s"));
        }
    }
    let wall = check.maybe_duration(&pointer.key("wall"), raw.wall.as_ref());
    let command = check.maybe_duration(&pointer.key("command"), raw.command.as_ref());
    if let (Some(wall), Some(command)) = (wall, command)
        && command > wall
    {
        command_above_wall(check, &pointer.key("command"), command, wall, "lower `limits.command`, or raise `limits.wall`");
    }
    let output = check.size(&pointer.key("output"), raw.output.as_ref());
    LimitsOverride {
        wall,
        turns: raw.turns,
        tokens: check.count(&pointer.key("tokens"), raw.tokens.as_ref()),
        usd: raw.usd,
        command,
        output: output.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
    }
}

/// Reports a problem: the time limit of a command is longer than the time limit of the whole agent.
pub(super) fn command_above_wall(check: &mut Checker, pointer: &Pointer, command: Duration, wall: Duration, help: &str) {
    let (command, wall) = (humantime::format_duration(command), humantime::format_duration(wall));
    let problem = Diagnostic::error("command_above_wall", format!("a command may take {command}, but the whole agent only {wall}"));
    check.wrong(pointer, problem.label(format!("expected at most {wall}")).help(help));
}

fn rule(check: &mut Checker, pointer: &Pointer, raw: &RawRule) -> Option<Rule> {
    let always = Text("true".to_owned());
    let when = check.expr(&pointer.key("when"), raw.when.as_ref().unwrap_or(&always), Scope::Agent, &[]);
    let commands =
        raw.commands.iter().enumerate().filter_map(|(at, raw)| command(check, &pointer.key("commands").index(at), raw)).collect();
    let diagnosis = raw.diagnosis.as_ref().and_then(|raw| diagnosis(check, &pointer.key("diagnosis"), raw));
    let end = match raw.end {
        Some(RawEnd::Resolve) | None => RuleEnd::Resolve,
        Some(RawEnd::Escalate) => RuleEnd::Escalate,
        Some(RawEnd::NoAction) => RuleEnd::NoAction,
        Some(RawEnd::Again) => RuleEnd::Again,
    };
    Some(Rule { when: when?, commands, diagnosis, end })
}

pub(super) fn command(check: &mut Checker, pointer: &Pointer, raw: &Short<RawCommand>) -> Option<RuleCommand> {
    let scope = Scope::Agent;
    let none = || Text(String::new());
    match raw {
        Short::Word(run) => {
            let run = check.template(pointer, &Text(run.clone()), scope, &[])?;
            Some(RuleCommand {
                when: None,
                what: RuleDoing::Run(run),
                reasoning: check.template(pointer, &none(), scope, &[])?,
                until: None,
            })
        }
        Short::Full(raw) => {
            let when = check.maybe_expr(&pointer.key("when"), raw.when.as_ref(), scope, &[]);
            let until = check.maybe_expr(&pointer.key("until"), raw.until.as_ref(), scope, &[]);
            let reasoning = check.template(&pointer.key("reasoning"), &raw.reasoning, scope, &[]);
            let what = doing(check, pointer, raw);
            Some(RuleCommand { when, what: what?, reasoning: reasoning?, until })
        }
    }
}

/// Resolves a command of a script, which is a command line or an action. The existence of the action is checked later with the cluster.
fn doing(check: &mut Checker, pointer: &Pointer, raw: &RawCommand) -> Option<RuleDoing> {
    let scope = Scope::Agent;
    if raw.act.is_none() && !raw.params.is_empty() {
        let problem = Diagnostic::error("bad_command", "`params` are only valid with `act`").label("not used here");
        check.wrong_key(&pointer.key("params"), problem);
    }
    match (&raw.run, &raw.act) {
        (Some(run), None) => check.template(&pointer.key("run"), run, scope, &[]).map(RuleDoing::Run),
        (None, Some(action)) => {
            let params = check.template_map(&pointer.key("params"), &raw.params, scope, &[]);
            Some(RuleDoing::Act { action: action.clone(), params, place: check.place(&pointer.key("act")) })
        }
        (Some(_), Some(_)) => {
            let problem = Diagnostic::error("bad_command", "`run` and `act` are set at the same time").label("expected only one of them");
            check.wrong_key(&pointer.key("act"), problem.help("split it into two commands"));
            None
        }
        (None, None) => {
            if !check.doc.lost("rules") {
                let problem = Diagnostic::error("missing_field", format!("`run` is missing in `{pointer}`"));
                check.wrong_key(pointer, problem.label("expected `run` or `act` in this map"));
            }
            None
        }
    }
}

/// Fault classes that a diagnosis may name. The list is fixed, so that diagnoses can be compared with the injected faults.
pub const FAULT_CLASSES: [&str; 28] = [
    "process_crash",
    "process_hang",
    "process_stop",
    "process_restart",
    "crash_loop",
    "power_loss",
    "network_partition",
    "network_latency",
    "packet_loss",
    "packet_duplication",
    "packet_corruption",
    "packet_reordering",
    "bandwidth",
    "connection_reset",
    "disk_full",
    "disk_slow",
    "disk_error",
    "cpu_exhaustion",
    "memory_exhaustion",
    "clock_skew",
    "bad_config",
    "data",
    "data_loss",
    "data_corruption",
    "overload",
    "quorum_loss",
    "none",
    "unknown",
];

fn diagnosis(check: &mut Checker, pointer: &Pointer, raw: &RawDiagnosis) -> Option<RuleDiagnosis> {
    let scope = Scope::Agent;
    if !FAULT_CLASSES.contains(&raw.fault_class.as_str()) {
        let problem = Diagnostic::error("unknown_word", format!("unknown fault class `{}`", raw.fault_class));
        let problem = match names::closest(&raw.fault_class, FAULT_CLASSES) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
        check.wrong(&pointer.key("fault_class"), problem.help(format!("known here: {}", names::listed(FAULT_CLASSES))));
    }
    let confidence = check.within(&pointer.key("confidence"), raw.confidence, 0.0..=1.0, 1.0);
    let root_cause = check.template(&pointer.key("root_cause"), &raw.root_cause, scope, &[]);
    let component = check.template(&pointer.key("component"), &raw.component, scope, &[]);
    let evidence = check.templates(&pointer.key("evidence"), &raw.evidence, scope, &[]);
    Some(RuleDiagnosis { root_cause: root_cause?, component: component?, fault_class: raw.fault_class.clone(), confidence, evidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_class_for_diagnoses() {
        for kind in chaosrun_fault::ALL {
            assert!(FAULT_CLASSES.contains(&kind.class), "`{}` of {}", kind.class, kind.name);
        }
    }
}
