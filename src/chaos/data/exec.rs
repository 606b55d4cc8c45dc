//! `exec`: any command in the node. What it did shows in the observations, or not at all.

use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{Finding, Inject, Site};
use crate::cluster::{ClusterError, Exec};
use crate::expr::{Expr, Template};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "exec",
    local: &[Way::plain("a command beside the node")],
    docker: &[Way::plain("a command in the container")],
    refused: "",
    repair: Repair::Scenario,
    class: "data",
    holds: None,
};

/// A command that hangs is no injection.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of its output that are read; more is thrown away.
const OUTPUT: usize = 4096;

pub(in crate::chaos) struct Command {
    words: Vec<Template>,
    undo: Vec<Template>,
    sign: Option<Expr>,
}

#[async_trait]
impl Inject for Command {
    async fn before(&self, site: &Site) -> Result<String, String> {
        super::before(site, self.sign.as_ref()).await
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| run(&self.words, site, &node).await).await
    }

    async fn installed(&self, _site: &Site) -> Finding {
        // An injection that returned has seen exit code 0.
        Finding::yes("the command ended with code 0")
    }

    async fn felt(&self, site: &Site) -> Finding {
        super::felt(site, self.sign.as_ref()).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| run(&self.undo, site, &node).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        super::gone(site, self.sign.as_ref()).await
    }
}

impl Command {
    pub fn new(words: Vec<Template>, undo: Vec<Template>, sign: Option<Expr>) -> Self {
        Self { words, undo, sign }
    }
}

async fn run(words: &[Template], site: &Site, node: &str) -> Result<(), ClusterError> {
    let command = words.iter().map(|word| site.render(word, node)).collect::<Result<Vec<_>, _>>()?;
    let program = command.first().cloned().unwrap_or_default();
    let conflict = |problem: String| ClusterError::Conflict { node: node.into(), problem };
    let mut running = site.cluster.exec(node, Exec { command, ..Exec::default() }).await?;
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

/// Reads to the end and keeps the beginning.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}
