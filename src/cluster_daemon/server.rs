//! Server on the socket of the daemon. Each connection carries one request.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

use super::request_handler::RequestHandler;
use super::wire::{DaemonMessage, DaemonRequest};
use chaosrun_base::frame::Codec;
use chaosrun_base::task::Tasks;

/// Pause after a failed attempt to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Accepts requests until `token` is cancelled. Clients that wait for the end of the cluster receive the final message even after the
/// cancellation.
pub(super) async fn serve(listener: UnixListener, handler: Arc<RequestHandler>, tasks: Tasks, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            // The client may disconnect before the reply.
            let handler = Arc::clone(&handler);
            tasks.spawn(async move { drop(answer(stream, &handler).await) });
        } else {
            // There are no free file descriptors. Only the end of another connection helps, and there is no notification of that.
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
    }
}

async fn answer(stream: UnixStream, handler: &RequestHandler) -> std::io::Result<()> {
    let (read, write) = stream.into_split();
    let mut write = FramedWrite::new(write, Codec::default());
    let Some(ask) = FramedRead::new(read, Codec::default()).next().await else { return Ok(()) };
    match ask {
        Err(error) => tell(&mut write, failed(&format!("invalid request to the cluster daemon: {error}"))).await,
        Ok(DaemonRequest::Status) => tell(&mut write, DaemonMessage::Status(Box::new(handler.status().await))).await,
        Ok(DaemonRequest::Restart { nodes }) => {
            for node in nodes {
                let told = tokio::select! {
                    told = handler.restart(&node) => told.unwrap_or_else(|error| failed(&error.to_string())),
                    () = handler.end.cancelled() => failed("the cluster is being torn down"),
                };
                let over = matches!(told, DaemonMessage::Failed { .. });
                tell(&mut write, told).await?;
                if over {
                    return Ok(());
                }
            }
            Ok(())
        }
        Ok(DaemonRequest::Inject { fault, lasts }) => {
            let told = tokio::select! {
                told = handler.inject(&fault, lasts.as_deref()) => told,
                () = handler.end.cancelled() => failed("the cluster is being torn down"),
            };
            tell(&mut write, told).await
        }
        Ok(DaemonRequest::Faults) => {
            for told in handler.in_force() {
                tell(&mut write, told).await?;
            }
            Ok(())
        }
        Ok(DaemonRequest::Heal { ids }) => {
            for id in if ids.is_empty() { handler.hand.ids() } else { ids } {
                let told = handler.heal(&id).await;
                tell(&mut write, told).await?;
            }
            Ok(())
        }
        Ok(DaemonRequest::End) => until_over(handler).await.map_or(Ok(()), |_| Ok(())),
        Ok(DaemonRequest::Down) => {
            handler.end.cancel();
            match until_over(handler).await {
                Some(told) => tell(&mut write, told).await,
                None => Ok(()),
            }
        }
    }
}

async fn until_over(handler: &RequestHandler) -> Option<DaemonMessage> {
    let mut over = handler.over.clone();
    // An error means that the daemon and its connections are ending.
    over.wait_for(Option::is_some).await.ok().and_then(|told| told.clone())
}

async fn tell(write: &mut FramedWrite<OwnedWriteHalf, Codec<DaemonMessage>>, told: DaemonMessage) -> std::io::Result<()> {
    write.send(told).await
}

fn failed(message: &str) -> DaemonMessage {
    DaemonMessage::Failed { message: message.into(), help: None }
}
