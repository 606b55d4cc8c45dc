//! Port forwarder of a sandbox without a network: listens on the addresses of the nodes on the loopback of the sandbox, and forwards
//! connections to the runner.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chaosrun_base::task;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Byte that the runner sends after a successful connection to an address. Any other byte means that the connection failed.
pub const THROUGH: u8 = b'+';
pub const REFUSED: u8 = b'-';

/// Pause of a listener when the process has no free file descriptor for a connection.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// Listens on every address. A separate thread forwards each connection to the runner behind the socket `door`.
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
        let serving = async {
            for (address, listener) in listeners {
                task::spawn(serve(listener, address, door.clone()));
            }
            std::future::pending::<()>().await;
        };
        if runtime.block_on(task::guard(serving)).is_err() {
            // The panic has been printed. The process ends, so that the runner notices. Otherwise the agent would be judged although its
            // nodes are unreachable.
            std::process::abort();
        }
    })?;
    Ok(())
}

async fn serve(listener: TcpListener, address: SocketAddr, door: PathBuf) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let door = door.clone();
                task::spawn(async move {
                    // After any error, the client gets a connection reset.
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
        // A refused connection becomes a reset, since the client's connection was already accepted.
        Err(error) => client.set_zero_linger().and(Err(error)),
    }
}
