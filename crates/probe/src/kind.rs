//! Definition of a probe: what every kind of probe provides, and what it is given.

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
    /// Prepares the probe for one node, or for none.
    ///
    /// # Errors
    /// A template that cannot be rendered, or a target that the probe cannot look at; in words.
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String>;

    /// Returns true if the probe has no meaning without a node.
    fn needs_node(&self) -> bool {
        false
    }

    /// Returns true if several nodes of an `any` probe may be asked at the same time.
    fn hedged(&self) -> bool {
        false
    }

    /// Returns true if the answer changes with the state of a node, so that it is looked at again at once when a node changes.
    fn follows_nodes(&self) -> bool {
        false
    }

    /// Condition on the answer when a readiness probe declares none.
    fn ready_when(&self) -> &'static str {
        "error is none"
    }
}

/// Reading of one kind of probe from a cluster file.
pub trait FromFile: ProbeKind + Serialize + Sized + 'static {
    /// Value of the probe's key.
    type Raw;

    /// Reads and validates the parameters. `at` is the place of the value.
    fn read(raw: &Self::Raw, at: &Pointer, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self>;
}

/// Keys beside a probe's own that some kinds of probe read.
#[derive(Debug, Default)]
pub struct SharedKeys<'a> {
    /// Place of the whole probe.
    pub at: Pointer,
    pub expr: Option<&'a str>,
    pub window: Option<&'a RawDuration>,
}

/// Time that a probe looks back.
pub(super) fn window(shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Duration {
    check.duration(&shared.at.key("window"), shared.window, Duration::from_secs(10))
}

/// One probe of the model: its kind, and its printed form.
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
    /// The node; none for a probe beside the runner.
    pub node: Option<&'a str>,
    /// Names that templates may use.
    pub context: &'a Context,
    /// File that holds all the node has printed.
    pub log: Option<PathBuf>,
    /// Time that one answer may take.
    pub timeout: Duration,
}

impl ProbeTarget<'_> {
    /// Text of a template for this node.
    ///
    /// # Errors
    /// The reason why the template cannot be rendered.
    pub fn render(&self, template: &Template) -> Result<String, String> {
        template.render(self.context).map_err(|unknown| unknown.reason)
    }

    /// Texts of several templates for this node.
    ///
    /// # Errors
    /// The reason why a template cannot be rendered.
    pub fn render_all(&self, templates: &[Template]) -> Result<Vec<String>, String> {
        templates.iter().map(|template| self.render(template)).collect()
    }
}

/// A probe with everything in place.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Answered at once, from what the runner knows.
    Look(Arc<dyn ObservationProbe>),
    /// Answered by somebody who is asked.
    Ask(Arc<dyn ReadinessProbe>),
}

pub trait ObservationProbe: fmt::Debug + Send + Sync {
    /// Answers without asking anybody.
    ///
    /// # Errors
    /// The reason why there is no answer.
    fn look(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;
}

#[async_trait]
pub trait ReadinessProbe: fmt::Debug + Send + Sync {
    /// Asks once. The caller bounds the time; a future that is dropped leaves nothing running.
    ///
    /// # Errors
    /// The reason why there is no answer.
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure>;

    /// Noun for what did not come in time.
    fn awaits(&self) -> &'static str {
        "answer"
    }

    /// Returns true while one more answer is needed before the first means anything.
    fn needs_another(&self) -> bool {
        false
    }
}

/// Surroundings in which a probe is asked.
#[async_trait]
pub trait ProbeSite: Send + Sync {
    /// State of the node; none when there is no such node.
    fn state(&self) -> Option<NodeState>;

    /// Runs a command in the node's directory and environment, or beside the runner when the probe is about no node. Its output
    /// is cut at [`super::limits::OUTPUT`]. A command whose future is dropped is killed.
    async fn execute(&self, command: &[String]) -> Result<ExecutedCommand, String>;

    fn http(&self) -> &HttpClient;

    /// Connections that requests use.
    fn connection(&self) -> ConnectionPolicy;

    /// Figures of the running workload.
    fn figures(&self) -> Option<&dyn Figures> {
        None
    }
}

/// A command that ended.
#[derive(Debug, Clone)]
pub struct ExecutedCommand {
    /// Exit code, or 128 plus the number of the signal that ended it.
    pub status: i64,
    pub output: String,
}

/// Figures of a workload.
pub trait Figures: Send + Sync {
    /// Statistics over the last `window`, as JSON.
    fn window(&self, window: Duration) -> Json;

    /// Time since the newest figure.
    fn age(&self) -> Duration;
}
