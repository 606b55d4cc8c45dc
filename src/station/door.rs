//! The door of a sandbox that has no network: the nodes' addresses on its own loopback, carried to the runner.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// What the runner answers to an address: there is a connection now, or there is none.
pub const THROUGH: u8 = b'+';
pub const REFUSED: u8 = b'-';

/// How long to leave a listener alone when there is no descriptor left for a connection.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Listens on every address, and carries each connection to the runner behind `door`, on a thread of its own.
pub(super) fn open(door: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let bound = |address: &SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok((*address, listener))
    };
    let listeners = addresses.iter().map(bound).collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let door = door.to_owned();
    thread::Builder::new().name("door".into()).spawn(move || {
        runtime.block_on(async {
            for (address, listener) in listeners {
                tokio::spawn(serve(listener, address, door.clone()));
            }
            std::future::pending::<()>().await;
        });
    })?;
    Ok(())
}

async fn serve(listener: TcpListener, address: SocketAddr, door: PathBuf) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let door = door.clone();
                tokio::spawn(async move {
                    // Whatever went wrong, the client sees a connection that was reset.
                    let _ = carry(client, address, &door).await;
                });
            }
            Err(_) => tokio::time::sleep(EXHAUSTED).await,
        }
    }
}

async fn carry(mut client: TcpStream, address: SocketAddr, door: &Path) -> io::Result<()> {
    let opened = async {
        let mut runner = UnixStream::connect(door).await?;
        runner.write_all(format!("{address}\n").as_bytes()).await?;
        match runner.read_u8().await? {
            THROUGH => Ok(runner),
            _ => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        }
    };
    match opened.await {
        Ok(mut runner) => tokio::io::copy_bidirectional(&mut client, &mut runner).await.map(drop),
        // Refused there is a reset here: the connection itself was accepted long ago.
        Err(error) => client.set_zero_linger().and(Err(error)),
    }
}
