//! Execution of one action, from the call to the verification of its effect.

use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use super::result::{self, StepOutcome, StepResult};
use super::step::{self, StepResponse};
use crate::world::{self, ActionContext};
use chaosrun_event::emit::Emitter;
use chaosrun_event::{ActionOutcome, EventKind};
use chaosrun_expr::{ConditionTruth, Context, Expr, Value};
use chaosrun_scenario::model::{Action, Ensure, Step};
use chaosrun_scenario::params;

/// Maximum wait for observations made after the call. Then older observations are used, since expired observations are unknown.
const FRESH: Duration = Duration::from_secs(2);

/// Call of an action, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionCall {
    pub action: String,
    pub params: Map<String, Json>,
}

impl ActionCall {
    /// Returns the text that represents the call in the record: `act restart_node {"node":"tikv1"}`.
    #[must_use]
    pub fn text(&self) -> String {
        result::called(&self.action, &Json::Object(self.params.clone()))
    }
}

/// Result of the call of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    pub outcome: ActionOutcome,
    /// Text that describes the result to the caller.
    pub text: String,
    /// Operations on the system that the action performed, written as shell commands.
    pub did: Vec<String>,
}

/// Performs an action as command number `command`. The action ends at `deadline` at the latest, and immediately when it is cancelled.
pub async fn perform(
    action_context: &ActionContext,
    call: &ActionCall,
    command: u32,
    emitter: &Emitter,
    deadline: Deadline,
    cancel: &CancellationToken,
) -> Performed {
    let began = Instant::now();
    let action = action_context.spec.actions.get(&call.action);
    emitter.emit(EventKind::ActionStarted {
        command,
        action: call.action.clone(),
        params: Json::Object(call.params.clone()),
        risk: action.map(|action| action.risk.as_str().to_owned()),
    });
    let mut performance = Performance { action_context, command, emitter, did: Vec::new(), under_way: None };
    let ended = match action {
        None => {
            let known: Vec<&str> = action_context.spec.actions.keys().map(String::as_str).collect();
            (ActionOutcome::Invalid, result::no_such(&call.action, &known))
        }
        Some(action) => {
            let cut = tokio::select! {
                biased;
                ended = performance.play(action, &call.params, began) => Ok(ended),
                () = cancel.cancelled() => Err("the run was interrupted"),
                () = tokio::time::sleep_until(deadline) => Err("the time limit of the command was reached"),
            };
            cut.unwrap_or_else(|why| (ActionOutcome::CutOff, performance.cut_off(why)))
        }
    };
    let (outcome, text) = ended;
    emitter.emit(EventKind::ActionFinished {
        command,
        action: call.action.clone(),
        outcome,
        detail: text.clone(),
        took_us: micros(began.elapsed()),
    });
    Performed { outcome, text, did: performance.did }
}

struct Performance<'a> {
    action_context: &'a ActionContext,
    command: u32,
    emitter: &'a Emitter,
    did: Vec<String>,
    /// Number, start time and request of the running step. `None` between steps.
    under_way: Option<(u32, Instant, String)>,
}

type Ended = (ActionOutcome, String);

impl Performance<'_> {
    async fn play(&mut self, action: &Action, given: &Map<String, Json>, began: Instant) -> Ended {
        let read = match params::read_all(action, given) {
            Ok(read) => read,
            Err(wrong) => return (ActionOutcome::Invalid, format!("invalid call of {}: {}", action.id, wrong.join("; "))),
        };
        if let Some(unmet) = self.require(action, &read, began).await {
            return (ActionOutcome::Unmet, unmet);
        }
        let mut lines = Vec::new();
        let mut results: Vec<Value> = Vec::new();
        let mut since = began;
        for (at, step) in action.steps.iter().enumerate() {
            let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
            let (asked, answered) = match self.step(action, &read, &mut results, number, step, since).await {
                Ok(carried_out) => carried_out,
                Err(why) => ("preparation".into(), StepResult::new(StepOutcome::Failed, None, why)),
            };
            if answered.how != StepOutcome::Well {
                let outcome = if answered.how == StepOutcome::Refused { ActionOutcome::Refused } else { ActionOutcome::Failed };
                return (outcome, result::stopped(action, at, &asked, &answered));
            }
            lines.push(format!("{asked}: {}", answered.line()));
            since = Instant::now();
        }
        let Some(ensure) = &action.ensure else { return (ActionOutcome::Done, result::done(action, &lines, None)) };
        let number = u32::try_from(action.steps.len() + 1).unwrap_or(u32::MAX);
        self.begin(number, "ensure", &ensure.expr.text);
        let context = |action_context: &ActionContext, base| names(action_context, base, action, &read, &results);
        match self.becomes(ensure, since, context).await {
            Ok(after) => {
                self.end(&StepResult::new(StepOutcome::Well, None, format!("true after {:.1} s", after.as_secs_f64())));
                (ActionOutcome::Done, result::done(action, &lines, Some(after)))
            }
            Err(instead) => {
                self.end(&StepResult::new(StepOutcome::Failed, None, instead.clone()));
                (ActionOutcome::NotEnsured, result::not_ensured(action, ensure, &instead))
            }
        }
    }

    /// Checks the preconditions of the action. Returns a description of the first one that does not hold, or `None` if all hold.
    async fn require(&mut self, action: &Action, read: &Map<String, Json>, began: Instant) -> Option<String> {
        for requirement in &action.require {
            self.begin(0, "require", &requirement.expr.text);
            let context = |action_context: &ActionContext, base| names(action_context, base, action, read, &[]);
            let base = self.fresh(&requirement.about, began).await;
            let context = context(self.action_context, base);
            let truth = requirement.expr.truth(&context);
            if truth == ConditionTruth::True {
                self.end(&StepResult::new(StepOutcome::Well, None, "holds"));
                continue;
            }
            let instead = result::instead(&requirement.expr, &context);
            let message = requirement.message.as_ref().and_then(|message| message.render(&context).ok());
            let why = match (truth, message) {
                (ConditionTruth::Unknown(_), _) => {
                    format!("it is unknown whether the precondition holds: {} ({instead})", result::short(&requirement.expr.text))
                }
                (_, Some(message)) => format!("{} ({instead})", result::short(&message)),
                (_, None) => format!("the precondition does not hold: {} ({instead})", result::short(&requirement.expr.text)),
            };
            self.end(&StepResult::new(StepOutcome::Refused, None, why.clone()));
            return Some(format!("{} was not started: {why}\nNothing was changed.", action.id));
        }
        None
    }

    /// Performs one step of the action. Returns the request and the response. The error describes the part of the step that could not be
    /// prepared.
    async fn step(
        &mut self,
        action: &Action,
        read: &Map<String, Json>,
        results: &mut Vec<Value>,
        number: u32,
        step: &Step,
        since: Instant,
    ) -> Result<(String, StepResult), String> {
        let action_context = self.action_context;
        if let Step::Wait(ensure) = step {
            self.begin(number, "wait", &ensure.expr.text);
            let context = |action_context: &ActionContext, base| names(action_context, base, action, read, results);
            let answered = match self.becomes(ensure, since, context).await {
                Ok(after) => StepResult::new(StepOutcome::Well, None, format!("true after {:.1} s", after.as_secs_f64())),
                Err(instead) => {
                    let within = humantime::format_duration(ensure.within);
                    StepResult::new(StepOutcome::Failed, None, format!("not true within {within}: {instead}"))
                }
            };
            self.end(&answered);
            results.push(Value::from(()));
            return Ok((format!("wait until {}", result::short(&ensure.expr.text)), answered));
        }
        let base = self.fresh(step.about(), since).await;
        let context = names(action_context, base, action, read, results);
        let ready = match step {
            Step::Http(http) => step::http(action_context, http, &context)?,
            Step::Node(node) => step::node(action_context, node, &context)?,
            Step::Exec(exec) => step::exec(action_context, exec, &context)?,
            Step::Wait(_) => return Err("a wait step has no request".into()),
        };
        let asked = ready.asked();
        let shell = ready.in_a_shell();
        self.begun(number, ready.what(), &asked, Some(shell.clone()));
        self.did.push(shell);
        let StepResponse { answered, last } = ready.carry_out(action_context, &context).await;
        self.end(&answered);
        results.push(last);
        Ok((asked, answered))
    }

    fn begin(&mut self, step: u32, what: &str, asked: &str) {
        self.begun(step, what, asked, None);
    }

    fn begun(&mut self, step: u32, what: &str, asked: &str, shell: Option<String>) {
        let asked = result::short(asked);
        self.emitter.emit(EventKind::ActionStepStarted { command: self.command, step, what: what.into(), asked: asked.clone(), shell });
        self.under_way = Some((step, Instant::now(), asked));
    }

    fn end(&mut self, answered: &StepResult) {
        let Some((step, began, _)) = self.under_way.take() else { return };
        self.emitter.emit(EventKind::ActionStepFinished {
            command: self.command,
            step,
            ok: answered.how == StepOutcome::Well,
            by: answered.by.clone(),
            answered: answered.line(),
            took_us: micros(began.elapsed()),
        });
    }

    fn cut_off(&mut self, why: &str) -> String {
        let Some((_, _, asked)) = &self.under_way else { return format!("stopped: {why}. No step was running") };
        let text = format!("stopped: {why}. Running step: {asked}. The step may still take effect: observe the system before you retry");
        self.end(&StepResult::new(StepOutcome::Unknown, None, why));
        text
    }

    /// Returns the newest observations. Waits a short time until the observations named in `about` are newer than `since`.
    async fn fresh(&self, about: &[String], since: Instant) -> Context {
        let until = Deadline::now() + FRESH;
        let mut state = self.action_context.monitor.state();
        let mut newest = Context::new();
        loop {
            state.mark_unchanged();
            if let Some((context, evaluated)) = self.action_context.monitor.context().await {
                newest = context;
                if world::all_since(&newest, evaluated, about, since) {
                    return newest;
                }
            }
            if !matches!(tokio::time::timeout_at(until, state.changed()).await, Ok(Ok(()))) {
                return newest;
            }
        }
    }

    /// Waits until a condition is true for observations made after `since`. Returns the elapsed time. The error describes the observed
    /// value.
    async fn becomes(
        &self,
        ensure: &Ensure,
        since: Instant,
        names: impl Fn(&ActionContext, Context) -> Context,
    ) -> Result<Duration, String> {
        let until: Deadline = (since + ensure.within).max(Instant::now()).into();
        let mut state = self.action_context.monitor.state();
        let mut instead = "no new observation".to_owned();
        loop {
            state.mark_unchanged();
            if let Some((base, evaluated)) = self.action_context.monitor.context().await
                && world::all_since(&base, evaluated, &ensure.about, since)
            {
                let context = names(self.action_context, base);
                if holds(&ensure.expr, &context) {
                    return Ok(since.elapsed());
                }
                instead = result::instead(&ensure.expr, &context);
            }
            if !matches!(tokio::time::timeout_at(until, state.changed()).await, Ok(Ok(()))) {
                return Err(instead);
            }
        }
    }
}

fn holds(expr: &Expr, context: &Context) -> bool {
    expr.truth(context) == ConditionTruth::True
}

/// Returns an expression context with all variables that the action may use.
fn names(action_context: &ActionContext, base: Context, action: &Action, read: &Map<String, Json>, results: &[Value]) -> Context {
    let mut context = world::with_nodes(base, &*action_context.cluster);
    context.set("params", world::params(action, read, &*action_context.cluster));
    context.set("results", Value::from(results.to_vec()));
    context.set("last", results.last().cloned().unwrap_or_else(|| chaosrun_expr::unavailable("no step has run yet")));
    context
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
