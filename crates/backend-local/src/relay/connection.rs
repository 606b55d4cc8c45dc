//! Connection through the relay. The relay dials the target when the paths allow the connection, forwards both directions, and resets a
//! broken connection.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::ConnectionSource;
use super::alarm::AlarmClock;
use super::path::Table;
use super::pump::Pump;
use chaosrun_cluster::CutMode;

/// Source and target of a connection.
pub(super) struct ConnectionPair {
    pub(super) dialler: ConnectionSource,
    pub(super) listener: ConnectionSource,
    pub(super) port: String,
    /// Sequence number of the connection among all connections of this source to this port. Selects the random streams of the connection.
    pub(super) number: u64,
}

/// Pumps of both directions of a connection: towards the listener, and back.
struct Pumps {
    there: Pump,
    back: Pump,
}

impl Pumps {
    fn new(clock: &Arc<AlarmClock>, number: u64) -> Self {
        Self { there: Pump::new(clock, number), back: Pump::new(clock, number) }
    }

    fn follow(&mut self, pair: &ConnectionPair, table: &Table) {
        self.there.follow(table.lane(&pair.dialler, &pair.listener, &pair.port));
        self.back.follow(table.lane(&pair.listener, &pair.dialler, &pair.port));
    }

    /// Increments the drop counter of the path with the strictest cut, for a failed connection attempt or for a reset.
    fn count_cut(&self) {
        let lanes = [&self.there, &self.back].into_iter().filter_map(Pump::lane);
        if let Some(lane) = lanes.filter(|lane| lane.cut().is_some()).max_by_key(|lane| lane.cut()) {
            lane.count(|counters| counters.dropped += 1);
        }
    }
}

enum Dialled {
    Through(TcpStream),
    /// The connection ended before it was established: the client gave up, or the target is dead and the client must be reset.
    Ended,
}

/// Serves the connection of `client` until the connection ends. If the target is dead, the client gets an immediate reset, as from a closed
/// port. The channel `through` is notified when both ends are connected.
pub(super) async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    pair: ConnectionPair,
    mut table: watch::Receiver<Arc<Table>>,
    clock: &Arc<AlarmClock>,
    through: Option<oneshot::Sender<()>>,
) {
    let mut pumps = Pumps::new(clock, pair.number);
    let Dialled::Through(mut server) = dial(&mut client, target, &mut pumps, &pair, &mut table, clock).await else {
        let _ = client.set_zero_linger();
        return;
    };
    if let Some(through) = through {
        let _ = through.send(());
    }
    // This call disables Nagle's algorithm in both directions, so that small messages are sent immediately.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let forwarded = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        forward((client_read, client_write), (server_read, server_write), pumps, &pair, &mut table).await
    };
    if forwarded.is_err() {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// Forwards bytes between two in-memory ends, as for a connection that is already established. Returns when both directions have ended.
pub(super) async fn between<C, S>(
    client: C,
    server: S,
    pair: ConnectionPair,
    mut table: watch::Receiver<Arc<Table>>,
    clock: &Arc<AlarmClock>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pumps = Pumps::new(clock, pair.number);
    // Both measuring ends see a reset as the end of their streams.
    let _ = forward(tokio::io::split(client), tokio::io::split(server), pumps, &pair, &mut table).await;
}

async fn dial(
    client: &mut TcpStream,
    target: SocketAddr,
    pumps: &mut Pumps,
    pair: &ConnectionPair,
    table: &mut watch::Receiver<Arc<Table>>,
    clock: &Arc<AlarmClock>,
) -> Dialled {
    let asked = Instant::now();
    let (mut read, _write) = client.split();
    loop {
        pumps.follow(pair, &table.borrow_and_update().clone());
        pumps.count_cut();
        let cut = pumps.there.cut().max(pumps.back.cut());
        if pumps.there.is_broken() && cut != Some(CutMode::Drop) {
            return Dialled::Ended;
        }
        // The handshake takes one round trip before the first byte.
        let answered = asked + pumps.there.delay() + pumps.back.delay();
        let there = &mut pumps.there;
        tokio::select! {
            biased;
            changed = table.changed() => {
                if changed.is_err() {
                    return Dialled::Ended;
                }
            }
            dialled = async {
                match cut {
                    None => {
                        clock.alarm().until(answered).await;
                        TcpStream::connect(target).await.map_or(Dialled::Ended, Dialled::Through)
                    }
                    Some(CutMode::Reject) => Dialled::Ended,
                    Some(CutMode::Drop) => {
                        poll_fn(|cx| there.poll_swallow(cx, &mut read)).await;
                        Dialled::Ended
                    }
                    Some(CutMode::Stall) => {
                        poll_fn(|cx| there.poll_hold(cx, &mut read)).await;
                        Dialled::Ended
                    }
                }
            } => return dialled,
        }
    }
}

/// Forwards bytes in both directions until both have ended. Returns an error if both sides must be reset.
async fn forward(
    client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    server: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut pumps: Pumps,
    pair: &ConnectionPair,
    table: &mut watch::Receiver<Arc<Table>>,
) -> io::Result<()> {
    let (mut client_read, mut client_write) = client;
    let (mut server_read, mut server_write) = server;
    loop {
        pumps.follow(pair, &table.borrow_and_update().clone());
        let rejected = [&pumps.there, &pumps.back].into_iter().any(|pump| pump.cut() == Some(CutMode::Reject));
        if rejected {
            pumps.count_cut();
        }
        if rejected || pumps.there.is_broken() || pumps.back.is_broken() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let Pumps { there, back } = &mut pumps;
        tokio::select! {
            biased;
            changed = table.changed() => changed.map_err(|_| io::ErrorKind::ConnectionReset)?,
            done = poll_fn(|cx| {
                let first = there.poll(cx, &mut client_read, &mut server_write)?;
                let second = back.poll(cx, &mut server_read, &mut client_write)?;
                if first.is_ready() && second.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
            }) => return done,
        }
    }
}
