//! HTTP/1.1 client over a unix socket, limited to the answers of the Docker engine. Each request uses its own connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use super::CommandFailure;

/// Version of the Docker Engine API in the path of all requests.
const VERSION: &str = "/v1.41";

/// Maximum size in bytes of the head of an answer.
const HEAD_LIMIT: u64 = 64 * 1024;
const BODY_LIMIT: u64 = 16 * 1024 * 1024;

/// Client of the Docker engine at a unix socket.
#[derive(Debug, Clone)]
pub(crate) struct EngineClient {
    pub socket: PathBuf,
}

/// Answer of the engine whose body has not been read.
pub(super) struct EngineResponse {
    pub status: u16,
    pub body: EngineBody,
}

/// Unread body of an answer, without the encoding of the transfer.
pub(super) enum EngineBody {
    Sized(io::Take<BufReader<UnixStream>>),
    Chunked {
        reader: BufReader<UnixStream>,
        left: u64,
        begun: bool,
        over: bool,
    },
    /// Body that ends when the engine closes the connection, as on an upgraded connection.
    Open(BufReader<UnixStream>),
}

impl EngineClient {
    /// Sends a request to the engine. `path` contains no API version. `upgrade` requests a raw connection in both directions.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>, upgrade: bool) -> Result<EngineResponse, CommandFailure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.transmit(method, path, body.map(|_| "application/json"), text.as_bytes(), upgrade)
    }

    fn transmit(&self, method: &str, path: &str, kind: Option<&str>, body: &[u8], upgrade: bool) -> Result<EngineResponse, CommandFailure> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|_| {
            let at = self.socket.display();
            CommandFailure::new(1, format!("Cannot connect to the Docker daemon at unix://{at}. Is the docker daemon running?"))
        })?;
        let mut head = format!("{method} {VERSION}{path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client (linux)\r\n");
        head.push_str(if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "Connection: close\r\n" });
        if let Some(kind) = kind {
            head.push_str("Content-Type: ");
            head.push_str(kind);
            head.push_str("\r\n");
        }
        if matches!(method, "POST" | "PUT") {
            head.push_str("Content-Length: ");
            head.push_str(&body.len().to_string());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        Ok(read_head(BufReader::with_capacity(32 * 1024, stream), method)?)
    }

    /// Sends a request like [`EngineClient::send`], and converts every error answer to the error message of the docker CLI.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<EngineResponse, CommandFailure> {
        let mut answer = self.send(method, path, body, false)?;
        if answer.status >= 400 {
            return Err(CommandFailure::daemon(&answer.message()));
        }
        Ok(answer)
    }

    /// Sends an archive that the engine unpacks at the path.
    pub(super) fn put(&self, path: &str, archive: &[u8]) -> Result<(), CommandFailure> {
        let mut answer = self.transmit("PUT", path, Some("application/x-tar"), archive, false)?;
        if answer.status >= 400 { Err(CommandFailure::daemon(&answer.message())) } else { Ok(()) }
    }

    /// Returns true if the engine reports that the path is a directory.
    pub(super) fn is_directory(&self, path: &str) -> bool {
        // The engine answers 400, because it makes no archive of a directory. The headers of the answer would say more, but this client
        // does not read headers.
        matches!(self.send("GET", path, None, false), Ok(answer) if answer.status == 400)
    }

    pub(super) fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CommandFailure> {
        let mut answer = self.ask(method, path, body)?;
        let mut text = Vec::new();
        (&mut answer.body).take(BODY_LIMIT).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).map_err(io::Error::from)?)
    }
}

impl EngineResponse {
    /// Returns the engine's error message.
    pub fn message(&mut self) -> String {
        let mut text = Vec::new();
        // A truncated error message is still useful.
        let _ = (&mut self.body).take(BODY_LIMIT).read_to_end(&mut text);
        let said = serde_json::from_slice::<Value>(&text).ok().and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
        said.unwrap_or_else(|| String::from_utf8_lossy(&text).trim().to_owned())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer cannot be read: {what}"))
}

fn read_head(mut reader: BufReader<UnixStream>, method: &str) -> io::Result<EngineResponse> {
    let mut lines = Vec::new();
    let mut left = HEAD_LIMIT;
    loop {
        let mut line = String::new();
        let read = (&mut reader).take(left).read_line(&mut line)?;
        left -= read as u64;
        if !line.ends_with('\n') {
            return Err(broken("its head ends early"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse::<u16>().ok());
    let status = status.ok_or_else(|| broken("no status"))?;
    let header = |name: &str| {
        lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").and_then(|value| value.parse::<u64>().ok());
    let body = match (status, length) {
        (101, _) => EngineBody::Open(reader),
        (204 | 304, _) => EngineBody::Sized(reader.take(0)),
        _ if method == "HEAD" => EngineBody::Sized(reader.take(0)),
        _ if chunked => EngineBody::Chunked { reader, left: 0, begun: false, over: false },
        (_, Some(length)) => EngineBody::Sized(reader.take(length)),
        _ => EngineBody::Open(reader),
    };
    Ok(EngineResponse { status, body })
}

impl Read for EngineBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Sized(reader) => reader.read(buffer),
            Self::Open(reader) => reader.read(buffer),
            Self::Chunked { over: true, .. } => Ok(0),
            Self::Chunked { reader, left, begun, over } => {
                if *left == 0 {
                    if *begun {
                        reader.read_line(&mut String::new())?;
                    }
                    let mut line = String::new();
                    reader.take(64).read_line(&mut line)?;
                    let size = line.trim_end().split(';').next().unwrap_or_default();
                    *left = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk has no size"))?;
                    *begun = true;
                    if *left == 0 {
                        *over = true;
                        return Ok(0);
                    }
                }
                let room = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                let read = reader.read(&mut buffer[..room])?;
                if read == 0 && room > 0 {
                    return Err(broken("it ends within a chunk"));
                }
                *left -= read as u64;
                Ok(read)
            }
        }
    }
}

/// Percent-encodes a text for a path or a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// Copies the framed stream of the engine to `stdout` and `stderr`. Frames of type 2 go to `stderr`, all others to `stdout`.
pub(super) fn demultiplex(body: &mut impl Read, stdout: &mut dyn Write, stderr: &mut dyn Write) -> io::Result<()> {
    let mut head = [0_u8; 8];
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        match body.read(&mut head[..1])? {
            0 => return Ok(()),
            _ => body.read_exact(&mut head[1..])?,
        }
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let out: &mut dyn Write = if head[0] == 2 { stderr } else { stdout };
        while left > 0 {
            let room = left.min(buffer.len());
            let read = body.read(&mut buffer[..room])?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&buffer[..read])?;
            left -= read;
        }
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static [u8]) -> io::Result<(u16, Vec<u8>)> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(text)?;
        drop(theirs);
        let mut answer = read_head(BufReader::new(ours), "GET")?;
        let mut body = Vec::new();
        answer.body.read_to_end(&mut body)?;
        Ok((answer.status, body))
    }

    #[test]
    fn bodies_are_decoded() {
        let sized = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef").expect("reads");
        assert_eq!(sized, (200, b"abc".to_vec()));
        let chunked = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n").expect("reads");
        assert_eq!(chunked, (200, b"abcde".to_vec()));
        assert_eq!(answer(b"HTTP/1.1 404 Not Found\r\n\r\nno").expect("reads"), (404, b"no".to_vec()));
        for bad in [&b"HTTP/1.1\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"] {
            assert!(answer(bad).is_err());
        }
    }

    #[test]
    fn frames_are_demultiplexed() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let frames = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01!";
        demultiplex(&mut &frames[..], &mut out, &mut err).expect("reads");
        assert_eq!((out.as_slice(), err.as_slice()), (&b"hi!"[..], &b"err"[..]));
    }
}
