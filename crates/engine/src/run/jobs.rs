//! Option `--jobs auto`: computes the number of parallel trials that the machine allows.

use std::fs;
use std::sync::Arc;

use super::budget::asks_models;
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::Scenario;

/// Number of parallel trials that the user requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// Fixed number of parallel trials, at least 1.
    Count(usize),
    Auto,
}

/// Number of slots for parallel trials, and its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    pub count: usize,
    /// Resource that limits the number of slots; `None` if the user set the number.
    pub by: Option<String>,
}

/// Resources of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub cores: usize,
    /// Memory in bytes that may be used without swapping; `None` if unknown.
    pub memory: Option<u64>,
}

const MIB: u64 = 1 << 20;
/// Memory in bytes that remains free for other programs of the machine.
const LEFT: u64 = 512 * MIB;
/// Memory in bytes of a trial without its nodes: workload, monitor, agent.
const TRIAL: u64 = 64 * MIB;
/// Maximum number of parallel trials that send requests to models. The limiter of a model key starts with this number of concurrent
/// exchanges.
const EXCHANGES: usize = 16;

impl Machine {
    #[must_use]
    pub fn here() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { cores: std::thread::available_parallelism().map_or(1, usize::from), memory: available(&meminfo) }
    }
}

/// Parses the available memory, in bytes, from a text like `MemAvailable:   23000000 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Jobs {
    /// Returns the number of slots for parallel trials.
    ///
    /// The automatic number is one trial per core. On an overloaded machine nodes would exceed their time limits, so verdicts would depend
    /// on the number of parallel trials. The number is lower if memory is short, or if the trials would exceed the rate limit of a model
    /// key.
    #[must_use]
    pub fn slots(self, plan: &[Arc<TrialPlan>], machine: Machine) -> Slots {
        if let Self::Count(count) = self {
            return Slots { count, by: None };
        }
        let needed = plan.iter().map(|trial| memory(&trial.scenario)).max().unwrap_or(TRIAL);
        let fits = machine.memory.map(|memory| usize::try_from(memory.saturating_sub(LEFT) / needed).unwrap_or(usize::MAX));
        let cores = if machine.cores == 1 { "1 core".to_owned() } else { format!("{} cores", machine.cores) };
        let mut least = (machine.cores, cores);
        let others = [
            fits.map(|fits| (fits, format!("{} MiB of memory per trial", needed / MIB))),
            plan.iter().any(|trial| asks_models(&trial.scenario)).then(|| (EXCHANGES, "limit for trials with models".to_owned())),
            (plan.len() > 1).then(|| (plan.len(), "no more trials".to_owned())),
        ];
        for other in others.into_iter().flatten() {
            if other.0 < least.0 {
                least = other;
            }
        }
        Slots { count: least.0.max(1), by: Some(least.1) }
    }
}

/// Returns the memory in bytes that a trial may use.
fn memory(scenario: &Scenario) -> u64 {
    let each = scenario.backend.node_memory;
    scenario.cluster.nodes.iter().map(|node| node.memory.unwrap_or(each)).sum::<u64>() + TRIAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_scenario::{Overrides, load};

    fn plan(scenario: &str, variant: &str) -> Vec<Arc<TrialPlan>> {
        let file = format!("{}/scenarios/{scenario}.yaml", concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let overrides = Overrides { variants: vec![variant.into()], seeds: Some((1..=99).collect()), ..Overrides::default() };
        chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    #[test]
    fn cores_memory_and_keys_limit_parallel_trials() {
        let slots = |variant, cores, memory: u64| {
            let Slots { count, by } = Jobs::Auto.slots(&plan("node_kill", variant), Machine { cores, memory: Some(memory * MIB) });
            (count, by.unwrap())
        };
        assert_eq!(slots("noop", 2, 23_000), (2, "2 cores".into()));
        // The divisor is the memory of six nodes and the overhead of a trial.
        assert_eq!(slots("noop", 64, 512 + 448 * 3), (3, "448 MiB of memory per trial".into()));
        assert_eq!(slots("noop", 4, 100).0, 1, "one always runs");
        assert_eq!(slots("kitchen", 64, 230_000), (16, "limit for trials with models".into()));
        assert_eq!(slots("noop", 640, 2_300_000), (99, "no more trials".into()));
        let asked = Jobs::Count(7).slots(&plan("empty", "noop"), Machine { cores: 2, memory: None });
        assert_eq!(asked, Slots { count: 7, by: None });
    }

    #[test]
    fn meminfo_is_parsed() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:   23000000 kB\n"), Some(23_000_000 * 1024));
        assert_eq!(available(""), None);
    }
}
