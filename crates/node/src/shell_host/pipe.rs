//! Byte pipe between the process's stdin and stdout and an address at which the runner serves.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

/// Copies bytes in both directions until the other end has closed its side.
///
/// # Errors
/// The address refuses the connection, or one of the connections breaks.
pub fn pipe(at: SocketAddr) -> io::Result<()> {
    let mut from = TcpStream::connect(at)?;
    let mut to = from.try_clone()?;
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        copy(&mut stdin, &mut to).and_then(|()| to.shutdown(Shutdown::Write))
    });
    copy(&mut from, &mut io::stdout().lock())
}

/// Copies bytes as they arrive, without waiting for a full buffer.
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
