//! Client of the program `nft`: passes rulesets to the program, and reads its JSON output.

use std::io;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs `command` with `input` on stdin. Returns the output, or the error messages of a failed command.
pub(super) async fn finish(mut command: Command, name: &str, input: &str) -> io::Result<Vec<u8>> {
    let pipes = || Stdio::piped();
    command.stdin(pipes()).stdout(pipes()).stderr(pipes()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| io::Error::other(format!("cannot run `{name}`: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
    Err(io::Error::other(format!("`{name}`: {first}")))
}

async fn nft(args: &[&str], input: &str) -> io::Result<Vec<u8>> {
    let mut command = Command::new("nft");
    command.args(args);
    finish(command, "nft", input).await
}

/// Loads `ruleset` into the kernel with `nft`, completely or not at all.
pub(super) async fn load(ruleset: &str) -> io::Result<()> {
    nft(&["-f", "-"], ruleset).await.map(drop)
}

/// Returns all objects of the kernel table `inet TABLE` as JSON, in the format of libnftables-json(5).
pub(super) async fn list(table: &str) -> io::Result<Vec<Value>> {
    objects(&nft(&["-j", "list", "table", "inet", table], "").await?)
}

fn objects(printed: &[u8]) -> io::Result<Vec<Value>> {
    let mut parsed: Value = serde_json::from_slice(printed).map_err(io::Error::other)?;
    match parsed["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Err(io::Error::other("`nft`: no list of objects")),
    }
}
