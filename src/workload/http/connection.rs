//! One kept-alive HTTP/1.1 connection, driven by the very task that asks: no channel, no second task, no pool.

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

/// Bytes of an answer; more is no answer.
const MAX_BODY: usize = 16 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request never left: it certainly had no effect.
    NotSent(String),
    /// It was sent, wholly or in part, and no whole answer came.
    Unanswered(String),
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// At most one open connection, to whatever was asked last.
#[derive(Default)]
pub(super) struct Connection {
    open: Option<Open>,
    /// Whether the present request may have left. Read when a request is given up.
    sent: bool,
}

struct Open {
    authority: String,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    ended: bool,
    /// The same socket, to look at it without waiting for the runtime to notice.
    socket: std::net::TcpStream,
}

impl Connection {
    /// Whether the request that was given up last may have left.
    pub(super) fn sent(&self) -> bool {
        self.sent
    }

    /// Asks `authority` (`host:port`). Dropping the future closes the connection.
    pub(super) async fn exchange(&mut self, authority: &str, mut request: Request<Full<Bytes>>) -> Result<Response, Failure> {
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
                // The server closed an idle connection in the very moment: another one, as every client does.
                Err((Some(returned), _)) => request = returned,
                Err((None, problem)) => return Err(Failure::Unanswered(problem)),
            }
            self.sent = false;
        }
        let mut open = Open::connect(authority).await.map_err(|error| Failure::NotSent(words(&error)))?;
        self.sent = true;
        match open.exchange(request).await {
            Ok(response) => {
                self.open = Some(open);
                Ok(response)
            }
            Err((Some(_), problem)) => Err(Failure::NotSent(problem)),
            Err((None, problem)) => Err(Failure::Unanswered(problem)),
        }
    }
}

impl Open {
    async fn connect(authority: &str) -> io::Result<Self> {
        // A literal address needs no resolver, which would block a thread.
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

    /// Whether the server has not closed it meanwhile. Asked of the system itself: a request to a node that died while the connection
    /// was idle must be known not to have been sent, or a write would stay open for ever.
    fn is_usable(&self) -> bool {
        // Anything that can be read now is an end, or an answer to nothing.
        let silent = self.socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        silent && !self.ended && !self.sender.is_closed()
    }

    /// An error gives the request back if it certainly did not leave.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response, (Option<Request<Full<Bytes>>>, String)> {
        let (sender, driver, ended) = (&mut self.sender, &mut self.driver, &mut self.ended);
        let work = async {
            // Ready once the exchange before has been finished.
            if let Err(error) = sender.ready().await {
                return Err((Some(request), words(&error)));
            }
            let response = sender.try_send_request(request).await.map_err(|mut error| (error.take_message(), words(error.error())))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| (None, words(&*error)))?;
            Ok(Response { status, body: body.to_bytes() })
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

/// The innermost cause, which says what happened.
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
    async fn a_connection_is_kept_replaced_when_it_was_closed_and_failures_tell_whether_the_request_left() {
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
            // Half an answer, then death.
            second.write_all(&ANSWER[..30]).expect("answer");
        });
        let mut connection = Connection::default();
        for round in 0..3 {
            if round == 2 {
                wait.recv().expect("closed");
            }
            let response = connection.exchange(&authority, request()).await.expect("answer");
            assert_eq!((response.status, &response.body[..]), (StatusCode::OK, &b"hi"[..]));
        }
        let failure = connection.exchange(&authority, request()).await.expect_err("half an answer");
        assert!(matches!(failure, Failure::Unanswered(_)), "{failure:?}");
        assert!(connection.sent());
        server.join().expect("join");
        let refused = connection.exchange(&authority, request()).await.expect_err("nobody there");
        assert_eq!(refused, Failure::NotSent("connection refused".into()));
        assert!(!connection.sent());
    }
}
