//! One connection: dialled through when its paths let it, pumped both ways, reset when it breaks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::Source;
use super::alarm::Clock;
use super::path::Table;
use super::pump::Pump;
use crate::cluster::CutMode;

/// The pair a connection belongs to.
pub(super) struct Pair {
    pub(super) dialler: Source,
    pub(super) listener: Source,
    pub(super) port: String,
    /// Which it is among those of the pair to that port: random choices about it are named so.
    pub(super) number: u64,
}

/// Both directions: towards the listener, and back.
struct Pumps {
    there: Pump,
    back: Pump,
}

impl Pumps {
    fn new(clock: &Arc<Clock>, number: u64) -> Self {
        Self { there: Pump::new(clock, number), back: Pump::new(clock, number) }
    }

    fn follow(&mut self, pair: &Pair, table: &Table) {
        self.there.follow(table.lane(&pair.dialler, &pair.listener, &pair.port));
        self.back.follow(table.lane(&pair.listener, &pair.dialler, &pair.port));
    }

    /// Counts what a cut keeps out beside bytes: an attempt to connect, a connection that is reset.
    fn count_cut(&self) {
        let lanes = [&self.there, &self.back].into_iter().filter_map(Pump::lane);
        if let Some(lane) = lanes.filter(|lane| lane.cut().is_some()).max_by_key(|lane| lane.cut()) {
            lane.count(|counters| counters.dropped += 1);
        }
    }
}

enum Dialled {
    Through(TcpStream),
    /// The dialler gave up, or must be told at once that nobody is there.
    Ended,
}

/// Serves `client` to its end. A dead target looks to the client as a refused port does: an immediate reset.
/// `through` hears when both ends are connected.
pub(super) async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    pair: Pair,
    mut table: watch::Receiver<Arc<Table>>,
    clock: &Arc<Clock>,
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
    // Small messages must not wait for each other (Nagle), neither way.
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

/// Pumps between two ends of ours, as if they were connected already, until both have ended.
pub(super) async fn between<C, S>(client: C, server: S, pair: Pair, mut table: watch::Receiver<Arc<Table>>, clock: &Arc<Clock>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pumps = Pumps::new(clock, pair.number);
    // A reset shows by the end of both.
    let _ = forward(tokio::io::split(client), tokio::io::split(server), pumps, &pair, &mut table).await;
}

async fn dial(
    client: &mut TcpStream,
    target: SocketAddr,
    pumps: &mut Pumps,
    pair: &Pair,
    table: &mut watch::Receiver<Arc<Table>>,
    clock: &Arc<Clock>,
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
        // The handshake goes there and back before a byte does.
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

/// Pumps both ways until both have ended. An error means that both sides are to be reset.
async fn forward(
    client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    server: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut pumps: Pumps,
    pair: &Pair,
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
