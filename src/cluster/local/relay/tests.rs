use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, TcpStream};
use std::time::{Duration, Instant};

use super::*;

/// Far beyond anything that works; it only ends a test that would hang.
const LONG: Duration = Duration::from_secs(20);

/// Everybody who dials is this node.
struct Always(&'static str);

impl Owners for Always {
    fn source(&self, _peer: SocketAddr, _local: SocketAddr) -> Source {
        Source::Node(self.0.into())
    }
}

/// Node `b` behind a relay that takes every dialler for node `a`.
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

    /// A connection that has carried a byte each way.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let mut client = self.dial();
        let mut server = self.accept();
        say(&mut client, "hello");
        hear(&mut server, "hello");
        say(&mut server, "welcome");
        hear(&mut client, "welcome");
        (client, server)
    }

    fn cut(&self, from: &str, to: &str, cut: Cut) {
        let rule = Rule { from: Source::Node(from.into()), to: Source::Node(to.into()), port: None, effect: Effect::Cut(cut) };
        self.relay.put("cut", vec![rule]);
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("write");
}

fn hear(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).expect("read");
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

/// Reads until the connection breaks, and says how.
fn broken(stream: &mut TcpStream) -> ErrorKind {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect_err("a reset").kind()
}

#[test]
fn bytes_arrive_whole_under_back_pressure_and_each_half_closes_by_itself() {
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
fn a_dead_target_is_reset_a_refusing_one_refused_and_the_port_stays() {
    let mut fixture = Fixture::new();
    let target = fixture.target.take().expect("alive");
    let address = target.local_addr().expect("address");
    drop(target);
    assert_eq!(broken(&mut fixture.dial()), ErrorKind::ConnectionReset);
    // Suspended and back, several times: each time at the same address.
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
fn a_stalled_direction_waits_and_the_other_goes_on() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.cut("a", "b", Cut::Stall);
    say(&mut client, "one");
    say(&mut server, "still served");
    hear(&mut client, "still served");
    // A new connection needs both directions.
    let mut late = fixture.dial();
    say(&mut late, "late");
    server.set_nonblocking(true).expect("nonblocking");
    assert_eq!(server.read(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).expect("blocking");
    fixture.relay.remove("cut");
    say(&mut client, "two");
    hear(&mut server, "onetwo");
    hear(&mut fixture.accept(), "late");
}

#[test]
fn a_black_hole_swallows_and_what_lost_bytes_is_reset_when_it_closes() {
    let fixture = Fixture::new();
    let (mut quiet, mut quiet_server) = fixture.pair();
    let (mut client, mut server) = fixture.pair();
    // The rule names the sender, not the dialler: here the listener's bytes vanish.
    fixture.cut("b", "a", Cut::Drop);
    say(&mut server, "lost");
    say(&mut client, "arrives");
    hear(&mut server, "arrives");
    // Only when the relay has read the lost bytes is the connection broken; a second round proves that it has.
    let mut filler = vec![0; 16 * 1024 * 1024];
    filler.fill(1);
    server.write_all(&filler).expect("a black hole gives no back-pressure");
    fixture.relay.remove("cut");
    assert_eq!(broken(&mut client), ErrorKind::ConnectionReset);
    say(&mut quiet_server, "fine");
    hear(&mut quiet, "fine");
}

#[test]
fn a_rejected_pair_is_reset_at_once_and_comes_back() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    fixture.cut("a", "b", Cut::Reject);
    assert_eq!(broken(&mut client), ErrorKind::ConnectionReset);
    assert_eq!(broken(&mut server), ErrorKind::ConnectionReset);
    assert_eq!(broken(&mut fixture.dial()), ErrorKind::ConnectionReset);
    fixture.relay.remove("cut");
    fixture.pair();
}

#[test]
fn a_delay_adds_up_keeps_order_and_spares_the_way_back() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.pair();
    let delay = Effect::Delay(Duration::from_millis(20));
    let rule = Rule { from: Source::Node("a".into()), to: Source::Node("b".into()), port: Some("client".into()), effect: delay };
    fixture.relay.put("slow", vec![rule.clone()]);
    fixture.relay.put("slower", vec![rule]);
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
}

#[tokio::test]
async fn connections_are_counted_by_their_source_and_stop_closes_all() {
    struct Real;
    impl Owners for Real {
        fn source(&self, peer: SocketAddr, local: SocketAddr) -> Source {
            match owner::socket_inode(peer, local) {
                Ok(inode) if owner::pid_has_inode(std::process::id(), inode) => Source::Workload,
                _ => Source::Outside,
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
    assert_eq!(relay.connections(), BTreeMap::from([((Source::Workload, "b".into(), "client".into()), 1)]));
    relay.stop().await;
    relay.stop().await;
    assert_eq!(client.read(&mut [0; 8]).expect("closed"), 0);
    assert!(TcpStream::connect(advertised).is_err());
    assert!(relay.connections().is_empty());
}
