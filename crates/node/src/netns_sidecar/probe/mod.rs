//! Probes of links from the node's namespace: round-trip times and throughput, measured on separate threads.

mod ping;
mod pour;

use std::io;

use tokio::sync::oneshot;

pub(super) use ping::ping;
pub(super) use pour::{Sink, pour};

/// Runs blocking network code on a separate thread, so that the runtime does not wait for it.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (give, take) = oneshot::channel();
    std::thread::Builder::new().name("probe".into()).spawn(move || {
        let _ = give.send(work());
    })?;
    take.await.map_err(|_| io::Error::other("the probe ended without a word"))?
}
