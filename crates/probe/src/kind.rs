//! Interface of every kind of probe, and the inputs of a probe.

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

/// Kind of probe with its validated parameters.
pub trait ProbeKind: fmt::Debug + Send + Sync {
    /// Prepares the probe for the target, which is one node or the machine of the runner.
    ///
    /// # Errors
    /// Returns a message if a template cannot be rendered, or if this kind of probe cannot observe the target.
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String>;

    /// Returns true if the probe requires a node as target.
    fn needs_node(&self) -> bool {
        false
    }

    /// Returns true if an `any` probe may query several nodes at the same time.
    fn hedged(&self) -> bool {
        false
    }

    /// Returns true if the answer depends on the state of a node. Such a probe runs again as soon as the state of a node changes.
    fn follows_nodes(&self) -> bool {
        false
    }

    /// Returns the condition on the answer for a readiness probe that declares no condition.
    fn ready_when(&self) -> &'static str {
        "error is none"
    }
}

/// Kind of probe that can be read from a cluster file.
pub trait FromFile: ProbeKind + Serialize + Sized + 'static {
    /// Raw type of the value of the key of this probe in the file.
    type Raw;

    /// Reads and validates the parameters. `at` is the place of the value in the file. Returns `None` after a reported problem.
    fn read(raw: &Self::Raw, at: &Pointer, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self>;
}

/// Keys of a probe in the file, beside the key of its kind, that some kinds of probes read.
#[derive(Debug, Default)]
pub struct SharedKeys<'a> {
    /// Place of the whole probe in the file.
    pub at: Pointer,
    pub expr: Option<&'a str>,
    pub window: Option<&'a RawDuration>,
}

/// Returns the time window of a probe, which ends now. The default is 10 s.
pub(super) fn window(shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Duration {
    check.duration(&shared.at.key("window"), shared.window, Duration::from_secs(10))
}

/// Validated probe of a cluster file: its kind and its serialised form.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// Name of the kind of probe: its key in cluster files.
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

/// Target for which a probe is prepared.
#[derive(Debug)]
pub struct ProbeTarget<'a> {
    /// Name of the node; `None` for a probe of the machine of the runner.
    pub node: Option<&'a str>,
    /// Names that templates may use, with their values.
    pub context: &'a Context,
    /// Path of the file with the complete output of the node; `None` if there is no such file.
    pub log: Option<PathBuf>,
    /// Time limit of one answer.
    pub timeout: Duration,
}

impl ProbeTarget<'_> {
    /// Renders a template for this target.
    ///
    /// # Errors
    /// Returns the reason if the template cannot be rendered.
    pub fn render(&self, template: &Template) -> Result<String, String> {
        template.render(self.context).map_err(|unknown| unknown.reason)
    }

    /// Renders several templates for this target.
    ///
    /// # Errors
    /// Returns the reason if one of the templates cannot be rendered.
    pub fn render_all(&self, templates: &[Template]) -> Result<Vec<String>, String> {
        templates.iter().map(|template| self.render(template)).collect()
    }
}

/// Prepared probe: a probe with rendered templates for one target.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Probe that answers immediately from information of the runner, without a request.
    Look(Arc<dyn ObservationProbe>),
    /// Probe that sends a request or runs a command.
    Ask(Arc<dyn ReadinessProbe>),
}

pub trait ObservationProbe: fmt::Debug + Send + Sync {
    /// Returns the answer from information of the runner, without a request.
    ///
    /// # Errors
    /// Returns the reason if there is no answer.
    fn look(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;
}

#[async_trait]
pub trait ReadinessProbe: fmt::Debug + Send + Sync {
    /// Runs the probe once. The caller limits the time. Dropping the future stops all work of the probe.
    ///
    /// # Errors
    /// Returns the reason if there is no answer.
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;

    /// Returns the noun that messages use for the expected result when it did not arrive in time.
    fn awaits(&self) -> &'static str {
        "answer"
    }

    /// Returns true while one answer is not sufficient, so that the next probe must follow soon.
    fn needs_another(&self) -> bool {
        false
    }
}

/// Environment in which a probe runs, as seen by the probe.
#[async_trait]
pub trait ProbeSite: Send + Sync {
    /// Returns the state of the node; `None` if there is no node.
    fn state(&self) -> Option<NodeState>;

    /// Runs a command in the directory and environment of the node, or on the machine of the runner if the probe has no node. The output is
    /// limited to [`super::limits::OUTPUT`] bytes. If the future is dropped, the command is killed.
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String>;

    fn http(&self) -> &HttpClient;

    /// Returns the connection policy of HTTP requests.
    fn connection(&self) -> ConnectionPolicy;

    /// Returns the statistics of the running workload; `None` if no workload runs.
    fn figures(&self) -> Option<&dyn Figures> {
        None
    }
}

/// Result of a command that has ended: exit code and output.
#[derive(Debug, Clone)]
pub struct ExecutedCommand {
    /// Exit code, or 128 plus the number of the signal that ended the command.
    pub status: i64,
    pub output: String,
}

/// Statistics of a workload over a time window.
pub trait Figures: Send + Sync {
    /// Returns the statistics of the time `window` before now, as JSON.
    fn window(&self, window: Duration) -> Json;

    /// Returns the age of the newest statistics.
    fn age(&self) -> Duration;
}
