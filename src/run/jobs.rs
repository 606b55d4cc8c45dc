//! How many trials run at once when the machine decides: `--jobs auto`.

use std::fs;
use std::sync::Arc;

use super::budget::asks_models;
use crate::plan::TrialPlan;
use crate::scenario::model::{Backend, Scenario};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// At least 1.
    Count(usize),
    Auto,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    pub count: usize,
    /// What decided it, when the machine did.
    pub by: Option<String>,
}

/// What this machine has.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub cores: usize,
    /// Bytes that may be used without swapping; none when nobody tells.
    pub memory: Option<u64>,
}

const MIB: u64 = 1 << 20;
/// Of the machine, for whatever else runs on it.
const LEFT: u64 = 512 * MIB;
/// A trial without its nodes: workload, monitor, agent.
const TRIAL: u64 = 64 * MIB;
/// A node whose file declares no limit: a process of ours, or a container of anybody's.
const PROCESS: u64 = 64 * MIB;
const CONTAINER: u64 = 512 * MIB;
/// Trials that ask models: as many exchanges as are begun under one key before its server has said anything.
const EXCHANGES: usize = 16;

impl Machine {
    #[must_use]
    pub fn here() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { cores: std::thread::available_parallelism().map_or(1, usize::from), memory: available(&meminfo) }
    }
}

/// `MemAvailable:   23000000 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Jobs {
    /// A trial a core: its nodes elect and answer within times that a crowded machine would break, and a verdict must not depend on how
    /// many run beside it. Fewer where memory is short, or where the key of a model would be asked too often.
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
            fits.map(|fits| (fits, format!("{} MiB of memory a trial", needed / MIB))),
            plan.iter().any(|trial| asks_models(&trial.scenario)).then(|| (EXCHANGES, "the rate of a model's key".to_owned())),
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

/// Bytes that a trial may take.
fn memory(scenario: &Scenario) -> u64 {
    let each = match scenario.backend {
        Backend::Local => PROCESS,
        Backend::Docker => CONTAINER,
    };
    scenario.cluster.nodes.iter().map(|node| node.memory.unwrap_or(each)).sum::<u64>() + TRIAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, load};

    fn plan(scenario: &str, variant: &str) -> Vec<Arc<TrialPlan>> {
        let file = format!("{}/scenarios/{scenario}.yaml", env!("CARGO_MANIFEST_DIR"));
        let overrides = Overrides { variants: vec![variant.into()], seeds: Some((1..=99).collect()), ..Overrides::default() };
        crate::plan::plan(&load(file.as_ref(), &overrides).unwrap()).trials
    }

    #[test]
    fn cores_memory_and_keys_decide() {
        let slots = |variant, cores, memory: u64| {
            let Slots { count, by } = Jobs::Auto.slots(&plan("node_kill", variant), Machine { cores, memory: Some(memory * MIB) });
            (count, by.unwrap())
        };
        assert_eq!(slots("noop", 2, 23_000), (2, "2 cores".into()));
        // Six nodes and what is around them.
        assert_eq!(slots("noop", 64, 512 + 448 * 3), (3, "448 MiB of memory a trial".into()));
        assert_eq!(slots("noop", 4, 100).0, 1, "one always runs");
        assert_eq!(slots("kitchen", 64, 230_000), (16, "the rate of a model's key".into()));
        assert_eq!(slots("noop", 640, 2_300_000), (99, "no more trials".into()));
        let asked = Jobs::Count(7).slots(&plan("empty", "noop"), Machine { cores: 2, memory: None });
        assert_eq!(asked, Slots { count: 7, by: None });
    }

    #[test]
    fn memory_is_read_as_the_kernel_tells_it() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:   23000000 kB\n"), Some(23_000_000 * 1024));
        assert_eq!(available(""), None);
    }
}
