//! Tests with three hosts in one process, on real sockets and directories.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::log::{LogLevel, LogStyle, NodeLog};

/// State machine that stores all commands in their order.
#[derive(Default)]
struct Journal(Vec<String>);

impl StateMachine for Journal {
    fn apply(&mut self, _index: u64, entry: &[u8]) -> Vec<u8> {
        self.0.push(String::from_utf8_lossy(entry).into_owned());
        self.0.len().to_string().into_bytes()
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.join("\n").into_bytes()
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.0 = String::from_utf8_lossy(snapshot).lines().map(str::to_owned).collect();
        Ok(())
    }
}

struct Trio {
    dir: TempDir,
    addresses: BTreeMap<u64, SocketAddr>,
    spare: BTreeMap<u64, TcpListener>,
    running: BTreeMap<u64, Handle>,
    log_limit: u64,
    /// Factor of all timeouts, relative to those of real TiKV.
    scale: f64,
}

const GROUPS: [u64; 3] = [4, 8, 12];

impl Trio {
    fn new(log_limit: u64) -> Self {
        let spare: BTreeMap<_, _> = (1..=3).map(|host| (host, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let addresses = spare.iter().map(|(host, listener)| (*host, listener.local_addr().unwrap())).collect();
        Self { dir: tempfile::tempdir().unwrap(), addresses, spare, running: BTreeMap::new(), log_limit, scale: 0.04 }
    }

    fn try_start(&mut self, host: u64) -> Result<Handle, StartError> {
        let listener = self.spare.remove(&host).unwrap_or_else(|| TcpListener::bind(self.addresses[&host]).unwrap());
        let config = HostConfig {
            id: host,
            dir: self.dir.path().join(host.to_string()),
            listener,
            peers: self.addresses.iter().map(|(host, address)| (*host, address.to_string())).collect(),
            note: format!("clients of {host}"),
            timing: RaftTiming::scaled(self.scale),
            log_limit: self.log_limit,
            log: NodeLog::new(LogStyle::Tikv, LogLevel::Info, Box::new(std::io::sink())),
            observer: Arc::new(Unobserved),
        };
        let groups = GROUPS.iter().zip(1..).map(|(id, first_leader)| GroupConfig {
            id: *id,
            peers: (1..=3).map(|host| (id + host, host)).collect(),
            first_leader,
            machine: Box::new(Journal::default()),
        });
        Host::start(config, groups.collect())
    }

    fn start(&mut self, host: u64) {
        let handle = self.try_start(host).unwrap();
        self.running.insert(host, handle);
    }

    async fn stop(&mut self, host: u64) {
        self.running.remove(&host).unwrap().stop().await;
    }

    /// Waits until the status of a group on a host satisfies the condition `wanted`, and returns the status.
    async fn until(&self, host: u64, group: u64, wanted: impl FnMut(&GroupStatus) -> bool) -> GroupStatus {
        let mut status = self.running[&host].watch(group).unwrap();
        let outcome = timeout(Duration::from_secs(20), status.wait_for(wanted)).await;
        outcome.unwrap_or_else(|_| panic!("host {host}: {:?}", self.running[&host].status(group))).unwrap().clone()
    }

    /// Returns the handle of the host that leads and serves a group.
    async fn leader(&self, group: u64) -> Handle {
        let any = self.running.keys().next().unwrap();
        loop {
            let status = self.until(*any, group, |status| status.leader_host.is_some()).await;
            let Some(leader) = status.leader_host.and_then(|host| self.running.get(&host)) else {
                self.until(*any, group, |now| now.leader_host != status.leader_host).await;
                continue;
            };
            let mut watch = leader.watch(group).unwrap();
            let serving = watch.wait_for(|status| status.serving);
            if timeout(Duration::from_millis(500), serving).await.is_ok() {
                return leader.clone();
            }
        }
    }

    /// Writes `text` like a client, and retries as long as the command was not applied. If a leader loses its role during the write, the
    /// journal of the next leader shows whether the command was applied. Each text is therefore written once.
    async fn write(&self, group: u64, text: &str) -> Vec<u8> {
        loop {
            match self.leader(group).await.propose(group, text.as_bytes().to_vec()).await {
                Ok(answer) => return answer,
                Err(ProposeError::Unknown) => {
                    let lines = self.read(group).await;
                    if let Some(at) = lines.iter().position(|line| line == text) {
                        return (at + 1).to_string().into_bytes();
                    }
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Reads the journal from the leader. Repeats the read if the leader loses its role.
    async fn read(&self, group: u64) -> Vec<String> {
        loop {
            if let Ok(lines) = self.leader(group).await.read(group, |journal: &Journal| journal.0.clone()).await {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn lines(&self, host: u64, group: u64) -> Vec<String> {
        self.running[&host].peek(group, |journal: &Journal| journal.0.clone()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_spread_and_commands_survive_a_restart() {
    let mut trio = Trio::new(LOG_LIMIT);
    // No leader may change by itself, however busy the machine is.
    trio.scale = 0.3;
    (1..=3).for_each(|host| trio.start(host));
    for (group, host) in GROUPS.iter().zip(1..) {
        trio.until(host, *group, |status| status.serving).await;
    }
    let status = trio.until(2, 8, |status| status.peers.values().all(|peer| peer.matched == status.last_index)).await;
    assert_eq!((status.term, status.peer, status.leader_peer, status.leader_host), (6, 10, Some(10), Some(2)));
    assert_eq!((status.truncated, status.last_index), ((5, 5), 6));

    let mut notes = trio.running[&2].notes();
    timeout(Duration::from_secs(20), notes.wait_for(|notes| notes.len() == 2)).await.unwrap().unwrap();
    assert_eq!(trio.running[&2].note(1).as_deref(), Some("clients of 1"));

    assert_eq!(trio.write(8, "a").await, b"1");
    assert_eq!(trio.write(8, "b").await, b"2");
    let refused = trio.running[&1].propose(8, b"c".to_vec()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader_host: Some(2) }));
    let read = trio.running[&2].read(8, |journal: &Journal| journal.0.len()).await;
    assert_eq!(read, Ok(2));
    assert_eq!(trio.running[&3].read_barrier(8).await, Err(ReadError::NotLeader { leader_host: Some(2) }));
    for host in 1..=3 {
        trio.until(host, 8, |status| status.applied == 8).await;
        assert_eq!(trio.lines(host, 8).await, ["a", "b"]);
        assert!(trio.lines(host, 4).await.is_empty(), "groups are apart");
    }

    trio.running[&2].transfer_leader(8, 3);
    trio.until(1, 8, |status| status.leader_host == Some(3)).await;
    trio.spare.insert(1, TcpListener::bind("127.0.0.1:0").unwrap());
    assert!(matches!(trio.try_start(1), Err(StartError::Locked(_))), "one process a directory");

    for host in 1..=3 {
        trio.stop(host).await;
    }
    (1..=3).for_each(|host| trio.start(host));
    assert_eq!(trio.read(8).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_hosts_continue_and_one_alone_does_not() {
    let mut trio = Trio::new(LOG_LIMIT);
    (1..=3).for_each(|host| trio.start(host));
    trio.write(4, "a").await;
    let first = trio.leader(4).await.id();
    trio.stop(first).await;
    trio.write(4, "b").await;
    let alone = trio.leader(4).await;
    let other = *trio.running.keys().find(|host| **host != alone.id()).unwrap();
    trio.stop(other).await;
    // This host still treats itself as the leader. The proposal ends without outside help and with an unknown outcome.
    let outcome = timeout(Duration::from_secs(20), alone.propose(4, b"c".to_vec())).await.unwrap();
    assert_eq!(outcome, Err(ProposeError::Unknown));
    assert_eq!(alone.propose(4, b"d".to_vec()).await, Err(ProposeError::NotLeader { leader_host: None }));
    assert!(alone.read_barrier(4).await.is_err());
    assert_eq!(trio.lines(alone.id(), 4).await, ["a", "b"], "nothing is applied without a quorum");
    trio.start(other);
    trio.write(4, "e").await;
    let lines = trio.lines(trio.leader(4).await.id(), 4).await;
    assert!(lines == ["a", "b", "e"] || lines == ["a", "b", "c", "e"], "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_behind_the_compacted_log_gets_a_snapshot() {
    let mut trio = Trio::new(4096);
    (1..=3).for_each(|host| trio.start(host));
    trio.write(12, "first").await;
    trio.stop(1).await;
    // The other group must neither prevent the compaction nor lose data in the compaction.
    trio.write(4, "beside").await;
    let mut written = 1;
    while trio.leader(12).await.status(12).unwrap().truncated.0 < 100 {
        written += 1;
        trio.write(12, &format!("line {written} {}", "x".repeat(100))).await;
    }
    let last = trio.leader(12).await.status(12).unwrap().last_index;
    trio.start(1);
    let caught_up = trio.until(1, 12, |status| status.applied >= last).await;
    assert!(caught_up.truncated.0 >= 100, "by a snapshot: {caught_up:?}");
    assert_eq!(trio.lines(1, 12).await.len(), written);
    // The received snapshot is on the disk of this host.
    for host in [1, 2, 3] {
        trio.stop(host).await;
    }
    trio.start(1);
    assert_eq!(trio.lines(1, 12).await.len(), written);
    trio.start(2);
    trio.write(12, "last").await;
    assert_eq!(trio.read(12).await.len(), written + 1);
    assert_eq!(trio.read(4).await, ["beside"]);
}
