//! What a node is told when it starts.

pub mod config_change;
pub mod env_change;
pub mod process_args;

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;

use super::catalogue::Way;
use super::driver::each;
use super::fault::{Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::cluster::harm::Redefinition;
use crate::event::{Actor, NodeState};
use crate::expr::Template;

const LOCAL: &[Way] = &[Way::plain("started anew with it")];
const DOCKER: &[Way] = &[Way::plain("its container made anew with it")];

/// Before SIGKILL, when the node is restarted for it.
const GRACE: Duration = Duration::from_secs(10);

/// The node gets what it was told: it is started anew. One that was dead before stays so until somebody starts it.
async fn restart(site: &Site, by: Actor) -> Result<(), ClusterError> {
    each(&site.targets, async |node| site.cluster.restart(&node, GRACE, by).await).await
}

/// Whether every target was started since.
fn restarted(site: &Site, before: Option<u32>) -> Finding {
    let starts = site.starts().saturating_sub(before.unwrap_or_default());
    let wanted = u32::try_from(site.targets.len()).unwrap_or(u32::MAX);
    let states = site.statuses().into_iter().map(|status| match status.state {
        NodeState::Running => format!("{} runs", status.node),
        NodeState::Exited { .. } => format!("{} has ended", status.node),
        NodeState::Paused | NodeState::Created => format!("{} stands still", status.node),
    });
    let detail = format!("{}, started {starts} times with it", states.collect::<Vec<_>>().join(", "));
    Finding::new(starts >= wanted, detail).with("starts", f64::from(starts))
}

/// `env_change` and `process_args`.
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

    async fn definition(&self, site: &Site, node: &str) -> Result<Redefinition, ClusterError> {
        let env = self.env.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| site.render(value, node)).transpose()?;
            Ok((name.clone(), value))
        });
        let env = env.collect::<Result<_, ClusterError>>()?;
        if self.add.is_empty() && self.remove.is_empty() {
            return Ok(Redefinition { env, args: None });
        }
        let (mut args, _) = site.cluster.definition(node).await?;
        for wanted in &self.remove {
            let wanted = site.render(wanted, node)?;
            let place = args.iter().position(|arg| *arg == wanted);
            let problem = || ClusterError::Conflict { node: node.into(), problem: format!("has no argument `{wanted}` to take away") };
            args.remove(place.ok_or_else(problem)?);
        }
        for word in &self.add {
            args.push(site.render(word, node)?);
        }
        Ok(Redefinition { env, args: Some(args) })
    }
}

#[async_trait]
impl Inject for Redefined {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let _ = self.before.set(site.starts());
        Ok(String::new())
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            let definition = self.definition(site, &node).await?;
            site.states.define(&*site.cluster, &node, &site.id, Some(definition)).await
        })
        .await?;
        restart(site, Actor::Fault).await
    }

    async fn installed(&self, site: &Site) -> Finding {
        for node in &site.targets {
            let (args, env) = match site.cluster.definition(node).await {
                Ok(found) => found,
                Err(error) => return Finding::no(error.to_string()),
            };
            for word in &self.add {
                let wanted = site.render(word, node).unwrap_or_default();
                if !args.contains(&wanted) {
                    return Finding::no(format!("{node} has no argument `{wanted}`"));
                }
            }
            for (name, value) in &self.env {
                let wanted = value.as_ref().and_then(|value| site.render(value, node).ok());
                if env.get(name) != wanted.as_ref() {
                    return Finding::no(format!("{node} has another `{name}`"));
                }
            }
        }
        Finding::yes(format!("{} is defined so", site.targets.join(", ")))
    }

    async fn felt(&self, site: &Site) -> Finding {
        restarted(site, self.before.get().copied())
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| site.states.define(&*site.cluster, &node, &site.id, None).await).await?;
        restart(site, Actor::Time).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        if !site.states.left(site.first(), &site.id).await {
            return None;
        }
        super::process::answers_again(site, |status| status.state == NodeState::Running).await
    }
}
