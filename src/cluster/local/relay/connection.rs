//! One connection: dialled through when the rules let it, pumped both ways, reset when it breaks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::Source;
use super::pump::Pump;
use super::rules::{Cut, Effects, Table};

/// The pair a connection belongs to.
pub(super) struct Pair<'a> {
    pub(super) dialler: Source,
    pub(super) listener: Source,
    pub(super) port: &'a str,
    pub(super) target: SocketAddr,
}

impl Pair<'_> {
    /// What is done to bytes towards the listener, and to those that come back.
    fn effects(&self, table: &Table) -> (Effects, Effects) {
        (table.effects(&self.dialler, &self.listener, self.port), table.effects(&self.listener, &self.dialler, self.port))
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
    pair: Pair<'_>,
    mut table: watch::Receiver<Arc<Table>>,
    through: Option<oneshot::Sender<()>>,
) {
    let mut there = Pump::default();
    let Dialled::Through(mut server) = dial(&mut client, &mut there, &pair, &mut table).await else {
        let _ = client.set_zero_linger();
        return;
    };
    if let Some(through) = through {
        let _ = through.send(());
    }
    // Small messages must not wait for each other (Nagle), neither way.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if forward(&mut client, &mut server, there, &pair, &mut table).await.is_err() {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

async fn dial(client: &mut TcpStream, there: &mut Pump, pair: &Pair<'_>, table: &mut watch::Receiver<Arc<Table>>) -> Dialled {
    let (mut read, _write) = client.split();
    loop {
        let (towards, back) = pair.effects(&table.borrow_and_update().clone());
        let cut = towards.cut.max(back.cut);
        if there.broken && cut != Some(Cut::Drop) {
            return Dialled::Ended;
        }
        tokio::select! {
            biased;
            changed = table.changed() => {
                if changed.is_err() {
                    return Dialled::Ended;
                }
            }
            dialled = async {
                match cut {
                    None => TcpStream::connect(pair.target).await.map_or(Dialled::Ended, Dialled::Through),
                    Some(Cut::Reject) => Dialled::Ended,
                    Some(Cut::Drop) => {
                        let _ = poll_fn(|cx| there.poll_swallow(cx, &mut read)).await;
                        Dialled::Ended
                    }
                    Some(Cut::Stall) => {
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
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut there: Pump,
    pair: &Pair<'_>,
    table: &mut watch::Receiver<Arc<Table>>,
) -> io::Result<()> {
    let mut back = Pump::default();
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    loop {
        let (towards, backwards) = pair.effects(&table.borrow_and_update().clone());
        for (pump, effects) in [(&there, towards), (&back, backwards)] {
            if effects.cut == Some(Cut::Reject) || (pump.broken && effects.cut != Some(Cut::Drop)) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        tokio::select! {
            biased;
            changed = table.changed() => changed.map_err(|_| io::ErrorKind::ConnectionReset)?,
            done = poll_fn(|cx| {
                let first = there.poll(cx, &mut client_read, &mut server_write, towards)?;
                let second = back.poll(cx, &mut server_read, &mut client_write, backwards)?;
                if first.is_ready() && second.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
            }) => return done,
        }
    }
}
