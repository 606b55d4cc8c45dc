//! The samples that ship within the binary: where names resolve last, and what `init` writes.

macro_rules! sample {
    ($path:literal) => {
        ($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))
    };
}
/// Path from the project's root, and content.
pub const SAMPLES: &[(&str, &str)] = &[
    sample!("scenarios/node_kill.yaml"),
    sample!("scenarios/pd_kill.yaml"),
    sample!("scenarios/power_loss.yaml"),
    sample!("scenarios/node_pause.yaml"),
    sample!("scenarios/bad_config.yaml"),
    sample!("scenarios/cascading.yaml"),
    sample!("scenarios/crash_loop.yaml"),
    sample!("scenarios/disk_pressure.yaml"),
    sample!("scenarios/disk_slow.yaml"),
    sample!("scenarios/false_alarm.yaml"),
    sample!("scenarios/healthy.yaml"),
    sample!("scenarios/late_second.yaml"),
    sample!("scenarios/latency.yaml"),
    sample!("scenarios/leader_oneway.yaml"),
    sample!("scenarios/packet_loss.yaml"),
    sample!("scenarios/partition_leader.yaml"),
    sample!("scenarios/partition_majority.yaml"),
    sample!("scenarios/partition_minority.yaml"),
    sample!("scenarios/red_herring.yaml"),
    sample!("scenarios/slow_node.yaml"),
    sample!("scenarios/empty.yaml"),
    sample!("scenarios/etcd/bad_env.yaml"),
    sample!("scenarios/etcd/crash_loop.yaml"),
    sample!("scenarios/etcd/disk_slow.yaml"),
    sample!("scenarios/etcd/false_alarm.yaml"),
    sample!("scenarios/etcd/flapping.yaml"),
    sample!("scenarios/etcd/healthy.yaml"),
    sample!("scenarios/etcd/late_second.yaml"),
    sample!("scenarios/etcd/latency.yaml"),
    sample!("scenarios/etcd/leader_oneway.yaml"),
    sample!("scenarios/etcd/no_space.yaml"),
    sample!("scenarios/etcd/partition_all.yaml"),
    sample!("scenarios/etcd/partition_leader.yaml"),
    sample!("scenarios/etcd/partition_minority.yaml"),
    sample!("scenarios/etcd/node_kill.yaml"),
    sample!("scenarios/etcd/leader_kill.yaml"),
    sample!("scenarios/etcd/node_pause.yaml"),
    sample!("scenarios/clusters/tikv.yaml"),
    sample!("scenarios/clusters/etcd.yaml"),
    sample!("scenarios/clusters/files/etcd/prometheus.yml.j2"),
    sample!("scenarios/clusters/files/tikv/pd.toml.j2"),
    sample!("scenarios/clusters/files/tikv/tikv.toml.j2"),
    sample!("scenarios/clusters/files/tikv/prometheus.yml.j2"),
    sample!("scenarios/clusters/files/tikv/ycsb.sh.j2"),
    sample!("scenarios/clusters/files/tikv/grafana/datasource.yml.j2"),
    sample!("scenarios/clusters/files/tikv/grafana/dashboards.yml.j2"),
    sample!("scenarios/clusters/files/tikv/grafana/tikv.json.j2"),
    sample!("scenarios/clusters/none.yaml"),
    sample!("scenarios/clusters/ratelimiter.yaml"),
    sample!("scenarios/clusters/files/ratelimiter.prometheus.yml.j2"),
    sample!("scenarios/clusters/files/redis.conf.j2"),
    sample!("scenarios/ratelimiter/bad_config.yaml"),
    sample!("scenarios/ratelimiter/cascading.yaml"),
    sample!("scenarios/ratelimiter/false_alarm.yaml"),
    sample!("scenarios/ratelimiter/ghost.yaml"),
    sample!("scenarios/ratelimiter/healthy.yaml"),
    sample!("scenarios/ratelimiter/latency.yaml"),
    sample!("scenarios/ratelimiter/redis_partition.yaml"),
    sample!("scenarios/ratelimiter/slow_node.yaml"),
    sample!("scenarios/ratelimiter/counter_drift.yaml"),
    sample!("scenarios/ratelimiter/counter_overrun.yaml"),
    sample!("scenarios/ratelimiter/node_kill.yaml"),
    sample!("scenarios/ratelimiter/redis_cut.yaml"),
    sample!("scenarios/ratelimiter/redis_kill.yaml"),
    sample!("scenarios/ratelimiter/redis_pause.yaml"),
    sample!("scenarios/scoring/default.yaml"),
    sample!("scenarios/campaigns/smoke.yaml"),
    sample!("scenarios/campaigns/five.yaml"),
    sample!("scenarios/scoring/autopsy.yaml"),
    sample!("variants/noop.yaml"),
    sample!("variants/restart_all.yaml"),
    sample!("variants/playbook.yaml"),
    sample!("variants/three_commands.yaml"),
    sample!("variants/oracle.yaml"),
    sample!("variants/kitchen.yaml"),
    sample!("variants/diagnose_only.yaml"),
    sample!("variants/menu.yaml"),
    sample!("variants/judges/careful.yaml"),
    sample!("prompts/kitchen.md.j2"),
    sample!("prompts/diagnose_only.md.j2"),
    sample!("prompts/menu.md.j2"),
    sample!("prompts/ticket.md.j2"),
    sample!("prompts/outside.md.j2"),
    sample!("prompts/judge.md.j2"),
];

/// The sample of that path.
#[must_use]
pub fn get(path: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_sample_of_the_repository_is_embedded() {
        fn walk(root: &Path, dir: &str, found: &mut Vec<String>) {
            for entry in fs::read_dir(root.join(dir)).expect("a folder").flatten() {
                let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() { walk(root, &path, found) } else { found.push(path) }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        walk(root, "prompts", &mut found);
        walk(root, "scenarios", &mut found);
        walk(root, "variants", &mut found);
        found.sort();
        let mut embedded: Vec<&str> = SAMPLES.iter().map(|(path, _)| *path).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, found);
    }
}
