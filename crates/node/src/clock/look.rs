//! Reading of a node's clock with a program that prints the time in the node.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{ClockReaders, offset, ours};
use chaosrun_cluster::fault_control::ClockReading;
use chaosrun_cluster::{ExecRequest, Running};

/// Longest run time of the program that prints the time.
const LONGEST: Duration = Duration::from_secs(5);

/// Returns the command that prints the time in a node, in nanoseconds since 1970.
#[must_use]
pub fn exec() -> ExecRequest {
    ExecRequest {
        command: ["date", "+%s%N"].map(str::to_owned).to_vec(),
        env: [(super::QUIET.to_owned(), "1".to_owned())].into_iter().collect(),
        ..ExecRequest::default()
    }
}

/// Parses the clock of a node from the output of [`exec`]. `begin` is the start time of the command by the clock of this process, in
/// nanoseconds since 1970. The function calls `noted` after the command has ended, to get the notes of the clock library.
///
/// # Errors
/// Returns an error message if the command printed no time. For example, a node may lack the program `date`.
pub async fn reading(
    begin: i64,
    running: Running,
    reads: u64,
    noted: impl AsyncFnOnce() -> Option<ClockReaders>,
) -> Result<ClockReading, String> {
    let mut running = running;
    let mut text = String::new();
    let read = tokio::time::timeout(LONGEST, (&mut running.stdout).take(64).read_to_string(&mut text)).await;
    let end = ours();
    running.kill();
    match read {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("`date` gave no answer in {LONGEST:?}")),
    }
    let shown: i64 = text.trim().parse().map_err(|_| format!("`date` printed {:?}, expected nanoseconds", text.trim()))?;
    let noted = noted().await.and_then(|seen| seen.offset_ns);
    Ok(ClockReading { offset_us: offset(noted, shown, begin, end), reads })
}
