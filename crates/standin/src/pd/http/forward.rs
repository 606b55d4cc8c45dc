//! Forwarding of requests from followers to the leader.

use std::pin::pin;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::app::{App, unavailable};
use super::reply;
use crate::pd::leadership::Leader;

/// Request header that marks a request as forwarded by another member.
pub(crate) const REDIRECTOR: &str = "PD-Redirector";
/// Request header that makes a follower answer instead of forwarding the request to the leader.
const ALLOW_FOLLOWER: &str = "PD-Allow-follower-handle";
/// Largest accepted request body in bytes, enough for a heartbeat of a store with a few thousand regions.
const BODY_LIMIT: usize = 8 << 20;

const TO_NOT_LEADER: &str = "[PD:apiutil:ErrRedirectToNotLeader]redirect to not leader";
const REDIRECT: &str = "[PD:apiutil:ErrRedirect]redirect failed";

/// Endpoints that every member answers without forwarding since v8.5.5 (`GET /config` since v8.5.6).
const LOCAL: [&str; 5] = ["/status", "/health", "/ping", "/version", "/config"];

/// Endpoints that a follower answers without forwarding if the request has the header [`ALLOW_FOLLOWER`].
const OF_MEMBER: [&str; 4] = ["/pd/api/v1/members", "/pd/api/v1/leader", "/pd/api/v1/cluster", "/pd/api/v1/config"];

fn is_local(request: &Request) -> bool {
    let path = request.uri().path();
    match path.strip_prefix("/pd/api/v1") {
        Some("/config") => request.method() == Method::GET,
        Some(path) => LOCAL.contains(&path),
        None => !path.starts_with("/standin/"),
    }
}

/// Answers a request on this member, or forwards the request to the leader.
pub async fn route(State(app): State<App>, request: Request, next: Next) -> Response {
    if is_local(&request) || app.leadership.is_serving() {
        return next.run(request).await;
    }
    if request.headers().contains_key(ALLOW_FOLLOWER) {
        // Only the leader has scheduler state of the cluster.
        let of_member = OF_MEMBER.iter().any(|path| request.uri().path().starts_with(path));
        return if of_member { next.run(request).await } else { reply::internal(reply::NOT_BOOTSTRAPPED) };
    }
    let me = app.members.me().id;
    let deadline = app.deadline();
    if let Some(from) = request.headers().get(REDIRECTOR) {
        // The leader of the Raft group may start to serve soon. Any other member must not forward a request a second time.
        if app.consensus.is_leader() && app.leadership.wait(me, deadline, |leader| *leader == Leader::Me).await == Leader::Me {
            return next.run(request).await;
        }
        let from = String::from_utf8_lossy(from.as_bytes()).into_owned();
        let fields: [(&str, &dyn std::fmt::Display); 3] = [("from", &from), ("server", &app.members.me().name), ("error", &TO_NOT_LEADER)];
        app.log.warn("redirect but server is not leader", &fields);
        return reply::text(StatusCode::INTERNAL_SERVER_ERROR, TO_NOT_LEADER);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return reply::text(StatusCode::BAD_REQUEST, "http: request body too large");
    };
    match forward(&app, &parts, &body, deadline).await {
        Ok(response) => response,
        Err(Handed::ToMyself) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(Handed::ToNobody) => unavailable(reply::NO_LEADER),
        Err(Handed::InVain) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, REDIRECT),
    }
}

/// Reason why no other member has answered a request.
enum Handed {
    ToMyself,
    ToNobody,
    InVain,
}

async fn forward(app: &App, parts: &axum::http::request::Parts, body: &Bytes, deadline: Instant) -> Result<Response, Handed> {
    let me = app.members.me().id;
    // A request that is read-only or idempotent may be forwarded more than once.
    let repeatable = parts.method == Method::GET || parts.uri.path().starts_with("/standin/");
    let mut refused_by = None;
    loop {
        let leader = app.leadership.wait(me, deadline, |leader| *leader != Leader::Nobody && Some(leader) != refused_by.as_ref()).await;
        let (id, url) = match &leader {
            Leader::Me => return Err(Handed::ToMyself),
            Leader::Nobody => return Err(Handed::ToNobody),
            // The wait ended, and no other leader was elected.
            Leader::Other(..) if refused_by.as_ref() == Some(&leader) => return Err(Handed::InVain),
            Leader::Other(id, url) => (*id, url.clone()),
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = end_to_end(&parts.headers);
        headers.remove(header::HOST);
        if let Ok(name) = HeaderValue::from_str(&app.members.me().name) {
            headers.insert(HeaderName::from_static("pd-redirector"), name);
        }
        let sent = app.client.request(parts.method.clone(), format!("{url}{path}")).headers(headers).body(body.clone()).send();
        // Waits until the members elect another leader in place of a hanging one.
        let deposed = async {
            let mut status = app.consensus.watch_status();
            let _ = status.wait_for(|status| status.leader_host != Some(id)).await;
        };
        let mut sent = pin!(sent);
        let outcome = tokio::select! {
            sent = &mut sent => sent,
            () = deposed => {
                if repeatable { continue }
                // The requested effect may be the change of the leader. In that case the response is still on the way.
                let Ok(sent) = timeout(app.timing.redirect_wait(), sent).await else { return Err(Handed::ToNobody) };
                sent
            }
        };
        match outcome {
            Ok(response) => return Ok(relay(response)),
            // The request was not sent, or may be sent more than once.
            Err(error) if repeatable || error.is_connect() => refused_by = Some(leader),
            Err(_) => return Err(Handed::InVain),
        }
    }
}

fn relay(response: reqwest::Response) -> Response {
    let (status, headers) = (response.status(), end_to_end(response.headers()));
    let mut relayed = Response::new(Body::from_stream(response.bytes_stream()));
    *relayed.status_mut() = status;
    *relayed.headers_mut() = headers;
    relayed
}

/// Returns the headers without hop-by-hop headers, which apply to a single connection only.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers
}
