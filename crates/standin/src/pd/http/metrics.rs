//! `/metrics`: Prometheus text. Cluster gauges come from the leader only, as in PD.

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::app::{App, VERSION};
use super::health;
use crate::pd::cluster::PdCluster;
use crate::pd::regions::RegionCheck;
use crate::pd::stores::StoreState;
use crate::pd::timing::nanos;

/// Prometheus metrics in the text format.
#[derive(Debug, Default)]
struct Families(String);

impl Families {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(&value.to_string()))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub async fn metrics(State(app): State<App>) -> Response {
    let mut families = Families::default();
    member(&app, &mut families);
    if app.leadership.is_serving() {
        let health = health::members(&app).await;
        families.family("pd_cluster_health_status", "gauge", "Status of the cluster.");
        for (member, healthy) in app.members.all.iter().zip(health) {
            families.sample("pd_cluster_health_status", &[("name", &member.name)], u8::from(healthy));
        }
        families = app
            .office
            .ask(move |cluster| {
                stores(cluster, &mut families);
                regions(cluster, &mut families);
                operators(cluster, &mut families);
                families
            })
            .await;
    }
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))], families.0).into_response()
}

#[expect(clippy::cast_precision_loss, reason = "seconds with their fraction")]
fn member(app: &App, families: &mut Families) {
    let seconds = app.clock.began() as f64 / 1e9;
    families.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.");
    families.sample("process_start_time_seconds", &[], format_args!("{seconds:.3}"));
    families.family("pd_server_info", "gauge", "Indicate the pd server info, and the value is the start timestamp (s).");
    families.sample("pd_server_info", &[("version", &VERSION), ("hash", &"")], format_args!("{seconds:.0}"));
    families.family("etcd_server_is_leader", "gauge", "Whether or not this member is a leader. 1 if is, 0 otherwise.");
    families.sample("etcd_server_is_leader", &[], u8::from(app.consensus.is_leader()));
    families.family("etcd_server_has_leader", "gauge", "Whether or not a leader exists. 1 is existence, 0 is not.");
    families.sample("etcd_server_has_leader", &[], u8::from(app.consensus.leader().is_some()));
    let status = app.consensus.watch_status().borrow().clone();
    families.family("etcd_server_proposals_committed_total", "gauge", "The total number of consensus proposals committed.");
    families.sample("etcd_server_proposals_committed_total", &[], status.commit);
    families.family("etcd_server_proposals_applied_total", "gauge", "The total number of consensus proposals applied.");
    families.sample("etcd_server_proposals_applied_total", &[], status.applied);
    families.family("service_member_role", "gauge", "The leader/primary's role of the service members.");
    families.sample("service_member_role", &[("service", &"PD")], u8::from(app.leadership.is_serving()));
}

fn stores(cluster: &PdCluster, families: &mut Families) {
    families.family("pd_cluster_status", "gauge", "Status of the cluster.");
    for view in cluster.stores() {
        let unhealthy = view.silence > nanos(cluster.timing.unhealthy());
        let slow = view.stats.is_some_and(super::super::stores::StoreStats::is_slow);
        // Each store is counted in exactly one of these families.
        let counted = match view.state {
            StoreState::Down => "store_down_count",
            StoreState::Disconnected if unhealthy => "store_unhealth_count",
            StoreState::Disconnected => "store_disconnected_count",
            StoreState::Up if slow => "store_slow_count",
            StoreState::Up => "store_up_count",
        };
        let mut status = |kind: &str, value: u64| {
            families.sample("pd_cluster_status", &[("type", &kind), ("engine", &"tikv"), ("store", &view.meta.id)], value);
        };
        for kind in ["store_up_count", "store_disconnected_count", "store_slow_count", "store_down_count", "store_unhealth_count"] {
            status(kind, u64::from(kind == counted));
        }
        for kind in ["store_offline_count", "store_tombstone_count", "store_preparing_count", "store_removing_count", "store_removed_count"]
        {
            status(kind, 0);
        }
        status("store_serving_count", 1);
        let low = view.state != StoreState::Down && view.stats.is_some_and(super::super::stores::StoreStats::is_low_on_space);
        status("store_low_space_count", u64::from(low));
        status("region_count", view.load.regions);
        status("leader_count", view.load.leaders);
        status("witness_count", 0);
        status("learner_count", 0);
        status("storage_size", view.stats.map_or(0, |stats| stats.used));
        status("storage_capacity", view.stats.map_or(0, |stats| stats.capacity));
    }
    families.family("pd_scheduler_store_status", "gauge", "Store status for schedule");
    for view in cluster.stores() {
        let stats = view.stats;
        for (kind, value) in [
            ("leader_count", view.load.leaders),
            ("region_count", view.load.regions),
            ("leader_score", view.load.leaders),
            ("region_score", view.load.region_size),
            ("leader_size", view.load.leader_size),
            ("region_size", view.load.region_size),
            ("witness_count", 0),
            ("learner_count", 0),
            ("store_available", stats.map_or(0, |stats| stats.available)),
            ("store_used", stats.map_or(0, |stats| stats.used)),
            ("store_capacity", stats.map_or(0, |stats| stats.capacity)),
        ] {
            let labels: [(&str, &dyn Display); 3] = [("address", &view.meta.address), ("store", &view.meta.id), ("type", &kind)];
            families.sample("pd_scheduler_store_status", &labels, value);
        }
    }
}

fn regions(cluster: &PdCluster, families: &mut Families) {
    families.family("pd_regions_status", "gauge", "Status of the regions.");
    for check in RegionCheck::ALL {
        let count = cluster.regions.iter().filter(|region| check.matches(region)).count();
        // The check `empty-region` has the label `empty-region-count`, and the check `miss-peer` has the label `miss-peer-region-count`.
        let kind = format!("{}-region-count", check.name().trim_end_matches("-region"));
        families.sample("pd_regions_status", &[("type", &kind)], count);
    }
}

fn operators(cluster: &PdCluster, families: &mut Families) {
    families.family("pd_schedule_operators_count", "counter", "Counter of schedule operators.");
    for (desc, event, count) in cluster.operators.counts() {
        families.sample("pd_schedule_operators_count", &[("type", &desc), ("event", &event)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut families = Families::default();
        families.family("a", "gauge", "Help.");
        families.sample("a", &[("x", &"1\"2\\\n"), ("y", &3)], 4);
        families.sample("b", &[], 0.5);
        assert_eq!(families.0, "# HELP a Help.\n# TYPE a gauge\na{x=\"1\\\"2\\\\\\n\",y=\"3\"} 4\nb 0.5\n");
    }
}
