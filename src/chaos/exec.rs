//! `exec`: any command in the node. What it did shows in the observations, or not at all.

use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use super::catalogue::{Kind, Way};
use super::fault::{Inject, Signs};
use crate::cluster::{Cluster, ClusterError, Exec, NodeStatus};
use crate::expr::topology::{View, node_context};
use crate::expr::{Expr, Template};

pub(super) const KIND: Kind = Kind {
    name: "exec",
    local: &[Way { how: "a command beside the node", needs: &[] }],
    docker: &[Way { how: "a command in the container", needs: &[] }],
};

/// A command that hangs is no injection.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of its output that are read; more is thrown away.
const OUTPUT: usize = 4096;

#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Template>,
    pub(super) undo: Vec<Template>,
    pub(super) felt: Option<Expr>,
    pub(super) clock_scale: Option<f64>,
    pub(super) seed: u64,
}

#[async_trait]
impl Inject for Command {
    async fn inject(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        self.run(&self.words, cluster, node).await
    }

    fn installed(&self, _status: &NodeStatus) -> Result<String, String> {
        // An injection that returned has seen exit code 0.
        Ok("the command ended with code 0".into())
    }

    async fn heal(&self, cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        self.run(&self.undo, cluster, node).await
    }

    fn gone(&self, _status: &NodeStatus) -> bool {
        false
    }

    fn signs(&self) -> Signs {
        self.felt.clone().map_or(Signs::Nothing, Signs::Observed)
    }
}

impl Command {
    async fn run(&self, words: &[Template], cluster: &dyn Cluster, node: &str) -> Result<(), ClusterError> {
        let context = node_context(cluster.topology(), Some(node), View::Advertised, self.clock_scale, self.seed);
        let command = words.iter().map(|word| word.render(&context).map_err(|unknown| ClusterError::Template(unknown.reason)));
        let command = command.collect::<Result<Vec<_>, _>>()?;
        let program = command.first().cloned().unwrap_or_default();
        let conflict = |problem: String| ClusterError::Conflict { node: node.into(), problem };
        let mut running = cluster.exec(node, Exec { command, ..Exec::default() }).await?;
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let ended = tokio::time::timeout(ENDS_WITHIN, async {
            // Both are read to their ends: a full pipe would stop the command.
            tokio::join!(drain(&mut running.stdout, &mut said), drain(&mut running.stderr, &mut complained));
            (&mut running.exit).await
        });
        match ended.await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(code)) => {
                let text = String::from_utf8_lossy(if complained.is_empty() { &said } else { &complained }).trim().to_owned();
                Err(conflict(format!("ran `{program}`, which ended with code {code}: {text}")))
            }
            Ok(Err(_)) => Err(conflict(format!("ran `{program}`, and its end was not told"))),
            Err(_) => {
                running.kill();
                Err(conflict(format!("ran `{program}`, which did not end in {} s", ENDS_WITHIN.as_secs())))
            }
        }
    }
}

/// Reads to the end and keeps the beginning.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}
