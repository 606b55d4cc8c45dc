//! Lifecycle of one rate limiter node.

use std::fmt::Display;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::args::{Args, LimiterSettings};
use super::http::{self, LimiterNode};
use super::link::Link;
use super::metrics::LimiterMetrics;
use super::quota_store::{QuotaStore, RegisteredNode};
use crate::log::{LogLevel, LogStyle, NodeLog};

/// Longest time that a graceful end waits for requests in progress.
const FAREWELL: Duration = Duration::from_millis(300);

/// Runs the rate limiter node until the process ends. An error is logged as one FATAL line.
///
/// # Errors
/// Returns an error, which is already logged, if the node cannot start.
pub fn run(args: Args) -> anyhow::Result<()> {
    let log = NodeLog::stderr(LogStyle::Plain, LogLevel::Info);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("cannot make a runtime").and_then(|runtime| runtime.block_on(serve(args, &log)));
    if let Err(error) = &outcome {
        log.fatal(&format!("{error:#}"), &[]);
    }
    outcome
}

async fn serve(args: Args, log: &NodeLog) -> anyhow::Result<()> {
    let settings = LimiterSettings::new(args)?;
    let listener = tokio::net::TcpListener::bind(&settings.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on `{}`", settings.listen))?;
    let link = Link::new(&settings).with_context(|| format!("`{}` is no address of redis", settings.redis))?;
    let window = humantime::format_duration(Duration::from_millis(settings.default.window_ms)).to_string();
    let fields: [(&str, &dyn Display); 5] = [
        ("node", &settings.id),
        ("listen", &settings.listen),
        ("redis", &settings.redis),
        ("limit", &settings.default.limit),
        ("window", &window),
    ];
    log.info("rate limiter starts", &fields);

    let (found, known) = watch::channel((Vec::new(), 0));
    let node = Arc::new(LimiterNode { books: QuotaStore::new(link), metrics: LimiterMetrics::default(), known, settings });
    let (keeper, keeper_log) = (Arc::clone(&node), log.clone());
    tokio::spawn(async move { keeper.books.link().keep(keeper.settings.look, &keeper_log).await });
    tokio::spawn(heartbeats(Arc::clone(&node), log.clone(), found));

    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for the TCP acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
    });
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = tokio_util::sync::CancellationToken::new();
    let server = axum::serve(listener, http::router(Arc::clone(&node))).with_graceful_shutdown(end.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    log.info("rate limiter is ready", &[]);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    log.info("rate limiter stops", &[("signal", &name)]);
    end.cancel();
    // The node ends in any case, even if answers or its removal from Redis are still pending.
    let _ = timeout(FAREWELL, server).await;
    let _ = timeout(FAREWELL, node.books.leave(&node.settings.id)).await;
    Ok(())
}

/// Renews the registration of the node and reads the list of nodes, at intervals and after each reconnection to Redis.
async fn heartbeats(node: Arc<LimiterNode>, log: NodeLog, found: watch::Sender<(Vec<RegisteredNode>, usize)>) {
    let registered_at = jiff::Timestamp::now().to_string();
    let mut redis = node.books.link().watch();
    let mut registered = false;
    loop {
        let beat = node.books.heartbeat(&node.settings, &registered_at).await;
        match &beat {
            Ok(()) if !registered => log.info("registered", &[("node", &node.settings.id), ("address", &node.settings.advertise)]),
            Err(error) if registered => log.warn("heartbeat failed", &[("error", error)]),
            _ => (),
        }
        registered = beat.is_ok();
        if registered && let (Ok(members), Ok(counters)) = (node.books.members().await, node.books.counters().await) {
            tell(&log, &found.borrow().0, &members);
            found.send_replace((members, counters.len()));
        }
        let reachable = redis.borrow_and_update().is_reachable();
        let back = async {
            // A dropped sender means that the node ends.
            let _ = redis.wait_for(|view| view.is_reachable() != reachable).await;
        };
        // The heartbeat continues after success and after failure.
        let _ = timeout(node.settings.heartbeat, back).await;
    }
}

/// Logs which nodes joined or left between two reads of the registry.
fn tell(log: &NodeLog, before: &[RegisteredNode], now: &[RegisteredNode]) {
    for member in now {
        let was = before.iter().find(|known| known.id == member.id).map(|known| known.up);
        match (was, member.up) {
            (Some(true), false) => log.warn("node is down", &[("node", &member.id), ("address", &member.address)]),
            (Some(false), true) => log.info("node is up again", &[("node", &member.id), ("address", &member.address)]),
            _ => (),
        }
    }
}
