//! Preview of the nodes that the faults of a trial will hit. The preview and the injection use the same random streams, and therefore
//! choose the same nodes.

use crate::Targets;
use chaosrun_base::seed;
use chaosrun_fault::target;
use chaosrun_scenario::model::{Chaos, ClusterSpec, Scenario, TargetOf};

pub(super) fn targets(scenario: &Scenario, seed: u64) -> Targets {
    scenario.chaos.iter().map(|chaos| (chaos.id.clone(), turn(chaos, &scenario.cluster, seed, 0))).collect()
}

/// Returns the nodes that injection number `turn` of a fault hits. The first injection has number 0. Returns `None` if the choice depends
/// on the state of the cluster at the injection.
fn turn(chaos: &Chaos, cluster: &ClusterSpec, seed: u64, turn: u32) -> Option<Vec<String>> {
    let mut chosen = Vec::new();
    for (at, wanted) in chaos.fault.targets().into_iter().enumerate() {
        if matches!(wanted.of, TargetOf::Select(_)) {
            return None;
        }
        let mut stream = seed::stream(seed, &seed::of_fault(&chaos.id, &seed::of_target(at), turn));
        chosen.extend(target::choose(wanted, &cluster.fault_nodes(), &mut stream, None).ok()?);
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::time::Duration;

    use super::*;
    use chaosrun_diagnostic::{RenderStyle, render};
    use chaosrun_scenario::timeline;
    use chaosrun_scenario::{Overrides, load};

    const RANDOM: &str = "
      kill:
        at: 500ms
        repeat: { times: 4, every: 3s }
        inject: { node_kill: { target: { role: tikv, pick: 1 } } }
        heal: 1s
      cut:
        on: { event: command, latest: 4s }
        inject: { network_partition: { isolate: { all: true, pick: minority } } }
        heal: 2s
      full: # the same targets for a while
        at: 1s
        inject: { disk_pressure: { target: { role: tikv, pick: 2 } } }
    ";
    const NOISE: &str = "
      late:
        at: 250ms
        repeat: { times: 3, every: 2s }
        inject: { latency: { to: { all: true, pick: 50% }, delay: 5ms } }
        heal: 1s
        noise: true
    ";

    /// Injections in the order of their times. Each has its latest time, the id of its fault, its number from 0, and its nodes.
    type Schedule = Vec<(Duration, String, u32, Vec<String>)>;

    fn schedule(chaos: &str, seed: u64) -> Schedule {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("random.yaml");
        fs::write(&file, format!("name: random\ncluster: clusters/tikv.yaml\ngoal: repair\nchaos:{chaos}")).unwrap();
        let loaded = load(&file, &Overrides::default()).unwrap_or_else(|problems| panic!("{}", render(&problems, RenderStyle::default())));
        let scenario = &loaded.cells[0].subjects[0];
        let mut all = Schedule::new();
        for chaos in &scenario.chaos {
            for nth in 0..chaos.repeat.times {
                let hit = turn(chaos, &scenario.cluster, seed, nth).expect("nothing is chosen from the cluster's state");
                all.push((timeline::latest(chaos, nth), chaos.id.clone(), nth, hit));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn the_seed_alone_decides_which_nodes_each_injection_hits() {
        let all = format!("{RANDOM}{NOISE}");
        let seeds: Vec<Schedule> = (1..=12).map(|seed| schedule(&all, seed)).collect();
        assert_eq!(seeds[6], schedule(&all, 7), "one seed, one schedule");
        assert_eq!(seeds[0].len(), 4 + 1 + 1 + 3);
        let times = |schedule: &Schedule| schedule.iter().map(|(at, id, turn, _)| (*at, id.clone(), *turn)).collect::<Vec<_>>();
        assert!(seeds.iter().all(|schedule| times(schedule) == times(&seeds[0])), "times are the scenario's");
        for (place, (_, id, nth, _)) in seeds[0].iter().enumerate() {
            let hit: BTreeSet<&Vec<String>> = seeds.iter().map(|schedule| &schedule[place].3).collect();
            assert!(hit.len() > 1, "turn {nth} of `{id}` hits {hit:?} whatever the seed is");
        }
        let turns = |id: &str| -> BTreeSet<&Vec<String>> {
            seeds.iter().flat_map(|schedule| schedule.iter().filter(|entry| entry.1 == id).map(|entry| &entry.3)).collect()
        };
        assert_eq!((turns("kill").len(), turns("full").len()), (3, 3), "of three stores each is taken at some time");
        assert!(
            seeds.iter().any(|schedule| schedule
                .iter()
                .filter(|entry| entry.1 == "kill")
                .map(|entry| &entry.3)
                .collect::<BTreeSet<_>>()
                .len()
                > 1),
            "a repeated fault chooses anew"
        );
        // Noise and other faults draw from their own streams.
        let mut without = seeds[2].clone();
        without.retain(|(_, id, ..)| id != "late");
        assert_eq!(schedule(RANDOM, 3), without);
    }

    #[test]
    fn the_first_injection_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("random.yaml");
        fs::write(&file, format!("name: random\ncluster: clusters/tikv.yaml\ngoal: repair\nchaos:{RANDOM}")).unwrap();
        let scenario = load(&file, &Overrides::default()).unwrap().cells[0].subjects[0].clone();
        let told: Vec<_> = targets(&scenario, 5).into_iter().map(|(id, hit)| (id, hit.unwrap())).collect();
        let first = schedule(RANDOM, 5).into_iter().filter(|entry| entry.2 == 0);
        assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), first.map(|(_, id, _, hit)| (id, hit)).collect());
    }
}
