//! Every fault there is, and what it needs of a machine on each backend. Pure: files are held against it when they are loaded, and
//! `chaosrun doctor` holds it against what is there.

use super::{clock, configuration, data, disk, network, process, resources};
use crate::scenario::model::{Backend, Fault, LinkKind};

/// What a machine's kernel may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Rules with sets, counters and timeouts in a network namespace.
    Nftables,
    /// Packets decided on by a program.
    Nfqueue,
    /// File systems made by a program: slow and failing disks.
    Fuse,
    /// The same, given to containers.
    SharedFuse,
    /// A sandbox without root.
    UserNamespaces,
}

impl Feature {
    pub const ALL: [Self; 5] = [Self::Nftables, Self::Nfqueue, Self::Fuse, Self::SharedFuse, Self::UserNamespaces];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Nfqueue => "nfqueue",
            Self::Fuse => "fuse",
            Self::SharedFuse => "shared fuse",
            Self::UserNamespaces => "user namespaces",
        }
    }
}

/// One mechanism of a fault.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// `SIGSTOP to the process group`
    pub how: &'static str,
    pub needs: &'static [Feature],
}

impl Way {
    pub(super) const fn plain(how: &'static str) -> Self {
        Self { how, needs: &[] }
    }
}

/// How an agent can repair a fault: what the oracle does, unless the scenario says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// `docker VERB NODE`.
    Verb(&'static str),
    /// The file that takes the space is removed.
    RemoveFile,
    /// The file gets its old content, and the node is restarted.
    PutBack,
    /// The scenario says how, or nobody can.
    Scenario,
    /// It ends by itself: nothing is to be done.
    Itself,
    Nobody,
}

/// A kind of fault. The first way of a backend is the right one, the others take its place where it cannot be gone; without
/// any the backend refuses the fault.
#[derive(Debug)]
pub struct Kind {
    /// As in scenario files.
    pub name: &'static str,
    pub local: &'static [Way],
    pub docker: &'static [Way],
    /// Why a backend without a way has none.
    pub refused: &'static str,
    pub repair: Repair,
    /// What a diagnosis calls it.
    pub class: &'static str,
    /// What of a node it holds: nothing else can hold the same at the same time.
    pub holds: Option<&'static str>,
}

impl Kind {
    #[must_use]
    pub const fn ways(&self, backend: Backend) -> &'static [Way] {
        match backend {
            Backend::Local => self.local,
            Backend::Docker => self.docker,
        }
    }
}

/// In the order in which people look for them.
pub const ALL: &[&Kind] = &[
    &process::node_kill::KIND,
    &process::node_stop::KIND,
    &process::node_restart::KIND,
    &process::node_pause::KIND,
    &process::crash_loop::KIND,
    &network::latency::KIND,
    &network::packet_loss::KIND,
    &network::duplicate::KIND,
    &network::corrupt::KIND,
    &network::reorder::KIND,
    &network::bandwidth::KIND,
    &network::connection_reset::KIND,
    &network::network_partition::KIND,
    &disk::disk_pressure::KIND,
    &disk::disk_slow::KIND,
    &disk::disk_error::KIND,
    &disk::lost_unsynced_writes::KIND,
    &clock::clock_skew::KIND,
    &clock::clock_rate::KIND,
    &resources::cpu_stress::KIND,
    &resources::memory_stress::KIND,
    &configuration::config_change::KIND,
    &configuration::env_change::KIND,
    &configuration::process_args::KIND,
    &data::exec::KIND,
    &data::http::KIND,
];

/// The kind of a fault of a scenario. Whoever adds a fault adds it here and to [`ALL`].
#[must_use]
pub const fn of(fault: &Fault) -> &'static Kind {
    match fault {
        Fault::NodeKill { .. } => &process::node_kill::KIND,
        Fault::NodeStop { .. } => &process::node_stop::KIND,
        Fault::NodeRestart { .. } => &process::node_restart::KIND,
        Fault::NodePause { .. } => &process::node_pause::KIND,
        Fault::CrashLoop { .. } => &process::crash_loop::KIND,
        Fault::Link(fault) => match fault.kind {
            LinkKind::Latency => &network::latency::KIND,
            LinkKind::PacketLoss => &network::packet_loss::KIND,
            LinkKind::Duplicate => &network::duplicate::KIND,
            LinkKind::Corrupt => &network::corrupt::KIND,
            LinkKind::Reorder => &network::reorder::KIND,
            LinkKind::Bandwidth => &network::bandwidth::KIND,
            LinkKind::ConnectionReset => &network::connection_reset::KIND,
        },
        Fault::NetworkPartition(_) => &network::network_partition::KIND,
        Fault::DiskPressure { .. } => &disk::disk_pressure::KIND,
        Fault::DiskSlow { .. } => &disk::disk_slow::KIND,
        Fault::DiskError { .. } => &disk::disk_error::KIND,
        Fault::LostUnsyncedWrites { .. } => &disk::lost_unsynced_writes::KIND,
        Fault::ClockSkew { .. } => &clock::clock_skew::KIND,
        Fault::ClockRate { .. } => &clock::clock_rate::KIND,
        Fault::CpuStress { .. } => &resources::cpu_stress::KIND,
        Fault::MemoryStress { .. } => &resources::memory_stress::KIND,
        Fault::ConfigChange { .. } => &configuration::config_change::KIND,
        Fault::EnvChange { .. } => &configuration::env_change::KIND,
        Fault::ProcessArgs { .. } => &configuration::process_args::KIND,
        Fault::Exec { .. } => &data::exec::KIND,
        Fault::Http { .. } => &data::http::KIND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind as FileKind, schema};

    #[test]
    fn every_fault_that_a_scenario_may_name_is_in_the_catalogue() {
        let schema: serde_json::Value = serde_json::from_str(&schema::text(FileKind::Scenario)).unwrap();
        let alternatives = schema["$defs"]["fault"]["oneOf"].as_array().unwrap();
        let mut named: Vec<&str> =
            alternatives.iter().flat_map(|one| one["properties"].as_object().unwrap().keys()).map(String::as_str).collect();
        let mut known: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, named);
    }

    #[test]
    fn whoever_refuses_a_fault_says_why() {
        for kind in ALL {
            assert_eq!(kind.local.is_empty() || kind.docker.is_empty(), !kind.refused.is_empty(), "{}", kind.name);
        }
    }
}
