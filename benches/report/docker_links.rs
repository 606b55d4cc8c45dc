//! Benchmark of links in containers: requested and measured values between three sidecars without nodes.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chaosrun_backend_docker::engine::Engine;
use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::Sources;
use chaosrun_backend_docker::sidecar::{DNS, Guard, Holder, LinkPath, LinkSelector, Mode, StartLock};
use chaosrun_cluster::{Pinging, Shape};
use futures_util::future::join_all;

use crate::Report;

const NETWORK: &str = "bench-of-links";
const BASE: [u8; 3] = [10, 251, 77];
const LEASE: Duration = Duration::from_secs(60);
const HOLDERS: [(&str, u8); 3] = [("bench-link-1", 11), ("bench-link-2", 12), ("bench-link-3", 13)];

/// Measured delays: delay in microseconds, name of the row in the report, and promised error in milliseconds.
const DELAYS: [(u64, &str, f64); 5] = [
    (500, "docker links: delay 0.5 ms, error", 0.5),
    (1_000, "docker links: delay 1 ms, error", 0.5),
    (10_000, "docker links: delay 10 ms, error", 0.5),
    (50_000, "docker links: delay 50 ms, error", 1.0),
    (200_000, "docker links: delay 200 ms, error", 4.0),
];
/// Measured loss rates: share of lost packets, name of the row in the report, and promised error in percentage points. The error is five
/// standard deviations for 2000 packets.
const LOSSES: [(f64, &str, f64); 3] = [
    (0.01, "docker links: loss 1 %, off by", 1.1),
    (0.1, "docker links: loss 10 %, off by", 3.4),
    (0.5, "docker links: loss 50 %, off by", 5.6),
];
const RATES: [(u64, &str); 3] = [
    (125_000, "docker links: bandwidth 1 Mbit/s, off by"),
    (1_250_000, "docker links: bandwidth 10 Mbit/s, off by"),
    (12_500_000, "docker links: bandwidth 100 Mbit/s, off by"),
];

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn address(last: u8) -> Ipv4Addr {
    let [a, b, c] = BASE;
    Ipv4Addr::new(a, b, c, last)
}

/// Measures the links and adds rows to the report. Adds no rows without a Docker Engine.
pub fn links(report: &mut Report, runs: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sidecars = start().await;
        if let Some(sidecars) = &sidecars {
            measure(report, sidecars, runs).await;
        }
    });
    let names = HOLDERS.map(|(name, _)| name);
    docker(&[&["rm", "-f", "-v"][..], &names].concat());
    docker(&["network", "rm", NETWORK]);
}

async fn start() -> Option<Vec<Holder>> {
    let engine = Engine::connect().await.ok()?;
    let (beside, program) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/x.yaml"), crate::program());
    let sources = [(image::sidecar(), Sources { beside: &beside, program: &program })];
    let image = image::prepare(&engine, &sources, &|_| ()).await.ok()?.swap_remove(&image::sidecar())?.reference;
    let [a, b, c] = BASE;
    let (subnet, gateway) = (format!("{a}.{b}.{c}.0/24"), format!("{a}.{b}.{c}.1"));
    docker(&["network", "create", "--internal", "--subnet", &subnet, "--gateway", &gateway, NETWORK]).then_some(())?;
    let mut sidecars = Vec::new();
    for (name, last) in HOLDERS {
        let ip = address(last).to_string();
        let args = ["create", "-i", "--name", name, "--log-driver", "none", "--cap-add", "NET_ADMIN", "--dns", DNS];
        docker(&[&args[..], &["--network", NETWORK, "--ip", &ip, &image]].concat()).then_some(())?;
        let sidecar = Holder::start(&engine, name, &StartLock::default()).await.ok()?;
        sidecar.guard(Guard { subnet: subnet.clone(), gateway: address(1) }).await.ok()?;
        sidecars.push(sidecar);
    }
    Some(sidecars)
}

fn path(from: u8, cut: Option<Mode>, shape: Shape) -> LinkPath {
    let shape = Some(shape).filter(|shape| !shape.is_plain());
    LinkPath { way: LinkSelector { from: address(from), ports: None }, cut, shape, name: format!("{from}>x") }
}

async fn set(sidecar: &Holder, paths: Vec<LinkPath>) {
    sidecar.set_links(paths, 7, LEASE).await.expect("links are set");
}

/// Returns the median round-trip time of `count` pings in milliseconds.
async fn round_trip(from: &Holder, to: u8, count: u32) -> f64 {
    let how = Pinging { count, every: Duration::from_millis(2), timeout: Duration::from_secs(2) };
    let mut took = from.ping(address(to), None, how).await.expect("pings").answered;
    took.sort_unstable();
    took.get(took.len() / 2).map_or(f64::NAN, |took| ms(*took))
}

async fn measure(report: &mut Report, sidecars: &[Holder], runs: usize) {
    let [one, two, three] = sidecars else { return };
    let (_, to) = HOLDERS[1];
    let (_, from) = HOLDERS[0];
    let began = Instant::now();
    let delay = |delay| Shape { delay: Duration::from_micros(delay), ..Shape::default() };
    set(two, vec![path(from, None, delay(1000))]).await;
    report.add("docker links: the first change, of one end", "ms", None, vec![ms(began.elapsed())]);
    set(two, Vec::new()).await;

    for (asked, row, target) in DELAYS {
        let mut errors = Vec::new();
        for _ in 0..runs {
            let before = round_trip(one, to, 100).await;
            set(two, vec![path(from, None, delay(asked))]).await;
            let now = round_trip(one, to, 100).await;
            set(two, Vec::new()).await;
            #[expect(clippy::cast_precision_loss, reason = "microseconds of less than a second")]
            errors.push((now - before - asked as f64 / 1e3).abs());
        }
        report.add(row, "ms", target, errors);
    }
    let mut bystander = Vec::new();
    for _ in 0..runs {
        let before = round_trip(three, to, 200).await;
        set(two, vec![path(from, None, delay(50_000))]).await;
        bystander.push((round_trip(three, to, 200).await - before).abs());
        set(two, Vec::new()).await;
    }
    report.add("docker links: round trip of a bystander, change", "ms", 0.3, bystander);

    for (share, row, target) in LOSSES {
        set(two, vec![path(from, None, Shape { loss: share, ..Shape::default() })]).await;
        let how = Pinging { count: 2000, every: Duration::from_micros(500), timeout: Duration::from_millis(500) };
        let pings = one.ping(address(to), None, how).await.expect("pings");
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let lost = 1.0 - pings.answered.len() as f64 / 2000.0;
        report.add(row, "pp", target, vec![(lost - share).abs() * 100.0]);
    }
    cuts(report, one, three, two).await;
    for (rate, row) in RATES {
        set(two, vec![path(from, None, Shape { rate: Some(rate), ..Shape::default() })]).await;
        let mut off = Vec::new();
        for _ in 0..runs.min(3) {
            let way = LinkSelector { from: address(from), ports: None };
            let measured = two.receives(address(to), one, way, Duration::from_secs(2)).await.expect("bytes");
            #[expect(clippy::cast_precision_loss, reason = "megabytes")]
            off.push((measured / rate as f64 - 1.0).abs() * 100.0);
        }
        report.add(row, "%", 10.0, off);
    }
    set(two, Vec::new()).await;
    changes(report, sidecars, runs * 6).await;
}

/// Counts the packets from `cut` that pass a stall and a drop at `to`, and measures the change of the round-trip time from `beside`. A
/// reject is not measured, because it does not stop pings.
async fn cuts(report: &mut Report, cut: &Holder, beside: &Holder, to: &Holder) {
    let ((_, from), (_, last)) = (HOLDERS[0], HOLDERS[1]);
    let before = round_trip(beside, last, 200).await;
    for (mode, row) in
        [(Mode::Stall, "docker links: answered through a stall, of 100"), (Mode::Drop, "docker links: answered through a drop, of 100")]
    {
        set(to, vec![path(from, Some(mode), Shape::default())]).await;
        let how = Pinging { count: 100, every: Duration::from_millis(1), timeout: Duration::from_millis(500) };
        let answered = cut.ping(address(last), None, how).await.map_or(f64::NAN, |pings| {
            #[expect(clippy::cast_precision_loss, reason = "a hundred")]
            let answered = pings.answered.len() as f64;
            answered
        });
        report.add(row, "", 0.0, vec![answered]);
    }
    let during = round_trip(beside, last, 200).await;
    report.add("docker links: a bystander of a partition, change", "ms", 0.3, vec![(during - before).abs()]);
}

/// Measures the time to change all links between the three sidecars at once, and the time to heal the links until the first round trip.
async fn changes(report: &mut Report, sidecars: &[Holder], runs: usize) {
    let slow = Shape { delay: Duration::from_millis(200), loss: 0.5, ..Shape::default() };
    for (set_row, mended_row, cut, shape) in [
        ("docker links: setting all of three nodes, shaped", "docker links: mended and whole, shaped", None, slow),
        ("docker links: setting all of three nodes, cut", "docker links: mended and whole, cut", Some(Mode::Drop), Shape::default()),
    ] {
        let (mut setting, mut mending) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let began = Instant::now();
            let all = HOLDERS.iter().zip(sidecars).map(|((_, own), sidecar)| {
                let others = HOLDERS.iter().filter(move |(_, last)| last != own);
                set(sidecar, others.map(|(_, last)| path(*last, cut, shape)).collect())
            });
            join_all(all).await;
            setting.push(ms(began.elapsed()));
            let began = Instant::now();
            join_all(sidecars.iter().map(|sidecar| set(sidecar, Vec::new()))).await;
            let how = Pinging { count: 1, every: Duration::ZERO, timeout: Duration::from_secs(2) };
            let whole = sidecars[0].ping(address(HOLDERS[1].1), None, how).await.expect("a ping").answered.len() == 1;
            mending.push(if whole { ms(began.elapsed()) } else { f64::INFINITY });
        }
        report.add(set_row, "ms", 25.0, setting);
        report.add(mended_row, "ms", 50.0, mending);
    }
}

fn docker(words: &[&str]) -> bool {
    let status = Command::new("docker").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
