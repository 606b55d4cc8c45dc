//! The keeper's socket: one question a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::Desk;
use super::wire::{Ask, Told};

/// Bytes of a question.
const LONGEST: u64 = 64 * 1024;
/// Before the next try when the system refused to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Answers until `token` is cancelled; who waits for the end is answered even then.
pub(super) async fn serve(listener: UnixListener, desk: Arc<Desk>, tasks: TaskTracker, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            // Who asks may go away before the answer.
            let desk = Arc::clone(&desk);
            tasks.spawn(async move { drop(answer(stream, &desk).await) });
        } else {
            // Out of file descriptors: only another connection's end helps, and nothing tells of it.
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
    }
}

async fn answer(stream: UnixStream, desk: &Desk) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    match serde_json::from_str(&line) {
        Err(error) => tell(&mut write, &failed(&format!("the keeper does not understand this: {error}"))).await,
        Ok(Ask::Status) => tell(&mut write, &Told::Status(Box::new(desk.status().await))).await,
        Ok(Ask::Restart { nodes }) => {
            for node in nodes {
                let told = tokio::select! {
                    told = desk.restart(&node) => told.unwrap_or_else(|error| failed(&error.to_string())),
                    () = desk.end.cancelled() => failed("the cluster is being torn down"),
                };
                tell(&mut write, &told).await?;
                if matches!(told, Told::Failed { .. }) {
                    return Ok(());
                }
            }
            Ok(())
        }
        Ok(Ask::Inject { fault, lasts }) => {
            let told = tokio::select! {
                told = desk.inject(&fault, lasts.as_deref()) => told,
                () = desk.end.cancelled() => failed("the cluster is being torn down"),
            };
            tell(&mut write, &told).await
        }
        Ok(Ask::Faults) => {
            for told in desk.in_force() {
                tell(&mut write, &told).await?;
            }
            Ok(())
        }
        Ok(Ask::Heal { ids }) => {
            for id in if ids.is_empty() { desk.hand.ids() } else { ids } {
                let told = desk.heal(&id).await;
                tell(&mut write, &told).await?;
            }
            Ok(())
        }
        Ok(Ask::End) => until_over(desk).await.map_or(Ok(()), |_| Ok(())),
        Ok(Ask::Down) => {
            desk.end.cancel();
            match until_over(desk).await {
                Some(told) => tell(&mut write, &told).await,
                None => Ok(()),
            }
        }
    }
}

async fn until_over(desk: &Desk) -> Option<Told> {
    let mut over = desk.over.clone();
    // An error: the keeper ends in the middle of it, and the connection with it.
    over.wait_for(Option::is_some).await.ok().and_then(|told| told.clone())
}

async fn tell(write: &mut OwnedWriteHalf, told: &Told) -> std::io::Result<()> {
    write.write_all((serde_json::to_string(told)? + "\n").as_bytes()).await
}

fn failed(message: &str) -> Told {
    Told::Failed { message: message.into(), help: None }
}
