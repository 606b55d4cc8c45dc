//! `process_args`: command-line arguments of the node are changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::{RECREATED, RESTARTED, Redefined};
use crate::description::on;
use crate::{DOCKER, FaultDescription, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_expr::{Scope, Template};
use chaosrun_input::{Short, Text};

/// Fixed data of the fault `process_args`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "process_args",
    summary: "Changes arguments of the node and restarts the node.",
    example: "process_args: { target: tikv1, add: ['--x={{ self.name }}'], remove: ['--y'] }",
    backends: &[on(LOCAL, RESTARTED), on(DOCKER, RECREATED)],
    refused: "",
    repair: Repair::Nobody,
    class: "bad_config",
    holds: Some("definition"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "process_args")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Arguments that are appended: templates.
    #[serde(default)]
    pub add: Vec<Text>,
    /// Arguments that are removed: templates, compared with the rendered arguments of the cluster file.
    #[serde(default)]
    pub remove: Vec<Text>,
}

/// Checks the parameters of `process_args`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target)?;
    if read.add.is_empty() && read.remove.is_empty() {
        let problem = Diagnostic::error("no_effect", "no argument is changed").label("expected `add` or `remove` in this map");
        to.wrong_fault(problem);
    }
    let add = to.templates("add", &read.add, Scope::Node);
    let remove = to.templates("remove", &read.remove, Scope::Node);
    Some(Resolution::of(ProcessArgs { target, add, remove }))
}

#[derive(Debug, Clone, Serialize)]
struct ProcessArgs {
    target: Target,
    add: Vec<Template>,
    remove: Vec<Template>,
}

impl ResolvedFault for ProcessArgs {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Redefined::args(self.add.clone(), self.remove.clone()))
    }
}
