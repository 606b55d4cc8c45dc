//! `tcp:` probes: can a connection be made?

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::answer::{Answer, Body};

pub(super) async fn ask(address: &str, timeout: Duration) -> Answer {
    let began = Instant::now();
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::of(true, Body::None, began),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Answer::failed("refused", began),
        Ok(Err(error)) => Answer::failed(error.to_string(), began),
        Err(_) => Answer::failed(format!("no connection in {} ms", timeout.as_millis()), began),
    }
}
