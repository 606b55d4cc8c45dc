//! Lifecycle of one TiKV store.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::IntoFuture as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::serve::ListenerExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::args::{Args, StoreSettings};
use super::disk::Disk;
use super::http::StatusClient;
use super::ident::Ident;
use super::kv::Kv;
use super::layout::{Layout, Region};
use super::metrics::StoreMetrics;
use super::slow::SlowScore;
use super::store::{Store, Traffic, VERSION, Watcher};
use super::{front, pd, status};
use crate::log::{LogLevel, LogStyle, NodeLog};
use crate::raft::{GroupConfig, GroupStatus, Handle, Host, HostConfig, LOG_LIMIT};

/// Longest time that a graceful end waits for requests in progress.
const FAREWELL: Duration = Duration::from_millis(300);

/// Runs the store until the process ends. An error is logged as one FATAL line.
///
/// # Errors
/// Returns an error, which is already logged, if the store cannot start or its disk fails.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (settings, log) = match open(args) {
        Ok(opened) => opened,
        Err(error) => {
            NodeLog::stderr(LogStyle::Tikv, LogLevel::Info).fatal(&format!("{error:#}"), &[]);
            return Err(error);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("cannot make a runtime").and_then(|runtime| runtime.block_on(serve(settings, &log)));
    if let Err(error) = &outcome {
        log.fatal(&format!("{error:#}"), &[]);
    }
    outcome
}

fn open(args: Args) -> anyhow::Result<(StoreSettings, NodeLog)> {
    let settings = StoreSettings::new(args)?;
    let log = match &settings.log_file {
        None => NodeLog::stderr(LogStyle::Tikv, settings.log_level),
        Some(path) => NodeLog::file(LogStyle::Tikv, settings.log_level, path)
            .with_context(|| format!("cannot open the log file `{}`", path.display()))?,
    };
    Ok((settings, log))
}

fn bind(addr: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(addr).with_context(|| format!("cannot listen on `{addr}`"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves HTTP on a listener until `end` is cancelled, then waits for requests in progress.
fn serve_http(listener: TcpListener, router: axum::Router, end: CancellationToken) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // Small answers must not wait for the TCP acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned());
    // The listener is never closed, and accept errors are retried.
    Ok(tokio::spawn(async move { drop(server.into_future().await) }))
}

async fn serve(settings: StoreSettings, log: &NodeLog) -> anyhow::Result<()> {
    log.info("Welcome to TiKV", &[]);
    log.info(&format!("Release Version:   {VERSION}"), &[]);
    let clock = settings.clock;
    let (tick, beat) = (format!("{:?}", clock.raft().tick), format!("{:?}", clock.store_heartbeat()));
    let fields: [(&str, &dyn Display); 3] = [("scale", &clock.scale), ("raft_base_tick_interval", &tick), ("pd_store_heartbeat", &beat)];
    log.info("clock scale", &fields);

    let client_listener = bind(&settings.addr)?;
    let status_listener = bind(&settings.status_addr)?;
    let peer_listener = bind(&settings.peer_addr)?;
    Ident { store_id: settings.store_id, regions: settings.regions }.claim(&settings.data_dir)?;
    let raft_dir = settings.data_dir.join("raft");

    let layout = Layout::new(settings.regions, settings.stores.keys().copied());
    let regions: BTreeMap<u64, Region> = layout.regions().into_iter().map(|region| (region.id, region)).collect();
    let metrics = Arc::new(StoreMetrics::default());
    let slow = Arc::new(SlowScore::new(clock.scaled(10.0), clock.scaled(300.0)));
    let watcher = Watcher { store_id: settings.store_id, metrics: Arc::clone(&metrics), slow: Arc::clone(&slow), log: log.clone() };
    let host = HostConfig {
        id: settings.store_id,
        dir: raft_dir.clone(),
        listener: peer_listener,
        peers: settings.stores.clone(),
        note: settings.advertise_addr.clone(),
        timing: clock.raft(),
        log_limit: LOG_LIMIT,
        log: log.clone(),
        observer: Arc::new(watcher),
    };
    let groups = regions.values().map(|region| GroupConfig {
        id: region.id,
        peers: region.hosts(),
        first_leader: region.first_leader,
        machine: Box::new(Kv::default()),
    });
    let raft = Host::start(host, groups.collect())?;

    let disk = Disk::new(&settings.data_dir, &raft_dir, settings.capacity);
    let (measured, usage) = watch::channel(disk.measure().context("cannot measure the data directory")?);
    tokio::spawn(disk.keep(clock.scaled(2.0), measured));
    let store = Arc::new(Store {
        traffic: regions.keys().map(|region| (*region, Traffic::default())).collect(),
        settings,
        layout,
        regions,
        raft,
        metrics,
        slow,
        usage,
        client: StatusClient::default(),
        log: log.clone(),
        started: jiff::Timestamp::now().as_second(),
    });
    let end = CancellationToken::new();
    let front = serve_http(client_listener, front::router(Arc::clone(&store)), end.clone())?;
    let status = serve_http(status_listener, status::router(Arc::clone(&store)), end.clone())?;
    pd::start(&store);
    log.info("listening on addr", &[("addr", &store.settings.addr)]);
    log.info("TiKV is ready to serve", &[]);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        why = store.raft.failed() => bail!("{}", why.unwrap_or_else(|| "consensus ended".to_owned())),
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    log.info("receive signal, stopping server...", &[("signal", &name)]);
    evict_leaders(&store).await;
    end.cancel();
    let _ = timeout(FAREWELL, futures_util::future::join(front, status)).await;
    store.raft.stop().await;
    log.info("TiKV stopped", &[]);
    Ok(())
}

/// Largest number of rounds, one election timeout each, in which an ending store transfers its leaderships.
const EVICTIONS: usize = 4;

/// Transfers all leaderships of the store to other stores, so that clients need not wait for elections.
async fn evict_leaders(store: &Store) {
    for _ in 0..EVICTIONS {
        let leads: Vec<GroupStatus> = store.raft.statuses().into_iter().filter(GroupStatus::is_leader).collect();
        if leads.is_empty() {
            return;
        }
        for (turn, status) in leads.iter().enumerate() {
            let others = status.peers.values().filter(|peer| peer.host != store.settings.store_id);
            let fit: Vec<u64> = others.filter(|peer| peer.recent_active && peer.state == "Replicate").map(|peer| peer.host).collect();
            // The targets take turns, so that the leaderships spread over the other stores.
            if let Some(to_store) = fit.get(turn % fit.len().max(1)) {
                store.transfer(status, *to_store);
            }
        }
        let moved = futures_util::future::join_all(leads.iter().map(|status| moved_away(&store.raft, status.group)));
        let _ = timeout(store.settings.clock.raft().election(), moved).await;
    }
    store.log.warn("not all leaders could be moved", &[]);
}

async fn moved_away(raft: &Handle, group: u64) {
    let Some(mut status) = raft.watch(group) else { return };
    // Once another leader is known, clients are forwarded to it.
    let _ = status.wait_for(|status| !status.is_leader() && status.leader_host.is_some()).await;
}
