//! Resolution of the section `chaos:`, and checks for conflicts between faults.

use std::time::Duration;

use super::{Checker, Names, quantity};
use crate::model::{Backend, Chaos, ClusterSpec, Heal, Pick, Repeat, Target, TargetOf, Trigger, When};
use crate::raw::{RawChaos, RawRepeat, RawTrigger, Short};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_fault as fault;
use chaosrun_fault::target::candidates;
use chaosrun_fault::{Fault, FaultNode, Repair};
use chaosrun_input::{Document, names};

/// Cluster and backend on which the faults of a scenario run.
pub struct FaultScope<'a> {
    pub cluster: &'a ClusterSpec,
    /// Document of the cluster file. It contains all names, including names whose values could not be resolved.
    pub doc: &'a Document,
    pub backend: Backend,
}

impl<'a> FaultScope<'a> {
    /// Converts this data to the type that the crate `chaosrun_fault` uses.
    fn for_faults(&self) -> fault::FaultGround<'a> {
        fault::FaultGround {
            nodes: self.cluster.fault_nodes(),
            roles: self.cluster.roles.keys().cloned().collect(),
            doc: self.doc,
            backend: self.backend.as_str(),
        }
    }
}

/// Default of the latest injection time of a fault that an event triggers, counted from the steady state.
const LATEST: Duration = Duration::from_secs(30);

pub(super) fn entry(check: &mut Checker, pointer: &Pointer, id: &str, raw: &RawChaos, ground: &FaultScope) -> Option<Chaos> {
    check.identifier(pointer, "a fault", id);
    let when = when(check, pointer, raw);
    let heal = heal(check, &pointer.key("heal"), raw.heal.as_ref().map(|text| text.0.as_str()));
    let place = check.doc.key_place(pointer);
    let (fault, repair) = Fault::resolve(check, &pointer.key("inject"), &raw.inject, heal, &ground.for_faults())?;
    let kind = fault.description();
    if heal == Heal::Agent && kind.repair == Repair::Nobody {
        let problem = Diagnostic::error("not_repairable", format!("an agent cannot repair `{}`", kind.name));
        check.wrong_key(&pointer.key("inject").key(kind.name), problem.label("expected `heal: never` or `heal: 20s` beside `inject`"));
    }
    let repeat = repeat(check, &pointer.key("repeat"), raw.repeat.as_ref(), heal);
    Some(Chaos { id: id.to_owned(), when, repeat, fault, heal, noise: raw.noise, repair, place })
}

/// Resolves one fault. `others` are the faults that are already active.
pub fn alone(doc: &Document, id: &str, raw: &RawChaos, ground: &FaultScope, others: &[Chaos]) -> (Option<Chaos>, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    check.known = Some(Names {
        roles: ground.cluster.roles.keys().cloned().collect(),
        nodes: ground.cluster.nodes.iter().map(|node| node.name.clone()).collect(),
    });
    let chaos = entry(&mut check, &Pointer::default().key("chaos").key(id), id, raw, ground);
    if let Some(chaos) = &chaos {
        let all: Vec<Chaos> = others.iter().chain([chaos]).cloned().collect();
        contradictions(&mut check, &all, ground.cluster);
    }
    (chaos, check.problems)
}

fn when(check: &mut Checker, pointer: &Pointer, raw: &RawChaos) -> When {
    let Some(on) = &raw.on else { return When::At(check.duration(&pointer.key("at"), raw.at.as_ref(), Duration::ZERO)) };
    if raw.at.is_some() {
        let problem = Diagnostic::error("bad_when", "`at` and `on` are set at the same time").label("expected only one of them");
        check.wrong_key(&pointer.key("at"), problem.help("remove one of them; `latest` in `on` sets the latest time of the injection"));
    }
    let at = pointer.key("on");
    match on {
        Short::Word(word) => {
            let Ok(event) = serde_json::from_value(word.as_str().into()) else {
                check.unknown(&at, "unknown_word", "event", word, ["ticket", "command", "healed"]);
                return When::At(Duration::ZERO);
            };
            When::On(Trigger { event, nth: 1, plus: Duration::ZERO, latest: LATEST })
        }
        Short::Full(RawTrigger { event, nth, plus, latest }) => {
            if *nth == Some(0) {
                let problem = Diagnostic::error("out_of_range", "`nth` is 0, but events are counted from 1").label("expected 1 or more");
                check.wrong(&at.key("nth"), problem);
            }
            let plus = check.duration(&at.key("plus"), plus.as_ref(), Duration::ZERO);
            let latest = check.duration(&at.key("latest"), latest.as_ref(), LATEST);
            When::On(Trigger { event: *event, nth: nth.unwrap_or(1).max(1), plus, latest })
        }
    }
}

fn repeat(check: &mut Checker, pointer: &Pointer, raw: Option<&RawRepeat>, heal: Heal) -> Repeat {
    let Some(raw) = raw else { return Repeat { times: 1, every: Duration::ZERO } };
    if raw.times == 0 || raw.times > 1000 {
        let problem = Diagnostic::error("out_of_range", format!("`{}` is out of range", raw.times)).label("expected 1 to 1000");
        check.wrong(&pointer.key("times"), problem);
    }
    let every = check.duration(&pointer.key("every"), Some(&raw.every), Duration::from_secs(1));
    match heal {
        Heal::After(lasts) if lasts >= every => {
            let problem = Diagnostic::error("overlapping_faults", "the fault would repeat before it ends");
            check.wrong(&pointer.key("every"), problem.label("expected more than the duration of `heal`"));
        }
        Heal::Never if raw.times > 1 => {
            let problem = Diagnostic::error("overlapping_faults", "a fault that is never healed cannot repeat");
            check.wrong_key(pointer, problem.label("expected `heal: agent` or a duration in `heal`"));
        }
        _ => (),
    }
    Repeat { times: raw.times.clamp(1, 1000), every }
}

fn heal(check: &mut Checker, pointer: &Pointer, raw: Option<&str>) -> Heal {
    match raw {
        None | Some("agent") => Heal::Agent,
        Some("never") => Heal::Never,
        Some(text) => {
            if let Ok(time) = quantity::duration(text) {
                return Heal::After(time);
            }
            let problem = Diagnostic::error("unknown_word", format!("`{text}` is not a valid way to heal a fault"));
            let near = names::closest(text, ["agent", "never"]).map(|near| format!("did you mean `{near}`?"));
            let expected = "expected `agent`, `never` or a duration such as `20s`".to_owned();
            check.wrong(pointer, problem.label(near.unwrap_or_else(|| expected.clone())).help(expected));
            Heal::Agent
        }
    }
}

/// Reports pairs of faults that would control the same resource of the same node at the same time. The check covers only nodes that a fault
/// hits with every seed.
pub(super) fn contradictions(check: &mut Checker, chaos: &[Chaos], cluster: &ClusterSpec) {
    let nodes = cluster.fault_nodes();
    for (at, later) in chaos.iter().enumerate() {
        for earlier in &chaos[..at] {
            let (Some(one), Some(other)) = (earlier.fault.description().holds, later.fault.description().holds) else { continue };
            if one != other || !at_once(earlier, later) {
                continue;
            }
            let (hit, also) = (certain(&earlier.fault.targets(), &nodes), certain(&later.fault.targets(), &nodes));
            let Some(node) = hit.iter().find(|node| also.contains(node)) else { continue };
            let message = format!("`{}` and `{}` would both control the {one} of {node}", earlier.id, later.id);
            let problem = Diagnostic::error("contradictory_faults", message).label(format!("while `{}` lasts", earlier.id));
            let pointer = Pointer::default().key("chaos").key(later.id.as_str());
            check.wrong_key(&pointer, problem.help("end the first fault (`heal: 5s`) before the second begins, or use other targets"));
        }
    }
}

fn at_once(one: &Chaos, other: &Chaos) -> bool {
    let span = |chaos: &Chaos| {
        let begin = chaos.when.latest();
        let end = match chaos.heal {
            Heal::After(lasts) => Some(begin + lasts),
            // An agent may have repaired the first fault before the second begins.
            Heal::Agent => Some(begin),
            Heal::Never => None,
        };
        (begin, end)
    };
    let ((begin, end), (from, to)) = (span(one), span(other));
    if begin == from {
        return true;
    }
    end.is_none_or(|end| end > from) && to.is_none_or(|to| to > begin)
}

/// Returns the nodes that the targets include with every seed.
fn certain(targets: &[&Target], nodes: &[FaultNode]) -> Vec<String> {
    let all = |target: &&&Target| {
        let candidates = candidates(target, nodes).unwrap_or_default();
        matches!(target.pick, Pick::All) || matches!(target.pick, Pick::Count(count) if count >= candidates.len())
    };
    let fixed = targets.iter().filter(|target| !matches!(target.of, TargetOf::Select(_))).filter(all);
    fixed.flat_map(|target| candidates(target, nodes).unwrap_or_default()).collect()
}
