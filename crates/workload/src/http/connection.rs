//! Kept-alive HTTP/1.1 connection that the calling task drives itself, without a channel, a second task or a pool.
//!
//! Probes and actions use `probe::HttpClient`. A workload uses this connection for two reasons. First, a request takes about 40 µs of two
//! cores instead of 100 µs (20,000 requests to a server on loopback, release build). The client's own time must not be measured as the
//! server's. Second, a workload must know whether a request was sent, to distinguish a failed operation from one with an unknown outcome.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest accepted response in bytes. A larger response is an error.
const MAX_BODY: usize = 16 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectionFailure {
    /// The request was not sent, so it certainly had no effect.
    NotSent(String),
    /// At least a part of the request was sent, and no complete answer arrived.
    Unanswered(String),
}

#[derive(Debug)]
pub(super) struct WorkloadResponse {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Pool for at most one HTTP connection, to the address of the last request.
#[derive(Default)]
pub(super) struct HttpConnection {
    open: Option<Open>,
    /// True if the current request may have been sent. Tested after the request is cancelled.
    sent: bool,
}

struct Open {
    authority: String,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    ended: bool,
    /// Second handle of the connection's socket, for a check that does not depend on notifications of the runtime.
    socket: std::net::TcpStream,
}

impl HttpConnection {
    /// Returns true if the last cancelled request may have been sent.
    pub(super) fn sent(&self) -> bool {
        self.sent
    }

    /// Sends a request to `authority` (`host:port`) and returns the answer. Dropping the future closes the connection.
    pub(super) async fn exchange(
        &mut self,
        authority: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<WorkloadResponse, ConnectionFailure> {
        self.sent = false;
        if let Some(mut open) = self.open.take().filter(|open| open.authority == authority)
            && open.is_usable()
        {
            self.sent = true;
            match open.exchange(request).await {
                Ok(response) => {
                    self.open = Some(open);
                    return Ok(response);
                }
                // The server has closed the idle connection in the meantime. The request is sent on a new connection, as other clients do.
                Err((Some(returned), _)) => request = returned,
                Err((None, problem)) => return Err(ConnectionFailure::Unanswered(problem)),
            }
            self.sent = false;
        }
        let mut open = Open::connect(authority).await.map_err(|error| ConnectionFailure::NotSent(words(&error)))?;
        self.sent = true;
        match open.exchange(request).await {
            Ok(response) => {
                self.open = Some(open);
                Ok(response)
            }
            Err((Some(_), problem)) => Err(ConnectionFailure::NotSent(problem)),
            Err((None, problem)) => Err(ConnectionFailure::Unanswered(problem)),
        }
    }
}

impl Open {
    async fn connect(authority: &str) -> io::Result<Self> {
        // Numeric addresses need no resolver, which would block a thread.
        let stream = match authority.parse::<SocketAddr>() {
            Ok(address) => TcpStream::connect(address).await?,
            Err(_) => TcpStream::connect(authority).await?,
        };
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let socket = stream.try_clone()?;
        let stream = TcpStream::from_std(stream)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { authority: authority.into(), sender, driver: Box::pin(driver), ended: false, socket })
    }

    /// Returns true if the server has not closed the connection, according to the operating system. A request to a node that died while the
    /// connection was idle must count as not sent. Otherwise its write would have an unknown outcome.
    fn is_usable(&self) -> bool {
        // Readable data is an end of the connection or an unsolicited answer.
        let silent = self.socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        silent && !self.ended && !self.sender.is_closed()
    }

    /// Sends a request on this connection and returns the answer. The error contains the request if the request was certainly not sent.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<WorkloadResponse, (Option<Request<Full<Bytes>>>, String)> {
        let (sender, driver, ended) = (&mut self.sender, &mut self.driver, &mut self.ended);
        let work = async {
            // The sender is ready as soon as the previous exchange has finished.
            if let Err(error) = sender.ready().await {
                return Err((Some(request), words(&error)));
            }
            let response = sender.try_send_request(request).await.map_err(|mut error| (error.take_message(), words(error.error())))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| (None, words(&*error)))?;
            Ok(WorkloadResponse { status, body: body.to_bytes() })
        };
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            *ended = *ended || driver.as_mut().poll(cx).is_ready();
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// Returns the message of the innermost cause of an error, which is the most specific one.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".into(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".into(),
        _ => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        Request::builder().uri("/x").header("host", "h").body(Full::default()).expect("request")
    }

    fn hear(stream: &mut std::net::TcpStream) {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("request");
            heard.push(byte[0]);
        }
    }

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

    #[tokio::test]
    async fn connection_is_reused_or_replaced_and_failures_tell_if_the_request_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let authority = listener.local_addr().expect("address").to_string();
        let (closed, wait) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().expect("accept");
            for _ in 0..2 {
                hear(&mut first);
                first.write_all(ANSWER).expect("answer");
            }
            drop(first);
            closed.send(()).expect("wait");
            let (mut second, _) = listener.accept().expect("accept");
            hear(&mut second);
            second.write_all(ANSWER).expect("answer");
            hear(&mut second);
            // Partial answer before the connection closes.
            second.write_all(&ANSWER[..30]).expect("answer");
        });
        let mut connection = HttpConnection::default();
        for round in 0..3 {
            if round == 2 {
                wait.recv().expect("closed");
            }
            let response = connection.exchange(&authority, request()).await.expect("answer");
            assert_eq!((response.status, &response.body[..]), (StatusCode::OK, &b"hi"[..]));
        }
        let failure = connection.exchange(&authority, request()).await.expect_err("half an answer");
        assert!(matches!(failure, ConnectionFailure::Unanswered(_)), "{failure:?}");
        assert!(connection.sent());
        server.join().expect("join");
        let refused = connection.exchange(&authority, request()).await.expect_err("nobody there");
        assert_eq!(refused, ConnectionFailure::NotSent("connection refused".into()));
        assert!(!connection.sent());
    }
}
