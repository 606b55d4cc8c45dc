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

/// Event of a run, with its sequence number and times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Sequence number of the event within its run, from 1, without gaps.
    pub seq: u64,
    /// Wall-clock time of the event, for readers only. Computations use `elapsed_us`.
    pub at: Timestamp,
    /// Monotonic time since the start of the run, in microseconds.
    pub elapsed_us: u64,
    /// Id of the event's trial. `None` for events of the run itself.
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
        /// Resource of the machine that limited the number of parallel trials: `2 cores`. `None` if the user set the number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jobs_by: Option<String>,
        /// Name of the campaign that the run belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
        /// Decision that stops the run early once it is reached. `None` without early stopping.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Sought>,
        /// Command-line arguments of this run, for `replay` and `show`.
        arguments: Vec<String>,
    },
    /// All trials of the plan. Emitted before any trial starts, so that trials that never start are known.
    PlanDeclared(Box<DeclaredPlan>),
    /// Scoring rules of trials of this run. Emitted once per scoring, before the trials start.
    ScoringDeclared {
        digest: String,
        name: String,
        /// Content of the scoring file, without values set on the command line.
        scoring: Value,
        /// Content of the autopsy rules, without values set on the command line.
        autopsy: Value,
    },
    RunFinished {
        counts: IndexMap<Verdict, usize>,
        wall_us: u64,
        interrupted: bool,
    },
    /// Trial of the plan that an earlier run has already recorded. These events precede the start of any trial.
    TrialKept(Box<ReusedTrial>),
    /// Result of a comparison in a run with early stopping. Emitted when the comparison is decided, at the latest at the end of the run.
    ComparisonAnswered(Box<ComparisonProgress>),
    /// The run starts no further trials, while running trials continue to their end. Emitted again if more trials become missing.
    RunStopped {
        why: Stopped,
        /// Number of trials of the plan that have not started or whose retry was pending.
        missing: usize,
    },
    TrialStarted(Box<TrialStarted>),
    /// Ground truth of a trial. This is the last event before the trial is judged.
    GroundTruth(Box<GroundTruth>),
    /// End of a trial. Emitted exactly once for every started trial, whatever the result.
    TrialFinished(Box<TrialFinished>),

    PhaseStarted {
        phase: Phase,
    },
    PhaseFinished {
        phase: Phase,
        ok: bool,
        /// Measured evidence for the end of the phase, in words: `3 stores Up for 2.0 s`.
        proof: String,
        took_us: u64,
        /// Part of `took_us` that the scenario declares as waiting time (`steady_for`, `at`, `stable_for`).
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
        /// Party that caused the change of the node. `None` if the party is unknown.
        by: Option<Actor>,
    },

    /// Intent to inject a fault. This event is on disk before the fault is injected.
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
        /// Description of the measurement that shows the fault's effect, with numbers.
        detail: String,
        /// Measured numbers by name. The end of each name is the unit, such as in `rtt_ms`.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        numbers: IndexMap<String, f64>,
        /// Time since the injection of the fault, in microseconds.
        after_us: u64,
    },
    FaultHealed {
        id: String,
        by: Actor,
    },
    /// Something other than chaosrun removed a fault that must not be removed.
    FaultTampered {
        id: String,
        /// Description of the observation that revealed the removal.
        detail: String,
    },

    /// A probe began or ceased to return answers.
    ProbeChanged {
        probe: String,
        node: Option<String>,
        ok: bool,
        error: Option<String>,
    },
    /// Log line of a node that matched a `logs:` rule of the cluster file.
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
    /// Another violation with the same cause was added to an open ticket.
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
        /// Time since the previous sample, in microseconds.
        interval_us: u64,
        acknowledged: u64,
        failed: u64,
        unknown: u64,
        p50_us: u64,
        p99_us: u64,
    },
    /// Result of the check of the history of operations, after the final reads.
    HistoryChecked(HistoryReport),

    AgentStarted {
        variant: String,
        provider: String,
        ticket: u32,
    },
    /// A conversation with a model begins. Later messages are only appended to the conversation.
    ConversationStarted {
        /// Number of the conversation, from 1. A new conversation begins when the context window of the model is full.
        number: u32,
        model: String,
        system: String,
        /// First prompt of the conversation.
        prompt: String,
        tools: Vec<String>,
    },
    /// A cassette is opened, either to record the agent's exchanges with its models or to replay them.
    CassetteStarted {
        file: String,
        /// Description of the trial in which the cassette is recorded: `node_kill/kitchen, seed 7`.
        of: String,
        records: bool,
    },
    /// A request differs from the request in the cassette. Emitted once for each kind of difference.
    CassetteDiverged {
        file: String,
        /// Number of the exchange in the cassette, from 1.
        exchange: u32,
        /// Position of the first difference in the request: `messages[2].content[0].content`.
        place: String,
        recorded: String,
        now: String,
        /// True if only output of the cluster differs, in the first prompt or in the output of commands. Such output varies between trials.
        told: bool,
        /// True if the cassette did not answer the request because of the difference.
        fatal: bool,
    },
    /// Another model summarised a conversation that had become too long. The next conversation begins with the summary.
    ConversationSummarised {
        /// Number of the summarised conversation.
        number: u32,
        model: String,
        request: Option<String>,
        text: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// An exchange with a model is delayed, because an attempt failed and is retried or because a rate limit requires a wait.
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
        /// Number of messages and tool results in the conversation so far.
        entries: usize,
    },
    ModelAnswered {
        /// Number of the exchange within the trial, from 1.
        exchange: u32,
        model: String,
        /// Id that the model's server gave to the request.
        request: Option<String>,
        /// Thinking of the model, if the model shows it. Otherwise empty.
        thinking: String,
        text: String,
        calls: Vec<ToolCall>,
        /// Reason why the model stopped: `end`, `calls`, `pause`, `max_tokens`, `context_full`, `refusal`, or another word of the server.
        stop: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// An exchange with a model failed and is not retried.
    ModelFailed {
        exchange: u32,
        failure: String,
        status: Option<u16>,
        message: String,
        attempts: u32,
        /// Cost of the failed exchange in US dollars, which is charged in spite of the failure.
        #[serde(default)]
        usd: f64,
        took_us: u64,
    },
    /// Result of a tool call, exactly as sent to the model.
    ToolAnswered {
        call: String,
        tool: String,
        ok: bool,
        text: String,
        /// Summary of the tool's result in one line.
        #[serde(default)]
        summary: String,
    },
    /// Message to the model that is no result of a tool call.
    ModelTold {
        text: String,
    },
    CommandStarted {
        /// Number of the command within the trial, from 1.
        number: u32,
        command: String,
        reasoning: String,
        /// True if an agent's own program ran the command and only reports it. The end of the command follows immediately.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reported: bool,
    },
    CommandFinished {
        number: u32,
        /// Exit code of the command. The code is 128 + signal if a signal ended the command, as in shells.
        exit_code: i32,
        timed_out: bool,
        stdout: Output,
        stderr: Output,
        /// Summary of the command's output in one line.
        #[serde(default)]
        summary: String,
        took_us: u64,
    },
    /// The program of an external agent starts.
    ProgramStarted {
        command: Vec<String>,
        /// Complete prompt that the program receives.
        prompt: String,
        files: Vec<String>,
        /// Names of the models that are served to the program, and other endpoints to which it may connect.
        models: Vec<String>,
        endpoints: Vec<String>,
        tools: Vec<String>,
    },
    /// Line of the program's output that is plain text.
    ProgramSaid {
        /// Stream of the line: `stdout` or `stderr`.
        stream: String,
        text: String,
    },
    /// Cost that the program itself reports. Reports show this cost, but the limits apply to the cost measured at the model endpoints.
    UsageReported {
        tokens: Option<u64>,
        usd: Option<f64>,
    },
    ProgramEnded {
        /// Exit code of the program, or 128 + signal if a signal ended it. `None` if chaosrun ended the program.
        exit_code: Option<i32>,
        stdout: Output,
        stderr: Output,
    },
    /// Request of an agent's program to a model, forwarded by a model endpoint. The request belongs to the exchange that has just begun.
    RequestPassed {
        exchange: u32,
        /// Wire format of the request: `anthropic` or `openai`.
        wire: String,
        model: String,
        /// Last message of the request as JSON, limited to its beginning if it is long.
        last: String,
        /// Size of the whole request in bytes.
        bytes: u64,
        /// Path of the file with the whole request, relative to the run directory.
        file: Option<String>,
    },
    /// An agent's program calls a tool of chaosrun. `ToolAnswered` follows.
    ToolCalled {
        call: String,
        tool: String,
        arguments: Value,
    },
    /// An agent's program tries to connect to an endpoint outside the system.
    EndpointAsked {
        /// Requested endpoint as `HOST:PORT`.
        target: String,
        allowed: bool,
        detail: String,
    },
    /// An action of the cluster file begins. Its preconditions are checked after this event.
    ActionStarted {
        /// Number of the agent's command that runs the action.
        command: u32,
        action: String,
        /// Parameters of the action as the agent sent them.
        params: Value,
        /// Risk of the action: `low`, `medium` or `high`. `None` if the action does not exist.
        risk: Option<String>,
    },
    /// A step of an action begins. This event is emitted before the step has any effect.
    ActionStepStarted {
        command: u32,
        /// Number of the step, from 1. `require` has number 0, and `ensure` has one more than the last step.
        step: u32,
        /// Kind of the step: `require`, `http`, `node`, `exec`, `wait` or `ensure`.
        what: String,
        /// Target and request of the step: `POST http://HOST/path BODY`, `restart tikv1`, or an expression.
        asked: String,
        /// Shell command that is equivalent to the step. `None` for steps that only wait or query.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
    ActionStepFinished {
        command: u32,
        step: u32,
        ok: bool,
        /// Name of the node that answered the step's request, if any.
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
    /// Call of the agent to the docker proxy. These calls are the authoritative record of the agent's changes to nodes.
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
    /// Returns the name of the event in the JSON field `type`: `trial_started`.
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

/// Position in a user's file with a copy of its line, so that a record can be read without the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// Number of the column in characters, from 1.
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
    /// The node has not been started.
    Created,
    Running,
    Paused,
    /// The node has ended by itself with an exit code, or was ended by a signal.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Party that caused a change of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The trial engine caused the change when it started or stopped the cluster.
    Runner,
    Fault,
    Agent,
    /// No part of chaosrun caused the change. The node ended by itself.
    Itself,
    /// The end of a fault's duration caused the change.
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
    /// The condition is broken, but not yet for the duration `for` of the invariant.
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
    /// Number of the ticket within the trial, from 1.
    pub id: u32,
    pub invariant: String,
    pub node: Option<String>,
    pub severity: Severity,
    pub observed: String,
    pub expected: String,
    pub first_seen: Timestamp,
    pub place: Option<Spot>,
}

/// Consistency model against which a history of operations is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryModel {
    Register,
    Set,
    Queue,
    Counter,
    Limit,
    /// No consistency is checked. Only availability is judged.
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
    /// Number of operations without a response. They may have taken effect, or may still take effect.
    pub open: u64,
    /// Number of lost writes. For the model `limit`, the number of operations that were allowed beyond the limit.
    pub lost: u64,
    /// Descriptions of the first few lost operations.
    pub lost_examples: Vec<String>,
    /// True if no acknowledged write was lost, or no limit was exceeded. `None` if unknown, because no write was acknowledged or nothing
    /// was read after the heal.
    pub durable: Option<bool>,
    pub why_unknown: Option<String>,
    pub final_reads: u64,
    /// Impact on clients in error-microseconds: time weighted by the share of operations that failed. Older records name this field
    /// `hurt_us`.
    #[serde(alias = "hurt_us")]
    pub impact_us: u64,
}

impl HistoryReport {
    /// Returns true if the report concerns a limit of operations, false if it concerns writes.
    #[must_use]
    pub const fn of_limits(&self) -> bool {
        matches!(self.model, HistoryModel::Limit)
    }
}
