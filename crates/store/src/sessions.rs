//! Sessions of agents, derived from their events. A trial has zero or one session.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::database::Database;
use super::error::StoreError;
use super::project::int;
use super::read::Filter;
use super::row::{self, EVENT_COLUMNS, RecordState, RecordedTrial};
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{AgentEnd, Event, EventKind, Verdict};

/// Session of an agent in one trial, from start to end.
#[derive(Debug, Clone, Serialize)]
pub struct AgentSession {
    /// Id of the session, which equals the id of the trial.
    pub session: TrialId,
    pub run: RunId,
    pub started: Timestamp,
    pub scenario: String,
    pub variant: String,
    pub provider: String,
    /// Name of the model. `None` if the agent used no model.
    pub model: Option<String>,
    pub role: String,
    pub seed: u64,
    pub number: usize,
    pub ticket: u32,
    pub turns: u32,
    pub commands: u32,
    /// Number of answers that models gave in the session.
    pub exchanges: u32,
    pub tokens: u64,
    pub usd: f64,
    /// Reason for the end of the session. `None` while the agent works, or if the runner was killed.
    pub end: Option<AgentEnd>,
    pub detail: Option<String>,
    pub took_us: Option<u64>,
    pub verdict: Option<Verdict>,
    pub state: RecordState,
}

impl Database {
    /// Returns the sessions of the selected trials, newest first. Omits trials without an agent.
    ///
    /// # Errors
    /// The database or an event in it cannot be read.
    pub fn sessions(&self, filter: &Filter) -> Result<Vec<AgentSession>, StoreError> {
        let mut sessions = Vec::new();
        for trial in self.trials(&Filter { limit: usize::MAX, ..filter.clone() })? {
            if sessions.len() >= filter.limit {
                break;
            }
            sessions.extend(self.session(&trial)?);
        }
        Ok(sessions)
    }

    /// Returns the session of a trial. Returns `None` if no agent worked in the trial.
    ///
    /// # Errors
    /// The database or an event in it cannot be read.
    pub fn session(&self, trial: &RecordedTrial) -> Result<Option<AgentSession>, StoreError> {
        let mut session = None;
        for event in self.agent_events(trial)? {
            take(&mut session, trial, event);
        }
        Ok(session)
    }

    /// Reads the events from which a session is derived.
    fn agent_events(&self, trial: &RecordedTrial) -> Result<Vec<Event>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM events WHERE run = ?1 AND seq BETWEEN ?2 AND ?3 AND trial = ?4
                AND type IN ('agent_started', 'conversation_started', 'model_answered', 'command_started', 'agent_finished') ORDER BY seq"
        );
        let last = trial.last_seq.map_or(i64::MAX, int);
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params![trial.run.as_str(), int(trial.first_seq), last, trial.trial.as_str()]).map_err(failed)?;
        let mut events = Vec::new();
        while let Some(found) = rows.next().map_err(failed)? {
            events.push(row::event(trial.run.as_str(), found, 0, &self.directory.database())?);
        }
        Ok(events)
    }
}

fn take(session: &mut Option<AgentSession>, trial: &RecordedTrial, event: Event) {
    if let EventKind::AgentStarted { variant, provider, ticket } = event.kind {
        *session = Some(AgentSession {
            session: trial.trial.clone(),
            run: trial.run.clone(),
            started: event.at,
            scenario: trial.scenario.clone(),
            variant,
            provider,
            model: None,
            role: trial.role.clone(),
            seed: trial.seed,
            number: trial.number,
            ticket,
            turns: 0,
            commands: 0,
            exchanges: 0,
            tokens: 0,
            usd: 0.0,
            end: None,
            detail: None,
            took_us: None,
            verdict: trial.verdict,
            state: trial.state,
        });
        return;
    }
    let Some(session) = session else { return };
    match event.kind {
        EventKind::ConversationStarted { model, .. } => session.model = Some(model),
        EventKind::ModelAnswered { usage, usd, .. } => {
            session.exchanges += 1;
            session.tokens += usage.tokens();
            session.usd += usd;
        }
        EventKind::CommandStarted { .. } => session.commands += 1,
        // The final event also counts failed requests, which also cost tokens and dollars.
        EventKind::AgentFinished { end, detail, turns, took_us, tokens, usd } => {
            (session.turns, session.tokens, session.usd) = (turns, tokens, usd);
            (session.end, session.detail, session.took_us) = (Some(end), Some(detail), Some(took_us));
        }
        _ => {}
    }
}
