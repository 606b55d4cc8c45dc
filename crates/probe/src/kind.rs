//! Definition of a probe: the interface of every kind of probe, and its inputs.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

use super::answer::ProbeReply;
use super::client::{ConnectionPolicy, HttpClient};
use super::failure::ProbeFailure;
use chaosrun_diagnostic::Pointer;
use chaosrun_event::NodeState;
use chaosrun_expr::{Context, Template};
use chaosrun_input::Checker;
use chaosrun_input::scalar::RawDuration;

/// Parameters of one kind of probe, validated.
pub trait ProbeKind: fmt::Debug + Send + Sync {
    /// Prepares the probe for the target, which is one node or no node.
    ///
    /// # Errors
    /// Message about a template that cannot be rendered, or about a target that this probe cannot observe.
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String>;

    /// Returns true if the probe has no meaning without a node.
    fn needs_node(&self) -> bool {
        false
    }

    /// Returns true if an `any` probe may query several nodes at the same time.
    fn hedged(&self) -> bool {
        false
    }

    /// Returns true if the answer depends on the state of a node. The probe then runs again as soon as a node changes.
    fn follows_nodes(&self) -> bool {
        false
    }

    /// Condition on the answer for a readiness probe that declares no condition.
    fn ready_when(&self) -> &'static str {
        "error is none"
    }
}

/// Kind of probe that is read from a cluster file.
pub trait FromFile: ProbeKind + Serialize + Sized + 'static {
    /// Raw value of the probe's key.
    type Raw;

    /// Reads and validates the parameters. `at` is the place of the value.
    fn read(raw: &Self::Raw, at: &Pointer, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self>;
}

/// Keys beside the probe's own key that some kinds of probe read.
#[derive(Debug, Default)]
pub struct SharedKeys<'a> {
    /// Place of the whole probe in the file.
    pub at: Pointer,
    pub expr: Option<&'a str>,
    pub window: Option<&'a RawDuration>,
}

/// Returns the time that a probe looks back, by default 10 s.
pub(super) fn window(shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Duration {
    check.duration(&shared.at.key("window"), shared.window, Duration::from_secs(10))
}

/// Probe of the model: its kind and its printed form.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// Key in cluster files.
    pub name: &'static str,
    printed: Json,
    kind: Arc<dyn ProbeKind>,
}

impl ProbeSpec {
    #[must_use]
    pub fn new(name: &'static str, kind: impl ProbeKind + Serialize + 'static) -> Self {
        let printed = serde_json::to_value(&kind).unwrap_or_default();
        Self { name, printed, kind: Arc::new(kind) }
    }
}

impl Deref for ProbeSpec {
    type Target = dyn ProbeKind;

    fn deref(&self) -> &Self::Target {
        &*self.kind
    }
}

impl Serialize for ProbeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.printed.is_null() {
            return serializer.serialize_str(self.name);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.name, &self.printed)?;
        map.end()
    }
}

/// Node that a probe is prepared for.
#[derive(Debug)]
pub struct ProbeTarget<'a> {
    /// Name of the node. `None` for a probe beside the runner.
    pub node: Option<&'a str>,
    /// Names that templates may use.
    pub context: &'a Context,
    /// File with the complete output of the node.
    pub log: Option<PathBuf>,
    /// Maximum time of one answer.
    pub timeout: Duration,
}

impl ProbeTarget<'_> {
    /// Renders a template for this node.
    ///
    /// # Errors
    /// The reason why the template cannot be rendered.
    pub fn render(&self, template: &Template) -> Result<String, String> {
        template.render(self.context).map_err(|unknown| unknown.reason)
    }

    /// Renders several templates for this node.
    ///
    /// # Errors
    /// The reason why a template cannot be rendered.
    pub fn render_all(&self, templates: &[Template]) -> Result<Vec<String>, String> {
        templates.iter().map(|template| self.render(template)).collect()
    }
}

/// Probe whose templates are rendered.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Probe that answers at once, from information of the runner.
    Look(Arc<dyn ObservationProbe>),
    /// Probe that sends a request or runs a command.
    Ask(Arc<dyn ReadinessProbe>),
}

pub trait ObservationProbe: fmt::Debug + Send + Sync {
    /// Answers without a request.
    ///
    /// # Errors
    /// The reason why there is no answer.
    fn look(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;
}

#[async_trait]
pub trait ReadinessProbe: fmt::Debug + Send + Sync {
    /// Runs the probe once. The caller limits the time. Dropping the future stops everything that it started.
    ///
    /// # Errors
    /// The reason why there is no answer.
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;

    /// Returns the noun of messages about an expected result that did not arrive in time.
    fn awaits(&self) -> &'static str {
        "answer"
    }

    /// Returns true while one answer is not enough, and the next one must follow soon.
    fn needs_another(&self) -> bool {
        false
    }
}

/// Environment in which a probe runs.
#[async_trait]
pub trait ProbeSite: Send + Sync {
    /// State of the node. `None` if there is no such node.
    fn state(&self) -> Option<NodeState>;

    /// Runs a command with the node's directory and environment, or beside the runner if the probe has no node. The output is cut at
    /// [`super::limits::OUTPUT`] bytes. If the future is dropped, the command is killed.
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String>;

    fn http(&self) -> &HttpClient;

    /// Returns the policy for the connections of requests.
    fn connection(&self) -> ConnectionPolicy;

    /// Returns the statistics of the running workload. Returns `None` if no workload runs.
    fn figures(&self) -> Option<&dyn Figures> {
        None
    }
}

/// Result of a command that has ended.
#[derive(Debug, Clone)]
pub struct ExecutedCommand {
    /// Exit code, or 128 plus the number of the signal that ended the command.
    pub status: i64,
    pub output: String,
}

/// Statistics of a workload.
pub trait Figures: Send + Sync {
    /// Returns the statistics of the last `window`, as JSON.
    fn window(&self, window: Duration) -> Json;

    /// Returns the time since the newest statistics.
    fn age(&self) -> Duration;
}
