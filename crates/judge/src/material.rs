//! Facts about a trial for the judge's prompt, gathered from the trial's events. The functions are pure.

use std::collections::{BTreeSet, HashSet};

use super::answer::supported;
use chaosrun_event::Cause;
use chaosrun_event::{Diagnosis, EventKind, GroundTruth, InjectedFault};
use chaosrun_expr::{Context, Value};
use chaosrun_scenario::model::Goal;
use chaosrun_score::diagnosis::Shown;

/// Types of the events that contain the facts for the judge's prompt.
pub(super) const NEEDED: &[&str] = &[
    "trial_started",
    "ticket_opened",
    "ticket_joined",
    "conversation_started",
    "conversation_summarised",
    "model_answered",
    "request_passed",
    "tool_answered",
    "command_started",
    "command_finished",
    "diagnosis_submitted",
    "ground_truth",
];
/// Number of characters of context shown around a cited piece of evidence.
const AROUND: usize = 600;
/// Maximum number of characters of any text of the agent in the judge's prompt.
const LONGEST: usize = 4_000;

#[derive(Debug, Default)]
pub(super) struct Material {
    goal: Option<Goal>,
    pub diagnoses: Vec<Diagnosis>,
    ground: Option<GroundTruth>,
    shown: Shown,
    /// Names of all models that the agent used, as named in its requests and in the responses.
    pub models: BTreeSet<String>,
}

impl Material {
    pub fn event(&mut self, kind: &EventKind) {
        self.shown.event(kind);
        match kind {
            EventKind::TrialStarted(started) => self.goal = Goal::from_name(&started.goal),
            EventKind::ConversationStarted { model, .. }
            | EventKind::ConversationSummarised { model, .. }
            | EventKind::ModelAnswered { model, .. }
            | EventKind::RequestPassed { model, .. } => drop(self.models.insert(model.clone())),
            EventKind::DiagnosisSubmitted { diagnosis } => self.diagnoses.push(diagnosis.clone()),
            EventKind::GroundTruth(ground) => self.ground = Some((**ground).clone()),
            _ => {}
        }
    }

    /// Returns the variables of the judge's prompt template. Returns `None` if the trial was not scored, because its root cause is then
    /// unknown.
    pub fn context(&self) -> Option<Context> {
        let (ground, goal) = (self.ground.as_ref()?, self.goal?);
        // A repeatedly injected fault counts as one fault.
        let mut known = HashSet::new();
        let faults: Vec<&InjectedFault> = ground.faults.iter().filter(|fault| known.insert((&fault.id, &fault.targets))).collect();
        let told = |truth: bool| faults.iter().filter(|one| one.truth == truth).map(|one| fault(one)).collect::<Vec<_>>();
        let nodes = ground.roles.iter().map(|(node, role)| map(&[("name", node), ("role", role)])).collect::<Vec<_>>();
        let mut context = Context::new();
        context.set("goal", Value::from(goal.as_str()));
        context.set("truth", Value::from(told(true)));
        context.set("noise", Value::from(told(false)));
        context.set("passes", Value::from(matches!(goal, Goal::Wait | Goal::Nothing)));
        context.set("nodes", Value::from(nodes));
        context.set("diagnoses", Value::from(self.diagnoses.iter().map(|one| self.diagnosis(one)).collect::<Vec<_>>()));
        Some(context)
    }

    fn diagnosis(&self, said: &Diagnosis) -> Value {
        let piece = |text: &String| {
            let around = self.shown.around(text, AROUND);
            Value::from_pairs([
                ("text", Value::from(cut(text))),
                ("shown", Value::from(around.is_some())),
                ("around", Value::from(around.unwrap_or_default())),
            ])
        };
        let others = said
            .alternatives
            .iter()
            .map(|other| map(&[("cause", &cut(&other.cause)), ("rejected_because", &cut(&other.rejected_because))]));
        Value::from_pairs([
            ("root_cause", Value::from(cut(&said.root_cause))),
            ("component", Value::from(cut(&said.component))),
            ("fault_class", Value::from(said.fault_class.as_str())),
            ("confidence", Value::from(said.confidence)),
            ("evidence", Value::from(said.evidence.iter().map(piece).collect::<Vec<_>>())),
            ("alternatives", Value::from(others.collect::<Vec<_>>())),
            ("actions", Value::from(said.actions.iter().map(|action| Value::from(cut(action))).collect::<Vec<_>>())),
        ])
    }
}

fn fault(fault: &InjectedFault) -> Value {
    let names = |names: &[String]| Value::from(names.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>());
    Value::from_pairs([
        ("id", Value::from(fault.id.as_str())),
        ("fault", Value::from(fault.fault.as_str())),
        ("class", Value::from(fault.class.as_str())),
        ("nodes", names(&fault.targets)),
        ("linked", names(&fault.linked)),
    ])
}

fn map(pairs: &[(&'static str, &String)]) -> Value {
    Value::from_pairs(pairs.iter().map(|(name, text)| (*name, Value::from(text.as_str()))))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Converts the grade of the rules to the judge's terms. The second value is true if all cited evidence was shown, and `None` if no
/// evidence is cited.
pub(super) fn by_rules(grade: &chaosrun_event::Grade) -> (Cause, Option<bool>) {
    (Cause::of_grade(grade), (grade.quotes > 0).then(|| supported(grade)))
}

/// Returns true if two names denote the same model. The comparison ignores vendor prefix, date suffix and case.
pub(super) fn same_model(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

fn plain(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let name = name.strip_suffix("-latest").or_else(|| name.strip_suffix(":latest")).unwrap_or(&name);
    chaosrun_models::prices::undated(name).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Output;
    use chaosrun_gallery as gallery;

    #[test]
    fn model_names_match_across_spellings() {
        for (one, other, same) in [
            ("claude-opus-5-5", "claude-opus-5-5-20261001", true),
            ("anthropic/Claude-Opus-5-5", "claude-opus-5-5", true),
            ("gpt-5.5-2026-04-01", "gpt-5.5", true),
            ("qwen3:latest", "qwen3", true),
            ("claude-opus-5-5", "claude-sonnet-5-5", false),
            ("gpt-5.5-mini", "gpt-5.5", false),
        ] {
            assert_eq!(same_model(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn evidence_is_quoted_with_its_surroundings() {
        let mut material = Material::default();
        material.event(&EventKind::TrialStarted(gallery::started("node_kill", "claude", 1).into()));
        material.event(&EventKind::CommandStarted { number: 1, command: "docker ps -a".into(), reasoning: String::new(), reported: false });
        let text = "NAMES STATUS\ntikv1 Exited (137) 3 seconds ago\ntikv2 Up".to_owned();
        material.event(&EventKind::CommandFinished {
            number: 1,
            exit_code: 0,
            timed_out: false,
            summary: String::new(),
            took_us: 1,
            stdout: Output { text, ..Output::default() },
            stderr: Output::default(),
        });
        let evidence = vec!["tikv1 Exited (137)".to_owned(), "the disk is full".to_owned()];
        material.event(&EventKind::DiagnosisSubmitted { diagnosis: Diagnosis { evidence, ..Diagnosis::default() } });
        assert!(material.context().is_none(), "without a truth nothing can be judged");
        let fault = InjectedFault {
            id: "kill".into(),
            fault: "node_kill".into(),
            class: "process_crash".into(),
            targets: vec!["tikv1".into()],
            linked: Vec::new(),
            truth: true,
            repairable: true,
        };
        material.event(&EventKind::GroundTruth(Box::new(GroundTruth { faults: vec![fault.clone(), fault], ..GroundTruth::default() })));
        let context = material.context().expect("a context");
        let shown =
            |text: &str| chaosrun_expr::Template::compile(text, None, chaosrun_expr::Scope::Judge, &[]).unwrap().render(&context).unwrap();
        assert_eq!(shown("{{ truth | length }} {{ truth[0].nodes | join(' ') }} {{ noise | length }}"), "1 tikv1 0");
        assert_eq!(shown("{{ diagnoses[0].evidence[0].around }}"), "NAMES STATUS tikv1 Exited (137) 3 seconds ago tikv2 Up");
        assert_eq!(shown("{{ diagnoses[0].evidence[1].shown }}"), "false");
    }
}
