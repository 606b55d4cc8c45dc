//! HTTP client of probes, readiness, faults and actions. The client limits the size of answers, and describes failures as text.
//!
//! Observations reuse their connections, because they query the same addresses several times per second. All other requests open a new
//! connection, for two reasons. Evidence and readiness must show that a node accepts new connections. A request with side effects must not
//! be sent twice. If a *reused* connection turns out to be closed, hyper sends the request again, but never on a new connection.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};

use super::failure::ProbeFailure;
use super::limits::{ANSWER, IDLE, READY_ANSWER};

/// HTTP client. Cheap to clone. All clones share their connections.
#[derive(Debug, Clone, Default)]
pub struct HttpClient(Arc<Clients>);

/// Clients with and without reused connections. Each is created at its first use, because many clusters need no HTTP.
#[derive(Debug, Default)]
struct Clients {
    kept: OnceLock<Result<Client, String>>,
    fresh: OnceLock<Result<Client, String>>,
}

/// Policy of a request: the use of connections, and the size limit of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionPolicy {
    /// Policy of observations: the connection is reused for the next request.
    Kept,
    /// Policy of readiness and evidence: a new connection per request, and a lower size limit.
    Ready,
    /// Policy of requests with side effects: a new connection per request.
    Once,
}

impl ConnectionPolicy {
    const fn limit(self) -> usize {
        match self {
            Self::Kept | Self::Once => ANSWER,
            Self::Ready => READY_ANSWER,
        }
    }
}

/// Validated HTTP request.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

impl HttpRequest {
    /// Creates a validated request.
    ///
    /// # Errors
    /// Returns a message if the URL, the method or a header is invalid.
    pub fn new(method: &str, url: &str, headers: &[(String, String)], body: Option<String>) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|error| format!("`{url}` is not a URL: {error}"))?;
        if !parsed.has_host() {
            return Err(format!("`{url}` is not a URL: it names no host"));
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is not a method"))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let read = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            let (name, value) = read.ok_or_else(|| format!("not a request: `{name}: {value}` is not a header"))?;
            map.append(name, value);
        }
        Ok(Self { method, url: parsed, headers: map, body })
    }
}

/// HTTP response with any status code.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    pub status: u16,
    pub text: String,
    pub took: Duration,
}

/// Failure of a request without a complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    pub problem: String,
    /// True if no connection was established, so that the request cannot have had an effect.
    pub not_sent: bool,
}

/// Failure of the exchange of a request and its answer.
#[derive(Debug)]
pub(super) struct FailedExchange {
    pub failure: ProbeFailure,
    not_sent: bool,
}

impl HttpClient {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn of(&self, connection: ConnectionPolicy) -> Result<&Client, FailedExchange> {
        let make = |kept: bool| {
            // A proxy in the environment variables must not handle requests to loopback addresses.
            let builder = Client::builder().no_proxy().redirect(Policy::none()).retry(reqwest::retry::never());
            let builder = if kept { builder.pool_idle_timeout(IDLE) } else { builder.pool_max_idle_per_host(0) };
            builder.build().map_err(|error| error.to_string())
        };
        let made = match connection {
            ConnectionPolicy::Kept => self.0.kept.get_or_init(|| make(true)),
            ConnectionPolicy::Ready | ConnectionPolicy::Once => self.0.fresh.get_or_init(|| make(false)),
        };
        made.as_ref().map_err(|problem| FailedExchange { failure: ProbeFailure::Other(problem.clone()), not_sent: true })
    }

    /// Sends a request and reads the answer. The caller limits the time.
    pub(super) async fn exchange(&self, request: &HttpRequest, connection: ConnectionPolicy) -> Result<(u16, String), FailedExchange> {
        let mut builder = self.of(connection)?.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let mut response =
            builder.send().await.map_err(|error| FailedExchange { failure: failure(&error), not_sent: error.is_connect() })?;
        let status = response.status().as_u16();
        let limit = connection.limit();
        let mut bytes = Vec::new();
        let broke = |error: reqwest::Error| match failure(&error) {
            ProbeFailure::Other(text) => ProbeFailure::Told(format!("the answer broke off: {text}")),
            other => other,
        };
        while let Some(chunk) = response.chunk().await.map_err(|error| FailedExchange { failure: broke(error), not_sent: false })? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(FailedExchange { failure: ProbeFailure::TooLong(limit), not_sent: false });
            }
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Sends a request on a new connection, at most once.
    ///
    /// # Errors
    /// Returns an error if no answer arrives within `timeout`, the connection is refused or broken, the answer is too long, or the request
    /// is invalid.
    pub async fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<String>,
        timeout: Duration,
    ) -> Result<HttpResponse, NoAnswer> {
        let request = HttpRequest::new(method, url, headers, body).map_err(|problem| NoAnswer { problem, not_sent: true })?;
        let began = Instant::now();
        match tokio::time::timeout(timeout, self.exchange(&request, ConnectionPolicy::Once)).await {
            Ok(Ok((status, text))) => Ok(HttpResponse { status, text, took: began.elapsed() }),
            Ok(Err(lost)) => Err(NoAnswer { problem: lost.failure.observed(), not_sent: lost.not_sent }),
            Err(_) => Err(NoAnswer { problem: format!("no answer in {} ms", timeout.as_millis()), not_sent: false }),
        }
    }
}

/// Converts an error to its first cause that is an IO error, or else to its innermost cause.
fn failure(error: &reqwest::Error) -> ProbeFailure {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.get_ref().is_none_or(|inner| inner.downcast_ref::<io::Error>().is_none())
        {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
                io::ErrorKind::ConnectionReset => ProbeFailure::Closed("reset".into()),
                io::ErrorKind::UnexpectedEof => ProbeFailure::Closed(error.to_string()),
                _ => ProbeFailure::Other(error.to_string()),
            };
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return ProbeFailure::Other(cause.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn head(stream: &mut TcpStream) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        true
    }

    /// Starts a server that counts connections and requests. The server answers the first request of each connection and keeps the
    /// connection open. At the second request, it closes the connection without an answer.
    async fn server() -> (String, Arc<(AtomicUsize, AtomicUsize)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let counted = Arc::clone(&counts);
        chaosrun_base::task::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.0.fetch_add(1, Ordering::SeqCst);
                let counted = Arc::clone(&counted);
                chaosrun_base::task::spawn(async move {
                    if head(&mut stream).await {
                        counted.1.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                        if head(&mut stream).await {
                            counted.1.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        (url, counts)
    }

    #[tokio::test]
    async fn post_of_an_action_opens_its_own_connection_and_is_sent_once() {
        let (url, counts) = server().await;
        let client = HttpClient::new();
        // An observation leaves a connection in the pool. The server does not answer further requests on this connection.
        let observation = HttpRequest::new("GET", &url, &[], None).unwrap();
        client.exchange(&observation, ConnectionPolicy::Kept).await.unwrap();
        for sent in 2..12 {
            let answer = client.request("POST", &url, &[], Some("{}".into()), PATIENCE).await.unwrap();
            assert_eq!((answer.status, answer.text.as_str()), (200, "ok"));
            assert_eq!((counts.0.load(Ordering::SeqCst), counts.1.load(Ordering::SeqCst)), (sent, sent));
        }
        // Evidence also opens a new connection. A second observation uses the connection from the pool.
        client.exchange(&observation, ConnectionPolicy::Ready).await.unwrap();
        assert_eq!(counts.0.load(Ordering::SeqCst), 12);
        client.exchange(&observation, ConnectionPolicy::Kept).await.unwrap_err();
        assert_eq!((counts.0.load(Ordering::SeqCst), counts.1.load(Ordering::SeqCst)), (12, 13));
    }

    #[tokio::test]
    async fn post_that_is_closed_without_an_answer_is_not_repeated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let counter = chaosrun_base::task::spawn(async move {
            let mut next = Some(listener.accept().await.unwrap());
            let mut taken = 0;
            while let Some((mut stream, _)) = next {
                taken += 1;
                head(&mut stream).await;
                drop(stream);
                next = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await.ok().map(Result::unwrap);
            }
            taken
        });
        let none = HttpClient::new().request("POST", &url, &[], Some("{}".into()), PATIENCE).await.unwrap_err();
        assert!(!none.not_sent, "{none:?}");
        assert_eq!(counter.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn failures_are_put_into_the_words_of_an_observation_and_of_a_node() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let client = HttpClient::new();
        let none = client.request("GET", &format!("http://{gone}/"), &[], None, PATIENCE).await.unwrap_err();
        assert_eq!((none.problem.as_str(), none.not_sent), ("refused", true));
        let request = HttpRequest::new("GET", &format!("http://{gone}/"), &[], None).unwrap();
        let lost = client.exchange(&request, ConnectionPolicy::Ready).await.unwrap_err();
        assert_eq!(lost.failure.of_node(), "refused the connection");

        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let none = client.request("GET", &url, &[], None, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!((none.problem.as_str(), none.not_sent), ("no answer in 20 ms", false));
        assert!(HttpRequest::new("GET", "not a url", &[], None).unwrap_err().starts_with("`not a url` is not a URL: "));
        assert_eq!(HttpRequest::new("G T", "http://x/", &[], None).unwrap_err(), "`G T` is not a method");
    }

    #[tokio::test]
    async fn answers_are_limited_in_size() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        chaosrun_base::task::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                chaosrun_base::task::spawn(async move {
                    head(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
                    let piece = vec![b'x'; 64 << 10];
                    while stream.write_all(&piece).await.is_ok() {}
                });
            }
        });
        let client = HttpClient::new();
        let request = HttpRequest::new("GET", &url, &[], None).unwrap();
        let ready = client.exchange(&request, ConnectionPolicy::Ready).await.unwrap_err();
        assert_eq!(ready.failure.of_node(), "answered with more than 1048576 bytes");
        let observed = client.exchange(&request, ConnectionPolicy::Kept).await.unwrap_err();
        assert_eq!(observed.failure, ProbeFailure::TooLong(8 << 20));
        assert_eq!(observed.failure.observed(), "the answer broke off: length limit exceeded");
    }
}
