//! Prompt of a model: the variables of the templates in `prompts/`. They contain no part of the scenario, the injected faults or a
//! playbook.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::task::{AgentTask, TicketView};
use chaosrun_action::describe;
use chaosrun_cluster::{Cluster, PlacedNode, PortAddress};
use chaosrun_event::{NodeState, Severity};
use chaosrun_expr::{Context, Template, Value, is_list, is_map, unknown_of};
use chaosrun_scenario::model::{Action, Limits, Tool};

/// Maximum length of the text about one observation of one node, in characters.
const LONGEST_TEXT: usize = 600;
/// Time span of the recent numeric values in the prompt, in seconds.
const BEFORE_S: f64 = 30.0;
/// Number of log lines per node in the prompt.
const LINES: usize = 15;
const LONGEST_LINE: usize = 300;
const TAIL: u64 = 32 * 1024;

/// Renders the prompt for the current state of the ticket and the cluster.
///
/// # Errors
/// A part of the template is unknown. The error describes that part.
pub(super) fn render(template: &Template, task: &AgentTask, tools: &[Tool]) -> Result<String, String> {
    let name = template.place.as_ref().map_or("the prompt", |place| &place.file.name);
    let text = template.render(&context(task, tools)).map_err(|unknown| format!("{name}: {unknown}"))?;
    Ok(text.trim().to_owned())
}

pub(super) fn context(task: &AgentTask, tools: &[Tool]) -> Context {
    let mut context = Context::new();
    {
        let view = task.view.borrow();
        let own = view.tickets.iter().find(|known| known.ticket.id == task.ticket);
        context.set("ticket", own.map_or_else(|| Value::from("there is no ticket"), ticket));
        context.set("tickets", view.tickets.iter().filter(|known| known.open).map(ticket).collect::<Vec<_>>().into());
        context.set("healthy", view.healthy.into());
        context.set("observations", observations(&view.observe, &view.series).into());
    }
    let topology = task.cluster.topology();
    context.set("nodes", topology.nodes.iter().map(|placed| node(placed, &task.cluster)).collect::<Vec<_>>().into());
    let logs = topology.nodes.iter().filter_map(|placed| {
        let lines = last_lines(&task.cluster.log_file(&placed.name)?)?;
        Some(Value::from_pairs([("node", Value::from(placed.name.as_str())), ("lines", Value::from(lines))]))
    });
    context.set("logs", logs.collect::<Vec<_>>().into());
    settled(&mut context, &task.limits, tools, task.actions());
    context
}

/// Adds the variables whose values are known before a trial runs.
pub(super) fn settled(context: &mut Context, limits: &Limits, tools: &[Tool], actions: &IndexMap<String, Action>) {
    context.set("tools", tools.iter().map(|tool| Value::from(tool.name())).collect::<Vec<_>>().into());
    let actions = describe::all(actions).into_iter().map(|action| {
        let params = action.params.into_iter().map(|(name, about)| Value::from_pairs([("name", name), ("about", about)]));
        Value::from_pairs([
            ("id", Value::from(action.id)),
            ("description", Value::from(action.description)),
            ("risk", Value::from(action.risk)),
            ("params", Value::from(params.collect::<Vec<_>>())),
            ("undo", Value::from(action.undo)),
        ])
    });
    context.set("actions", actions.collect::<Vec<_>>().into());
    let limits = [
        ("wall", Value::from(limits.wall.as_secs_f64())),
        ("command", Value::from(limits.command.as_secs_f64())),
        ("turns", Value::from(limits.turns)),
        ("tokens", Value::from(limits.tokens.unwrap_or(0))),
        ("usd", Value::from(limits.usd.unwrap_or(0.0))),
    ];
    context.set("limits", Value::from_pairs(limits));
}

fn ticket(view: &TicketView) -> Value {
    let ticket = &view.ticket;
    let severity = match ticket.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let age = (jiff::Timestamp::now().as_millisecond() - ticket.first_seen.as_millisecond()).max(0);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a trial")]
    let age = age as f64 / 1e3;
    Value::from_pairs([
        ("id", Value::from(ticket.id)),
        ("invariant", Value::from(ticket.invariant.as_str())),
        ("node", Value::from(ticket.node.as_deref().unwrap_or("the whole system"))),
        ("severity", Value::from(severity)),
        ("observed", Value::from(ticket.observed.as_str())),
        ("expected", Value::from(ticket.expected.as_str())),
        ("age_s", Value::from((age * 10.0).round() / 10.0)),
    ])
}

fn node(placed: &PlacedNode, cluster: &Arc<dyn Cluster>) -> Value {
    let status = cluster.status();
    let state = match status.iter().find(|status| status.node == placed.name).map(|status| &status.state) {
        Some(NodeState::Running) => "running",
        Some(NodeState::Paused) => "paused",
        Some(NodeState::Exited { .. }) => "exited",
        Some(NodeState::Created) | None => "created",
    };
    let port = |(name, port): (&String, &PortAddress)| {
        Value::from_pairs([("name", Value::from(name.as_str())), ("address", Value::from(port.advertised.to_string()))])
    };
    Value::from_pairs([
        ("name", Value::from(placed.name.as_str())),
        ("role", Value::from(placed.role.as_str())),
        ("state", Value::from(state)),
        ("data", Value::from(placed.data.to_string_lossy().into_owned())),
        ("ports", Value::from(placed.ports.iter().map(port).collect::<Vec<_>>())),
    ])
}

/// Returns each observation as text, with the recent numbers of its series.
fn observations(observed: &Value, series: &chaosrun_monitor::ObservedSeries) -> Vec<Value> {
    let names = observed.try_iter().into_iter().flatten();
    let one = |name: Value| {
        let item = observed.get_item(&name).ok()?;
        let name = name.as_str()?.to_owned();
        let shown = |item: &Value| {
            let node = item.get_attr("node").ok().and_then(|node| node.as_str().map(str::to_owned));
            let before: Vec<Value> = series
                .of(&name, node.as_deref())
                .filter(|(ago, _)| *ago <= BEFORE_S)
                .map(|(ago, number)| Value::from(format!("{} ({ago:.0} s ago)", figure(number))))
                .collect();
            let node = node.map_or_else(|| Value::from(""), Value::from);
            Value::from_pairs([("node", node), ("text", Value::from(text(item))), ("before", Value::from(before))])
        };
        let items: Vec<Value> = if is_list(&item) { item.try_iter().ok()?.map(|item| shown(&item)).collect() } else { vec![shown(&item)] };
        Some(Value::from_pairs([("name", Value::from(name.as_str())), ("items", Value::from(items))]))
    };
    names.filter_map(one).collect()
}

fn figure(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-3 { format!("{number:.2e}") } else { format!("{number:.4}") }
}

/// Returns the result of a probe as a short text for the prompt.
fn text(item: &Value) -> String {
    if let Some(unknown) = unknown_of(item) {
        return format!("unknown: {unknown}");
    }
    if !is_map(item) {
        return cut(&item.to_string(), LONGEST_TEXT);
    }
    let field =
        |name: &str| item.get_attr(name).ok().filter(|value| unknown_of(value).is_none() && !value.is_undefined() && !value.is_none());
    if let Some(error) = field("error").filter(|error| error.as_str().is_some_and(|text| !text.is_empty())) {
        return cut(&format!("failed: {error}"), LONGEST_TEXT);
    }
    let answer = ["value", "json", "rows", "text"].into_iter().find_map(field);
    answer.map_or_else(|| "ok".to_owned(), |answer| cut(&answer.to_string(), LONGEST_TEXT))
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} more bytes)", &text[..at], text.len() - at),
    }
}

/// Returns the last lines of a log file. Returns `None` if the file cannot be read.
pub(super) fn last_lines(path: &Path) -> Option<Vec<Value>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Some(lines[lines.len().saturating_sub(LINES)..].iter().map(|line| Value::from(cut(line, LONGEST_LINE))).collect())
}
