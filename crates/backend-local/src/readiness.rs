//! Readiness probe of a node of the local backend.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::definition::{Environment, NodeStartPlan};
use super::supervisor::{Spawn, TreeExit};
use super::trial::LocalShared;
use chaosrun_backend::ready::ReadinessNode;
use chaosrun_probe::{ExecutedCommand, limits};

/// Target of a readiness probe: a node, with the process tree and the environment of its current start.
pub(super) struct ReadinessTarget {
    pub plan: Arc<NodeStartPlan>,
    pub shared: Arc<LocalShared>,
    pub tree: Option<u64>,
    pub env: Arc<Environment>,
}

#[async_trait]
impl ReadinessNode for ReadinessTarget {
    fn runs(&self) -> bool {
        self.tree.is_some()
    }

    /// Runs a command that is killed when the node ends.
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String> {
        let Self { plan, shared, tree, env } = self;
        let Some(program) = command.first() else { return Err("has an empty command as its probe".into()) };
        let failed = |error: io::Error| format!("cannot be asked: {error}");
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        let (ours, theirs) = io::pipe().map_err(failed)?;
        let (told, exit) = oneshot::channel();
        let own = shared.client.new_tree();
        let spawn = Spawn {
            program: program.into(),
            argv: command.iter().map(Into::into).collect(),
            env: env.to_vec(),
            dir: plan.dir.clone(),
            stdio: [null.try_clone().map_err(failed)?.into(), theirs.into(), null.into()],
            tree: own,
            scope: shared.scope,
            with: *tree,
            linger: false,
            on_exit: Box::new(move |ended| {
                // After the timeout the receiver has been dropped.
                let _ = told.send(ended);
            }),
        };
        let mut output = pipe::Receiver::from_owned_fd(ours.into()).map_err(failed)?;
        shared.client.spawn(spawn).await.map_err(|error| error.to_string())?;
        // After the timeout the command is killed.
        let _kill = OnDrop(|| shared.client.kill_now(own));
        let mut text = Vec::new();
        let limit = u64::try_from(limits::OUTPUT).unwrap_or(u64::MAX);
        (&mut output).take(limit).read_to_end(&mut text).await.map_err(failed)?;
        let status = i64::from(exit.await.unwrap_or(TreeExit::Lost).shell_code());
        Ok(ExecutedCommand { status, output: String::from_utf8_lossy(&text).into_owned() })
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
