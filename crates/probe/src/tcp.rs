//! Probe `tcp:` checks that a connection to the node can be established.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tokio::net::TcpStream;

use super::answer::{AnswerBody, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::Scope;
use chaosrun_expr::Template;
use chaosrun_input::Checker;
use chaosrun_input::scalar::Text;

#[derive(Debug, Clone, Serialize)]
pub struct Tcp {
    address: Template,
}

impl FromFile for Tcp {
    type Raw = Text;

    fn read(raw: &Text, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        Some(Self { address: check.template(at, raw, Scope::Probe, &[])? })
    }
}

impl ProbeKind for Tcp {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        Ok(Self::to(target.render(&self.address)?))
    }
}

impl Tcp {
    /// Creates a prepared `tcp:` probe of a known address.
    #[must_use]
    pub fn to(address: String) -> Prepared {
        Prepared::Ask(Arc::new(Connect { address }))
    }
}

#[derive(Debug)]
struct Connect {
    address: String,
}

#[async_trait]
impl ReadinessProbe for Connect {
    async fn ask(&self, _: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        TcpStream::connect(&self.address).await?;
        Ok(ProbeReply::new(true, AnswerBody::None))
    }

    fn awaits(&self) -> &'static str {
        "connection"
    }
}
