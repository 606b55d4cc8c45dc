//! Mechanisms of faults, and the machine features they need.

/// Feature that a machine's kernel may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Rules with sets, counters and timeouts in a network namespace.
    Nftables,
    /// Queues in which a program decides about each packet.
    Nfqueue,
    /// File systems implemented by a program: slow and failing disks.
    Fuse,
    /// File systems implemented by a program and mounted into containers.
    SharedFuse,
    /// User namespaces, for a sandbox without root.
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

/// Mechanism of a fault.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Description, such as `SIGSTOP to the process group`.
    pub how: &'static str,
    pub needs: &'static [Feature],
}

impl Way {
    #[must_use]
    pub const fn plain(how: &'static str) -> Self {
        Self { how, needs: &[] }
    }
}
