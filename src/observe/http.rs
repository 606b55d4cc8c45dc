//! HTTP as probes, readiness and workloads speak it: one keep-alive client, answers capped in size, failures in words.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Longer answers are cut off with an error: a probe reads status pages, not files.
const LARGEST: usize = 8 << 20;

/// A client with its pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient(Client<HttpConnector, Full<Bytes>>);

/// An answer of any status.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub text: String,
    pub took: Duration,
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    pub problem: String,
    /// The connection was not made: the request certainly had no effect.
    pub not_sent: bool,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(30));
        Self(client.build(connector))
    }

    /// # Errors
    /// No answer within `timeout`, refused, reset, too large, or not a request that can be made; in words.
    pub async fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<String>,
        timeout: Duration,
    ) -> Result<Response, NoAnswer> {
        let unsent = |problem: String| NoAnswer { problem, not_sent: true };
        let uri: Uri = url.parse().map_err(|error| unsent(format!("`{url}` is not a URL: {error}")))?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| unsent(format!("`{method}` is not a method")))?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = Full::new(body.map_or_else(Bytes::new, Bytes::from));
        let request = request.body(body).map_err(|error| unsent(format!("not a request: {error}")))?;
        let began = Instant::now();
        let answered = tokio::time::timeout(timeout, async {
            let response = self.0.request(request).await.map_err(|error| refusal(&error))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| NoAnswer { problem: format!("the answer broke off: {error}"), not_sent: false })?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        });
        match answered.await {
            Ok(Ok((status, text))) => Ok(Response { status, text, took: began.elapsed() }),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(NoAnswer { problem: format!("no answer in {} ms", timeout.as_millis()), not_sent: false }),
        }
    }
}

/// The innermost cause says what happened: `connection refused`.
fn refusal(error: &hyper_util::client::legacy::Error) -> NoAnswer {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let problem = match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "refused".to_owned(),
        Some(std::io::ErrorKind::ConnectionReset) => "reset".to_owned(),
        _ => cause.to_string(),
    };
    NoAnswer { problem, not_sent: error.is_connect() }
}
