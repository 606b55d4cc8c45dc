//! The `nft` program: rulesets in, JSON out.

use std::io;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

fn spawn(args: &[&str]) -> io::Result<Child> {
    let pipes = || Stdio::piped();
    let mut command = Command::new("nft");
    command.args(args).stdin(pipes()).stdout(pipes()).stderr(pipes()).kill_on_drop(true);
    command.spawn().map_err(|error| io::Error::other(format!("cannot run `nft`: {error}")))
}

/// What it printed; what it complained of when it failed.
async fn finish(child: Child) -> io::Result<Vec<u8>> {
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
    Err(io::Error::other(format!("`nft`: {first}")))
}

/// Puts `ruleset` in force, all of it or nothing.
pub(super) async fn load(ruleset: &str) -> io::Result<()> {
    let mut child = spawn(&["-f", "-"])?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(ruleset.as_bytes()).await?;
    }
    finish(child).await.map(drop)
}

/// All objects of the table `inet NAME`, as in libnftables-json(5).
pub(super) async fn list(table: &str) -> io::Result<Vec<Value>> {
    let printed = finish(spawn(&["-j", "list", "table", "inet", table])?).await?;
    let mut parsed: Value = serde_json::from_slice(&printed).map_err(io::Error::other)?;
    match parsed["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Err(io::Error::other("`nft`: no list of objects")),
    }
}
