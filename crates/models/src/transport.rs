//! Transports to a model: HTTP, recorded HTTP, or a cassette. The same client uses all of them.
//!
//! The HTTP client uses hyper and rustls directly instead of reqwest, because reqwest 0.13 cannot enable TLS for a single client
//! (measured). One way to enable TLS adds the C library aws-lc-rs. With the other way, `Client::build` panics in every client of the
//! process, including the stand-ins, until a provider is installed globally. Afterwards, even clients without TLS fail on a machine without
//! certificates (`No CA certificates were loaded from the system`), such as the container of a stand-in.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::{Request, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use reqwest::header::{HeaderMap, HeaderValue, USER_AGENT};
use thiserror::Error;

use super::divergence::Divergence;

/// Request that a transport sends to its server.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub struct Incoming {
    pub status: u16,
    pub headers: HeaderMap,
    /// Response body, which the caller reads to its end or drops.
    pub body: TransportBody,
    /// Difference between the request and the recorded request. `None` if there is no difference or no replay.
    pub diverged: Option<Divergence>,
}

pub type TransportBody = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Failure to receive a complete response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Cassette(String),
    /// The cassette contains a response to a different request.
    #[error("{0}")]
    Diverged(Box<Divergence>),
}

#[async_trait]
pub trait Transport: Send + Sync {
    async fn send(&mut self, request: Outgoing) -> Result<Incoming, TransportError>;

    /// Returns the factor by which waits between attempts are multiplied. The factor is zero if no server is contacted.
    fn pace(&self) -> f64 {
        1.0
    }
}

type Https<C> = Client<HttpsConnector<C>, Full<Bytes>>;

#[derive(Debug, Clone)]
enum Way {
    Direct(Https<HttpConnector>),
    /// HTTPS connection through a proxy, which can read only the name of the server.
    Proxied(Box<Https<Tunnel<HttpConnector>>>, String),
}

/// Connection pool shared by all agents of a process.
#[derive(Debug)]
pub struct Connections {
    connect: Duration,
    proxies: Matcher,
    plain: OnceLock<Https<HttpConnector>>,
    /// Trusted certificates. They are loaded on first use, since loading is slow and local models do not need them.
    roots: OnceLock<Result<rustls::ClientConfig, String>>,
    secure: OnceLock<Https<HttpConnector>>,
    proxied: OnceLock<Https<Tunnel<HttpConnector>>>,
}

impl Connections {
    /// Creates the connection pool. `connect` is the timeout for connecting. HTTPS servers are reached through the proxy in the environment
    /// (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`). Plain HTTP servers are local and are reached directly.
    #[must_use]
    pub fn new(connect: Duration) -> Self {
        Self::through(Matcher::from_env(), connect)
    }

    fn through(proxies: Matcher, connect: Duration) -> Self {
        let (plain, roots, secure, proxied) = (OnceLock::new(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { connect, proxies, plain, roots, secure, proxied }
    }

    /// Returns a transport that sends requests to `url`.
    ///
    /// # Errors
    /// This machine has no trusted certificates, or names an unusable proxy.
    pub fn to(&self, url: Uri) -> Result<HttpServer, String> {
        if url.scheme_str() != Some("https") {
            let nobody = || client(tls().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(), self.tcp());
            return Ok(HttpServer { way: Way::Direct(self.plain.get_or_init(nobody).clone()), url });
        }
        let roots = || match tls().with_native_roots() {
            Ok(roots) => Ok(roots.with_no_client_auth()),
            Err(error) => {
                Err(format!("cannot speak TLS: {error}: install the package `ca-certificates`, or name a file of them in SSL_CERT_FILE"))
            }
        };
        let roots = self.roots.get_or_init(roots).clone()?;
        let way = match self.proxies.intercept(&url) {
            None => Way::Direct(self.secure.get_or_init(|| client(roots, self.tcp())).clone()),
            Some(proxy) => {
                let name = proxy.uri().authority().map_or_else(String::new, |authority| authority.host().to_owned());
                if proxy.uri().scheme_str() != Some("http") {
                    return Err(format!("the proxy `{name}` of the environment cannot be used: its URL must begin with http://"));
                }
                let tunnel = Tunnel::new(proxy.uri().clone(), self.tcp());
                let tunnel = match proxy.basic_auth() {
                    Some(auth) => tunnel.with_auth(auth.clone()),
                    None => tunnel,
                };
                Way::Proxied(Box::new(self.proxied.get_or_init(|| client(roots, tunnel)).clone()), name)
            }
        };
        Ok(HttpServer { way, url })
    }

    fn tcp(&self) -> HttpConnector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect));
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        tcp
    }
}

fn client<C>(tls: rustls::ClientConfig, tcp: C) -> Https<C>
where
    HttpsConnector<C>: Connect + Clone,
{
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(90)).build(connector)
}

fn tls() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions of TLS")
}

/// HTTP connection to a server.
#[derive(Debug)]
pub struct HttpServer {
    way: Way,
    url: Uri,
}

#[async_trait]
impl Transport for HttpServer {
    async fn send(&mut self, Outgoing { headers, body }: Outgoing) -> Result<Incoming, TransportError> {
        let mut request =
            Request::post(self.url.clone()).body(Full::new(body)).map_err(|error| TransportError::Connection(error.to_string()))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("chaosrun/", env!("CARGO_PKG_VERSION"))));
        let response = match &self.way {
            Way::Direct(client) => client.request(request).await,
            Way::Proxied(client, _) => client.request(request).await,
        };
        let response = response.map_err(|error| TransportError::Connection(self.words(&error)))?;
        let (head, body) = response.into_parts();
        let body = BodyStream::new(body.map_err(|error| TransportError::Connection(innermost(&error)))).filter_map(|frame| async move {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(lost) => Some(Err(lost)),
            }
        });
        Ok(Incoming { status: head.status.as_u16(), headers: head.headers, body: Box::pin(body), diverged: None })
    }
}

impl HttpServer {
    fn words(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let through = match &self.way {
            Way::Direct(_) => String::new(),
            Way::Proxied(_, proxy) => format!(" through the proxy `{proxy}`"),
        };
        format!("{}{through}: {}", self.url.authority().map_or("the server", |authority| authority.as_str()), innermost(error))
    }
}

/// Returns the innermost cause of an error, which is the most specific one.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".into(),
        Some(std::io::ErrorKind::ConnectionReset) => "connection reset".into(),
        Some(std::io::ErrorKind::UnexpectedEof) => "the connection was closed".into(),
        _ => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn https_servers_are_reached_through_the_proxy() {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = proxy.local_addr().expect("an address");
        let matcher = || Matcher::builder().https(format!("http://me:secret@{address}")).no("own.example").build();
        let connections = Connections::through(matcher(), Duration::from_secs(10));
        let asked = chaosrun_base::task::spawn(async move {
            let (mut client, _) = proxy.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a byte"));
            }
            client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
            String::from_utf8(head).expect("text")
        });
        let mut server = connections.to(Uri::from_static("https://api.example/v1/messages")).expect("certificates");
        let lost = server.send(Outgoing { headers: HeaderMap::new(), body: Bytes::new() }).await.err().expect("refused");
        let asked = asked.await.expect("asked");
        assert!(
            asked.starts_with("CONNECT api.example:443 HTTP/1.1\r\n") && asked.to_lowercase().contains("proxy-authorization: "),
            "{asked}"
        );
        let said = lost.to_string();
        assert!(said.starts_with("api.example through the proxy `127.0.0.1`: ") && !said.contains("secret"), "{said}");
        assert!(matches!(connections.to(Uri::from_static("https://own.example/")).expect("certificates").way, Way::Direct(_)));
        assert!(matches!(connections.to(Uri::from_static("http://api.example/")).expect("plain").way, Way::Direct(_)));
        let socks = Matcher::builder().all("socks5://127.0.0.1:1").build();
        let refused = Connections::through(socks, Duration::from_secs(1)).to(Uri::from_static("https://api.example/"));
        assert!(refused.expect_err("no way").contains("must begin with http://"));
    }
}
