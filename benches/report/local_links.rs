//! Benchmark of the links of the backend `local`. Compares the requested effects of a relay with measurements by chaosrun's probes and by
//! plain sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_backend_local::relay::{ConnectionSource, Owners, Relay, RelayLink};
use chaosrun_cluster::fault_control::Pinging;
use chaosrun_cluster::{CutMode, LinkPath, Shape};

use crate::{Report, ms};

/// Owner lookup that attributes every connection to node `a`.
struct FromA;

impl Owners for FromA {
    fn source(&self, _peer: SocketAddr, _local: SocketAddr) -> ConnectionSource {
        ConnectionSource::Node("a".into())
    }
}

struct Lab {
    runtime: tokio::runtime::Runtime,
    relay: Relay,
    advertised: SocketAddr,
}

impl Lab {
    /// Creates a link to node `b`, which is an echo server behind a relay.
    fn new() -> std::io::Result<Self> {
        let target = TcpListener::bind("127.0.0.1:0")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let advertised = listener.local_addr()?;
        let link = RelayLink { node: "b".into(), port: "client".into(), listener, target: target.local_addr()? };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = target.accept() {
                std::thread::spawn(move || echo(stream));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, relay: Relay::start(vec![link], Arc::new(FromA))?, advertised })
    }

    fn set(&self, from: &str, to: &str, cut: Option<CutMode>, shape: Shape) {
        let path = LinkPath { from: from.into(), to: to.into(), port: None, cut, shape };
        assert!(self.runtime.block_on(self.relay.set(vec![path], 1)), "the relay lives");
    }

    fn mend(&self) {
        self.runtime.block_on(self.relay.set(Vec::new(), 1));
    }

    /// Sends pings and returns the round-trip times of the answered ones, in milliseconds.
    fn ping(&self, from: &str, to: &str, count: u32) -> Vec<f64> {
        let how = Pinging { count, every: Duration::from_millis(2), timeout: Duration::from_millis(500) };
        let pings = self.runtime.block_on(self.relay.ping(from, to, None, how));
        pings.map(|pings| pings.answered.into_iter().map(ms).collect()).unwrap_or_default()
    }

    fn dial(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.advertised)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Measures one round trip over a real connection, in milliseconds.
fn trip(stream: &mut TcpStream) -> std::io::Result<f64> {
    let begin = Instant::now();
    stream.write_all(b"ping")?;
    stream.read_exact(&mut [0; 4])?;
    Ok(ms(begin.elapsed()))
}

pub fn links(report: &mut Report, runs: usize) {
    if let Err(error) = measured(report, runs) {
        crate::say(&format!("links: {error}"));
    }
}

fn measured(report: &mut Report, runs: usize) -> std::io::Result<()> {
    let lab = Lab::new()?;
    let delays = [
        ("links: off by, 0.5 ms asked", "links:   by a real connection", 500),
        ("links: off by, 1 ms asked", "links:   by a real connection", 1000),
        ("links: off by, 10 ms asked", "links:   by a real connection", 10_000),
        ("links: off by, 50 ms asked", "links:   by a real connection", 50_000),
        ("links: off by, 200 ms asked", "links:   by a real connection", 200_000),
    ];
    let mut stream = lab.dial()?;
    trip(&mut stream)?;
    for (name, real, micros) in delays {
        let delay = Duration::from_micros(micros);
        let (asked, allowed) = (ms(delay), (ms(delay) * 0.02).max(0.5));
        lab.set("a", "b", None, Shape { delay, ..Shape::default() });
        report.add(name, "ms", allowed, lab.ping("a", "b", 50).into_iter().map(|took| (took - asked).abs()).collect());
        let trips: std::io::Result<Vec<f64>> = (0..20).map(|_| trip(&mut stream).map(|took| (took - asked).abs())).collect();
        report.add(real, "ms", allowed, trips?);
    }
    lab.mend();

    for (name, rate) in [("links: 100 kB/s asked, off by", 100_000), ("links: 10 MB/s asked, off by", 10_000_000)] {
        lab.set("a", "b", None, Shape { rate: Some(rate), ..Shape::default() });
        let measure = || lab.runtime.block_on(lab.relay.throughput("a", "b", None, Duration::from_millis(500)));
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let off = |found: f64| (found / rate as f64 - 1.0).abs() * 100.0;
        report.add(name, "%", 10.0, (0..runs).filter_map(|_| measure().ok()).map(off).collect());
    }
    lab.mend();
    let free = (0..runs).filter_map(|_| lab.runtime.block_on(lab.relay.throughput("a", "b", None, Duration::from_millis(200))).ok());
    report.add("links: without a path", "MB/s", None, free.map(|rate| rate / 1e6).collect());

    let before = lab.ping("c", "b", 50);
    for (name, cut) in [
        ("links: answered through a stall, of 50", CutMode::Stall),
        ("links: answered through a drop, of 50", CutMode::Drop),
        ("links: answered through a reject, of 50", CutMode::Reject),
    ] {
        lab.set("a", "b", Some(cut), Shape::default());
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        report.add(name, "", 0.0, vec![lab.ping("a", "b", 50).len() as f64]);
    }
    lab.set("a", "b", Some(CutMode::Drop), Shape::default());
    let during = lab.ping("c", "b", 50);
    report.add("links: a bystander meanwhile, more", "ms", 0.3, during.iter().zip(&before).map(|(one, other)| one - other).collect());
    lab.mend();

    let (mut set, mut healed) = (Vec::new(), Vec::new());
    let mut stream = lab.dial()?;
    for _ in 0..runs * 6 {
        trip(&mut stream)?;
        let begin = Instant::now();
        lab.set("a", "b", Some(CutMode::Stall), Shape::default());
        set.push(ms(begin.elapsed()));
        stream.write_all(b"held")?;
        let begin = Instant::now();
        lab.mend();
        stream.read_exact(&mut [0; 4])?;
        healed.push(ms(begin.elapsed()));
    }
    report.add("links: to put a path in force", "ms", 10.0, set);
    report.add("links: mended to what was held arriving", "ms", 50.0, healed);
    Ok(())
}
