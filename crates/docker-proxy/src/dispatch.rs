//! Dispatch of requests: calls the handler of each route, and adds audit records and response headers.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;

use super::audit::Audit;
use super::engine::ProxyState;
use super::problem::EngineProblem;
use super::route::{API_VERSION, ProxyRoute};
use super::{archive, describe, events, exec, lifecycle, logs, stats, system};

/// Largest accepted request body in bytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// Largest body in bytes that is read from a request that the proxy always refuses, such as a build with its files.
const DROPPED_LIMIT: usize = 256 * 1024 * 1024;

impl ProxyState {
    /// Answers one request and records it. Pings are not recorded: they belong to the handshake of a client and are not calls on the
    /// cluster. Records therefore do not depend on the kind of client.
    pub async fn handle(self: Arc<Self>, request: Request<Body>) -> Response {
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default();
        // The parameters are sorted, so that a record does not depend on their order in the request.
        let mut ordered: Vec<&str> = query.split('&').collect();
        ordered.sort_unstable();
        let route = match ProxyRoute::parse(request.method(), uri.path()) {
            Ok(route) => route,
            Err(problem) => {
                let mut audit = Audit::new(self.emitter.clone(), ProxyRoute::Refused.verb());
                audit.detail(format!("{} {}", request.method(), uri.path()));
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        if route == ProxyRoute::Ping {
            return dressed(system::ping(request.method()));
        }
        let mut audit = Audit::new(self.emitter.clone(), route.verb());
        audit.detail(ordered.join("&"));
        // The body is read even if it is not needed. A client that is still writing would otherwise miss the answer.
        let request = match whole(request, route == ProxyRoute::Refused).await {
            Ok(request) => request,
            Err(problem) => {
                audit.finish(problem.status);
                return dressed(problem.into_response());
            }
        };
        let answer = match route {
            ProxyRoute::Lifecycle(verb, name) => return dressed(lifecycle::perform(self, verb, name, query, audit).await),
            ProxyRoute::Ping => Ok(system::ping(request.method())),
            ProxyRoute::Version => Ok(system::version()),
            ProxyRoute::Info => Ok(system::info(&self)),
            ProxyRoute::List => describe::list(&self, query),
            ProxyRoute::Inspect(name) => self.on(&name, &mut audit).map(|container| describe::inspect(&self, container)),
            ProxyRoute::Logs(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => logs::serve(&self, &container, query),
                Err(problem) => Err(problem),
            },
            ProxyRoute::Stats(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::stats(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Top(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => stats::top(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Events => events::serve(&self, query),
            ProxyRoute::Wait(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => lifecycle::wait(&self, &container, query).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::Archive(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => archive::serve(&self, &container, request.method(), query, request.body(), &mut audit).await,
                Err(problem) => Err(problem),
            },
            ProxyRoute::ExecCreate(name) => match self.on(&name, &mut audit).cloned() {
                Ok(container) => exec::create(&self, &container, request.body(), &mut audit),
                Err(problem) => Err(problem),
            },
            ProxyRoute::ExecStart(id) => exec::start(&self, &id, request, &mut audit),
            ProxyRoute::ExecResize(id) => exec::resize(&self, &id, query, &mut audit).await,
            ProxyRoute::ExecInspect(id) => exec::inspect(&self, &id, &mut audit),
            ProxyRoute::Absent(kind, name) => {
                audit.detail(format!("{kind} {name}"));
                Err(EngineProblem::new(StatusCode::NOT_FOUND, format!("No such {kind}: {name}")))
            }
            ProxyRoute::Refused => {
                audit.detail(format!("{} {}", request.method(), uri));
                Err(EngineProblem::refused(request.method().as_str(), uri.path()))
            }
        };
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        audit.finish(response.status());
        dressed(response)
    }
}

/// Reads the body of a request. If `drop` is true, discards the body, and the result has an empty body.
async fn whole(request: Request<Body>, drop: bool) -> Result<Request<Bytes>, EngineProblem> {
    let (parts, mut body) = request.into_parts();
    let mut kept = BytesMut::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| EngineProblem::bad_request(format!("the body cannot be read: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        size += data.len();
        if size > if drop { DROPPED_LIMIT } else { BODY_LIMIT } {
            return Err(EngineProblem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
        if !drop {
            kept.extend_from_slice(data);
        }
    }
    Ok(Request::from_parts(parts, kept.freeze()))
}

/// Adds the headers that every answer of an engine has.
fn dressed(mut response: Response) -> Response {
    let version = format!("{}.{}", API_VERSION.0, API_VERSION.1);
    let headers = response.headers_mut();
    for (name, value) in [("api-version", version.as_str()), ("docker-experimental", "false"), ("ostype", "linux")] {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            headers.insert(header::HeaderName::from_static(name), value);
        }
    }
    headers.insert(header::SERVER, header::HeaderValue::from_static(concat!("Docker/", "20.10.24", " (linux)")));
    response
}
