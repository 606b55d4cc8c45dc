//! Endpoints for `docker exec`: commands in nodes, from the creation of an exec to its exit code.

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;

use super::audit::Audit;
use super::container::Container;
use super::describe::{query, word};
use super::engine::{ProxyState, empty};
use super::exec_record::{ExecConfig, ExecState};
use super::frames::PIECE;
use super::problem::EngineProblem;
use super::session::ExecSession;
use chaosrun_cluster::Terminal;
use chaosrun_event::NodeState;

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
}

fn read<T: for<'de> Deserialize<'de> + Default>(body: &[u8]) -> Result<T, EngineProblem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| EngineProblem::bad_request(format!("the body cannot be read: {error}")))
}

pub(super) fn create(engine: &ProxyState, container: &Container, body: &[u8], audit: &mut Audit) -> Result<Response, EngineProblem> {
    let mut config: ExecConfig = read(body)?;
    let command = config.cmd.take().unwrap_or_default();
    audit.detail(command.join(" "));
    if command.is_empty() {
        return Err(EngineProblem::bad_request("No exec command specified"));
    }
    if config.privileged {
        return Err(EngineProblem::new(StatusCode::FORBIDDEN, "access denied: privileged commands are not allowed on this engine"));
    }
    // Nodes have a single user. For another user, the agent gets the error message of a real engine.
    if let Some(user) = config.user.as_deref().filter(|user| !matches!(*user, "" | "0" | "root" | "0:0" | "root:root")) {
        return Err(EngineProblem::bad_request(format!("unable to find user {user}: no matching entries in passwd file")));
    }
    runs(engine, container, &container.id)?;
    let id = engine.execs.add(container, command, config)?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id }))).into_response())
}

fn runs(engine: &ProxyState, container: &Container, id: &str) -> Result<(), EngineProblem> {
    let name = &container.node.name;
    match engine.status(name).state {
        NodeState::Running => Ok(()),
        NodeState::Paused => Err(EngineProblem::conflict(format!("Container {name} is paused, unpause the container before exec"))),
        NodeState::Created | NodeState::Exited { .. } => Err(EngineProblem::conflict(format!("Container {id} is not running"))),
    }
}

pub(super) fn start(engine: &Arc<ProxyState>, id: &str, mut request: Request<Bytes>, audit: &mut Audit) -> Result<Response, EngineProblem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    audit.detail(record.command.join(" "));
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let asked: Start = read(request.body())?;
    let container = engine.find(&record.node)?;
    runs(engine, container, &container.id)?;
    // Only the request that changes the state of the exec from created to running runs the command.
    let mine = record.state.send_if_modified(|state| {
        let created = *state == ExecState::Created;
        if created {
            *state = ExecState::Running { pid: 0 };
        }
        created
    });
    if !mine {
        return Err(EngineProblem::conflict(format!("Error: Exec command {id} is already running")));
    }
    let session = ExecSession { engine: Arc::clone(engine), record };
    if asked.detach {
        engine.tasks.spawn(async move { session.run(None, tokio::io::empty(), tokio::io::sink()).await });
        return Ok(empty(StatusCode::OK));
    }
    let content = HeaderValue::from_static("application/vnd.docker.raw-stream");
    let Some(upgrade) = upgrade else {
        // A client that does not upgrade the connection gets the output as the response body, and cannot send input.
        let (ours, theirs) = tokio::io::duplex(PIECE);
        engine.tasks.spawn(async move { session.run(None, tokio::io::empty(), ours).await });
        let stream = tokio_util::io::ReaderStream::new(theirs);
        return Ok((StatusCode::OK, [(header::CONTENT_TYPE, content)], Body::from_stream(stream)).into_response());
    };
    engine.tasks.spawn(async move {
        // If the upgrade fails, the client is gone. The command runs nevertheless, as on an engine.
        match upgrade.await {
            Ok(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                session.run(Some(()), reader, writer).await;
            }
            Err(_) => session.run(None, tokio::io::empty(), tokio::io::sink()).await,
        }
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(header::CONTENT_TYPE, content);
    Ok(response)
}

#[derive(Debug, Default, Deserialize)]
struct Size {
    #[serde(default)]
    h: u16,
    #[serde(default)]
    w: u16,
}

pub(super) async fn resize(engine: &ProxyState, id: &str, text: &str, audit: &mut Audit) -> Result<Response, EngineProblem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    let asked: Size = query(text)?;
    if asked.h > 0 && asked.w > 0 {
        let size = Terminal { rows: asked.h, columns: asked.w };
        let resized = {
            let mut screen = record.screen.lock().unwrap_or_else(PoisonError::into_inner);
            screen.size = Some(size);
            screen.resize.as_ref().map(|resize| resize(size))
        };
        if let Some(resized) = resized {
            resized.await;
        }
    }
    Ok(empty(StatusCode::OK))
}

pub(super) fn inspect(engine: &ProxyState, id: &str, audit: &mut Audit) -> Result<Response, EngineProblem> {
    let record = engine.execs.get(id).inspect_err(|_| audit.detail(id))?;
    audit.node(&record.node);
    let state = *record.state.borrow();
    audit.detail(match state {
        ExecState::Created => "created".to_owned(),
        ExecState::Running { .. } => word(&NodeState::Running).to_owned(),
        ExecState::Ended { code } => format!("exit code {code}"),
    });
    let (running, pid, code) = match state {
        ExecState::Created => (false, 0, None),
        ExecState::Running { pid } => (true, pid, None),
        ExecState::Ended { code } => (false, 0, Some(code)),
    };
    let (program, arguments) = record.command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    Ok(Json(json!({
        "ID": record.id,
        "Running": running,
        "ExitCode": code,
        "ProcessConfig": { "tty": record.config.tty, "entrypoint": program, "arguments": arguments, "privileged": false },
        "OpenStdin": record.config.attach_stdin,
        "OpenStderr": record.config.attach_stderr,
        "OpenStdout": record.config.attach_stdout,
        "CanRemove": false,
        "ContainerID": record.container,
        "DetachKeys": "",
        "Pid": pid,
    }))
    .into_response())
}
