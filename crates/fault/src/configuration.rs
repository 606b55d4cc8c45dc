//! Faults of the configuration that a node reads at its start.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;

use super::{FaultContext, FaultFinding, Injection, Way, each};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::Redefinition;
use chaosrun_event::{Actor, NodeState};
use chaosrun_expr::Template;

pub(super) const RESTARTED: &[Way] = &[Way::plain("node restarted with the change")];
pub(super) const RECREATED: &[Way] = &[Way::plain("container created again with the change")];

/// Time between SIGTERM and SIGKILL when the fault restarts the node.
const GRACE: Duration = Duration::from_secs(10);

/// Restarts the targets, so that they read their configuration. A target that did not run before is not started.
pub(super) async fn restart(context: &FaultContext, by: Actor) -> Result<(), ClusterError> {
    each(&context.targets, async |node| context.cluster.restart(&node, GRACE, by).await).await
}

/// Checks that the targets were started since the injection, in total at least once per target. `before` is the number of starts before the
/// injection.
pub(super) fn restarted(context: &FaultContext, before: Option<u32>) -> FaultFinding {
    let starts = context.starts().saturating_sub(before.unwrap_or_default());
    let wanted = u32::try_from(context.targets.len()).unwrap_or(u32::MAX);
    let states = context.statuses().into_iter().map(|status| match status.state {
        NodeState::Running => format!("{} runs", status.node),
        NodeState::Exited { .. } => format!("{} has ended", status.node),
        NodeState::Paused | NodeState::Created => format!("{} is not running", status.node),
    });
    let detail = format!("{}, started {starts} times with it", states.collect::<Vec<_>>().join(", "));
    FaultFinding::new(starts >= wanted, detail).with("starts", f64::from(starts))
}

/// Injection of `env_change` and `process_args`, which change the definition of nodes.
pub(super) struct Redefined {
    env: IndexMap<String, Option<Template>>,
    add: Vec<Template>,
    remove: Vec<Template>,
    before: OnceLock<u32>,
}

impl Redefined {
    pub fn env(env: IndexMap<String, Option<Template>>) -> Self {
        Self { env, add: Vec::new(), remove: Vec::new(), before: OnceLock::new() }
    }

    pub fn args(add: Vec<Template>, remove: Vec<Template>) -> Self {
        Self { env: IndexMap::new(), add, remove, before: OnceLock::new() }
    }

    async fn definition(&self, context: &FaultContext, node: &str) -> Result<Redefinition, ClusterError> {
        let env = self.env.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| context.render(value, node)).transpose()?;
            Ok((name.clone(), value))
        });
        let env = env.collect::<Result<_, ClusterError>>()?;
        if self.add.is_empty() && self.remove.is_empty() {
            return Ok(Redefinition { env, args: None });
        }
        let (mut args, _) = context.cluster.definition(node).await?;
        for wanted in &self.remove {
            let wanted = context.render(wanted, node)?;
            let place = args.iter().position(|arg| *arg == wanted);
            let problem =
                || ClusterError::Conflict { node: node.into(), problem: format!("has no argument `{wanted}` that can be removed") };
            args.remove(place.ok_or_else(problem)?);
        }
        for word in &self.add {
            args.push(context.render(word, node)?);
        }
        Ok(Redefinition { env, args: Some(args) })
    }
}

#[async_trait]
impl Injection for Redefined {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let _ = self.before.set(context.starts());
        Ok(String::new())
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            let definition = self.definition(context, &node).await?;
            context.effects.define(&*context.cluster, &node, &context.id, Some(definition)).await
        })
        .await?;
        restart(context, Actor::Fault).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        for node in &context.targets {
            let (args, env) = match context.cluster.definition(node).await {
                Ok(found) => found,
                Err(error) => return FaultFinding::no(error.to_string()),
            };
            for word in &self.add {
                let wanted = context.render(word, node).unwrap_or_default();
                if !args.contains(&wanted) {
                    return FaultFinding::no(format!("{node} has no argument `{wanted}`"));
                }
            }
            for (name, value) in &self.env {
                let wanted = value.as_ref().and_then(|value| context.render(value, node).ok());
                if env.get(name) != wanted.as_ref() {
                    return FaultFinding::no(format!("{node} has another value of `{name}`"));
                }
            }
        }
        FaultFinding::yes(format!("{} has the changed definition", context.targets.join(", ")))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        restarted(context, self.before.get().copied())
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| context.effects.define(&*context.cluster, &node, &context.id, None).await).await?;
        restart(context, Actor::Time).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        if !context.effects.left(context.first(), &context.id).await {
            return None;
        }
        super::process::answers_again(context, |status| status.state == NodeState::Running).await
    }
}
