//! `scripted` provider, which carries out the first rule of a variant's file whose `when` is true. Then the session ends, or the provider
//! evaluates the remaining rules.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::context::Contexts;
use super::provider::{AgentProvider, ProviderError};
use super::task::{ActiveFault, AgentTask, AgentView, CommandRecord};
use super::turn::{ProviderAction, ProviderTurn};
use chaosrun_action::ActionCall;
use chaosrun_event::{AgentEnd, Diagnosis};
use chaosrun_expr::{ConditionTruth, Context, Template};
use chaosrun_scenario::model::{Provider as Declared, Rule, RuleDiagnosis, RuleDoing, RuleEnd, Variant};

/// Maximum time before a command is repeated if no new observation arrives.
const REPEAT: Duration = Duration::from_millis(50);

/// Position of the provider within the rules of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Choose,
    /// Position at a command of a rule. `ran` is true if the command has run at least once.
    Command {
        rule: usize,
        command: usize,
        ran: bool,
    },
    Diagnose {
        rule: usize,
    },
    End {
        rule: usize,
    },
}

pub(super) struct Scripted {
    variant: Arc<Variant>,
    contexts: Contexts,
    view: watch::Receiver<AgentView>,
    at: At,
    /// Indices of the rules that were carried out. Each rule runs once.
    done: Vec<usize>,
    /// Number of commands that are already recorded in the contexts.
    noted: usize,
    repeated: bool,
}

impl Scripted {
    pub fn new(variant: Arc<Variant>, task: &AgentTask) -> Self {
        Self {
            variant,
            contexts: Contexts::new(task),
            view: task.view.clone(),
            at: At::Choose,
            done: Vec::new(),
            noted: 0,
            repeated: false,
        }
    }

    fn rules(&self) -> &[Rule] {
        match &self.variant.provider {
            Declared::Scripted { rules } => rules,
            _ => &[],
        }
    }

    /// Performs one step of the script. Returns `None` if the step only changed the position in the script.
    fn step(&mut self) -> Result<Option<ProviderTurn>, ProviderError> {
        let context = self.contexts.now();
        match self.at {
            At::Choose => {
                let fits = |(at, rule): (usize, &Rule)| !self.done.contains(&at) && rule.when.truth(&context) == ConditionTruth::True;
                let chosen = self.rules().iter().enumerate().position(fits);
                let Some(rule) = chosen else {
                    return Ok(Some(ProviderTurn::end(AgentEnd::Escalate, "no rule applies")));
                };
                self.at = At::Command { rule, command: 0, ran: false };
                Ok(None)
            }
            At::Command { rule, command, ran } => {
                let Some(next) = self.rules()[rule].commands.get(command) else {
                    self.at = At::Diagnose { rule };
                    return Ok(None);
                };
                let over = if ran {
                    next.until.as_ref().is_none_or(|until| until.truth(&context) == ConditionTruth::True)
                } else {
                    next.when.as_ref().is_some_and(|when| when.truth(&context) != ConditionTruth::True)
                };
                if over {
                    self.at = At::Command { rule, command: command + 1, ran: false };
                    return Ok(None);
                }
                let reasoning = rendered(&next.reasoning, &context)?;
                let action = match &next.what {
                    RuleDoing::Run(run) => ProviderAction::Run { command: rendered(run, &context)?, reasoning },
                    RuleDoing::Act { action, params, .. } => {
                        let params = params.iter().map(|(name, value)| Ok((name.clone(), rendered(value, &context)?.into())));
                        let params = params.collect::<Result<_, ProviderError>>()?;
                        ProviderAction::Act { call: ActionCall { action: action.clone(), params }, reasoning }
                    }
                };
                self.at = At::Command { rule, command, ran: true };
                self.repeated = ran;
                Ok(Some(ProviderTurn { actions: vec![action], counts: u32::from(!ran) }))
            }
            At::Diagnose { rule } => {
                self.at = At::End { rule };
                let Some(declared) = &self.rules()[rule].diagnosis else { return Ok(None) };
                let diagnosis = diagnosis(declared, &context, self.noted)?;
                Ok(Some(ProviderTurn::of(ProviderAction::Diagnose(diagnosis))))
            }
            At::End { rule } => {
                let end = match self.rules()[rule].end {
                    RuleEnd::Resolve => AgentEnd::Resolve,
                    RuleEnd::Escalate => AgentEnd::Escalate,
                    RuleEnd::NoAction => AgentEnd::NoAction,
                    RuleEnd::Again => {
                        self.done.push(rule);
                        self.at = At::Choose;
                        return Ok(None);
                    }
                };
                Ok(Some(ProviderTurn::end(end, format!("rule {} of `{}`", rule + 1, self.variant.name))))
            }
        }
    }

    /// Returns true if the current command has run and its `until` does not hold.
    fn must_wait(&self) -> bool {
        let At::Command { rule, command, ran: true } = self.at else { return false };
        let until = self.rules()[rule].commands.get(command).and_then(|command| command.until.as_ref());
        until.is_some_and(|until| until.truth(&self.contexts.now()) != ConditionTruth::True)
    }
}

#[async_trait]
impl AgentProvider for Scripted {
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        for record in &commands[self.noted..] {
            self.contexts.note(record, self.repeated);
        }
        self.noted = commands.len();
        if self.must_wait() {
            // A new view is evaluated at once. Without a monitor only time passes.
            let changed = async {
                if self.view.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // An error means that the time is over. Evaluation continues in both cases.
            let _ = tokio::time::timeout(REPEAT, changed).await;
        }
        loop {
            if let Some(turn) = self.step()? {
                return Ok(turn);
            }
        }
    }
}

fn rendered(template: &Template, context: &Context) -> Result<String, ProviderError> {
    template.render(context).map_err(|unknown| ProviderError(format!("{unknown} in `{}`", template.text.trim())))
}

fn diagnosis(declared: &RuleDiagnosis, context: &Context, commands: usize) -> Result<Diagnosis, ProviderError> {
    Ok(Diagnosis {
        root_cause: rendered(&declared.root_cause, context)?,
        component: rendered(&declared.component, context)?,
        fault_class: declared.fault_class.clone(),
        confidence: declared.confidence,
        evidence: declared.evidence.iter().map(|template| rendered(template, context)).collect::<Result<_, _>>()?,
        alternatives: Vec::new(),
        actions: vec![format!("{commands} commands")],
    })
}

/// Provider that runs the commands of a check in order. After the last command, the session ends as resolved.
pub(super) struct Commands {
    left: std::vec::IntoIter<Template>,
    contexts: Contexts,
    truth: watch::Receiver<Vec<ActiveFault>>,
    noted: usize,
}

impl Commands {
    pub fn new(commands: Vec<Template>, task: &AgentTask) -> Self {
        Self { left: commands.into_iter(), contexts: Contexts::new(task), truth: task.truth.clone(), noted: 0 }
    }
}

#[async_trait]
impl AgentProvider for Commands {
    async fn next(&mut self, commands: &[CommandRecord]) -> Result<ProviderTurn, ProviderError> {
        for record in &commands[self.noted..] {
            self.contexts.note(record, false);
        }
        self.noted = commands.len();
        let Some(template) = self.left.next() else {
            return Ok(ProviderTurn::end(AgentEnd::Resolve, "every command has been run"));
        };
        let context = self.contexts.with_truth(&self.truth.borrow());
        Ok(ProviderTurn::run(rendered(&template, &context)?, ""))
    }
}
