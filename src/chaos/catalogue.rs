//! Every fault there is, and what it needs of a machine on each backend. Pure: `chaosrun doctor` holds it against what is there.

use crate::scenario::model::{Backend, Fault};

use super::{exec, network_partition, node_kill, node_pause, node_stop};

/// What a machine's kernel may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Rules with sets, counters and timeouts in a network namespace.
    Nftables,
    /// Packets decided on by a program: delays without netem.
    Nfqueue,
    /// Delay, loss, reordering by a queue of the kernel.
    Netem,
    /// Limits of bandwidth.
    Tbf,
    /// File systems made by a program: slow and failing disks.
    Fuse,
    /// Files as disks of a fixed size.
    Loop,
    /// How long processes wait for processor, memory and disk.
    Pressure,
    /// A sandbox without root.
    UserNamespaces,
}

impl Feature {
    pub const ALL: [Self; 8] =
        [Self::Nftables, Self::Nfqueue, Self::Netem, Self::Tbf, Self::Fuse, Self::Loop, Self::Pressure, Self::UserNamespaces];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Nfqueue => "nfqueue",
            Self::Netem => "netem",
            Self::Tbf => "tbf",
            Self::Fuse => "fuse",
            Self::Loop => "loop",
            Self::Pressure => "pressure",
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

/// A kind of fault. The first way of a backend is the right one, the others take its place where it cannot be gone; without
/// any the backend refuses the fault.
#[derive(Debug)]
pub struct Kind {
    /// As in scenario files.
    pub name: &'static str,
    pub local: &'static [Way],
    pub docker: &'static [Way],
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
pub const ALL: &[&Kind] = &[&node_kill::KIND, &node_stop::KIND, &node_pause::KIND, &network_partition::KIND, &exec::KIND];

/// The kind of a fault of a scenario. Whoever adds a fault adds it here and to [`ALL`].
#[must_use]
pub const fn of(fault: &Fault) -> &'static Kind {
    match fault {
        Fault::NodeKill { .. } => &node_kill::KIND,
        Fault::NodeStop { .. } => &node_stop::KIND,
        Fault::NodePause { .. } => &node_pause::KIND,
        Fault::NetworkPartition { .. } => &network_partition::KIND,
        Fault::Exec { .. } => &exec::KIND,
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
}
