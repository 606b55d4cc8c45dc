//! What has become of faults that were injected by hand, read off the stream of events.

use indexmap::IndexMap;
use jiff::Timestamp;
use tokio::sync::watch;

use super::wire::{Evidence, FaultNow};
use crate::event::{EvidenceStep, Kind};

/// By id, in the order of their injection; those that are over stay.
pub(super) type Faults = watch::Sender<IndexMap<String, FaultNow>>;

/// Takes in what an event says of a fault.
pub(super) fn hear(faults: &Faults, at: Timestamp, kind: &Kind) {
    let change = |id: &String, change: &dyn Fn(&mut FaultNow)| {
        faults.send_if_modified(|faults| faults.get_mut(id).map(change).is_some());
    };
    match kind {
        Kind::FaultIntended { id, fault, targets, parameters } => {
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
        Kind::FaultInjected { id, took_us, .. } => change(id, &|now| (now.since, now.took_us) = (Some(at), *took_us)),
        Kind::FaultEvidence { id, step, ok, detail, numbers, after_us } => {
            let evidence = Evidence { step: *step, ok: *ok, detail: detail.clone(), numbers: numbers.clone(), after_us: *after_us };
            change(id, &|now| {
                now.evidence.push(evidence.clone());
                now.healed |= *step == EvidenceStep::Gone && *ok;
            });
        }
        Kind::FaultHealed { id, .. } => change(id, &|now| now.healed = true),
        Kind::FaultTampered { id, detail } => change(id, &|now| now.tampered = Some(detail.clone())),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Actor;

    #[test]
    fn a_fault_is_in_force_until_it_is_healed_or_gone() {
        let faults = Faults::default();
        let hear = |kind: Kind| hear(&faults, Timestamp::UNIX_EPOCH, &kind);
        let id = |id: &str| id.to_owned();
        for one in ["f1", "f2", "f3"] {
            hear(Kind::FaultIntended {
                id: id(one),
                fault: "latency".into(),
                targets: vec!["a".into()],
                parameters: serde_json::Value::Null,
            });
            hear(Kind::FaultInjected { id: id(one), fault: "latency".into(), targets: vec!["a".into()], took_us: 7 });
        }
        let evidence = |one: &str, step, ok| Kind::FaultEvidence {
            id: id(one),
            step,
            ok,
            detail: "seen".into(),
            numbers: IndexMap::new(),
            after_us: 1,
        };
        hear(evidence("f1", EvidenceStep::Installed, true));
        hear(evidence("f2", EvidenceStep::Gone, true));
        hear(Kind::FaultHealed { id: id("f3"), by: Actor::Runner });
        hear(Kind::FaultTampered { id: id("f1"), detail: "no process".into() });
        hear(evidence("unknown", EvidenceStep::Felt, true));
        let now = faults.borrow();
        let in_force: Vec<&str> = now.values().filter(|now| now.is_in_force()).map(|now| now.id.as_str()).collect();
        assert_eq!((in_force, now["f1"].tampered.as_deref(), now["f1"].evidence.len()), (vec!["f1"], Some("no process"), 1));
    }
}
