//! Readiness of a node: its declared probe, asked where the runner reaches it.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use chaosrun_cluster::ClusterError;
use chaosrun_event::NodeState;
use chaosrun_expr::{ConditionTruth, Context, Expr, Value};
use chaosrun_probe::{AnswerBody, ConnectionPolicy, ExecutedCommand, HttpClient, Prepared, ProbeReply, ProbeSite};

/// The pauses between two questions grow from the first to the last: most nodes are ready within milliseconds, and one
/// that is not must not be kept from it by being asked.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Time that one question may take.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Readiness probe of a node, with its addresses in place.
#[derive(Debug)]
pub struct ReadinessPlan {
    pub probe: Prepared,
    /// Condition on the answer; none if it is enough that the node answers well.
    pub expect: Option<Expr>,
    pub within: Duration,
}

/// Readiness of the present start of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Waiting,
    Ready,
    /// Ended before it was ready, with the reason and its last words.
    Ended(String),
    /// Not in time.
    Late(String),
}

impl Readiness {
    /// Result, once the node is not waited for any more.
    pub fn settled(self, node: &str, within: Duration) -> Result<(), ClusterError> {
        match self {
            Self::Ready | Self::Waiting => Ok(()),
            Self::Ended(problem) => Err(ClusterError::Start { node: node.into(), problem }),
            Self::Late(last) => Err(ClusterError::NotReady { node: node.into(), within, last }),
        }
    }
}

/// Backend's view of the node that is asked.
#[async_trait]
pub trait ReadinessNode: Send + Sync {
    fn runs(&self) -> bool;

    /// Runs a command in the node's directory and environment, as [`ProbeSite::execute`].
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String>;
}

/// Asks nodes whether they are ready. One for all nodes of a trial.
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
    /// The last answer, in words, when that is not so in time.
    pub async fn until_ready(&self, plan: &ReadinessPlan, node: &dyn ReadinessNode) -> Result<(), String> {
        let within = plan.within;
        // A late node is described by its last complete answer, not by the timeout of the last probe.
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

    /// Asks once.
    ///
    /// # Errors
    /// In words: what was answered and what was expected, or how it did not answer.
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

/// Checks that an answer, or its absence, is what was expected; the error says why it is not.
fn judge(expect: Option<&Expr>, reply: Result<ProbeReply, String>, took: Duration) -> Result<(), String> {
    let Some(expect) = expect else { return reply.and_then(|reply| if reply.ok { Ok(()) } else { Err("does not run".into()) }) };
    let context = match &reply {
        Ok(reply) => {
            let mut context = Context::new().with("error", ()).with("ms", took.as_secs_f64() * 1000.0);
            // A name without a value is absent, not null.
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
