//! `config_change`: a file of the node is changed. A restart of the node does not write the file, so the change persists until an actor
//! reverts it.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::{restart, restarted};
use crate::description::on;
use crate::{
    DOCKER, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target,
    Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::Diagnostic;
use chaosrun_event::Actor;
use chaosrun_expr::{Scope, Template};
use chaosrun_input::{Short, Text, unknown};

/// Fixed data of the fault `config_change`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "config_change",
    summary: "Changes a file of the node, and by default restarts the node.",
    example: "config_change: { target: tikv1, file: tikv.toml, append: 'x = 1', restart: false }",
    backends: &[
        on(LOCAL, &[Way::plain("file in the directory of the node")]),
        on(DOCKER, &[Way::plain("file in the container of the node")]),
    ],
    refused: "",
    repair: Repair::Command,
    class: "bad_config",
    holds: Some("files"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "config_change")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// File to change: a name in `files` of the node.
    pub file: String,
    /// New content of the file: a template.
    pub content: Option<Text>,
    /// Text that is appended to the file: a template.
    pub append: Option<Text>,
    /// Replacement of all matches of a regular expression.
    pub replace: Option<RawReplace>,
    /// Restarts the node so that it reads the file [default: true].
    pub restart: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "replace")]
pub struct RawReplace {
    /// Regular expression.
    pub pattern: String,
    /// Replacement: a template in which `$1` is the first group.
    pub with: Text,
}

/// Interval between two checks that the file has its old content again.
const LOOKED: Duration = Duration::from_millis(200);

/// Checks the parameters of `config_change`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target)?;
    let ground = to.ground;
    let known = ground.candidates(&target).is_some();
    if let Some(node) = ground.possible(&target).into_iter().find(|node| known && !node.files.contains(&read.file)) {
        let files: Vec<&str> = node.files.iter().map(String::as_str).collect();
        to.wrong("file", unknown("unknown_file", &format!("file of {}", node.name), &read.file, files.iter().copied()));
        return None;
    }
    let change = match (&read.content, &read.append, &read.replace) {
        (Some(text), None, None) => Change::Content(to.template("content", text, Scope::Node)?),
        (None, Some(text), None) => Change::Append(to.template("append", text, Scope::Node)?),
        (None, None, Some(replace)) => {
            let at = to.at.key("replace");
            to.check.pattern(&at.key("pattern"), &replace.pattern);
            Change::Replace { pattern: replace.pattern.clone(), with: to.check.template(&at.key("with"), &replace.with, Scope::Node, &[])? }
        }
        _ => {
            let problem = Diagnostic::error("bad_change", "`content`, `append` and `replace`: none or several are set");
            to.wrong_fault(problem.label("expected exactly one of `content`, `append`, `replace`"));
            return None;
        }
    };
    Some(Resolution::of(ConfigChange { target, file: read.file.clone(), change, restart: read.restart.unwrap_or(true) }))
}

/// Kind of change of a file, with its parameters.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// Template of the new content of the whole file.
    Content(Template),
    /// Template of the text that is appended to the old content.
    Append(Template),
    /// Replacement of every match of the regular expression `pattern`; in the template, `$1` is the first group of the match.
    Replace { pattern: String, with: Template },
}

#[derive(Debug, Clone, Serialize)]
struct ConfigChange {
    target: Target,
    file: String,
    change: Change,
    /// True if the fault restarts the node so that the node reads the file.
    restart: bool,
}

impl ResolvedFault for ConfigChange {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Rewriting { fault: self.clone(), contents: Mutex::default(), starts: OnceLock::new() })
    }
}

/// Old content and new content of a file, in this order.
type Contents = (Vec<u8>, Vec<u8>);

struct Rewriting {
    fault: ConfigChange,
    /// Old and new content of the changed file, by node name.
    contents: Mutex<BTreeMap<String, Contents>>,
    /// Total number of starts of the targets before the injection.
    starts: OnceLock<u32>,
}

impl Rewriting {
    fn contents(&self, node: &str) -> Option<Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    fn changed(&self, context: &FaultContext, node: &str, old: &[u8]) -> Result<Vec<u8>, String> {
        let text = |template| context.render(template, node).map_err(|error| error.to_string());
        Ok(match &self.fault.change {
            Change::Content(template) => text(template)?.into_bytes(),
            Change::Append(template) => [old, text(template)?.as_bytes()].concat(),
            Change::Replace { pattern, with } => {
                let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
                let old = String::from_utf8_lossy(old);
                if !pattern.is_match(&old) {
                    return Err(format!("nothing in `{}` of {node} matches `{pattern}`", self.fault.file));
                }
                pattern.replace_all(&old, text(with)?.as_str()).into_owned().into_bytes()
            }
        })
    }

    /// Returns true if the file of the node has the new content.
    async fn has_new(&self, context: &FaultContext, node: &str) -> Result<bool, String> {
        let now = context.cluster.read_file(node, &self.fault.file).await.map_err(|error| error.to_string())?;
        Ok(self.contents(node).is_some_and(|(_, new)| new == now))
    }

    /// Returns the number of targets whose file has the new content.
    async fn changed_of(&self, context: &FaultContext) -> Result<usize, String> {
        let mut count = 0;
        for node in &context.targets {
            count += usize::from(self.has_new(context, node).await?);
        }
        Ok(count)
    }
}

#[async_trait]
impl Injection for Rewriting {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let _ = self.starts.set(context.starts());
        for node in &context.targets {
            let old = context.cluster.read_file(node, &self.fault.file).await.map_err(|error| error.to_string())?;
            let new = self.changed(context, node, &old)?;
            if new == old {
                return Err(format!("`{}` of {node} already has the new content", self.fault.file));
            }
            self.contents.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), (old, new));
        }
        Ok(String::new())
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            let (_, new) = self.contents(&node).unwrap_or_default();
            context.cluster.write_file(&node, &self.fault.file, &new).await
        })
        .await?;
        if self.fault.restart { restart(context, Actor::Fault).await } else { Ok(()) }
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        match self.changed_of(context).await {
            Ok(count) => FaultFinding::new(
                count == context.targets.len(),
                format!("`{}` of {} has the new content", self.fault.file, context.targets.join(", ")),
            ),
            Err(error) => FaultFinding::no(error),
        }
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        if self.fault.restart {
            restarted(context, self.starts.get().copied())
        } else {
            FaultFinding::yes("the node reads the file at its next start")
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            let (old, _) = self.contents(&node).unwrap_or_default();
            context.cluster.write_file(&node, &self.fault.file, &old).await
        })
        .await?;
        if self.fault.restart { restart(context, Actor::Time).await } else { Ok(()) }
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        loop {
            tokio::time::sleep(LOOKED).await;
            // An agent may repair the file with other content than the old content.
            if self.changed_of(context).await.ok()? == 0 {
                return Some(FaultFinding::yes(format!(
                    "`{}` of {} no longer has the content of the fault",
                    self.fault.file,
                    context.targets.join(", ")
                )));
            }
        }
    }

    fn repair_command(&self, context: &FaultContext, node: &str) -> Option<String> {
        let (old, _) = self.contents(node)?;
        let path = context.cluster.topology().node(node)?.dir.join(&self.fault.file);
        let text = BASE64_STANDARD.encode(old);
        // If the node has exited because of the fault, its files can only be written from outside.
        let (dir, file) = (path.parent()?.display(), path.file_name()?.to_string_lossy());
        let local = format!("cp=$(mktemp -d) && echo {text} | base64 -d > $cp/{file} && docker cp $cp/{file} {node}:{dir}/");
        Some(format!("{local} && docker restart {node}"))
    }
}
