//! State of manually injected faults, computed from the stream of events.

use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::sync::watch;

use super::wire::{FaultNow, ManualFaultEvidence};
use chaosrun_event::{EventKind, EvidenceStep};

/// States of all manually injected faults by id, in the order of their injection. Faults that have ended are included.
pub(super) type FaultStates = watch::Sender<IndexMap<String, FaultNow>>;

/// Updates the states of faults according to an event. `at` is the time of the event.
pub(super) fn hear(faults: &FaultStates, at: Timestamp, kind: &EventKind) {
    let change = |id: &String, change: &dyn Fn(&mut FaultNow)| {
        faults.send_if_modified(|faults| faults.get_mut(id).map(change).is_some());
    };
    match kind {
        EventKind::FaultIntended { id, fault, targets, parameters } => {
            let now = FaultNow {
                id: id.clone(),
                fault: fault.clone(),
                targets: targets.clone(),
                parameters: parameters.clone(),
                since: None,
                took_us: 0,
                evidence: Vec::new(),
                healed: false,
                tampered: None,
            };
            faults.send_modify(|faults| drop(faults.insert(id.clone(), now)));
        }
        EventKind::FaultInjected { id, took_us, .. } => change(id, &|now| (now.since, now.took_us) = (Some(at), *took_us)),
        EventKind::FaultEvidence { id, step, ok, detail, numbers, after_us } => {
            let evidence =
                ManualFaultEvidence { step: *step, ok: *ok, detail: detail.clone(), numbers: numbers.clone(), after_us: *after_us };
            change(id, &|now| {
                now.evidence.push(evidence.clone());
                now.healed |= *step == EvidenceStep::Gone && *ok;
            });
        }
        EventKind::FaultHealed { id, .. } => change(id, &|now| now.healed = true),
        EventKind::FaultTampered { id, detail } => change(id, &|now| now.tampered = Some(detail.clone())),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Actor;

    #[test]
    fn fault_is_active_until_healed_or_gone() {
        let faults = FaultStates::default();
        let hear = |kind: EventKind| hear(&faults, Timestamp::UNIX_EPOCH, &kind);
        let id = |id: &str| id.to_owned();
        for one in ["f1", "f2", "f3"] {
            hear(EventKind::FaultIntended {
                id: id(one),
                fault: "latency".into(),
                targets: vec!["a".into()],
                parameters: serde_json::Value::Null,
            });
            hear(EventKind::FaultInjected { id: id(one), fault: "latency".into(), targets: vec!["a".into()], took_us: 7 });
        }
        let evidence = |one: &str, step, ok| EventKind::FaultEvidence {
            id: id(one),
            step,
            ok,
            detail: "seen".into(),
            numbers: IndexMap::new(),
            after_us: 1,
        };
        hear(evidence("f1", EvidenceStep::Installed, true));
        hear(evidence("f2", EvidenceStep::Gone, true));
        hear(EventKind::FaultHealed { id: id("f3"), by: Actor::Runner });
        hear(EventKind::FaultTampered { id: id("f1"), detail: "no process".into() });
        hear(evidence("unknown", EvidenceStep::Felt, true));
        let now = faults.borrow();
        let in_force: Vec<&str> = now.values().filter(|now| now.is_in_force()).map(|now| now.id.as_str()).collect();
        assert_eq!((in_force, now["f1"].tampered.as_deref(), now["f1"].evidence.len()), (vec!["f1"], Some("no process"), 1));
    }
}
