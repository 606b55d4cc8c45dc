//! Readiness of a node. This module sends the declared readiness probe to the real address of the node.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use chaosrun_cluster::ClusterError;
use chaosrun_event::NodeState;
use chaosrun_expr::{ConditionTruth, Context, Expr, Value};
use chaosrun_probe::{AnswerBody, ConnectionPolicy, ExecutedCommand, HttpClient, Prepared, ProbeReply, ProbeSite};

/// Pause before the second probe of a node. Later pauses grow up to [`LONGEST_PAUSE`]. Most nodes are ready within milliseconds, and
/// frequent probes must not slow down a node that needs longer.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Time limit of one readiness probe.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Readiness probe of a node, with rendered addresses.
#[derive(Debug)]
pub struct ReadinessPlan {
    pub probe: Prepared,
    /// Condition on the answer; `None` if any successful answer is sufficient.
    pub expect: Option<Expr>,
    pub within: Duration,
}

/// Readiness of the current start of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Waiting,
    Ready,
    /// The node ended before it was ready. The text contains the reason and the last lines of the log of the node.
    Ended(String),
    /// The node was not ready within the time limit. The text describes the last answer of the node.
    Late(String),
}

impl Readiness {
    /// Converts the final readiness of the node `node` to a result.
    pub fn settled(self, node: &str, within: Duration) -> Result<(), ClusterError> {
        match self {
            Self::Ready | Self::Waiting => Ok(()),
            Self::Ended(problem) => Err(ClusterError::Start { node: node.into(), problem }),
            Self::Late(last) => Err(ClusterError::NotReady { node: node.into(), within, last }),
        }
    }
}

/// Interface through which a prober probes a node. Each backend implements it.
#[async_trait]
pub trait ReadinessNode: Send + Sync {
    fn runs(&self) -> bool;

    /// Runs a command in the directory and environment of the node, like [`ProbeSite::execute`].
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String>;
}

/// Prober for the readiness of nodes. A trial has one prober for all its nodes.
#[derive(Debug, Default)]
pub struct Prober {
    http: HttpClient,
}

struct Asked<'a> {
    http: &'a HttpClient,
    node: &'a dyn ReadinessNode,
}

#[async_trait]
impl ProbeSite for Asked<'_> {
    fn state(&self) -> Option<NodeState> {
        Some(if self.node.runs() { NodeState::Running } else { NodeState::Created })
    }

    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String> {
        self.node.execute(command).await
    }

    fn http(&self) -> &HttpClient {
        self.http
    }

    fn connection(&self) -> ConnectionPolicy {
        ConnectionPolicy::Ready
    }
}

impl Prober {
    /// Waits until the node answers as expected.
    ///
    /// # Errors
    /// Returns a description of the last answer, if the node is not ready within the time limit of `plan`.
    pub async fn until_ready(&self, plan: &ReadinessPlan, node: &dyn ReadinessNode) -> Result<(), String> {
        let within = plan.within;
        // The error describes the last complete answer of a late node, not the timeout of the last probe.
        let mut last = format!("did not answer within {within:.0?}");
        let asked = async {
            let mut pause = FIRST_PAUSE;
            while let Err(answer) = self.ask(plan, node, TIMEOUT).await {
                last = answer;
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
        };
        let ready = tokio::time::timeout(within, asked).await;
        ready.map_err(|_| last)
    }

    /// Sends one readiness probe to the node and checks the answer.
    ///
    /// # Errors
    /// Returns a description of the actual and the expected answer, or of the reason why no answer arrived.
    pub async fn ask(&self, plan: &ReadinessPlan, node: &dyn ReadinessNode, timeout: Duration) -> Result<(), String> {
        let site = Asked { http: &self.http, node };
        let begin = Instant::now();
        let reply = match &plan.probe {
            Prepared::Look(look) => look.look(&site),
            Prepared::Ask(ask) => match tokio::time::timeout(timeout, ask.ask(&site)).await {
                Ok(replied) => replied,
                Err(_) => return judge(plan.expect.as_ref(), Err(format!("did not answer within {timeout:.0?}")), begin.elapsed()),
            },
        };
        judge(plan.expect.as_ref(), reply.map_err(|failure| failure.of_node()), begin.elapsed())
    }
}

/// Checks that an answer, or its absence, is as expected. Returns an error that states the difference.
fn judge(expect: Option<&Expr>, reply: Result<ProbeReply, String>, took: Duration) -> Result<(), String> {
    let Some(expect) = expect else { return reply.and_then(|reply| if reply.ok { Ok(()) } else { Err("does not run".into()) }) };
    let context = match &reply {
        Ok(reply) => {
            let mut context = Context::new().with("error", ()).with("ms", took.as_secs_f64() * 1000.0);
            // A name without a value is left out, instead of having the value null.
            if let Some(status) = reply.status {
                context.set("status", Value::from(status));
            }
            if let AnswerBody::Json(_, text) | AnswerBody::Text(text) = &reply.body {
                context.set("text", Value::from(text.as_ref()));
            }
            if let AnswerBody::Json(json, _) = &reply.body {
                context.set("json", json.clone());
            }
            context
        }
        Err(error) => Context::new().with("error", error),
    };
    let truth = expect.truth(&context);
    let status = match (&truth, reply) {
        (ConditionTruth::True, _) => return Ok(()),
        (_, Err(error)) => return Err(error),
        (_, Ok(reply)) => reply.status.map_or_else(String::new, |status| format!(" with {status}")),
    };
    match truth {
        ConditionTruth::Unknown(why) => Err(format!("answered{status}: `{}` is unknown: {why}", expect.text)),
        ConditionTruth::True | ConditionTruth::False => {
            let (observed, expected) = expect.explain(&context);
            Err(format!("answered{status}: {observed}, expected {expected}"))
        }
    }
}
