//! `env_change`: environment variables of the node are changed.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::{RECREATED, RESTARTED, Redefined};
use crate::description::on;
use crate::{DOCKER, FaultDescription, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target};
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_expr::{Scope, Template};
use chaosrun_input::{Short, Text};

/// Fixed data of the fault `env_change`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "env_change",
    summary: "Changes environment variables of the node and restarts the node.",
    example: "env_change: { target: tikv1, env: { A: '{{ self.name }}', B: null } }",
    backends: &[on(LOCAL, RESTARTED), on(DOCKER, RECREATED)],
    refused: "",
    repair: Repair::Nobody,
    class: "bad_config",
    holds: Some("definition"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "env_change")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Environment variables by name. Each value is a template. `null` removes a variable.
    pub env: IndexMap<String, Option<Text>>,
}

/// Checks the parameters of `env_change`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let at = to.at.key("env");
    let env = read.env.iter().map(|(name, text)| match text {
        None => Some((name.clone(), None)),
        Some(text) => Some((name.clone(), Some(to.check.template(&at.key(name.as_str()), text, Scope::Node, &[])?))),
    });
    let env = env.collect::<Option<_>>();
    Some(Resolution::of(EnvChange { target: to.target(&read.target)?, env: env? }))
}

#[derive(Debug, Clone, Serialize)]
struct EnvChange {
    target: Target,
    /// Values that replace environment variables of the cluster file; `None` removes a variable.
    env: IndexMap<String, Option<Template>>,
}

impl ResolvedFault for EnvChange {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Redefined::env(self.env.clone()))
    }
}
