//! Probe `exec:` runs a command in the node, or on the machine of the runner. The answer is ok if the exit code is 0, and contains the
//! output of the command.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use super::answer::{ProbeAnswer, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::Scope;
use chaosrun_expr::Template;
use chaosrun_input::Checker;
use chaosrun_input::scalar::Text;

#[derive(Debug, Clone, Serialize)]
pub struct Exec {
    pub command: Vec<Template>,
}

impl FromFile for Exec {
    type Raw = Vec<Text>;

    fn read(raw: &Vec<Text>, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        Some(Self { command: check.templates(at, raw, Scope::Probe, &[]) })
    }
}

impl ProbeKind for Exec {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        Ok(Prepared::Ask(Arc::new(Command { words: target.render_all(&self.command)? })))
    }

    fn ready_when(&self) -> &'static str {
        "status == 0"
    }
}

#[derive(Debug)]
struct Command {
    words: Vec<String>,
}

#[async_trait]
impl ReadinessProbe for Command {
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        let ended = site.execute(&self.words).await.map_err(ProbeFailure::Told)?;
        Ok(ProbeReply::new(ended.status == 0, ProbeAnswer::body(&ended.output)).with_status(ended.status))
    }

    fn awaits(&self) -> &'static str {
        "end"
    }
}
