use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use chaosrun_cluster::fault_control::Distribution;
use chaosrun_cluster::{CutMode, LinkCounters, Shape};

/// Safety limit of waits in tests, far beyond every expected duration.
const LONG: Duration = Duration::from_secs(20);

/// Lookup that identifies every client as the node with this name.
struct Always(&'static str);

impl Owners for Always {
    fn source(&self, _peer: SocketAddr, _local: SocketAddr) -> ConnectionSource {
        ConnectionSource::Node(self.0.into())
    }
}

/// Test fixture: node `b` behind a relay that identifies every client as node `a`.
struct Fixture {
    relay: Relay,
    target: Option<TcpListener>,
    advertised: SocketAddr,
}

impl Fixture {
    fn new() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").expect("bind");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let advertised = listener.local_addr().expect("address");
        let link = RelayLink { node: "b".into(), port: "client".into(), listener, target: target.local_addr().expect("address") };
        let relay = Relay::start(vec![link], Arc::new(Always("a"))).expect("relay");
        Self { relay, target: Some(target), advertised }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.advertised).expect("connect");
        stream.set_read_timeout(Some(LONG)).expect("timeout");
        stream
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.target.as_ref().expect("alive").accept().expect("accept");
        stream.set_read_timeout(Some(LONG)).expect("timeout");
        stream
    }

    /// Opens a connection and transfers a byte in each direction. Returns both ends.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let mut client = self.dial();
        let mut server = self.accept();
        say(&mut client, "hello");
        hear(&mut server, "hello");
        say(&mut server, "welcome");
        hear(&mut client, "welcome");
        (client, server)
    }

    fn set(&self, paths: Vec<LinkPath>) {
        assert!(block_on(self.relay.set(paths, 7)), "the relay lives");
    }

    fn shape(&self, from: &str, to: &str, shape: Shape) {
        self.set(vec![LinkPath { from: from.into(), to: to.into(), port: None, cut: None, shape }]);
    }

    fn cut(&self, from: &str, to: &str, cut: CutMode) {
        self.set(vec![LinkPath { from: from.into(), to: to.into(), port: None, cut: Some(cut), shape: Shape::default() }]);
    }

    fn mend(&self) {
        self.set(Vec::new());
    }

    /// Returns the counters of the only active path.
    fn counted(&self) -> LinkCounters {
        let states = block_on(self.relay.states());
        assert_eq!(states.len(), 1, "{states:?}");
        states[0].counted.expect("counted")
    }

    /// Waits until the counters of the relay satisfy the condition `what`. The time limit only ends a broken test.
    fn until_counted(&self, what: impl Fn(&LinkCounters) -> bool) -> LinkCounters {
        let begun = Instant::now();
        loop {
            let counted = self.counted();
            if what(&counted) {
                return counted;
            }
            assert!(begun.elapsed() < LONG, "{counted:?}");
        }
    }
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(what)
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("write");
}

fn hear(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).expect("read");
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

/// Reads until the connection breaks. Returns the kind of the error.
fn broken(stream: &mut TcpStream) -> ErrorKind {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect_err("a reset").kind()
}

#[test]
fn bytes_arrive_under_back_pressure_and_each_half_closes_separately() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).expect("write");
        client.shutdown(Half::Write).expect("half-close");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answer");
        answer
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).expect("read");
    assert!(received == expected, "8 MB arrive unchanged");
    say(&mut server, "after your end");
    drop(server);
    assert_eq!(writer.join().expect("join"), "after your end");
}

#[test]
fn dead_target_resets_refusing_one_refuses_and_the_port_stays() {
    let mut fixture = Fixture::new();
    let target = fixture.target.take().expect("alive");
    let address = target.local_addr().expect("address");
    drop(target);
    assert_eq!(broken(&mut fixture.dial()), ErrorKind::ConnectionReset);
    // The node is suspended and resumed several times, each time at the same address.
    for _ in 0..3 {
        fixture.relay.refuse("b");
        assert_eq!(TcpStream::connect(fixture.advertised).expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind(fixture.advertised).is_err(), "the port is still held");
        fixture.target = None;
        fixture.target = Some(TcpListener::bind(address).expect("bind"));
        fixture.relay.admit("b").expect("admit");
        fixture.pair();
    }
}

#[test]
fn stalled_direction_waits_and_the_other_continues() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.cut("a", "b", CutMode::Stall);
    say(&mut client, "one");
    fixture.until_counted(|counted| (counted.packets, counted.bytes, counted.dropped) == (1, 3, 1));
    say(&mut server, "still served");
    hear(&mut client, "still served");
    // A new connection needs both directions, so a cut in one direction blocks it.
    let mut late = fixture.dial();
    say(&mut late, "late");
    server.set_nonblocking(true).expect("nonblocking");
    assert_eq!(server.read(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).expect("blocking");
    fixture.mend();
    say(&mut client, "two");
    hear(&mut server, "onetwo");
    hear(&mut fixture.accept(), "late");
}

#[test]
fn black_hole_swallows_and_streams_with_lost_bytes_are_reset_when_it_ends() {
    let fixture = Fixture::new();
    let (mut quiet, mut quiet_server) = fixture.pair();
    let (mut client, mut server) = fixture.pair();
    // A path names the sender of bytes, not the client. Here the bytes from the listener to the client vanish.
    fixture.cut("b", "a", CutMode::Drop);
    say(&mut server, "lost");
    say(&mut client, "arrives");
    hear(&mut server, "arrives");
    // The connection breaks only after the relay has read the lost bytes. A second round of writes proves that the relay has read them.
    let mut filler = vec![0; 16 * 1024 * 1024];
    filler.fill(1);
    server.write_all(&filler).expect("a black hole gives no back-pressure");
    fixture.mend();
    assert_eq!(broken(&mut client), ErrorKind::ConnectionReset);
    say(&mut quiet_server, "fine");
    hear(&mut quiet, "fine");
}

#[test]
fn rejected_pair_is_reset_at_once_and_recovers() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.cut("a", "b", CutMode::Reject);
    assert_eq!(broken(&mut client), ErrorKind::ConnectionReset);
    assert_eq!(broken(&mut server), ErrorKind::ConnectionReset);
    assert_eq!(broken(&mut fixture.dial()), ErrorKind::ConnectionReset);
    fixture.mend();
    fixture.pair();
}

#[test]
fn delay_keeps_order_and_affects_one_direction() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.shape("a", "b", Shape { delay: Duration::from_millis(40), ..Shape::default() });
    let began = Instant::now();
    say(&mut client, "1");
    say(&mut client, "2");
    client.shutdown(Half::Write).expect("half-close");
    let mut received = String::new();
    server.read_to_string(&mut received).expect("read");
    assert_eq!(received, "12");
    assert!(began.elapsed() >= Duration::from_millis(40));
    say(&mut server, "back");
    hear(&mut client, "back");
    let counted = fixture.counted();
    assert!(counted.packets >= 1 && counted.bytes == 2 && counted.delayed == counted.packets, "{counted:?}");
}

#[test]
fn data_in_flight_arrives_at_once_when_a_link_is_healed() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.shape("a", "b", Shape { delay: Duration::from_secs(3600), rate: Some(1000), ..Shape::default() });
    say(&mut client, "long ");
    fixture.until_counted(|counted| counted.delayed == 1);
    // This connection is dialled while a delay of two hours is active.
    let mut late = fixture.dial();
    say(&mut late, "late");
    fixture.mend();
    say(&mut client, "ago");
    hear(&mut server, "long ago");
    hear(&mut fixture.accept(), "late");
}

#[test]
fn jitter_never_reorders_a_connection() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    let (delay, jitter) = (Duration::from_millis(2), Duration::from_millis(2));
    fixture.shape("a", "b", Shape { delay, jitter, distribution: Distribution::Normal, ..Shape::default() });
    let sent: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        // Each chunk is a separate message, as far as the relay keeps up.
        client.set_nodelay(true).expect("set");
        sent.chunks(4).for_each(|four| client.write_all(four).expect("write"));
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).expect("read");
    writer.join().expect("join");
    assert!(received == expected, "8 kB in order");
}

#[test]
fn seed_selects_connections_that_are_reset_at_their_first_data() {
    let share = Shape { reset: 0.5, ..Shape::default() };
    let reset = || -> Vec<bool> {
        let fixture = Fixture::new();
        fixture.shape("b", "a", share);
        let reset = (0..12).map(|_| {
            let (mut client, mut server) = (fixture.dial(), fixture.accept());
            say(&mut client, "towards it all is well");
            hear(&mut server, "towards it all is well");
            say(&mut server, "yes");
            let mut answer = [0; 3];
            let answered = client.read_exact(&mut answer);
            if answered.is_err() {
                assert_eq!(broken(&mut server), ErrorKind::ConnectionReset, "both ends");
            }
            answered.is_err()
        });
        let reset: Vec<bool> = reset.collect();
        let wanted = reset.iter().filter(|reset| **reset).count();
        assert_eq!(fixture.counted().reset, wanted as u64);
        reset
    };
    let first = reset();
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(first, reset());
}

#[test]
fn open_connections_are_reset_too() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.shape("a", "b", Shape { reset: 1.0, ..Shape::default() });
    say(&mut server, "this way goes on");
    hear(&mut client, "this way goes on");
    say(&mut client, "x");
    assert_eq!(broken(&mut server), ErrorKind::ConnectionReset);
    fixture.mend();
    fixture.pair();
}

#[test]
fn a_rate_is_shared_by_all_connections_of_the_path() {
    const BYTES: usize = 100_000;
    let fixture = Fixture::new();
    let pairs: Vec<_> = (0..2).map(|_| fixture.pair()).collect();
    fixture.shape("a", "b", Shape { rate: Some(1_000_000), ..Shape::default() });
    let began = Instant::now();
    let readers: Vec<_> = pairs
        .into_iter()
        .map(|(mut client, mut server)| {
            thread::spawn(move || {
                let writer = thread::spawn(move || client.write_all(&vec![7; BYTES]).map(|()| client));
                server.read_exact(&mut vec![0; BYTES]).expect("read");
                writer.join().expect("join").expect("written")
            })
        })
        .collect();
    for reader in readers {
        drop(reader.join().expect("join"));
    }
    // 200 kB at 1 MB/s, less the time that the path may catch up. The test has no upper limit, which would depend on the machine.
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    let counted = fixture.counted();
    assert!(counted.bytes == 200_000 && (1..=counted.packets).contains(&counted.delayed), "{counted:?}");
}

#[tokio::test]
async fn measurements_experience_the_same_as_nodes() {
    let fixture = Fixture::new();
    let path = |from: &str, to: &str, shape| LinkPath { from: from.into(), to: to.into(), port: None, cut: None, shape };
    let (there, back) = (Duration::from_millis(30), Duration::from_millis(20));
    let slow = vec![
        path("a", "b", Shape { delay: there, ..Shape::default() }),
        path("b", "a", Shape { delay: back, rate: Some(500_000), ..Shape::default() }),
    ];
    assert!(fixture.relay.set(slow, 1).await);
    let how = Pinging { count: 5, every: Duration::from_millis(1), timeout: LONG };
    let pings = fixture.relay.ping("a", "b", None, how).await.expect("pinged");
    assert_eq!((pings.sent, pings.answered.len()), (5, 5));
    assert!(pings.answered.iter().all(|took| *took >= there + back && *took < 10 * (there + back)), "{pings:?}");
    let rate = fixture.relay.throughput("b", "a", Some("client"), Duration::from_millis(300)).await.expect("measured");
    assert!((250_000.0..=600_000.0).contains(&rate), "{rate}");

    let cut = |mode| vec![LinkPath { cut: Some(mode), ..path("b", "a", Shape::default()) }];
    assert!(fixture.relay.set(cut(CutMode::Drop), 1).await);
    let how = Pinging { timeout: Duration::from_millis(20), ..how };
    let pings = fixture.relay.ping("a", "b", None, how).await.expect("pinged");
    assert_eq!((pings.sent, pings.answered.len()), (5, 0));
    let dropped = fixture.relay.states().await[0].counted.expect("counted").dropped;
    assert!((1..=5).contains(&dropped), "{dropped}: pings may be read together");
    assert!(fixture.relay.set(cut(CutMode::Reject), 1).await);
    assert_eq!(fixture.relay.ping("a", "b", None, how).await, Err("was reset".into()));
    fixture.relay.stop().await;
    assert!(!fixture.relay.set(Vec::new(), 1).await && fixture.relay.ping("a", "b", None, how).await.is_err());
}

#[tokio::test]
async fn connections_are_counted_by_source_and_stop_closes_all() {
    struct Real;
    impl Owners for Real {
        fn source(&self, peer: SocketAddr, local: SocketAddr) -> ConnectionSource {
            match owner::socket_inode(peer, local) {
                Ok(inode) if owner::pid_has_inode(std::process::id(), inode) => ConnectionSource::Workload,
                _ => ConnectionSource::Outside,
            }
        }
    }
    let target = TcpListener::bind("127.0.0.1:0").expect("bind");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let advertised = listener.local_addr().expect("address");
    let link = RelayLink { node: "b".into(), port: "client".into(), listener, target: target.local_addr().expect("address") };
    let relay = Relay::start(vec![link], Arc::new(Real)).expect("relay");
    let mut client = TcpStream::connect(advertised).expect("connect");
    let (mut server, _) = target.accept().expect("accept");
    say(&mut client, "named");
    hear(&mut server, "named");
    assert_eq!(relay.connections(), BTreeMap::from([((ConnectionSource::Workload, "b".into(), "client".into()), 1)]));
    relay.stop().await;
    relay.stop().await;
    assert_eq!(client.read(&mut [0; 8]).expect("closed"), 0);
    assert!(TcpStream::connect(advertised).is_err());
    assert!(relay.connections().is_empty());
}
