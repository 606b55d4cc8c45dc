//! Progress bar of a run, with the running trials below it. It is used only on a terminal.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::layout::printable;
use super::lines::name;
use super::progress::ProgressState;
use chaosrun_base::ids::TrialId;
use chaosrun_base::style::Palette;
use chaosrun_event::figures;
use chaosrun_event::{Event, EventKind};

/// Maximum number of running trials that have a line below the bar.
const RUNNING: usize = 8;
/// Width of the names of trials below the bar, in columns.
const NAME: usize = 32;
const TICK: Duration = Duration::from_millis(200);

/// Progress bar and lines of running trials, displayed on stderr.
pub(crate) struct Bar {
    all: MultiProgress,
    total: ProgressBar,
    palette: Palette,
    progress: ProgressState,
    /// Running trials, oldest first. Only the first [`RUNNING`] of them have a line.
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    trial: TrialId,
    name: String,
    doing: String,
    line: Option<ProgressBar>,
}

impl Bar {
    #[must_use]
    pub fn new(palette: Palette) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = all.add(ProgressBar::new(0).with_style(style("{elapsed:>5} {bar:16} {pos}/{len} {wide_msg}")));
        Self { all, total: bar, palette, progress: ProgressState::default(), under_way: Vec::new() }
    }

    /// Calls `write`, which may print text above the progress bar.
    pub fn aside(&self, write: impl FnOnce()) {
        self.all.suspend(write);
    }

    /// Removes the bar and all lines below it from the terminal.
    pub fn clear(self) {
        for line in self.under_way.iter().filter_map(|running| running.line.as_ref()) {
            line.finish_and_clear();
        }
        self.total.finish_and_clear();
    }

    pub fn event(&mut self, event: &Event) {
        self.progress.event(event);
        match (&event.kind, &event.trial) {
            (EventKind::RunStarted { trials, .. }, _) => {
                self.total.set_length(*trials as u64);
                self.total.enable_steady_tick(TICK);
            }
            (EventKind::ComparisonAnswered(_) | EventKind::RunStopped { .. }, _) => {
                let tally = self.progress.tally();
                self.total.set_length(tally.planned.saturating_sub(tally.not_needed) as u64);
                self.count();
            }
            (EventKind::TrialKept(_), _) => self.count(),
            (EventKind::TrialStarted(started), Some(trial)) => {
                let name = format!("{:NAME$}", name(&started.scenario, &started.variant, NAME));
                self.under_way.push(UnderWay { trial: trial.clone(), name, doing: String::new(), line: None });
                self.give_lines();
            }
            (EventKind::TrialFinished(_), Some(trial)) => {
                if let Some(place) = self.under_way.iter().position(|running| running.trial == *trial)
                    && let Some(line) = self.under_way.remove(place).line
                {
                    line.finish_and_clear();
                    self.all.remove(&line);
                }
                self.count();
                self.give_lines();
            }
            (kind, Some(trial)) => {
                if let (Some(doing), Some(running)) = (doing(kind), self.under_way.iter_mut().find(|running| running.trial == *trial)) {
                    running.doing = doing;
                    running.show();
                }
            }
            _ => {}
        }
    }

    fn give_lines(&mut self) {
        for running in self.under_way.iter_mut().take(RUNNING).filter(|running| running.line.is_none()) {
            let line = self.all.add(ProgressBar::new_spinner().with_style(style("  {prefix} {elapsed:>5} {wide_msg}")));
            line.set_prefix(running.name.clone());
            line.enable_steady_tick(TICK);
            running.line = Some(line);
            running.show();
        }
    }

    fn count(&self) {
        self.total.set_position(self.progress.tally().done() as u64);
        self.total.set_message(self.progress.text(self.palette));
    }
}

impl UnderWay {
    fn show(&self) {
        if let Some(line) = &self.line {
            line.set_message(self.doing.clone());
        }
    }
}

/// Describes the activity that starts with an event. Returns `None` for events that are not shown.
fn doing(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::PhaseStarted { phase } => phase.as_str().to_owned(),
        EventKind::FaultInjected { fault, targets, .. } => format!("chaos: {fault} {}", targets.join(" ")),
        EventKind::TicketOpened(ticket) => format!("ticket: {} {}", ticket.invariant, ticket.node.as_deref().unwrap_or_default()),
        EventKind::CommandStarted { number, command, .. } => format!("agent: {number} {}", printable(command)),
        EventKind::CommandFinished { number, exit_code, took_us, .. } => {
            format!("agent: {number} ended with {exit_code} after {}", figures::short(*took_us))
        }
        _ => return None,
    })
}

fn style(template: &str) -> ProgressStyle {
    // Both templates are constants. A mistake in a template would be visible at once, and affects only the appearance.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

/// Returns true if stderr can display a bar.
#[must_use]
pub(crate) fn on_terminal() -> bool {
    !ProgressDrawTarget::stderr().is_hidden()
}
