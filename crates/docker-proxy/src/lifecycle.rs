//! Endpoints that change the state of a node, with the wording of the engine: start, stop, restart, kill, pause, unpause, wait.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::audit::Audit;
use super::container::Container;
use super::describe::{exited, query};
use super::engine::{ProxyState, empty};
use super::problem::EngineProblem;
use super::route::Lifecycle;
use chaosrun_cluster::ClusterError;
use chaosrun_event::{Actor, NodeState};

/// Stop time that replaces the request parameter `-1`, which means to wait without limit.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

const SIGKILL: i32 = 9;

#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// Number of seconds between SIGTERM and SIGKILL.
    t: Option<i64>,
    signal: Option<String>,
}

/// Performs an operation such as `stop` on a node, and returns the response. As on a real engine, the operation continues if the client
/// disconnects. Only the end of the proxy aborts it.
pub(super) async fn perform(engine: Arc<ProxyState>, verb: Lifecycle, name: String, text: &str, mut audit: Audit) -> Response {
    let text = text.to_owned();
    let tasks = engine.tasks.clone();
    let task = tasks.spawn(async move {
        let token = engine.token.clone();
        let work = async {
            let container = engine.on(&name, &mut audit).cloned().map_err(|problem| match verb {
                Lifecycle::Kill => EngineProblem::new(problem.status, format!("Cannot kill container: {name}: {}", problem.message)),
                _ => problem,
            })?;
            change(&engine, verb, &name, &container, &text).await
        };
        let answer = tokio::select! {
            biased;
            answer = work => answer.unwrap_or_else(IntoResponse::into_response),
            // The dropped audit value records the call as aborted.
            () = token.cancelled() => return EngineProblem::internal("the engine is shutting down").into_response(),
        };
        audit.finish(answer.status());
        answer
    });
    task.await.unwrap_or_else(|_| EngineProblem::internal("the call did not come to an end").into_response())
}

async fn change(engine: &ProxyState, verb: Lifecycle, name: &str, container: &Container, text: &str) -> Result<Response, EngineProblem> {
    let asked: Asked = query(text)?;
    let node = container.node.name.as_str();
    let id = container.id.as_str();
    let state = engine.status(node).state;
    let alive = matches!(state, NodeState::Running | NodeState::Paused);
    let paused = matches!(state, NodeState::Paused);
    let cluster = &engine.cluster;
    let done = || empty(StatusCode::NO_CONTENT);
    let grace = match asked.t {
        None => container.face.stop_grace,
        Some(seconds) => u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs),
    };
    let (result, outward) = match verb {
        Lifecycle::Start if paused => return Err(EngineProblem::conflict("cannot start a paused container, try unpause instead")),
        Lifecycle::Start if alive => return Ok(empty(StatusCode::NOT_MODIFIED)),
        Lifecycle::Start => (cluster.start(node, Actor::Agent).await, "start"),
        Lifecycle::Stop if !alive => return Ok(empty(StatusCode::NOT_MODIFIED)),
        Lifecycle::Stop => (cluster.stop(node, grace, Actor::Agent).await, "stop"),
        Lifecycle::Restart => (cluster.restart(node, grace, Actor::Agent).await, "restart"),
        Lifecycle::Kill => {
            let signal = signal(asked.signal.as_deref().unwrap_or_default())?;
            if !alive {
                return Err(EngineProblem::conflict(format!("Cannot kill container: {name}: Container {id} is not running")));
            }
            let mut changes = cluster.changes();
            let killed = cluster.kill(node, signal, Actor::Agent).await;
            // The engine answers a SIGKILL only after the container has ended.
            while signal == SIGKILL && killed.is_ok() && matches!(engine.status(node).state, NodeState::Running | NodeState::Paused) {
                if matches!(changes.recv().await, Err(RecvError::Closed)) {
                    break;
                }
            }
            (killed, "kill")
        }
        Lifecycle::Pause if paused => return Err(EngineProblem::conflict(format!("Container {id} is already paused"))),
        Lifecycle::Pause if !alive => return Err(EngineProblem::conflict(format!("Container {id} is not running"))),
        Lifecycle::Pause => (cluster.pause(node, Actor::Agent).await, "pause"),
        // Status 500 instead of 409, as in the real engine.
        Lifecycle::Unpause if !paused => return Err(EngineProblem::internal(format!("Container {id} is not paused"))),
        Lifecycle::Unpause => (cluster.unpause(node, Actor::Agent).await, "unpause"),
    };
    match result {
        // A real engine starts processes and does not wait for readiness, so this proxy does not wait either.
        Ok(()) | Err(ClusterError::NotReady { .. }) => Ok(done()),
        Err(error) => Err(engine.failed(&error, id, &format!("Cannot {outward} container {name}"))),
    }
}

/// Parses a signal such as `SIGTERM`, `TERM`, `term` or `15`. An empty text means SIGKILL.
fn signal(text: &str) -> Result<i32, EngineProblem> {
    let bad = || EngineProblem::bad_request(format!("Invalid signal: {text}"));
    if text.is_empty() {
        return Ok(SIGKILL);
    }
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| bad())
}

#[derive(Debug, Default, Deserialize)]
struct WaitRequest {
    #[serde(default)]
    condition: String,
}

pub(super) async fn wait(engine: &ProxyState, container: &Container, text: &str) -> Result<Response, EngineProblem> {
    let asked: WaitRequest = query(text)?;
    let mut next_exit = match asked.condition.as_str() {
        "" | "not-running" => false,
        "next-exit" => true,
        other => return Err(EngineProblem::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let node = container.node.name.as_str();
    let mut changes = engine.cluster.changes();
    loop {
        let state = engine.status(node).state;
        match (&state, next_exit) {
            (NodeState::Running | NodeState::Paused, _) => next_exit = false,
            (NodeState::Exited { .. } | NodeState::Created, false) => {
                return Ok(Json(json!({ "Error": null, "StatusCode": exited(&state).unwrap_or(0) })).into_response());
            }
            (NodeState::Exited { .. } | NodeState::Created, true) => {}
        }
        match changes.recv().await {
            // The exit is reported even if the node is already running again.
            Ok(change) if change.node == node && matches!(change.state, NodeState::Exited { .. }) => {
                return Ok(Json(json!({ "Error": null, "StatusCode": exited(&change.state).unwrap_or(0) })).into_response());
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(EngineProblem::internal("the engine is shutting down")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_parsed_by_name_and_number() {
        for (text, number) in [("", 9), ("9", 9), ("KILL", 9), ("SIGTERM", 15), ("term", 15), ("sighup", 1), ("64", 64)] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for text in ["FOO", "0", "65", "-1", "SIG"] {
            assert_eq!(signal(text).expect_err(text).message, format!("Invalid signal: {text}"));
        }
    }
}
