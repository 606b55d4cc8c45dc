//! Ground of a fault: the cluster and the backend that it is resolved for.

use chaosrun_input::Document;

/// Facts about a node that decide whether a fault can be injected into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultNode {
    pub name: String,
    pub role: String,
    /// Names of the node's ports.
    pub ports: Vec<String>,
    /// Names of the node's files, below the directory of the node.
    pub files: Vec<String>,
    /// True if the size of the node's disk is limited.
    pub has_disk: bool,
    /// True if the node's memory is limited.
    pub has_memory_limit: bool,
    /// True if the node runs a stand-in. A stand-in limits the size of its disk by itself.
    pub is_standin: bool,
}

/// Cluster and backend that a fault is resolved for.
#[derive(Debug)]
pub struct FaultGround<'a> {
    /// Nodes in the order of the cluster.
    pub nodes: Vec<FaultNode>,
    pub roles: Vec<String>,
    /// Document of the cluster file. The document also contains the names that could not be resolved.
    pub doc: &'a Document,
    /// Name of the backend.
    pub backend: &'a str,
}

impl FaultGround<'_> {
    /// Returns the names that a condition over the observations may use.
    pub(super) fn observed(&self) -> Vec<String> {
        self.doc.keys("observe").into_iter().chain(self.doc.keys("let")).collect()
    }
}
