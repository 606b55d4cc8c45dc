//! Lifecycle of one PD member.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cluster::PdCluster;
use super::config::{Args, PdSettings};
use super::consensus::{Consensus, GROUP, Replica};
use super::http::{self, App, AppConfig, HealthChecker};
use super::identity::{Members, Url};
use super::leadership::LeaderCampaign;
use super::proposal_queue::ProposalQueue;
use super::timing::{AnchoredClock, PdTiming};
use crate::log::{LogLevel, LogStyle, NodeLog};
use crate::raft::{GroupConfig, Host, HostConfig, LOG_LIMIT, Unobserved};

/// Longest time that a member spends on the transfer of its leadership after a signal to end.
const FAREWELL: Duration = Duration::from_millis(500);
/// Number of rounds of the leader's periodic work within one heartbeat interval of a store.
const TICKS: u32 = 10;

/// Runs the PD member until the process ends. An error is logged as one FATAL line.
///
/// # Errors
/// Returns an error, which is already logged, if the member cannot start or its disk fails.
pub fn run(args: Args) -> anyhow::Result<()> {
    let fallback = NodeLog::stderr(LogStyle::Pd, LogLevel::Info);
    let (settings, log) = match settings(args) {
        Ok(found) => found,
        Err(error) => {
            fallback.fatal("parse cmd flags error", &[("error", &format!("{error:#}"))]);
            return Err(error);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot make a runtime").and_then(|runtime| runtime.block_on(serve(settings, &log)));
    if let Err(error) = &outcome {
        log.fatal("run server failed", &[("error", &format!("{error:#}"))]);
    }
    outcome
}

fn settings(args: Args) -> anyhow::Result<(PdSettings, NodeLog)> {
    let settings = PdSettings::new(args)?;
    let log = match &settings.log_file {
        None => NodeLog::stderr(LogStyle::Pd, settings.log_level),
        Some(path) => NodeLog::file(LogStyle::Pd, settings.log_level, path)
            .with_context(|| format!("cannot open the log file `{}`", path.display()))?,
    };
    Ok((settings, log))
}

fn bind(url: &Url) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(url.host_port()).with_context(|| format!("cannot listen on `{url}`"))?;
    listener.set_nonblocking(true).with_context(|| format!("cannot listen on `{url}`"))?;
    Ok(listener)
}

async fn serve(settings: PdSettings, log: &NodeLog) -> anyhow::Result<()> {
    let (clock, timing) = (AnchoredClock::start(), PdTiming::new(settings.scale).map_err(anyhow::Error::msg)?);
    let members = Members::parse(&settings.initial_cluster, &settings.name)?;
    log.info("Welcome to Placement Driver (PD)", &[]);
    let fields: [(&str, &dyn std::fmt::Display); 3] =
        [("name", &settings.name), ("member-id", &members.me().id), ("clock-scale", &timing.scale())];
    log.info("PD config", &fields);

    let client_listener = tokio::net::TcpListener::from_std(bind(&settings.client_urls)?)?;
    let peer_listener = bind(&settings.peer_urls)?;
    let data_dir = std::path::absolute(&settings.data_dir)?;
    let (replica, durable) = Replica::new();
    let host = HostConfig {
        id: members.me().id,
        dir: data_dir.join("member"),
        listener: peer_listener,
        peers: members.all.iter().map(|member| (member.id, member.peer_url.host_port().to_owned())).collect(),
        note: String::new(),
        timing: timing.consensus(),
        log_limit: LOG_LIMIT,
        log: log.clone(),
        observer: Arc::new(Unobserved),
    };
    let group = GroupConfig {
        id: GROUP,
        peers: members.all.iter().map(|member| (member.id, member.id)).collect::<BTreeMap<_, _>>(),
        first_leader: members.all.first().map_or(0, |member| member.id),
        machine: Box::new(replica),
    };
    let handle = Host::start(host, vec![group]).context("cannot start etcd")?;
    let consensus = Consensus::new(handle.clone(), durable).context("cannot start etcd")?;

    let office = ProposalQueue::open(PdCluster::new(timing, clock, log.clone()), consensus.watch_durable());
    let campaign =
        LeaderCampaign { consensus: consensus.clone(), office: office.clone(), members: members.clone(), timing, clock, log: log.clone() };
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).pool_idle_timeout(timing.lease()).build()?;
    let checker = HealthChecker::start(client.clone(), timing.redirect_wait());
    let leadership = campaign.start();
    let app = App::new(AppConfig {
        members,
        settings,
        data_dir,
        timing,
        clock,
        log: log.clone(),
        consensus,
        leadership,
        office,
        checker,
        client,
    });
    tokio::spawn(http::register(app.clone()));
    tokio::spawn(http::follow(app.clone()));
    tokio::spawn(tick(app.clone()));
    log.info("PD server is listening", &[("client-urls", &app.settings.client_urls), ("peer-urls", &app.settings.peer_urls)]);

    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = axum::serve(client_listener, http::router(app.clone()));
    tokio::select! {
        ended = server.into_future() => ended.context("the HTTP server ended")?,
        why = handle.failed() => bail!("etcd ended: {}", why.unwrap_or_default()),
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    log.info("Got signal to exit", &[]);
    // A member that gives up the leadership saves the other members the wait for an election.
    let _ = timeout(FAREWELL, http::resign(&app)).await;
    handle.stop().await;
    log.info("close server", &[]);
    Ok(())
}

/// Does the periodic work of the leader: late operators, silent stores, leader evictions and the preferred leader.
async fn tick(app: App) {
    let mut round = interval(app.timing.store_heartbeat() / TICKS);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        if !app.leadership.is_serving() {
            continue;
        }
        app.office.ask(PdCluster::tick).await;
        app.note_silence().await;
        http::prefer(&app).await;
    }
}
