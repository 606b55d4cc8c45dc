//! Preview of the prompt before any trial has run. Values that only a live cluster provides appear as [`mark`]s.

use serde_json::Value as Json;

use super::{prompt, tools};
use chaosrun_expr::{Context, Template, Unknown, Value};
use chaosrun_models::declared;
use chaosrun_models::{ConversationEntry, Spec, ToolSpec};
use chaosrun_scenario::model::{ModelSpec, On, Scenario};

/// Prompt that a model receives, with placeholders for values that only a live cluster provides.
#[derive(Debug)]
pub struct Preview {
    pub system: String,
    pub prompt: String,
    pub tools: Vec<ToolSpec>,
    /// Body of the first request to the model, in the wire format of its server.
    pub request: Json,
}

/// Template that cannot be rendered before a trial runs.
#[derive(Debug)]
pub struct Undecided {
    pub template: Template,
    pub unknown: Unknown,
}

/// Reason why the prompt cannot be shown before a trial.
#[derive(Debug)]
pub enum NoPreview {
    /// The template compares or computes with values that only a live cluster provides.
    Template(Box<Undecided>),
    /// The wire format cannot express the variant's settings.
    Request(String),
}

/// Returns the preview of the prompt for a model of a variant.
///
/// # Errors
/// A template depends on values of a live cluster, or the wire format cannot express a setting.
pub fn preview(scenario: &Scenario, model: &ModelSpec) -> Result<Preview, NoPreview> {
    let context = context(scenario, model);
    let render = |template: &Template| {
        let text = template.render(&context).map(|text| text.trim().to_owned());
        text.map_err(|unknown| NoPreview::Template(Box::new(Undecided { template: template.clone(), unknown })))
    };
    let spec = Spec {
        model: model.model.clone(),
        system: render(&model.system)?,
        tools: model.tools.iter().map(|tool| tools::spec(*tool, &scenario.cluster.actions)).collect(),
        max_tokens: model.max_tokens,
        thinking: model.thinking,
        effort: model.effort.clone(),
        temperature: model.temperature,
    };
    let prompt = render(&model.prompt)?;
    let wire = declared::wire(model.wire, &model.base_url, &model.version).map_err(NoPreview::Request)?;
    let body = wire.body(&spec, &[ConversationEntry::User(prompt.clone())], true).map_err(NoPreview::Request)?;
    let request = serde_json::from_slice(&body).map_err(|error| NoPreview::Request(error.to_string()))?;
    Ok(Preview { system: spec.system, prompt, tools: spec.tools, request })
}

/// Returns a placeholder for a value that only a live cluster provides: `<<ticket.node>>`.
fn mark(name: &str) -> Value {
    Value::from(format!("<<{name}>>"))
}

fn context(scenario: &Scenario, model: &ModelSpec) -> Context {
    let cluster = &scenario.cluster;
    let mut context = Context::new();
    let fields = ["id", "invariant", "node", "severity", "observed", "expected", "age_s"];
    let ticket = Value::from_pairs(fields.map(|field| (field, mark(&format!("ticket.{field}")))));
    context.set("tickets", Value::from(vec![ticket.clone()]));
    context.set("ticket", ticket);
    context.set("healthy", false.into());
    let nodes = cluster.nodes.iter().map(|node| {
        let name = node.name.as_str();
        let port =
            |port: &String| Value::from_pairs([("name", Value::from(port.as_str())), ("address", mark(&format!("address of {name}")))]);
        Value::from_pairs([
            ("name", Value::from(name)),
            ("role", Value::from(node.role.as_str())),
            ("state", mark("state")),
            ("data", mark(&format!("data of {name}"))),
            ("ports", Value::from(node.ports.keys().map(port).collect::<Vec<_>>())),
        ])
    });
    context.set("nodes", nodes.collect::<Vec<_>>().into());
    let observations = cluster.observe.iter().map(|(name, probe)| {
        let of: Vec<String> = match &probe.on {
            On::Each(role) => cluster.nodes.iter().filter(|node| node.role == *role).map(|node| node.name.clone()).collect(),
            On::Any(_) | On::Workload | On::Tools => vec![String::new()],
        };
        let item = |node: String| {
            let text = mark(name);
            Value::from_pairs([("node", Value::from(node)), ("text", text), ("before", Value::from(Vec::<Value>::new()))])
        };
        Value::from_pairs([("name", Value::from(name.as_str())), ("items", Value::from(of.into_iter().map(item).collect::<Vec<_>>()))])
    });
    context.set("observations", observations.collect::<Vec<_>>().into());
    let logs = cluster.nodes.iter().map(|node| {
        let lines = vec![mark(&format!("last lines of {}", node.name))];
        Value::from_pairs([("node", Value::from(node.name.as_str())), ("lines", Value::from(lines))])
    });
    context.set("logs", logs.collect::<Vec<_>>().into());
    prompt::settled(&mut context, &scenario.limits, &model.tools, &cluster.actions);
    context
}
