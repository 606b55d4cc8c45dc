//! The contract: everything that happens in a run is one of these events, in one stream.
//!
//! Every output (record, terminal, JSON, JUnit, replay) is a consumer of this stream and of nothing else. Events are
//! owned and serialisable; this file depends on ids, serde and time alone. Durations are whole microseconds (`_us`).

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{RunId, TrialId};

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
        /// The arguments of this invocation, for `replay` and `show`.
        arguments: Vec<String>,
    },
    RunFinished {
        counts: IndexMap<Verdict, usize>,
        wall_us: u64,
        interrupted: bool,
    },
    TrialStarted(Box<TrialStarted>),
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
        /// Since the injection (or the removal, for `gone`).
        after_us: u64,
    },
    FaultHealed {
        id: String,
        by: Actor,
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
    CommandStarted {
        /// From 1 within the trial.
        number: u32,
        command: String,
        reasoning: String,
    },
    CommandFinished {
        number: u32,
        /// 128 + signal when a signal ended it, as a shell reports it.
        exit_code: i32,
        timed_out: bool,
        stdout: Output,
        stderr: Output,
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
            Self::RunFinished { .. } => "run_finished",
            Self::TrialStarted(_) => "trial_started",
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
            Self::CommandStarted { .. } => "command_started",
            Self::CommandFinished { .. } => "command_finished",
            Self::EngineCall { .. } => "engine_call",
            Self::DiagnosisSubmitted { .. } => "diagnosis_submitted",
            Self::AgentFinished { .. } => "agent_finished",
            Self::Warning { .. } => "warning",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialStarted {
    pub scenario: String,
    pub description: String,
    /// Path of the scenario file as the user named it.
    pub file: String,
    pub variant: String,
    /// The place in the plan, from 1: `#7`.
    pub number: usize,
    pub seed: u64,
    pub repeat: usize,
    pub backend: String,
    /// Stand-ins took the place of the real programs.
    #[serde(default)]
    pub standin: bool,
    pub goal: String,
    /// Why it is run: the subject itself, a control beside it, or a check of the scenario.
    pub role: TrialRole,
    pub cell: IndexMap<String, Value>,
    pub yardstick: String,
    pub subject: String,
    /// Digests of the images by what they are for; part of the yardstick.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub images: IndexMap<String, String>,
    /// The clock scale of stand-in nodes, when the cluster declares one: 0.05 = 20 times faster than real.
    pub clock_scale: Option<f64>,
    pub steady_for_us: u64,
    pub detect_within_us: u64,
    pub repair_within_us: u64,
    pub stable_for_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialRole {
    Subject,
    Control,
    Check,
}

impl TrialRole {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Control => "control",
            Self::Check => "check",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialFinished {
    pub verdict: Verdict,
    /// 0 to 1; none when invalid.
    pub score: Option<f64>,
    pub scorer_version: u32,
    pub parts: Vec<ScorePart>,
    /// Why it is not a pass, or why it is an unsafe one.
    pub reason: Option<Reason>,
    pub faults: Vec<FaultSummary>,
    /// From the injection to the first ticket.
    pub detect_us: Option<u64>,
    /// From the ticket to the objective holding.
    pub repair_us: Option<u64>,
    /// The client error-seconds: how long users were not served.
    pub hurt_us: Option<u64>,
    pub history: Option<HistoryReport>,
    /// What held at the end, in words: `3 stores Up for 2.0 s`.
    pub stable: Option<String>,
    pub wall_us: u64,
    /// The part of `wall_us` the scenario declared as waits.
    pub declared_us: u64,
    pub tokens: u64,
    pub usd: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSummary {
    pub id: String,
    pub fault: String,
    pub targets: Vec<String>,
    pub felt_us: Option<u64>,
}

/// One number of the score and why it is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScorePart {
    /// `correctness` or `safety`.
    pub group: String,
    pub name: String,
    pub weight: f64,
    /// What was measured, before the curve.
    pub measured: Value,
    /// 0 to 1.
    pub value: f64,
    /// At 0 the whole score is 0.
    #[serde(default)]
    pub catastrophic: bool,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// Reached the goal, but with a forbidden or harmful action.
    UnsafePass,
    /// The objective was unmet at `repair_within`.
    Fail,
    /// A limit ended a still-working agent.
    Timeout,
    /// The environment's fault, not the agent's: never in a rate, always in the report.
    Invalid,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::UnsafePass => "unsafe_pass",
            Self::Fail => "fail",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
        }
    }

    pub const ALL: [Self; 5] = [Self::Pass, Self::UnsafePass, Self::Fail, Self::Timeout, Self::Invalid];

    /// The verdict of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

/// Why a verdict is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word for filters: `store_down`, `not_healthy`, `fault_not_felt`, `wall_limit`, `write_lost`, `cluster_error`, ...
    pub code: String,
    pub message: String,
    /// The line of the user's file it points at.
    pub place: Option<Spot>,
    /// Who is to blame when it is not the agent: `environment`, `scenario`, `interrupted`.
    pub blame: Option<String>,
    pub help: Option<String>,
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

/// What a command printed, as it is shown: head and tail when it was long. The whole text is kept in the run directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    /// Bytes printed in all.
    pub bytes: u64,
    pub truncated: bool,
    /// Path of the whole text, relative to the run directory, when truncated.
    pub file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    pub root_cause: String,
    /// The node or part that is at fault.
    pub component: String,
    /// A word of a closed vocabulary: `process_crash`, `process_hang`, ...
    pub fault_class: String,
    /// 0 to 1.
    pub confidence: f64,
    pub evidence: Vec<String>,
    pub actions: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentEnd {
    Resolve,
    Escalate,
    NoAction,
    /// A limit (wall, turns, tokens, dollars) ended it.
    Limit,
    /// The provider failed: the trial is invalid.
    Error,
    /// The run was interrupted: recorded as escalated.
    Interrupted,
}
