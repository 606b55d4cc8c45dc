//! `chaosrun ops audit`: lists the sessions of agents, and shows the steps of one session.

use std::io::{Write, stdout};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::cli::output::MessageFormat;
use crate::cli::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report::{table, transcript};
use chaosrun_base::style::Palette;
use chaosrun_event::AgentEnd;
use chaosrun_store::read::Filter;

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List sessions, newest first
    List(ListArgs),
    /// Show a session: prompts, reasoning, commands and diagnosis of the agent
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// List only sessions of this scenario; `*` matches any text
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// List only sessions of this variant; `*` matches any text
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// List only sessions of this run (ID or unique prefix)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// List only sessions with these end states
    #[arg(long, value_name = "END", value_delimiter = ',')]
    end: Vec<EndFilter>,
    /// Include trials of control agents (such as `noop`) and trials that `chaosrun check` ran
    #[arg(long)]
    all: bool,
    /// Maximum number of entries
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Trial ID of the session, or unique prefix
    session: String,
    /// Show prompts, outputs and messages in full
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
struct Output {
    /// Output format: text, or one line of JSON per entry
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    /// Same as `--message-format json`
    #[arg(long)]
    json: bool,
}

impl Output {
    fn json(&self) -> bool {
        self.json || self.message_format == MessageFormat::Json
    }
}

/// Ends of sessions as in the events, and the state of sessions without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum EndFilter {
    Resolve,
    Escalate,
    NoAction,
    Limit,
    Error,
    Interrupted,
    None,
}

impl EndFilter {
    const fn takes(self, end: Option<AgentEnd>) -> bool {
        matches!(
            (self, end),
            (Self::Resolve, Some(AgentEnd::Resolve))
                | (Self::Escalate, Some(AgentEnd::Escalate))
                | (Self::NoAction, Some(AgentEnd::NoAction))
                | (Self::Limit, Some(AgentEnd::Limit))
                | (Self::Error, Some(AgentEnd::Error))
                | (Self::Interrupted, Some(AgentEnd::Interrupted))
                | (Self::None, None)
        )
    }
}

pub fn run(args: &AuditArgs) -> anyhow::Result<Exit> {
    let text = match &args.verb {
        Verb::List(args) => list(args)?,
        Verb::Show(args) => show(args)?,
    };
    // The reader may stop early (`| head`).
    let _ = stdout().lock().write_all(text.as_bytes());
    Ok(Exit::Ok)
}

fn list(args: &ListArgs) -> anyhow::Result<String> {
    let database = args.store.open()?;
    let run = args.run.as_deref().map(|prefix| database.find_run(prefix)).transpose().map_err(expected)?;
    let filter = Filter {
        all_roles: args.all || run.is_some(),
        run,
        scenario: args.scenario.clone(),
        variant: args.variant.clone(),
        limit: if args.end.is_empty() { args.limit } else { usize::MAX },
        ..Filter::default()
    };
    let mut sessions = database.sessions(&filter).map_err(expected)?;
    sessions.retain(|session| args.end.is_empty() || args.end.iter().any(|end| end.takes(session.end)));
    sessions.truncate(args.limit);
    if sessions.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "no recorded session matches").help("`chaosrun list` lists the trials").into());
    }
    if args.output.json() {
        let lines: Result<String, serde_json::Error> = sessions.iter().map(|session| Ok(serde_json::to_string(session)? + "\n")).collect();
        return Ok(lines?);
    }
    Ok(table::sessions(&sessions, Timestamp::now(), Palette::of_stdout()))
}

fn show(args: &ShowArgs) -> anyhow::Result<String> {
    let database = args.store.open()?;
    let id = database.find_trial(&args.session).map_err(expected)?;
    let trial = database.trial(&id).map_err(expected)?;
    let events = database.trial_events(&trial).map_err(expected)?;
    let none = || {
        let problem = Expected::new(Exit::NothingSelected, format!("trial `{id}` has no agent session"));
        problem.help(format!("`chaosrun show {id}` shows the progress of the trial"))
    };
    if args.output.json() {
        let session = transcript::session(&events);
        if session.is_empty() {
            return Err(none().into());
        }
        let lines: Result<String, serde_json::Error> = session.iter().map(|event| Ok(serde_json::to_string(event)? + "\n")).collect();
        return Ok(lines?);
    }
    let look = transcript::TranscriptStyle { palette: Palette::of_stdout(), full: args.full };
    Ok(transcript::text(&events, look).ok_or_else(none)?)
}
