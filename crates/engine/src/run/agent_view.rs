//! View of a running trial that its agent gets.

use std::sync::Arc;

use tokio::sync::watch;

use crate::chaos::driver::ChaosState;
use chaosrun_agent as agent;
use chaosrun_agent::{AgentView, TicketView};
use chaosrun_monitor::MonitorState;

/// Returns the part of the state of the monitor that an agent may see.
pub(super) fn view(state: &MonitorState) -> AgentView {
    let tickets = state.tickets.iter().map(|(ticket, open)| TicketView { ticket: ticket.clone(), open: *open });
    AgentView {
        tickets: tickets.collect(),
        observe: state.observed.clone(),
        series: Arc::clone(&state.series),
        healthy: state.objectives_hold_since.is_some(),
    }
}

/// Updates the view of the agent, and the ground truth, which only the oracle agent reads.
pub(super) async fn mirror(
    mut state: watch::Receiver<MonitorState>,
    view_tx: watch::Sender<AgentView>,
    mut chaos: watch::Receiver<ChaosState>,
    truth: watch::Sender<Vec<agent::ActiveFault>>,
) {
    // The timeline ends before the trial. The last state of the timeline remains valid.
    let mut timeline_runs = true;
    loop {
        tokio::select! {
            changed = state.changed() => match changed {
                Ok(()) => drop(view_tx.send_replace(view(&state.borrow_and_update()))),
                Err(_) => return,
            },
            changed = chaos.changed(), if timeline_runs => {
                timeline_runs = changed.is_ok();
                truth.send_replace(chaos.borrow_and_update().shown());
            }
        }
    }
}
