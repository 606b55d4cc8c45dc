//! One action from the call to its proof.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use super::step::{self, Came};
use super::told::{self, Answered, How};
use super::{params, world};
use crate::cluster::Cluster;
use crate::emit::Emitter;
use crate::event::{ActionOutcome, Kind};
use crate::expr::{Context, Expr, Truth, Value};
use crate::monitor::MonitorHandle;
use crate::observe::HttpClient;
use crate::scenario::model::{self, Action, Ensure, Step};

/// How long a call waits for observations that were made after it. Older ones are still true enough to go by: what is too old
/// is unknown.
const FRESH: Duration = Duration::from_secs(2);

/// What actions are carried out on, and by whose observations.
#[derive(Clone)]
pub struct Desk {
    pub spec: Arc<model::Cluster>,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub http: HttpClient,
}

/// What somebody wants to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub action: String,
    pub params: Map<String, Json>,
}

impl Call {
    /// As it stands among commands: `act restart_node {"node":"tikv1"}`.
    #[must_use]
    pub fn text(&self) -> String {
        told::called(&self.action, &Json::Object(self.params.clone()))
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    pub outcome: ActionOutcome,
    /// For whoever asked.
    pub text: String,
    /// What was asked of the system, as it would be said in a shell.
    pub did: Vec<String>,
}

/// Carries out a call as the command of that number. Ends at `deadline` at the latest, and at once when it is cancelled.
pub async fn perform(
    desk: &Desk,
    call: &Call,
    command: u32,
    emitter: &Emitter,
    deadline: Deadline,
    cancel: &CancellationToken,
) -> Performed {
    let began = Instant::now();
    let action = desk.spec.actions.get(&call.action);
    emitter.emit(Kind::ActionStarted {
        command,
        action: call.action.clone(),
        params: Json::Object(call.params.clone()),
        risk: action.map(|action| action.risk.as_str().to_owned()),
    });
    let mut performance = Performance { desk, command, emitter, did: Vec::new(), under_way: None };
    let ended = match action {
        None => {
            let known: Vec<&str> = desk.spec.actions.keys().map(String::as_str).collect();
            (ActionOutcome::Invalid, told::no_such(&call.action, &known))
        }
        Some(action) => {
            let cut = tokio::select! {
                biased;
                ended = performance.play(action, &call.params, began) => Ok(ended),
                () = cancel.cancelled() => Err("the run was interrupted"),
                () = tokio::time::sleep_until(deadline) => Err("the time limit of a command is over"),
            };
            cut.unwrap_or_else(|why| (ActionOutcome::CutOff, performance.cut_off(why)))
        }
    };
    let (outcome, text) = ended;
    emitter.emit(Kind::ActionFinished {
        command,
        action: call.action.clone(),
        outcome,
        detail: text.clone(),
        took_us: micros(began.elapsed()),
    });
    Performed { outcome, text, did: performance.did }
}

struct Performance<'a> {
    desk: &'a Desk,
    command: u32,
    emitter: &'a Emitter,
    did: Vec<String>,
    /// The step that was begun and has not ended, since when, and what is asked by it.
    under_way: Option<(u32, Instant, String)>,
}

type Ended = (ActionOutcome, String);

impl Performance<'_> {
    async fn play(&mut self, action: &Action, given: &Map<String, Json>, began: Instant) -> Ended {
        let read = match params::read_all(action, given) {
            Ok(read) => read,
            Err(wrong) => return (ActionOutcome::Invalid, format!("{} cannot be called so: {}", action.id, wrong.join("; "))),
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
                Err(why) => ("prepared".into(), Answered::new(How::Failed, None, why)),
            };
            if answered.how != How::Well {
                let outcome = if answered.how == How::Refused { ActionOutcome::Refused } else { ActionOutcome::Failed };
                return (outcome, told::stopped(action, at, &asked, &answered));
            }
            lines.push(format!("{asked}: {}", answered.line()));
            since = Instant::now();
        }
        let Some(ensure) = &action.ensure else { return (ActionOutcome::Done, told::done(action, &lines, None)) };
        let number = u32::try_from(action.steps.len() + 1).unwrap_or(u32::MAX);
        self.begin(number, "ensure", &ensure.expr.text);
        let context = |desk: &Desk, base| names(desk, base, action, &read, &results);
        match self.becomes(ensure, since, context).await {
            Ok(after) => {
                self.end(&Answered::new(How::Well, None, format!("so after {:.1} s", after.as_secs_f64())));
                (ActionOutcome::Done, told::done(action, &lines, Some(after)))
            }
            Err(instead) => {
                self.end(&Answered::new(How::Failed, None, instead.clone()));
                (ActionOutcome::NotEnsured, told::not_ensured(action, ensure, &instead))
            }
        }
    }

    /// The first thing that does not hold, in words.
    async fn require(&mut self, action: &Action, read: &Map<String, Json>, began: Instant) -> Option<String> {
        for requirement in &action.require {
            self.begin(0, "require", &requirement.expr.text);
            let context = |desk: &Desk, base| names(desk, base, action, read, &[]);
            let base = self.fresh(&requirement.about, began).await;
            let context = context(self.desk, base);
            let truth = requirement.expr.truth(&context);
            if truth == Truth::True {
                self.end(&Answered::new(How::Well, None, "holds"));
                continue;
            }
            let instead = told::instead(&requirement.expr, &context);
            let message = requirement.message.as_ref().and_then(|message| message.render(&context).ok());
            let why = match (truth, message) {
                (Truth::Unknown(_), _) => {
                    format!("whether it may be done is not known now: {}: {instead}", told::short(&requirement.expr.text))
                }
                (_, Some(message)) => format!("{} ({instead})", told::short(&message)),
                (_, None) => format!("it requires {}: {instead}", told::short(&requirement.expr.text)),
            };
            self.end(&Answered::new(How::Refused, None, why.clone()));
            return Some(format!("{} was not begun: {why}\nNothing was changed.", action.id));
        }
        None
    }

    /// What was asked, and what came of it. The error says what could not be made ready.
    async fn step(
        &mut self,
        action: &Action,
        read: &Map<String, Json>,
        results: &mut Vec<Value>,
        number: u32,
        step: &Step,
        since: Instant,
    ) -> Result<(String, Answered), String> {
        let desk = self.desk;
        if let Step::Wait(ensure) = step {
            self.begin(number, "wait", &ensure.expr.text);
            let context = |desk: &Desk, base| names(desk, base, action, read, results);
            let answered = match self.becomes(ensure, since, context).await {
                Ok(after) => Answered::new(How::Well, None, format!("so after {:.1} s", after.as_secs_f64())),
                Err(instead) => {
                    let within = humantime::format_duration(ensure.within);
                    Answered::new(How::Failed, None, format!("not within {within}: {instead}"))
                }
            };
            self.end(&answered);
            results.push(Value::from(()));
            return Ok((format!("wait until {}", told::short(&ensure.expr.text)), answered));
        }
        let base = self.fresh(step.about(), since).await;
        let context = names(desk, base, action, read, results);
        let ready = match step {
            Step::Http(http) => step::http(desk, http, &context)?,
            Step::Node(node) => step::node(desk, node, &context)?,
            Step::Exec(exec) => step::exec(desk, exec, &context)?,
            Step::Wait(_) => return Err("it only waits".into()),
        };
        let asked = ready.asked();
        let shell = ready.in_a_shell();
        self.begun(number, ready.what(), &asked, Some(shell.clone()));
        self.did.push(shell);
        let Came { answered, last } = ready.carry_out(desk, &context).await;
        self.end(&answered);
        results.push(last);
        Ok((asked, answered))
    }

    fn begin(&mut self, step: u32, what: &str, asked: &str) {
        self.begun(step, what, asked, None);
    }

    fn begun(&mut self, step: u32, what: &str, asked: &str, shell: Option<String>) {
        let asked = told::short(asked);
        self.emitter.emit(Kind::ActionStepStarted { command: self.command, step, what: what.into(), asked: asked.clone(), shell });
        self.under_way = Some((step, Instant::now(), asked));
    }

    fn end(&mut self, answered: &Answered) {
        let Some((step, began, _)) = self.under_way.take() else { return };
        self.emitter.emit(Kind::ActionStepFinished {
            command: self.command,
            step,
            ok: answered.how == How::Well,
            by: answered.by.clone(),
            answered: answered.line(),
            took_us: micros(began.elapsed()),
        });
    }

    fn cut_off(&mut self, why: &str) -> String {
        let Some((_, _, asked)) = &self.under_way else { return format!("cut off: {why}. Nothing was under way") };
        let text = format!("cut off: {why}. Under way was: {asked}. It may still have its effect: observe before you ask again");
        self.end(&Answered::new(How::Unknown, None, why));
        text
    }

    /// The newest observations; those of `about` made since that moment, if they come soon.
    async fn fresh(&self, about: &[String], since: Instant) -> Context {
        let until = Deadline::now() + FRESH;
        let mut state = self.desk.monitor.state();
        let mut newest = Context::new();
        loop {
            state.mark_unchanged();
            if let Some((context, evaluated)) = self.desk.monitor.context().await {
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

    /// Until it is true by observations that were made since that moment: how long that took, or what was seen instead.
    async fn becomes(&self, ensure: &Ensure, since: Instant, names: impl Fn(&Desk, Context) -> Context) -> Result<Duration, String> {
        let until: Deadline = (since + ensure.within).max(Instant::now()).into();
        let mut state = self.desk.monitor.state();
        let mut instead = "nothing was observed since".to_owned();
        loop {
            state.mark_unchanged();
            if let Some((base, evaluated)) = self.desk.monitor.context().await
                && world::all_since(&base, evaluated, &ensure.about, since)
            {
                let context = names(self.desk, base);
                if holds(&ensure.expr, &context) {
                    return Ok(since.elapsed());
                }
                instead = told::instead(&ensure.expr, &context);
            }
            if !matches!(tokio::time::timeout_at(until, state.changed()).await, Ok(Ok(()))) {
                return Err(instead);
            }
        }
    }
}

fn holds(expr: &Expr, context: &Context) -> bool {
    expr.truth(context) == Truth::True
}

/// Everything that an action may name now.
fn names(desk: &Desk, base: Context, action: &Action, read: &Map<String, Json>, results: &[Value]) -> Context {
    let mut context = world::with_nodes(base, &*desk.cluster);
    context.set("params", world::params(action, read, &*desk.cluster));
    context.set("results", Value::from(results.to_vec()));
    context.set("last", results.last().cloned().unwrap_or_else(|| crate::expr::unavailable("no step was carried out yet")));
    context
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
