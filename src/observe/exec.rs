//! `exec:` probes: a command in the node, or beside the runner; exit code 0 is ok, what it prints is the answer.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::answer::Answer;
use crate::cluster::{Cluster, Exec};

/// What is read of a command's output.
const LARGEST: u64 = 1 << 20;

pub(super) async fn ask(cluster: &dyn Cluster, node: Option<&str>, command: Vec<String>, timeout: Duration) -> Answer {
    let began = Instant::now();
    let dir = node.and_then(|node| cluster.topology().node(node)).map_or_else(|| "/".into(), |node| node.dir.clone());
    let exec = Exec { command, dir, ..Exec::default() };
    let started = match node {
        Some(node) => cluster.exec(node, exec).await,
        None => cluster.spawn_driver(exec).await,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => return Answer::failed(error.to_string(), began),
    };
    let mut stdout = Vec::new();
    let ended = tokio::time::timeout(timeout, async {
        let mut limited = (&mut running.stdout).take(LARGEST);
        let read = limited.read_to_end(&mut stdout).await;
        (read, (&mut running.exit).await)
    })
    .await;
    match ended {
        Ok((Ok(_), Ok(code))) => {
            let body = Answer::body(&String::from_utf8_lossy(&stdout));
            Answer { status: Some(i64::from(code)), ..Answer::of(code == 0, body, began) }
        }
        Ok((Err(error), _)) => Answer::failed(format!("its output could not be read: {error}"), began),
        Ok((_, Err(_))) => Answer::failed("the command's end was not told", began),
        Err(_) => {
            running.kill();
            Answer::failed(format!("no end in {} ms", timeout.as_millis()), began)
        }
    }
}
