//! The contract: everything that happens in a run is one of these events, in one stream.
//!
//! Every output (record, terminal, JSON, JUnit, replay) is a consumer of this stream and of nothing else. Events are
//! owned and serialisable; this file and those below it depend on ids, serde and time alone. Durations are whole microseconds (`_us`).

mod agent;
mod judgement;
mod run;
pub mod summary;
mod trial;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{RunId, TrialId};

pub use agent::{ActionOutcome, AgentEnd, Alternative, Diagnosis, FaultGrade, Fit, Grade, Output, Said, ToolCall, Usage};
pub use judgement::{Autopsy, AutopsyFinding, Basis, Broken, GroundTruth, InjectedFault, Misdeed};
pub use run::{AnswerWord, Answered, DeclaredPlan, KeptTrial, PlannedCase, Resource, Sought, Stopped};
pub use trial::{FaultSummary, Reason, ScorePart, TrialFinished, TrialRole, TrialStarted, Verdict};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps, within a run.
    pub seq: u64,
    /// Wall-clock time, for people. Never used to compute anything.
    pub at: Timestamp,
    /// Monotonic time since the run began.
    pub elapsed_us: u64,
    /// The trial it belongs to; none for the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialId>,
    pub kind: Kind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    RunStarted {
        run: RunId,
        version: String,
        /// Version of what decides verdicts: part of the yardstick.
        semantics: u32,
        backend: String,
        trials: usize,
        jobs: usize,
        /// What decided how many at once, when the machine did: `2 cores`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jobs_by: Option<String>,
        /// The name of the campaign whose trials these are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
        /// It stops as soon as this is decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Sought>,
        /// The arguments of this invocation, for `replay` and `show`.
        arguments: Vec<String>,
    },
    /// All trials of the plan, before any of them: so that those that never begin are known.
    PlanDeclared(Box<DeclaredPlan>),
    /// The rules that trials of this run are judged by, once for each, before the trials.
    ScoringDeclared {
        digest: String,
        name: String,
        /// The file as it is read, whatever was set on the command line in its place.
        scoring: Value,
        /// The same of its rules on commands.
        autopsy: Value,
    },
    RunFinished {
        counts: IndexMap<Verdict, usize>,
        wall_us: u64,
        interrupted: bool,
    },
    /// A trial of the plan that is recorded already. These come before any trial starts.
    TrialKept(Box<KeptTrial>),
    /// A comparison that a run is to decide: as soon as it is decided, else at the end.
    ComparisonAnswered(Box<Answered>),
    /// No further trial is started; those that run end by themselves. Told again when more are missing than was told.
    RunStopped {
        why: Stopped,
        /// Trials of the plan that have not begun, and those that were to be tried again.
        missing: usize,
    },
    TrialStarted(Box<TrialStarted>),
    /// The last thing before a trial is judged.
    GroundTruth(Box<GroundTruth>),
    /// Exactly one for every started trial, whatever happened.
    TrialFinished(Box<TrialFinished>),

    PhaseStarted {
        phase: Phase,
    },
    PhaseFinished {
        phase: Phase,
        ok: bool,
        /// What proves it, with numbers: `3 stores Up for 2.0 s`.
        proof: String,
        took_us: u64,
        /// The part of `took_us` that the scenario declared as a wait (steady_for, at, stable_for).
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
        /// Who asked for it, when somebody of ours did.
        by: Option<Actor>,
    },

    /// Written, and on disk, before the fault is injected.
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
        /// What was measured, in words with numbers.
        detail: String,
        /// The same by name, with the unit at the end of the name: `rtt_ms`.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        numbers: IndexMap<String, f64>,
        /// Since the injection.
        after_us: u64,
    },
    FaultHealed {
        id: String,
        by: Actor,
    },
    /// Somebody other than us has removed a fault that nobody may remove.
    FaultTampered {
        id: String,
        /// How that showed.
        detail: String,
    },

    /// A probe began or ceased to answer.
    ProbeChanged {
        probe: String,
        node: Option<String>,
        ok: bool,
        error: Option<String>,
    },
    /// A node's log line that a `logs:` rule matched.
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
    /// A further violation of the same trouble joined an open ticket.
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
        /// Since the sample before.
        interval_us: u64,
        acknowledged: u64,
        failed: u64,
        unknown: u64,
        p50_us: u64,
        p99_us: u64,
    },
    /// The verdict on the history of operations, after the final reads.
    HistoryChecked(HistoryReport),

    AgentStarted {
        variant: String,
        provider: String,
        ticket: u32,
    },
    /// A conversation with a model begins. What follows is only ever appended to it.
    ConversationStarted {
        /// From 1: another begins when the model can read no more of the one before.
        number: u32,
        model: String,
        system: String,
        /// The first thing that it is told.
        prompt: String,
        tools: Vec<String>,
    },
    /// What passes between the agent and its models is written to a cassette, or comes from one.
    CassetteStarted {
        file: String,
        /// The trial it is recorded in: `node_kill/kitchen, seed 7`.
        of: String,
        records: bool,
    },
    /// A request is not the one that the cassette has the answer to. Told once for each sort of difference.
    CassetteDiverged {
        file: String,
        /// Which exchange of the cassette, from 1.
        exchange: u32,
        /// Where in the request: `messages[2].content[0].content`.
        place: String,
        recorded: String,
        now: String,
        /// Only what the cluster says differs, which is never the same twice: the first prompt, or what commands have printed.
        told: bool,
        /// It was not answered.
        fatal: bool,
    },
    /// A conversation that had become too long was put in short by another model; the next begins with what it wrote.
    ConversationSummarised {
        /// The one that ended.
        number: u32,
        model: String,
        request: Option<String>,
        text: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// An exchange failed, or had to wait for its turn, and is tried again.
    ModelDelayed {
        exchange: u32,
        status: Option<u16>,
        why: String,
        wait_us: u64,
    },
    /// An exchange with a model begins.
    ModelAsked {
        /// From 1 within the trial.
        exchange: u32,
        /// Entries of the conversation so far: what was said, and results.
        entries: usize,
    },
    ModelAnswered {
        /// From 1 within the trial.
        exchange: u32,
        model: String,
        /// The server's own name of it.
        request: Option<String>,
        /// As far as the model shows it.
        thinking: String,
        text: String,
        calls: Vec<ToolCall>,
        /// `end`, `calls`, `pause`, `max_tokens`, `context_full`, `refusal`, or the server's own word.
        stop: String,
        usage: Usage,
        usd: f64,
        took_us: u64,
    },
    /// It came to nothing, and is not tried again.
    ModelFailed {
        exchange: u32,
        failure: String,
        status: Option<u16>,
        message: String,
        attempts: u32,
        /// Dollars that it has cost all the same.
        #[serde(default)]
        usd: f64,
        took_us: u64,
    },
    /// What the model was told of a call that it made, as it was told.
    ToolAnswered {
        call: String,
        tool: String,
        ok: bool,
        text: String,
        /// It in one line.
        #[serde(default)]
        summary: String,
    },
    /// What the model was told, that was no answer to a call.
    ModelTold {
        text: String,
    },
    CommandStarted {
        /// From 1 within the trial.
        number: u32,
        command: String,
        reasoning: String,
        /// An agent's own program has run it, and only tells of it: its end comes at once.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reported: bool,
    },
    CommandFinished {
        number: u32,
        /// 128 + signal when a signal ended it, as a shell reports it.
        exit_code: i32,
        timed_out: bool,
        stdout: Output,
        stderr: Output,
        /// All of it in one line.
        #[serde(default)]
        summary: String,
        took_us: u64,
    },
    /// An agent that is a program begins.
    ProgramStarted {
        command: Vec<String>,
        /// All that it is told.
        prompt: String,
        files: Vec<String>,
        /// Models that are served to it, and what else it may connect to.
        models: Vec<String>,
        endpoints: Vec<String>,
        tools: Vec<String>,
    },
    /// A line of it that is nothing but words.
    ProgramSaid {
        /// `stdout` or `stderr`.
        stream: String,
        text: String,
    },
    /// What it says of its own cost. Only shown: what counts was counted on the way to its models.
    UsageReported {
        tokens: Option<u64>,
        usd: Option<f64>,
    },
    ProgramEnded {
        /// None when it was ended. 128 + signal when one did it.
        exit_code: Option<i32>,
        stdout: Output,
        stderr: Output,
    },
    /// What a program asks a model, on a way of ours: of the exchange that has just begun.
    RequestPassed {
        exchange: u32,
        /// `anthropic`, `openai`.
        wire: String,
        model: String,
        /// The last of its messages, as JSON; its beginning when it is long.
        last: String,
        /// Bytes of the whole request.
        bytes: u64,
        /// Where the whole of it is, relative to the run directory.
        file: Option<String>,
    },
    /// A program calls one of our tools. `ToolAnswered` follows.
    ToolCalled {
        call: String,
        tool: String,
        arguments: Value,
    },
    /// A program wants to connect to something that is not of the system.
    EndpointAsked {
        /// `HOST:PORT`.
        target: String,
        allowed: bool,
        detail: String,
    },
    /// An action of the cluster file begins. Whether it may is decided after this.
    ActionStarted {
        /// The command that it is part of.
        command: u32,
        action: String,
        /// As they were given.
        params: Value,
        /// `low`, `medium`, `high`; none when there is no such action.
        risk: Option<String>,
    },
    /// Written before the step has any effect.
    ActionStepStarted {
        command: u32,
        /// From 1; `require` and `ensure` are 0 and the one after the last.
        step: u32,
        /// `require`, `http`, `node`, `exec`, `wait` or `ensure`.
        what: String,
        /// Of whom what is asked: `POST http://HOST/path BODY`, `restart tikv1`, an expression.
        asked: String,
        /// The same as it would be said in a shell, in full; none for what only waits or asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
    ActionStepFinished {
        command: u32,
        step: u32,
        ok: bool,
        /// Who has answered, when it is a node.
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
    /// One call on the mediated engine: authoritative for what the agent did to nodes.
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

impl Kind {
    /// The `type` of its JSON form: `trial_started`.
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

/// A line of a user's file, copied so that a record can be read without the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
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
    /// Never started, or not yet.
    Created,
    Running,
    Paused,
    /// Ended: by itself with a code, or by a signal.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Who did something to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The trial engine itself (up, down).
    Runner,
    Fault,
    Agent,
    /// Nobody of ours: it ended by itself.
    Itself,
    /// The fault's time was over.
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
    /// Does not hold, but not yet for its `for`.
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
    /// From 1 within the trial.
    pub id: u32,
    pub invariant: String,
    pub node: Option<String>,
    pub severity: Severity,
    pub observed: String,
    pub expected: String,
    pub first_seen: Timestamp,
    pub place: Option<Spot>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryReport {
    pub model: String,
    pub acknowledged: u64,
    pub failed: u64,
    /// Without an answer: may have happened, may still happen.
    pub open: u64,
    /// With the model `limit`: how many were allowed beyond the limit.
    pub lost: u64,
    /// The first few lost ones, in words.
    pub lost_examples: Vec<String>,
    /// Whether no acknowledged write was lost, or no limit exceeded. None = unknown: nothing was acknowledged, or nothing read after
    /// the heal.
    pub durable: Option<bool>,
    pub why_unknown: Option<String>,
    pub final_reads: u64,
    pub hurt_us: u64,
}

impl HistoryReport {
    /// Whether it is about limits, not about writes.
    #[must_use]
    pub fn of_limits(&self) -> bool {
        self.model == "limit"
    }
}
