//! Variables for the expressions and templates of scripted agents.

use std::sync::Arc;

use super::task::{ActiveFault, AgentTask, AgentView, CommandRecord, TicketView};
use chaosrun_action::with_nodes;
use chaosrun_cluster::Cluster;
use chaosrun_expr::{Context, Unknown, UnknownReason, Value};

/// Builder of template contexts. Past commands are stored as template values, so that each command is converted only once.
pub(super) struct Contexts {
    cluster: Arc<dyn Cluster>,
    view: tokio::sync::watch::Receiver<AgentView>,
    ticket: u32,
    scale: f64,
    seed: u64,
    results: Vec<Value>,
}

impl Contexts {
    pub fn new(task: &AgentTask) -> Self {
        Self {
            cluster: Arc::clone(&task.cluster),
            view: task.view.clone(),
            ticket: task.ticket,
            scale: task.clock_scale.unwrap_or(1.0),
            seed: task.seed,
            results: Vec::new(),
        }
    }

    /// Adds the result of a command to the context. The result of a repeated command replaces its previous result.
    pub fn note(&mut self, record: &CommandRecord, repeated: bool) {
        if repeated {
            self.results.pop();
        }
        self.results.push(Value::from_pairs([
            ("command", Value::from(record.command.as_str())),
            ("exit_code", Value::from(record.exit_code)),
            ("timed_out", Value::from(record.timed_out)),
            ("stdout", Value::from(record.stdout.text.as_str())),
            ("stderr", Value::from(record.stderr.text.as_str())),
            ("took_s", Value::from(record.took.as_secs_f64())),
        ]));
    }

    /// Returns the template context with the current state of the cluster and all past commands.
    pub fn now(&self) -> Context {
        let unknown = |reason: &str| Value::from(Unknown::new(UnknownReason::Unavailable, reason));
        let mut context = Context::new();
        {
            let view = self.view.borrow();
            let own = view.tickets.iter().find(|known| known.ticket.id == self.ticket);
            context.set("ticket", own.map_or_else(|| unknown("there is no ticket"), ticket));
            let open: Vec<Value> = view.tickets.iter().filter(|known| known.open).map(ticket).collect();
            context.set("tickets", Value::from(open));
            context.set("healthy", view.healthy.into());
            context.set("observe", if view.observe.is_undefined() { unknown("nothing is observed") } else { view.observe.clone() });
        }
        context.set("last", self.results.last().cloned().unwrap_or_else(|| unknown("no command has run yet")));
        context.set("results", Value::from(self.results.clone()));
        context.set("cluster", Value::from_pairs([("scale", self.scale)]));
        context.set("trial", Value::from_pairs([("seed", self.seed)]));
        with_nodes(context, &*self.cluster)
    }

    /// Returns the current context extended by the active faults, by fault id. Only the commands of a check use this context.
    pub fn with_truth(&self, faults: &[ActiveFault]) -> Context {
        let fault = |fault: &ActiveFault| {
            let value = Value::from_pairs([
                ("fault", Value::from(fault.fault.as_str())),
                ("target", fault.targets.first().map_or_else(|| Value::from(()), |target| Value::from(target.as_str()))),
                ("targets", Value::from(fault.targets.clone())),
            ]);
            (fault.id.clone(), value)
        };
        let mut context = self.now();
        context.set("chaos", Value::from_pairs(faults.iter().map(fault)));
        context
    }
}

fn ticket(view: &TicketView) -> Value {
    let ticket = &view.ticket;
    let severity = match ticket.severity {
        chaosrun_event::Severity::Info => "info",
        chaosrun_event::Severity::Warning => "warning",
        chaosrun_event::Severity::Critical => "critical",
    };
    Value::from_pairs([
        ("id", Value::from(ticket.id)),
        ("invariant", Value::from(ticket.invariant.as_str())),
        ("node", ticket.node.as_deref().map_or_else(|| Value::from(()), Value::from)),
        ("severity", Value::from(severity)),
        ("observed", Value::from(ticket.observed.as_str())),
        ("expected", Value::from(ticket.expected.as_str())),
        ("open", Value::from(view.open)),
    ])
}
