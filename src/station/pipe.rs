//! Carries bytes between stdin and stdout and an address at which the runner serves.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

/// Until the other end has said all.
///
/// # Errors
/// When there is nobody at that address, or one of the two breaks.
pub fn pipe(at: SocketAddr) -> io::Result<()> {
    let mut from = TcpStream::connect(at)?;
    let mut to = from.try_clone()?;
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        copy(&mut stdin, &mut to).and_then(|()| to.shutdown(Shutdown::Write))
    });
    copy(&mut from, &mut io::stdout().lock())
}

/// As bytes come: nobody waits for a buffer to be full.
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
