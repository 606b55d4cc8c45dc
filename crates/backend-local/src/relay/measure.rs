//! Measurement of a path: round trips and bytes per second between two in-memory ends. The connections of a measurement use the same code
//! and the same paths as connections of nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;

use super::connection::{self, ConnectionPair};
use super::{ConnectionSource, PROBE, Shared};
use chaosrun_base::task;
use chaosrun_cluster::Shape;
use chaosrun_cluster::fault_control::{Pinging, Pings};

/// Capacity of each in-memory end in bytes, similar to the capacity of a socket.
const BUFFER: usize = 256 * 1024;
/// Size of one ping message in bytes.
const MESSAGE: usize = 8;
const RESET: &str = "was reset";
/// Maximum wait for the first byte, in addition to the delay of the path.
const FIRST: Duration = Duration::from_secs(1);

/// Nodes and port between which a path is measured.
pub(super) struct MeasuredRoute {
    shared: Arc<Shared>,
    from: ConnectionSource,
    to: ConnectionSource,
    port: String,
}

impl MeasuredRoute {
    pub(super) fn new(shared: &Arc<Shared>, from: &str, to: &str, port: Option<&str>) -> Self {
        let node = |name: &str| ConnectionSource::Node(name.into());
        Self { shared: Arc::clone(shared), from: node(from), to: node(to), port: port.unwrap_or_default().into() }
    }

    fn shape(&self) -> Shape {
        self.shared.table.borrow().lane(&self.from, &self.to, &self.port).map_or_else(Shape::default, |lane| lane.path.shape)
    }

    /// Opens two in-memory ends that are connected by the measured path. The connection ends when `tasks` is dropped.
    fn open(&self, tasks: &mut JoinSet<()>) -> (DuplexStream, DuplexStream) {
        let (near, client) = duplex(BUFFER);
        let (server, far) = duplex(BUFFER);
        let pair = ConnectionPair { dialler: self.from.clone(), listener: self.to.clone(), port: self.port.clone(), number: PROBE };
        let (table, clock) = (self.shared.table.subscribe(), Arc::clone(&self.shared.clock));
        tasks.spawn(task::watched(async move { connection::between(client, server, pair, table, &clock).await }));
        (near, far)
    }
}

pub(super) async fn ping(route: MeasuredRoute, how: Pinging) -> Result<Pings, String> {
    let mut tasks = JoinSet::new();
    let (near, far) = route.open(&mut tasks);
    tasks.spawn(task::watched(async move {
        let (mut read, mut write) = tokio::io::split(far);
        // The copy ends when the forwarding ends.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }));
    let (mut read, mut write) = tokio::io::split(near);
    let (mut send, mut limit) = (route.shared.clock.alarm(), route.shared.clock.alarm());
    let mut pings = Pings::default();
    let mut sent: Vec<Instant> = Vec::new();
    let mut message = [0; MESSAGE];
    let mut heard = 0;
    let mut next = Instant::now();
    while pings.answered.len() < how.count as usize {
        let all_sent = pings.sent == how.count;
        tokio::select! {
            biased;
            count = read.read(&mut message[heard..]) => match count {
                Ok(0) | Err(_) => return Err(RESET.into()),
                Ok(count) => {
                    heard = (heard + count) % MESSAGE;
                    if heard == 0 {
                        // A stream keeps the order, so these bytes are the answer to the oldest open ping.
                        pings.answered.extend(sent.get(pings.answered.len()).map(Instant::elapsed));
                    }
                }
            },
            () = limit.until(next), if all_sent => break,
            () = send.until(next), if !all_sent => {
                sent.push(Instant::now());
                let begun = u64::from(pings.sent);
                if write.write_all(&begun.to_be_bytes()).await.is_err() {
                    return Err(RESET.into());
                }
                pings.sent += 1;
                next = if pings.sent == how.count { Instant::now() + how.timeout } else { next + how.every };
            }
        }
    }
    Ok(pings)
}

pub(super) async fn throughput(route: MeasuredRoute, during: Duration) -> Result<f64, String> {
    let shape = route.shape();
    let mut tasks = JoinSet::new();
    let (mut near, mut far) = route.open(&mut tasks);
    tasks.spawn(task::watched(async move {
        let bytes = vec![0; 64 * 1024];
        // The loop ends when the forwarding ends.
        while near.write_all(&bytes).await.is_ok() {}
    }));
    let mut alarm = route.shared.clock.alarm();
    let mut ends = Instant::now() + shape.delay + shape.jitter + FIRST.max(during);
    let mut bytes = vec![0; 64 * 1024];
    let mut first: Option<Instant> = None;
    let (mut last, mut arrived) = (Instant::now(), 0_u64);
    loop {
        tokio::select! {
            biased;
            () = alarm.until(ends) => break,
            count = far.read(&mut bytes) => match count {
                Ok(0) | Err(_) => return Err(RESET.into()),
                Ok(count) => {
                    last = Instant::now();
                    if first.is_some() {
                        arrived += count as u64;
                    } else {
                        // The first bytes mark the start of the measurement and do not count.
                        first = Some(last);
                        ends = last + during;
                    }
                }
            },
        }
    }
    let seconds = first.map_or(0.0, |first| last.duration_since(first).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(if seconds > 0.0 { arrived as f64 / seconds } else { 0.0 })
}
