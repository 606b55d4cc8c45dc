//! The event contract: everything that happens in a run is one of these events, in one stream.
//!
//! Every output (record, terminal, JSON, JUnit, replay) consumes this stream only. Events are owned and serialisable; this file and its
//! submodules depend only on ids, serde and time. Durations are whole microseconds (`_us`).

pub mod emit;
pub mod figures;
pub mod reporter;
pub mod tally;
pub mod timeline;
pub mod trial_report;

mod agent;
mod judge;
mod judgement;
mod reason;
mod run;
pub mod summary;
mod trial;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use chaosrun_base::ids::{RunId, TrialId};

pub use agent::{ActionOutcome, AgentEnd, AgentMessage, Alternative, Diagnosis, FaultGrade, Fit, Grade, Output, ToolCall, Usage};
pub use judge::{Cause, JudgeAnswer, JudgeReply, Judgement};
pub use judgement::{Autopsy, AutopsyFinding, Basis, Broken, GroundTruth, InjectedFault, Misdeed};
pub use reason::{Blame, Reason, ReasonCode};
pub use run::{AnswerWord, ComparisonProgress, DeclaredPlan, PlannedCase, Resource, ReusedTrial, Sought, Stopped};
pub use trial::{FaultSummary, ScoreGroup, ScorePart, TrialFinished, TrialRole, TrialStarted, Verdict};

/// Event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Sequence number within a run, from 1, without gaps.
    pub seq: u64,
    /// Wall-clock time for readers. Never used in computations.
    pub at: Timestamp,
    /// Monotonic time since the run began.
    pub elapsed_us: u64,
    /// Trial of the event; `None` for events of the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialId>,
    pub kind: EventKind,
}

/// Kind of an event, with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    RunStarted {
        run: RunId,
        version: String,
        /// Version of the rules that decide verdicts. Results of different versions are not comparable.
        semantics: u32,
        backend: String,
        trials: usize,
        jobs: usize,
        /// Resource that limited the number of parallel trials, if the machine decided it: `2 cores`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jobs_by: Option<String>,
        /// Name of the campaign of these trials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
        /// Decision at which the run stops early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Sought>,
        /// Arguments of this invocation, for `replay` and `show`.
        arguments: Vec<String>,
    },
    /// All trials of the plan. Emitted before any trial, so that trials that never begin are known.
    PlanDeclared(Box<DeclaredPlan>),
    /// Scoring rules of trials of this run. Emitted once for each scoring, before the trials.
    ScoringDeclared {
        digest: String,
        name: String,
        /// Content of the scoring file, without the values set on the command line.
        scoring: Value,
        /// Content of the autopsy rules, likewise.
        autopsy: Value,
    },
    RunFinished {
        counts: IndexMap<Verdict, usize>,
        wall_us: u64,
        interrupted: bool,
    },
    /// Trial of the plan that is recorded already. These events come before any trial starts.
    TrialKept(Box<ReusedTrial>),
    /// Result of a comparison that the run decides. Emitted as soon as the comparison is decided, otherwise at the end of the run.
    ComparisonAnswered(Box<ComparisonProgress>),
    /// No further trial is started; running trials end by themselves. Repeated if more trials become missing.
    RunStopped {
        why: Stopped,
        /// Number of trials of the plan that have not begun or were to be retried.
        missing: usize,
    },
    TrialStarted(Box<TrialStarted>),
    /// Ground truth: the last event before a trial is judged.
    GroundTruth(Box<GroundTruth>),
    /// End of a trial. Emitted exactly once for every started trial, whatever happens.
    TrialFinished(Box<TrialFinished>),

    PhaseStarted {
        phase: Phase,
    },
    PhaseFinished {
        phase: Phase,
        ok: bool,
        /// Evidence with numbers: `3 stores Up for 2.0 s`.
        proof: String,
        took_us: u64,
        /// Part of `took_us` that the scenario declared as a wait (steady_for, at, stable_for).
        declared_us: u64,
    },

    NodeStarted {
        node: String,
        pid: Option<u32>,
    },
    NodeReady {
        node: String,
        after_us: u64,
    },
    NodeChanged {
        node: String,
        state: NodeState,
        /// Actor that caused the change, if it was a part of chaosrun.
        by: Option<Actor>,
    },

    /// Intent of a fault. On disk before the fault is injected.
    FaultIntended {
        id: String,
        fault: String,
        targets: Vec<String>,
        parameters: Value,
    },
    FaultInjected {
        id: String,
        fault: String,
        targets: Vec<String>,
        took_us: u64,
    },
    FaultEvidence {
        id: String,
        step: EvidenceStep,
        ok: bool,
        /// Measurement in words, with numbers.
        detail: String,
        /// Measured numbers by name, with the unit at the end of the name: `rtt_ms`.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        numbers: IndexMap<String, f64>,
        /// Time since the injection.
        after_us: u64,
    },
    FaultHealed {
        id: String,
        by: Actor,
    },
    /// A fault that must not be removed was removed by something other than chaosrun.
    FaultTampered {
        id: String,
        /// Observation that showed the removal.
        detail: String,
    },

    /// A probe began or ceased to answer.
    ProbeChanged {
        probe: String,
        node: Option<String>,
        ok: bool,
        error: Option<String>,
    },
    /// Log line of a node that matched a `logs:` rule.
    LogMatched {
        rule: String,
        node: String,
        line: String,
        fields: IndexMap<String, String>,
    },
    InvariantChanged {
        invariant: String,
        node: Option<String>,
        state: InvariantState,
        observed: String,
        expected: String,
        place: Option<Spot>,
    },

    TicketOpened(Ticket),
    /// Another violation with the same cause joined an open ticket.
    TicketJoined {
        ticket: u32,
        invariant: String,
        node: Option<String>,
        observed: String,
    },
    TicketReopened {
        ticket: u32,
        invariant: String,
        node: Option<String>,
    },
    TicketClosed {
        ticket: u32,
    },

    WorkloadSample {
        workload: String,
        /// Time since the previous sample.
        interval_us: u64,
        acknowledged: u64,
        failed: u64,
        unknown: u64,
        p50_us: u64,
        p99_us: u64,
    },
    /// Verdict on the history of operations, after the final reads.
    HistoryChecked(HistoryReport),

    AgentStarted {
        variant: String,
        provider: String,
        ticket: u32,
    },
    /// A conversation with a model begins. Later entries are only appended to it.
    ConversationStarted {
        /// Number of the conversation, from 1. Another one begins when the context of the model is full.
        number: u32,
        model: String,
        system: String,
        /// First prompt of the conversation.
        prompt: String,
        tools: Vec<String>,
    },
    /// The exchanges of the agent with its models are written to a cassette, or replayed from one.
    CassetteStarted {
        file: String,
        /// Trial in which the cassette is recorded: `node_kill/kitchen, seed 7`.
        of: String,
        records: bool,
    },
    /// A request differs from the recorded one. Emitted once for each kind of difference.
    CassetteDiverged {
        file: String,
        /// Number of the exchange in the cassette, from 1.
        exchange: u32,
        /// Position of the difference in the request: `messages[2].content[0].content`.
        place: String,
        recorded: String,
        now: String,
        /// True if the difference is only in output of the cluster, which varies between trials: in the first prompt, or in the output of
        /// commands.
        told: bool,
        /// True if the request was not answered.
        fatal: bool,
    },
    /// A conversation that had become too long was summarised by another model; the next conversation begins with the summary.
    ConversationSummarised {
        /// Number of the conversation that ended.
        number: u32,
        model: String,
        request: Option<String>,
        text: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// An exchange failed or had to wait for its turn, and is retried.
    ModelDelayed {
        exchange: u32,
        status: Option<u16>,
        why: String,
        wait_us: u64,
    },
    /// An exchange with a model begins.
    ModelAsked {
        /// Number of the exchange within the trial, from 1.
        exchange: u32,
        /// Number of entries of the conversation so far: messages and results.
        entries: usize,
    },
    ModelAnswered {
        /// Number of the exchange within the trial, from 1.
        exchange: u32,
        model: String,
        /// Id that the server gave to the request.
        request: Option<String>,
        /// Thinking of the model, as far as the model shows it.
        thinking: String,
        text: String,
        calls: Vec<ToolCall>,
        /// Stop reason: `end`, `calls`, `pause`, `max_tokens`, `context_full`, `refusal`, or the server's own word.
        stop: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// An exchange failed and is not retried.
    ModelFailed {
        exchange: u32,
        failure: String,
        status: Option<u16>,
        message: String,
        attempts: u32,
        /// Cost in dollars, which is incurred in spite of the failure.
        #[serde(default)]
        usd: f64,
        took_us: u64,
    },
    /// Result of a tool call, exactly as the model received it.
    ToolAnswered {
        call: String,
        tool: String,
        ok: bool,
        text: String,
        /// Summary of the result in one line.
        #[serde(default)]
        summary: String,
    },
    /// Message to the model that is not the result of a tool call.
    ModelTold {
        text: String,
    },
    CommandStarted {
        /// Number of the command within the trial, from 1.
        number: u32,
        command: String,
        reasoning: String,
        /// True if an agent's own program ran the command and only reports it: its end follows immediately.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reported: bool,
    },
    CommandFinished {
        number: u32,
        /// Exit code; 128 + signal if a signal ended the command, as a shell reports it.
        exit_code: i32,
        timed_out: bool,
        stdout: Output,
        stderr: Output,
        /// Summary of the output in one line.
        #[serde(default)]
        summary: String,
        took_us: u64,
    },
    /// An external agent program begins.
    ProgramStarted {
        command: Vec<String>,
        /// Complete prompt of the program.
        prompt: String,
        files: Vec<String>,
        /// Models that are served to the program, and other endpoints to which it may connect.
        models: Vec<String>,
        endpoints: Vec<String>,
        tools: Vec<String>,
    },
    /// Line of output of the program that is plain text.
    ProgramSaid {
        /// `stdout` or `stderr`.
        stream: String,
        text: String,
    },
    /// Cost reported by the program itself. Reports show it, but the accounted cost is the one measured on the way to the models.
    UsageReported {
        tokens: Option<u64>,
        usd: Option<f64>,
    },
    ProgramEnded {
        /// Exit code; 128 + signal if the program died by a signal. `None` if chaosrun ended it.
        exit_code: Option<i32>,
        stdout: Output,
        stderr: Output,
    },
    /// Request of an agent program to a model through the proxy. The request belongs to the exchange that has just begun.
    RequestPassed {
        exchange: u32,
        /// `anthropic`, `openai`.
        wire: String,
        model: String,
        /// Last message of the request, as JSON; shortened to its beginning if it is long.
        last: String,
        /// Size of the whole request in bytes.
        bytes: u64,
        /// Path of the whole request, relative to the run directory.
        file: Option<String>,
    },
    /// An agent program calls a tool of chaosrun. `ToolAnswered` follows.
    ToolCalled {
        call: String,
        tool: String,
        arguments: Value,
    },
    /// An agent program tries to connect to an endpoint outside the system.
    EndpointAsked {
        /// `HOST:PORT`.
        target: String,
        allowed: bool,
        detail: String,
    },
    /// An action of the cluster file begins. Permission is decided after this event.
    ActionStarted {
        /// Number of the command that the action is part of.
        command: u32,
        action: String,
        /// Parameters as the agent gave them.
        params: Value,
        /// Risk: `low`, `medium`, `high`; `None` if the action does not exist.
        risk: Option<String>,
    },
    /// A step of an action begins. Written before the step has any effect.
    ActionStepStarted {
        command: u32,
        /// Number of the step, from 1; `require` is 0, and `ensure` is one more than the last step.
        step: u32,
        /// `require`, `http`, `node`, `exec`, `wait` or `ensure`.
        what: String,
        /// Target and request: `POST http://HOST/path BODY`, `restart tikv1`, an expression.
        asked: String,
        /// Equivalent shell command in full; `None` for steps that only wait or query.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
    ActionStepFinished {
        command: u32,
        step: u32,
        ok: bool,
        /// Node that answered, if any.
        by: Option<String>,
        answered: String,
        took_us: u64,
    },
    ActionFinished {
        command: u32,
        action: String,
        outcome: ActionOutcome,
        detail: String,
        took_us: u64,
    },
    /// Call to the docker proxy: authoritative for the agent's changes to nodes.
    EngineCall {
        verb: String,
        node: Option<String>,
        detail: String,
        status: u16,
        took_us: u64,
    },
    DiagnosisSubmitted {
        diagnosis: Diagnosis,
    },
    AgentFinished {
        end: AgentEnd,
        detail: String,
        turns: u32,
        took_us: u64,
        tokens: u64,
        usd: f64,
    },

    Warning {
        message: String,
    },
}

impl EventKind {
    /// Returns the `type` of the event in JSON: `trial_started`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::ScoringDeclared { .. } => "scoring_declared",
            Self::RunFinished { .. } => "run_finished",
            Self::TrialKept(_) => "trial_kept",
            Self::PlanDeclared(_) => "plan_declared",
            Self::ComparisonAnswered(_) => "comparison_answered",
            Self::RunStopped { .. } => "run_stopped",
            Self::TrialStarted(_) => "trial_started",
            Self::GroundTruth(_) => "ground_truth",
            Self::TrialFinished(_) => "trial_finished",
            Self::PhaseStarted { .. } => "phase_started",
            Self::PhaseFinished { .. } => "phase_finished",
            Self::NodeStarted { .. } => "node_started",
            Self::NodeReady { .. } => "node_ready",
            Self::NodeChanged { .. } => "node_changed",
            Self::FaultIntended { .. } => "fault_intended",
            Self::FaultInjected { .. } => "fault_injected",
            Self::FaultEvidence { .. } => "fault_evidence",
            Self::FaultHealed { .. } => "fault_healed",
            Self::FaultTampered { .. } => "fault_tampered",
            Self::ProbeChanged { .. } => "probe_changed",
            Self::LogMatched { .. } => "log_matched",
            Self::InvariantChanged { .. } => "invariant_changed",
            Self::TicketOpened(_) => "ticket_opened",
            Self::TicketJoined { .. } => "ticket_joined",
            Self::TicketReopened { .. } => "ticket_reopened",
            Self::TicketClosed { .. } => "ticket_closed",
            Self::WorkloadSample { .. } => "workload_sample",
            Self::HistoryChecked(_) => "history_checked",
            Self::AgentStarted { .. } => "agent_started",
            Self::ConversationStarted { .. } => "conversation_started",
            Self::CassetteStarted { .. } => "cassette_started",
            Self::CassetteDiverged { .. } => "cassette_diverged",
            Self::ConversationSummarised { .. } => "conversation_summarised",
            Self::ModelDelayed { .. } => "model_delayed",
            Self::ModelAsked { .. } => "model_asked",
            Self::ModelAnswered { .. } => "model_answered",
            Self::ModelFailed { .. } => "model_failed",
            Self::ToolAnswered { .. } => "tool_answered",
            Self::ModelTold { .. } => "model_told",
            Self::CommandStarted { .. } => "command_started",
            Self::CommandFinished { .. } => "command_finished",
            Self::ProgramStarted { .. } => "program_started",
            Self::ProgramSaid { .. } => "program_said",
            Self::UsageReported { .. } => "usage_reported",
            Self::ProgramEnded { .. } => "program_ended",
            Self::RequestPassed { .. } => "request_passed",
            Self::ToolCalled { .. } => "tool_called",
            Self::EndpointAsked { .. } => "endpoint_asked",
            Self::ActionStarted { .. } => "action_started",
            Self::ActionStepStarted { .. } => "action_step_started",
            Self::ActionStepFinished { .. } => "action_step_finished",
            Self::ActionFinished { .. } => "action_finished",
            Self::EngineCall { .. } => "engine_call",
            Self::DiagnosisSubmitted { .. } => "diagnosis_submitted",
            Self::AgentFinished { .. } => "agent_finished",
            Self::Warning { .. } => "warning",
        }
    }
}

/// Line of a user's file, copied so that a record can be read without the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Up,
    Steady,
    Chaos,
    Felt,
    Detect,
    Agent,
    Settle,
    Stable,
    Preserved,
    Down,
    Score,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Steady => "steady",
            Self::Chaos => "chaos",
            Self::Felt => "felt",
            Self::Detect => "detect",
            Self::Agent => "agent",
            Self::Settle => "settle",
            Self::Stable => "stable",
            Self::Preserved => "preserved",
            Self::Down => "down",
            Self::Score => "score",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum NodeState {
    /// Not started yet, or never.
    Created,
    Running,
    Paused,
    /// Ended by itself with an exit code, or by a signal.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Origin of a change to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// Trial engine itself (up, down).
    Runner,
    Fault,
    Agent,
    /// No part of chaosrun: the node ended by itself.
    Itself,
    /// End of the duration of a fault.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceStep {
    Installed,
    Hit,
    Felt,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvariantState {
    Holds,
    /// Violated, but not yet for its `for`.
    Pending,
    Violated,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Number within the trial, from 1.
    pub id: u32,
    pub invariant: String,
    pub node: Option<String>,
    pub severity: Severity,
    pub observed: String,
    pub expected: String,
    pub first_seen: Timestamp,
    pub place: Option<Spot>,
}

/// Model that a history of operations is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryModel {
    Register,
    Set,
    Queue,
    Counter,
    Limit,
    /// Only availability is judged.
    None,
}

impl HistoryModel {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Set => "set",
            Self::Queue => "queue",
            Self::Counter => "counter",
            Self::Limit => "limit",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryReport {
    pub model: HistoryModel,
    pub acknowledged: u64,
    pub failed: u64,
    /// Operations without an answer: they may have happened, or may still happen.
    pub open: u64,
    /// Lost writes. With the model `limit`: number of operations allowed beyond the limit.
    pub lost: u64,
    /// Descriptions of the first few lost operations.
    pub lost_examples: Vec<String>,
    /// True if no acknowledged write was lost, or no limit was exceeded. `None` = unknown: no write was acknowledged, or nothing was read
    /// after the heal.
    pub durable: Option<bool>,
    pub why_unknown: Option<String>,
    pub final_reads: u64,
    /// Client error-microseconds: time in which users were not served, weighted by the share of operations not served. Older records name
    /// this field `hurt_us`.
    #[serde(alias = "hurt_us")]
    pub impact_us: u64,
}

impl HistoryReport {
    /// Returns true if the report is about limits, not about writes.
    #[must_use]
    pub const fn of_limits(&self) -> bool {
        matches!(self.model, HistoryModel::Limit)
    }
}
