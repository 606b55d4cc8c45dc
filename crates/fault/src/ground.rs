//! Ground of a fault: the cluster and the backend for which the parameters of a fault are resolved.

use chaosrun_input::Document;

/// Properties of a node that decide if a fault can be injected into the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultNode {
    pub name: String,
    pub role: String,
    /// Names of the ports of the node.
    pub ports: Vec<String>,
    /// Paths of the files of the node, relative to the directory of the node.
    pub files: Vec<String>,
    /// True if the size of the disk of the node is limited.
    pub has_disk: bool,
    /// True if the memory of the node is limited.
    pub has_memory_limit: bool,
    /// True if the node runs a stand-in, a program that replaces the real one. A stand-in limits the size of its disk by itself.
    pub is_standin: bool,
}

/// Cluster and backend for which the parameters of a fault are resolved.
#[derive(Debug)]
pub struct FaultGround<'a> {
    /// Nodes in the order of the cluster file.
    pub nodes: Vec<FaultNode>,
    pub roles: Vec<String>,
    /// Document of the cluster file. The document also contains names that could not be resolved.
    pub doc: &'a Document,
    /// Name of the backend on which the fault will be injected.
    pub backend: &'a str,
}

impl FaultGround<'_> {
    /// Returns the names that a condition over the observations may use.
    pub(super) fn observed(&self) -> Vec<String> {
        self.doc.keys("observe").into_iter().chain(self.doc.keys("let")).collect()
    }
}
