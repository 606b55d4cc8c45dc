//! Where the faults will strike, told before the run. The same streams choose again when the fault is injected.

use super::{Targets, seed, target};
use crate::scenario::model::{Scenario, TargetOf};

pub(super) fn targets(scenario: &Scenario, seed: u64) -> Targets {
    let mut found = Targets::new();
    for chaos in &scenario.chaos {
        let wanted = chaos.fault.target();
        let chosen = match wanted.of {
            // What a `select` gives depends on the cluster's state then.
            TargetOf::Select(_) => None,
            _ => target::choose(wanted, &scenario.cluster, &mut seed::stream(seed, &seed::target_stream(&chaos.id)), None).ok(),
        };
        found.insert(chaos.id.clone(), chosen);
    }
    found
}
