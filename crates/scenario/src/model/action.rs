//! Actions of a cluster that an agent may run. Their parameters have types.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, maybe_duration};
use chaosrun_expr::{Expr, Template};

#[derive(Debug, Clone, Serialize)]
pub struct Action {
    pub id: String,
    pub description: String,
    pub risk: Risk,
    pub params: IndexMap<String, Param>,
    pub require: Vec<Requirement>,
    pub steps: Vec<Step>,
    pub ensure: Option<Ensure>,
    /// Name of the action that undoes this action. `None` if there is none.
    pub undo: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "risk")]
pub enum Risk {
    Low,
    Medium,
    High,
}

impl Risk {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Param {
    pub kind: ParamKind,
    /// Default value of the parameter, resolved to its type. `None` if the parameter is required.
    pub default: Option<serde_json::Value>,
    pub description: String,
}

/// Type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "param_type")]
pub enum ParamType {
    /// Name of a node. In templates, the value is the node with its fields: `params.NAME.client`.
    Node,
    /// Name of a role.
    Role,
    String,
    Integer,
    Number,
    Boolean,
    /// Duration such as `10s`. In templates, the value is a number of seconds.
    Duration,
    /// One of the words in `of`.
    Enum,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// Name of a node. The value must be one of `names`.
    Node {
        names: Vec<String>,
    },
    Role {
        names: Vec<String>,
    },
    String {
        pattern: Option<String>,
    },
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Number {
        min: Option<f64>,
        max: Option<f64>,
    },
    Boolean,
    Duration {
        #[serde(serialize_with = "maybe_duration")]
        min: Option<Duration>,
        #[serde(serialize_with = "maybe_duration")]
        max: Option<Duration>,
    },
    Enum {
        of: Vec<String>,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct Requirement {
    pub expr: Expr,
    /// Names of the observations that the expression uses, directly or through a `let`.
    #[serde(skip)]
    pub about: Vec<String>,
    pub message: Option<Template>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Ensure {
    pub expr: Expr,
    #[serde(skip)]
    pub about: Vec<String>,
    #[serde(serialize_with = "duration")]
    pub within: Duration,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Http(Box<HttpStep>),
    Node(NodeStep),
    Exec(ExecStep),
    Wait(Ensure),
}

impl Step {
    /// Returns the names of the observations that the step uses, directly or through a `let`.
    #[must_use]
    pub fn about(&self) -> &[String] {
        match self {
            Self::Http(step) => &step.about,
            Self::Node(step) => &step.about,
            Self::Exec(step) => &step.about,
            Self::Wait(ensure) => &ensure.about,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct HttpStep {
    /// Names of the observations that the templates of the step use.
    #[serde(skip)]
    pub about: Vec<String>,
    /// Role of the nodes that can handle the request. The nodes are tried in turn until one accepts the request. In templates, `self` is
    /// the accepting node. `None` means that `url` names the node.
    pub on: Option<String>,
    pub method: String,
    pub url: Template,
    pub headers: IndexMap<String, Template>,
    pub body: Option<Template>,
    pub expect: Expr,
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
    pub refused: Vec<Meaning>,
}

/// Explanation of an error response. The explanation applies if the text of the response matches the pattern.
#[derive(Debug, Clone, Serialize)]
pub struct Meaning {
    pub pattern: String,
    pub text: Template,
}

#[derive(Debug, Clone, Serialize)]
pub struct NodeStep {
    #[serde(skip)]
    pub about: Vec<String>,
    pub node: Template,
    pub verb: Verb,
    /// Time between SIGTERM and SIGKILL. `None` means the grace period that the node declares.
    #[serde(serialize_with = "maybe_duration")]
    pub grace: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "verb")]
pub enum Verb {
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
}

impl Verb {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ExecStep {
    #[serde(skip)]
    pub about: Vec<String>,
    pub node: Template,
    pub command: Vec<Template>,
    pub expect: Expr,
    pub refused: Vec<Meaning>,
}
