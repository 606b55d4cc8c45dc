//! What runner and station say to each other: a length (u32, big endian), a tag, and what the tag means.

use std::io::{self, Read};

/// The longest frame in either direction, in bytes: longer commands are refused, longer outputs come in pieces.
pub const LONGEST: usize = 4 << 20;

/// From the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The text of a command, which holds no zero byte. One at a time.
    Run(Vec<u8>),
    /// Ends what the present command has started; answered by its `Ended`.
    Interrupt,
    /// Starts a program beside the shell, once: the text of a script that a shell of its own reads.
    Program(Vec<u8>),
}

/// From the station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There is a shell: commands may come.
    Ready,
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The command has ended. `fresh`: so had its shell, and there is a new one.
    Ended {
        code: i32,
        fresh: bool,
    },
    /// There is no shell, and why.
    Failed(String),
    /// What the program beside the shell prints.
    ProgramStdout(Vec<u8>),
    ProgramStderr(Vec<u8>),
    /// It has ended, and what it printed is told; 128 + signal when one ended it.
    ProgramEnded(i32),
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed frame: {what}"))
}

fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    frame.push(tag);
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// The first frame of `bytes`, without its length, and how many bytes it took; none when it is not whole yet.
///
/// # Errors
/// When it is longer than any can be.
pub fn first(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(malformed("too long"));
    }
    Ok(rest.get(..length).map(|frame| (frame, 4 + length)))
}

impl Order {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Run(text) => frame(0, &[text]),
            Self::Interrupt => frame(1, &[]),
            Self::Program(script) => frame(2, &[script]),
        }
    }

    /// # Errors
    /// When it is no order.
    pub fn decode(frame: &[u8]) -> io::Result<Self> {
        match frame.split_first() {
            Some((0, text)) => Ok(Self::Run(text.to_vec())),
            Some((1, [])) => Ok(Self::Interrupt),
            Some((2, script)) => Ok(Self::Program(script.to_vec())),
            _ => Err(malformed("no order")),
        }
    }
}

impl Told {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready => frame(0, &[]),
            Self::Stdout(bytes) => frame(1, &[bytes]),
            Self::Stderr(bytes) => frame(2, &[bytes]),
            Self::Ended { code, fresh } => frame(3, &[&code.to_be_bytes(), &[u8::from(*fresh)]]),
            Self::Failed(why) => frame(4, &[why.as_bytes()]),
            Self::ProgramStdout(bytes) => frame(5, &[bytes]),
            Self::ProgramStderr(bytes) => frame(6, &[bytes]),
            Self::ProgramEnded(code) => frame(7, &[&code.to_be_bytes()]),
        }
    }

    /// # Errors
    /// When it is nothing a station says.
    pub fn decode(frame: &[u8]) -> io::Result<Self> {
        match frame.split_first() {
            Some((0, [])) => Ok(Self::Ready),
            Some((1, bytes)) => Ok(Self::Stdout(bytes.to_vec())),
            Some((2, bytes)) => Ok(Self::Stderr(bytes.to_vec())),
            Some((3, [a, b, c, d, fresh])) => Ok(Self::Ended { code: i32::from_be_bytes([*a, *b, *c, *d]), fresh: *fresh == 1 }),
            Some((4, why)) => Ok(Self::Failed(String::from_utf8_lossy(why).into_owned())),
            Some((5, bytes)) => Ok(Self::ProgramStdout(bytes.to_vec())),
            Some((6, bytes)) => Ok(Self::ProgramStderr(bytes.to_vec())),
            Some((7, [a, b, c, d])) => Ok(Self::ProgramEnded(i32::from_be_bytes([*a, *b, *c, *d]))),
            _ => Err(malformed("nothing a station says")),
        }
    }
}

/// Frames as they come: what was read and is not whole yet.
#[derive(Debug, Default)]
pub struct Incoming(Vec<u8>);

impl Incoming {
    pub fn take(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Reads once. False at the end.
    ///
    /// # Errors
    /// When nothing can be read.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let read = from.read(&mut buffer)?;
        self.take(&buffer[..read]);
        Ok(read > 0)
    }

    /// # Errors
    /// When what comes is no frame.
    pub fn next<T>(&mut self, decode: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<Option<T>> {
        let Some((frame, length)) = first(&self.0)? else { return Ok(None) };
        let decoded = decode(frame)?;
        self.0.drain(..length);
        Ok(Some(decoded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_journey_in_pieces() {
        let told = [
            Told::Ready,
            Told::Stdout(b"\xff\0\n".to_vec()),
            Told::Stderr(Vec::new()),
            Told::Ended { code: -1, fresh: true },
            Told::Failed("no bash".into()),
            Told::ProgramStdout(b"{}\n".to_vec()),
            Told::ProgramStderr(b"\0".to_vec()),
            Told::ProgramEnded(137),
        ];
        let bytes: Vec<u8> = told.iter().flat_map(Told::encode).collect();
        let (mut incoming, mut heard) = (Incoming::default(), Vec::new());
        for byte in bytes {
            incoming.take(&[byte]);
            heard.extend(incoming.next(Told::decode).unwrap());
        }
        assert_eq!(heard, told);
        for order in [Order::Run(b"echo 'x'".to_vec()), Order::Interrupt, Order::Program(b"exec x".to_vec())] {
            let bytes = order.encode();
            assert_eq!(Order::decode(first(&bytes).unwrap().unwrap().0).unwrap(), order);
        }
        assert!(first(&u32::MAX.to_be_bytes()).is_err());
        assert!(Order::decode(&[9]).is_err() && Told::decode(&[]).is_err() && Told::decode(&[3, 0]).is_err());
    }
}
