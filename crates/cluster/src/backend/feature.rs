//! Mechanisms of faults, and the kernel features that the mechanisms need.

/// Kernel feature that a machine may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Support of nftables rules with sets, counters and timeouts in a network namespace.
    Nftables,
    /// Support of NFQUEUE, packet queues in which a user program decides about each packet.
    Nfqueue,
    /// Support of FUSE, file systems that a user program implements. Slow and failing disks use FUSE.
    Fuse,
    /// Support of FUSE file systems that are mounted into containers.
    SharedFuse,
    /// Support of user namespaces, for a sandbox without root.
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

/// Mechanism that produces a fault.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Description of the mechanism, such as `SIGSTOP to the process group`.
    pub how: &'static str,
    pub needs: &'static [Feature],
}

impl Way {
    #[must_use]
    pub const fn plain(how: &'static str) -> Self {
        Self { how, needs: &[] }
    }
}
