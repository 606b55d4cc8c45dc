//! Byte pipe that connects stdin and stdout of this process to an address at which the runner serves.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

/// Copies bytes in both directions until the runner has closed its side of the connection.
///
/// # Errors
/// Returns an error if the address refuses the connection, or if one of the connections breaks.
pub fn pipe(at: SocketAddr) -> io::Result<()> {
    let mut from = TcpStream::connect(at)?;
    let mut to = from.try_clone()?;
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        copy(&mut stdin, &mut to).and_then(|()| to.shutdown(Shutdown::Write))
    });
    copy(&mut from, &mut io::stdout().lock())
}

/// Copies bytes from `from` to `to` as they arrive, without waiting for a full buffer.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(&buffer[..read])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
