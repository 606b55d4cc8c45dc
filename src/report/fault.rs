//! Active faults of a kept cluster with their evidence, as text that is at most 80 columns wide.

use jiff::Timestamp;

use super::cluster::lasting;
use super::evidence::{asked, evidence, named};
use super::layout::{self, LayoutLine, printable};
use crate::cluster_daemon::wire::FaultNow;
use chaosrun_base::style::{Palette, Tone};

/// Formats a fault as a head line, its parameters, its evidence, and the sign of tampering, if any. An example of the head line
/// is `f1  latency  tikv1  active for 12s`. Ages are relative to `now`.
#[must_use]
pub fn fault(fault: &FaultNow, now: Timestamp, palette: Palette) -> String {
    let age = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
    let state = match (fault.since, fault.healed) {
        (_, true) => "healed".to_owned(),
        (Some(since), false) => format!("active for {}", lasting(age(since))),
        (None, false) => "not injected".to_owned(),
    };
    let head = LayoutLine::new().put(Tone::Strong, fault.id.clone());
    let head = head.plain(format!("  {}  {}  ", fault.fault, printable(&fault.targets.join(" ")))).put(Tone::Faint, state);
    let mut lines = vec![head];
    lines.extend(asked(&fault.parameters));
    lines.extend(fault.evidence.iter().flat_map(|one| evidence(one.step, one.ok, one.after_us, &one.detail)));
    if let Some(how) = &fault.tampered {
        lines.extend(named("tampered", Tone::Fail, how));
    }
    layout::render(&lines, palette)
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::cluster_daemon::wire::ManualFaultEvidence;
    use chaosrun_event::EvidenceStep;

    #[test]
    fn what_is_in_force_is_told_with_its_evidence() {
        let evidence =
            |step, ok, detail: &str| ManualFaultEvidence { step, ok, detail: detail.into(), numbers: IndexMap::new(), after_us: 2100 };
        let mut one = FaultNow {
            id: "f1".into(),
            fault: "latency".into(),
            targets: vec!["tikv1".into()],
            parameters: json!({ "to": { "role": "tikv", "pick": 1 }, "delay": "50ms", "chosen": ["tikv2 -> tikv1", "tikv3 -> tikv1"] }),
            since: Some(Timestamp::UNIX_EPOCH),
            took_us: 2100,
            evidence: vec![
                evidence(EvidenceStep::Installed, true, "2 paths are in force"),
                evidence(EvidenceStep::Felt, false, "0.2 ms before; now tikv2 to tikv1: 0.2 ms, which is less than the 50.0 ms asked for"),
            ],
            healed: false,
            tampered: None,
        };
        let now = Timestamp::from_second(72).unwrap();
        let mut text = fault(&one, now, Palette::PLAIN);
        one.evidence = vec![evidence(EvidenceStep::Gone, true, "no path is in force")];
        one.healed = true;
        one.tampered = Some("the burner of tikv1 does not run".into());
        text += &fault(&one, now, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= layout::WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }
}
