//! HTTP proxy (`HTTPS_PROXY`, `HTTP_PROXY`) that reaches only the endpoints that a variant names.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use chaosrun_base::task;
use chaosrun_event::EventKind;
use chaosrun_event::emit::Emitter;

/// Timeout for connecting to an endpoint.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) struct EndpointRelay {
    /// Endpoints that the variant allows, as `HOST:PORT` in lower case.
    pub endpoints: Vec<String>,
    pub emitter: Emitter,
}

impl EndpointRelay {
    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let connects = request.method() == Method::CONNECT;
        let Some(target) = target(request.uri(), connects) else {
            return said(StatusCode::BAD_REQUEST, "this is a proxy: send an absolute URL, or CONNECT HOST:PORT");
        };
        if !self.endpoints.contains(&target) {
            let detail = if self.endpoints.is_empty() {
                "only the addresses of the system are allowed".to_owned()
            } else {
                format!("only {} are allowed", self.endpoints.join(", "))
            };
            self.tell(&target, false, &detail);
            return said(StatusCode::FORBIDDEN, &format!("`{target}` is not allowed: {detail}"));
        }
        let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(&target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.unreachable(&target, &error.to_string()),
            Err(_) => return self.unreachable(&target, &format!("no connection within {CONNECT:?}")),
        };
        self.tell(&target, true, "connected");
        if connects { tunnel(request, stream) } else { forward(request, stream).await }
    }

    fn tell(&self, target: &str, allowed: bool, detail: &str) {
        self.emitter.emit(EventKind::EndpointAsked { target: target.into(), allowed, detail: detail.into() });
    }

    fn unreachable(&self, target: &str, why: &str) -> Response<Body> {
        self.tell(target, true, why);
        said(StatusCode::BAD_GATEWAY, &format!("cannot connect to `{target}`: {why}"))
    }
}

fn target(uri: &Uri, connects: bool) -> Option<String> {
    let host = uri.host()?.to_ascii_lowercase();
    let port = match (uri.port_u16(), connects) {
        (Some(port), _) => port,
        (None, true) => return None,
        (None, false) if uri.scheme_str() == Some("http") => 80,
        (None, false) => return None,
    };
    Some(format!("{host}:{port}"))
}

fn tunnel(request: Request<Body>, mut stream: TcpStream) -> Response<Body> {
    task::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // Broken tunnels concern only the client.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await;
        }
    });
    Response::new(Body::empty())
}

/// Forwards a plain HTTP request to an allowed endpoint.
async fn forward(mut request: Request<Body>, stream: TcpStream) -> Response<Body> {
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Ok(uri) = path.parse() else { return said(StatusCode::BAD_REQUEST, "the path of the URL is invalid") };
    *request.uri_mut() = uri;
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    for name in ["proxy-connection", "proxy-authorization", "connection", "keep-alive", "te", "upgrade"] {
        request.headers_mut().remove(name);
    }
    let answered = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        task::spawn(connection);
        sender.send_request(request).await
    };
    match answered.await {
        Ok(mut response) => {
            response.headers_mut().remove("connection");
            response.map(Body::new)
        }
        Err(error) => said(StatusCode::BAD_GATEWAY, &format!("no answer: {error}")),
    }
}

fn said(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_must_have_host_and_port() {
        let of = |uri: &str, connects| target(&uri.parse().expect("a URI"), connects);
        assert_eq!(of("PyPI.org:443", true).as_deref(), Some("pypi.org:443"));
        assert_eq!(of("[::1]:443", true).as_deref(), Some("[::1]:443"));
        assert_eq!(of("http://a.b/c?d", false).as_deref(), Some("a.b:80"));
        assert_eq!(of("http://a.b:8080/", false).as_deref(), Some("a.b:8080"));
        assert_eq!(of("/path", false), None);
        assert_eq!(of("https://a.b/", false), None);
    }
}
