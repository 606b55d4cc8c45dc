//! What the agent is shown of a trial while it goes on.

use std::sync::Arc;

use tokio::sync::watch;

use crate::agent::{self, AgentView, TicketView};
use crate::chaos::driver::ChaosState;
use crate::monitor::MonitorState;

/// What an agent may know of the monitor.
pub(super) fn view(state: &MonitorState) -> AgentView {
    let tickets = state.tickets.iter().map(|(ticket, open)| TicketView { ticket: ticket.clone(), open: *open });
    AgentView {
        tickets: tickets.collect(),
        observe: state.observed.clone(),
        series: Arc::clone(&state.series),
        healthy: state.objectives_hold_since.is_some(),
    }
}

/// Keeps the agent's view, and the truth that only the oracle reads, current.
pub(super) async fn mirror(
    mut state: watch::Receiver<MonitorState>,
    view_tx: watch::Sender<AgentView>,
    mut chaos: watch::Receiver<ChaosState>,
    truth: watch::Sender<Vec<agent::ActiveFault>>,
) {
    // The timeline ends before the trial does; what it told last stays true.
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
