//! Server of the docker proxy: HTTP/1.1 on one unix socket, with one task per connection.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::container::opaque;
use super::engine::{ProxySettings, ProxyState, containers};
use super::exec_record::Execs;
use super::{event_history, line_times, times};
use chaosrun_base::task::Tasks;
use chaosrun_cluster::Cluster;
use chaosrun_event::emit::Emitter;

/// Largest number of simultaneous connections. Further connections wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// Pause before the next attempt after accepting a connection has failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Error)]
pub enum DockerProxyError {
    #[error("the engine's socket `{}` cannot be opened: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// Docker proxy of one trial; see [`DockerProxy::start`].
#[derive(Debug)]
pub struct DockerProxy;

/// Running docker proxy. [`DockerProxyHandle::stop`] ends the proxy. If the handle is dropped without this call, the tasks of the proxy are
/// cancelled.
#[derive(Debug)]
pub struct DockerProxyHandle {
    socket: PathBuf,
    token: CancellationToken,
    tasks: Tasks,
}

impl DockerProxy {
    /// Listens on the socket and serves requests until the handle is stopped. The proxy emits an event for every recorded call.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be created: the folder is missing, or the path is in use or too long.
    pub fn start(cluster: Arc<dyn Cluster>, settings: ProxySettings, emitter: Emitter) -> Result<DockerProxyHandle, DockerProxyError> {
        let failed = |source| DockerProxyError::Listen { path: settings.socket.clone(), source };
        let listener = UnixListener::bind(&settings.socket).map_err(failed)?;
        std::fs::set_permissions(&settings.socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let token = CancellationToken::new();
        let tasks = Tasks::new();
        let (clock, following) = times::follow(cluster.clone(), token.clone());
        tasks.spawn(following);
        let (index, indexing) = line_times::index(&cluster, token.clone());
        tasks.spawn(indexing);
        let (history, happening) = event_history::follow(&cluster, token.clone());
        tasks.spawn(happening);
        let engine = Arc::new(ProxyState {
            containers: containers(&*cluster, &settings),
            cluster,
            emitter,
            clock,
            logs: index,
            history,
            execs: Execs::new(opaque(&settings.secret, "execs", "")),
            network_id: opaque(&settings.secret, "network", ""),
            token: token.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(accept(listener, engine));
        Ok(DockerProxyHandle { socket: settings.socket, token, tasks })
    }
}

impl DockerProxyHandle {
    /// Ends all connections and all commands that were started through the proxy, then removes the socket.
    pub async fn stop(self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // A socket file that is left behind is removed with its folder.
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for DockerProxyHandle {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

async fn accept(listener: UnixListener, engine: Arc<ProxyState>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = engine.token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let engine = engine.clone();
                engine.tasks.clone().spawn(async move {
                    serve(stream, engine).await;
                    drop(slot);
                });
            }
            Err(error) => {
                engine.emitter.warn(format!("the engine cannot accept a connection: {error}"));
                // No file descriptor is free. Only the end of another connection helps, and no notification of it exists.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, engine: Arc<ProxyState>) {
    let token = engine.token.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let engine = engine.clone();
        async move { Ok::<_, Infallible>(engine.handle(request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        // A broken connection concerns only the client of that connection.
        _ = connection => {}
        () = token.cancelled() => {}
    }
}
