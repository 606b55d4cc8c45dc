//! `exec`: a command is executed in the node. Only observations can show the effect of the command.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::data;
use crate::description::on;
use crate::{
    DOCKER, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target,
    Way, each,
};
use chaosrun_cluster as cluster;
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_input::{Short, Text};

/// Fixed data of the fault `exec`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "exec",
    summary: "Runs a command in the node, for effects that no other fault has.",
    example: "exec: { target: tikv1, command: [touch, '{{ self.dir }}/x'], undo: [rm, '{{ self.dir }}/x'] }",
    backends: &[
        on(LOCAL, &[Way::plain("command on this machine, next to the node")]),
        on(DOCKER, &[Way::plain("command in the container")]),
    ],
    refused: "",
    repair: Repair::Scenario,
    class: "data",
    holds: None,
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "exec")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Program and its arguments: templates. The exit code must be 0.
    pub command: Vec<Text>,
    /// Command that undoes the fault. It runs in the node when the fault is healed.
    #[serde(default)]
    pub undo: Vec<Text>,
    /// Condition over the observations that is true while the fault has an effect. It must become true, and false when the fault has ended.
    pub felt: Option<Text>,
    /// Command with which an agent can repair the fault in its shell. The oracle runs it.
    pub repair: Option<Text>,
}

/// Time limit of the command. A command that exceeds the limit is not a valid injection.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Maximum number of bytes of the output of the command that are stored. The rest is discarded.
const OUTPUT: usize = 4096;

/// Checks the parameters of `exec`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target);
    let repair = data::repair(to, read.repair.as_ref());
    let target = target?;
    if read.command.is_empty() {
        let problem = Diagnostic::error("no_command", "the fault has no command").label("expected a program");
        to.wrong("command", problem);
    }
    data::needs_undo(to, !read.undo.is_empty(), "[PROGRAM, ARGUMENT, ...]");
    let felt = to.condition("felt", read.felt.as_ref()).map(Box::new);
    let command = to.templates("command", &read.command, Scope::Node);
    let undo = to.templates("undo", &read.undo, Scope::Node);
    Some(Resolution::of(Exec { target, command, undo, felt }).repaired_by(repair))
}

#[derive(Debug, Clone, Serialize)]
struct Exec {
    target: Target,
    command: Vec<Template>,
    /// Command that undoes the fault; empty if the scenario defines none.
    undo: Vec<Template>,
    /// Condition that is true while the fault has an effect. If `None`, the end of the command is the only evidence.
    felt: Option<Box<Expr>>,
}

impl ResolvedFault for Exec {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Injection for Exec {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        data::before(context, self.felt.as_deref()).await
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| run(&self.command, context, &node).await).await
    }

    async fn installed(&self, _context: &FaultContext) -> FaultFinding {
        // The injection succeeded, which implies exit code 0.
        FaultFinding::yes("the exit code of the command is 0")
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        data::felt(context, self.felt.as_deref()).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| run(&self.undo, context, &node).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        data::gone(context, self.felt.as_deref()).await
    }
}

async fn run(words: &[Template], context: &FaultContext, node: &str) -> Result<(), ClusterError> {
    let command = words.iter().map(|word| context.render(word, node)).collect::<Result<Vec<_>, _>>()?;
    let program = command.first().cloned().unwrap_or_default();
    let conflict = |problem: String| ClusterError::Conflict { node: node.into(), problem };
    let mut running = context.cluster.exec(node, cluster::ExecRequest { command, ..cluster::ExecRequest::default() }).await?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let ended = tokio::time::timeout(ENDS_WITHIN, async {
        // Both streams are read to their ends, because a full pipe would block the command.
        tokio::join!(drain(&mut running.stdout, &mut said), drain(&mut running.stderr, &mut complained));
        (&mut running.exit).await
    });
    match ended.await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(code)) => {
            let text = String::from_utf8_lossy(if complained.is_empty() { &said } else { &complained }).trim().to_owned();
            Err(conflict(format!("ran `{program}`, which exited with code {code}: {text}")))
        }
        Ok(Err(_)) => Err(conflict(format!("ran `{program}`, whose exit code is unknown"))),
        Err(_) => {
            running.kill();
            Err(conflict(format!("ran `{program}`, which did not end in {} s", ENDS_WITHIN.as_secs())))
        }
    }
}

/// Reads the stream `from` to its end. Stores only the first bytes in `kept`.
async fn drain(from: &mut (impl AsyncReadExt + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}
