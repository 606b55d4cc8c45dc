//! Endpoint for `docker logs`: the log file of a node in the stream format of the engine.
//!
//! The file contains no times. An index that samples the sizes of all log files gives the time of a line with a precision of [`SAMPLE`],
//! which is enough for `--since`, `--until` and `--timestamps`.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::container::Container;
use super::describe::{QueryFlag, query};
use super::engine::ProxyState;
use super::frames::{OutputStream, PIECE, frame};
use super::line_times::Index;
use super::problem::EngineProblem;
use chaosrun_cluster::{Cluster, NodeChange};
use chaosrun_event::NodeState;

/// Interval at which a followed log file is checked for new content.
const FOLLOW: Duration = Duration::from_millis(50);

/// Largest length in bytes of a line with one time stamp. A longer line is split.
const LINE: usize = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    stdout: QueryFlag,
    #[serde(default)]
    stderr: QueryFlag,
    #[serde(default)]
    follow: QueryFlag,
    #[serde(default)]
    timestamps: QueryFlag,
    #[serde(default)]
    tail: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
}

/// Parses Unix seconds such as `1700000000.123`. Returns `None`, which means no bound, for an empty text and for 0.
pub(super) fn moment(text: &str) -> Result<Option<Timestamp>, EngineProblem> {
    let bad = || EngineProblem::bad_request(format!("invalid timestamp \"{text}\""));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.is_empty() || (seconds == "0" && fraction.bytes().all(|byte| byte == b'0')) {
        return Ok(None);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    Timestamp::new(seconds.parse().map_err(|_| bad())?, nanoseconds).map(Some).map_err(|_| bad())
}

pub(super) fn serve(engine: &ProxyState, container: &Container, text: &str) -> Result<Response, EngineProblem> {
    let asked: Asked = query(text)?;
    if !asked.stdout.0 && !asked.stderr.0 {
        return Err(EngineProblem::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let node = container.node.name.clone();
    let since = moment(&asked.since)?;
    let until = moment(&asked.until)?;
    // The subscription precedes the first read, so that the end of the node is not missed.
    let changes = engine.cluster.changes();
    let (pieces, mut receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let path = engine.cluster.log_file(&node);
    // One file contains both outputs of a node, and is served as stdout.
    if let (true, Some(path)) = (asked.stdout.0, path) {
        let end = until.map(|at| engine.logs.size(&node, at));
        let start = since.map_or(0, |at| engine.logs.size(&node, at));
        let tail = asked.tail.parse::<usize>().ok();
        let tailing = Tailing {
            cluster: Arc::clone(&engine.cluster),
            index: asked.timestamps.0.then(|| engine.logs.clone()),
            node,
            pieces,
            end,
            follow: asked.follow.0 && until.is_none(),
        };
        let token = engine.token.clone();
        engine.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                sent = tailing.run(&path, start, tail, changes) => if let Err(error) = sent {
                    // The client gets an aborted stream, as from an engine whose disk fails.
                    let _ = tailing.pieces.send(Err(error)).await;
                },
            }
        });
    }
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let headers = [(header::CONTENT_TYPE, "application/vnd.docker.raw-stream")];
    Ok((StatusCode::OK, headers, Body::from_stream(stream)).into_response())
}

struct Tailing {
    cluster: Arc<dyn Cluster>,
    /// Index of line times; `None` if the client has requested lines without times.
    index: Option<Index>,
    node: String,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    /// File offset at which the stream ends; `None` if the client has requested no upper bound of time.
    end: Option<u64>,
    follow: bool,
}

impl Tailing {
    async fn run(&self, path: &Path, start: u64, tail: Option<usize>, mut changes: broadcast::Receiver<NodeChange>) -> io::Result<()> {
        let mut file = match File::open(path).await {
            Ok(file) => file,
            // The node never started, so the log is empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = self.end.unwrap_or(file.metadata().await?.len());
        let mut place = start;
        if let Some(lines) = tail {
            place = place.max(beginning_of_last(&mut file, lines, end).await?);
        }
        file.seek(SeekFrom::Start(place)).await?;
        let mut line = Vec::new();
        loop {
            // The node state is read before the file, so that the last output of the node is not missed.
            let alive = self.alive();
            if !self.pass_on(&mut file, &mut place, &mut line).await? {
                return Ok(());
            }
            if !self.follow || !alive {
                return self.flush(place, &mut line).await.map(|_| ());
            }
            tokio::select! {
                // The client has disconnected.
                () = self.pieces.closed() => return Ok(()),
                () = tokio::time::sleep(FOLLOW) => {}
                change = changes.recv() => if matches!(change, Err(RecvError::Closed)) { return Ok(()) },
            }
        }
    }

    fn alive(&self) -> bool {
        let alive = |state: &NodeState| matches!(state, NodeState::Running | NodeState::Paused);
        self.cluster.status().iter().any(|status| status.node == self.node && alive(&status.state))
    }

    /// Sends the content that was added to the log file. Returns false if the client has disconnected.
    async fn pass_on(&self, file: &mut File, place: &mut u64, line: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = vec![0_u8; PIECE];
        loop {
            let room = self.end.map_or(PIECE, |end| usize::try_from(end.saturating_sub(*place)).unwrap_or(PIECE).min(PIECE));
            let read = file.read(&mut buffer[..room]).await?;
            if read == 0 {
                return Ok(true);
            }
            let piece = &buffer[..read];
            *place += read as u64;
            if self.index.is_none() {
                if !self.send(piece).await {
                    return Ok(false);
                }
                continue;
            }
            let mut at = *place - read as u64;
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                at += part.len() as u64;
                if (part.ends_with(b"\n") || line.len() > LINE) && !self.flush(at, line).await? {
                    return Ok(false);
                }
            }
        }
    }

    /// Sends the collected line, which ends before the file offset `end`, with its time. Returns false if the client has disconnected.
    async fn flush(&self, end: u64, line: &mut Vec<u8>) -> io::Result<bool> {
        let (Some(index), false) = (&self.index, line.is_empty()) else { return Ok(true) };
        let mut text = format!("{:.9} ", index.time(&self.node, end.saturating_sub(1))).into_bytes();
        text.append(line);
        Ok(self.send(&text).await)
    }

    async fn send(&self, payload: &[u8]) -> bool {
        self.pieces.send(Ok(frame(OutputStream::Stdout, payload))).await.is_ok()
    }
}

/// Returns the offset at which the last `lines` lines of the first `end` bytes begin.
async fn beginning_of_last(file: &mut File, lines: usize, end: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(end);
    }
    let mut wanted = lines;
    let mut at = end;
    let mut block = vec![0_u8; PIECE];
    while at > 0 {
        let size = usize::try_from(at).unwrap_or(PIECE).min(PIECE);
        let start = at - size as u64;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..size]).await?;
        for (place, byte) in block[..size].iter().enumerate().rev() {
            let after = start + place as u64 + 1;
            // The newline at the end of the last line does not start another line.
            if *byte == b'\n' && after < end {
                wanted -= 1;
                if wanted == 0 {
                    return Ok(after);
                }
            }
        }
        at = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn last(text: &[u8], lines: usize) -> u64 {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        io::Write::write_all(&mut file, text).expect("written");
        let mut file = File::open(file.path()).await.expect("opens");
        beginning_of_last(&mut file, lines, text.len() as u64).await.expect("reads")
    }

    #[tokio::test]
    async fn tail_begins_at_a_line() {
        assert_eq!(last(b"a\nb\nc\n", 1).await, 4);
        assert_eq!(last(b"a\nb\nc", 1).await, 4, "an unfinished line is one");
        assert_eq!(last(b"a\nb\nc\n", 2).await, 2);
        assert_eq!(last(b"a\nb\nc\n", 9).await, 0);
        assert_eq!(last(b"a\nb\nc\n", 0).await, 6);
        assert_eq!(last(b"", 3).await, 0);
        let long = "0123456789\n".repeat(10_000);
        assert_eq!(last(long.as_bytes(), 6_000).await, 44_000, "across blocks");
    }

    #[test]
    fn time_bounds_are_unix_seconds() {
        assert_eq!(moment("").expect("none"), None);
        assert_eq!(moment("0").expect("none"), None);
        assert_eq!(moment("0.000000000").expect("none"), None);
        assert_eq!(moment("12.5").expect("some"), Some(Timestamp::new(12, 500_000_000).expect("in range")));
        for text in ["x", "1.x", "1.1234567890", "99999999999999999"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
