//! Raft group on a host: Raft node, state machine and pending requests of the group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use raft::eraftpb::{Entry, HardState, Message, Snapshot};
use raft::{ProgressState, RawNode, Ready, SnapshotStatus, StateRole};
use tokio::sync::{broadcast, watch};

use super::config::StateMachine;
use super::handle::{GroupStatus, PeerStatus, ProposalReply, ProposeError, RaftRole, ReadError, ReadReply, RoleChange};
use super::link::HostLinks;
use super::store::{FIRST_INDEX, GroupStore};

struct Proposal {
    index: u64,
    term: u64,
    reply: ProposalReply,
}

pub(super) struct Group {
    pub(super) id: u64,
    /// Host ids of the group's peers by peer id.
    pub(super) peers: BTreeMap<u64, u64>,
    pub(super) first_leader: u64,
    pub(super) node: RawNode<GroupStore>,
    pub(super) machine: Box<dyn StateMachine>,
    /// Index and term of the last applied entry.
    pub(super) applied: (u64, u64),
    /// Index and term of the newest snapshot on disk.
    pub(super) saved: (u64, u64),
    /// True if the commit index changed since the hard state was last written. The hard state is then written with the next frame. A crash
    /// before that loses only the commit index, which Raft can recover.
    pub(super) hard_waits: bool,
    proposals: VecDeque<Proposal>,
    /// Read requests that are not yet passed to Raft.
    asked: Vec<ReadReply>,
    /// Read requests that were passed to Raft, by context number. The requests wait for a quorum to confirm the leadership.
    issued: BTreeMap<u64, Vec<ReadReply>>,
    /// Confirmed read requests, each with the log index that must be applied before the answer.
    confirmed: Vec<(u64, Vec<ReadReply>)>,
    next_context: u64,
    heard: BTreeMap<u64, Instant>,
    status: watch::Sender<GroupStatus>,
    events: broadcast::Sender<RoleChange>,
}

pub(super) struct GroupParts {
    pub(super) id: u64,
    pub(super) peers: BTreeMap<u64, u64>,
    pub(super) first_leader: u64,
    pub(super) node: RawNode<GroupStore>,
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) applied: (u64, u64),
    pub(super) events: broadcast::Sender<RoleChange>,
}

impl Group {
    pub(super) fn new(parts: GroupParts) -> Self {
        let GroupParts { id, peers, first_leader, node, machine, applied, events } = parts;
        let (status, _) = watch::channel(describe(id, &peers, &node, applied, &BTreeMap::new()));
        Self {
            id,
            peers,
            first_leader,
            node,
            machine,
            applied,
            saved: applied,
            hard_waits: false,
            proposals: VecDeque::new(),
            asked: Vec::new(),
            issued: BTreeMap::new(),
            confirmed: Vec::new(),
            next_context: 0,
            heard: BTreeMap::new(),
            status,
            events,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.status.subscribe()
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn leader_host(&self) -> Option<u64> {
        self.peers.get(&self.node.raft.leader_id).copied()
    }

    /// Returns true if the group is new and has no entries.
    pub(super) fn is_new(&self) -> bool {
        self.node.raft.raft_log.last_index() == FIRST_INDEX && self.node.raft.leader_id == 0
    }

    pub(super) fn propose(&mut self, data: Vec<u8>, reply: ProposalReply) {
        if !self.leads() {
            let _ = reply.send(Err(ProposeError::NotLeader { leader_host: self.leader_host() }));
            return;
        }
        match self.node.propose(Vec::new(), data) {
            Ok(()) => {
                let raft = &self.node.raft;
                self.proposals.push_back(Proposal { index: raft.raft_log.last_index(), term: raft.term, reply });
            }
            // The leadership is being transferred.
            Err(_) => drop(reply.send(Err(ProposeError::Dropped))),
        }
    }

    pub(super) fn read(&mut self, read: ReadReply) {
        if self.leads() {
            self.asked.push(read);
        } else {
            read(Err(ReadError::NotLeader { leader_host: self.leader_host() }));
        }
    }

    /// Passes all pending read requests to Raft as one read.
    pub(super) fn issue_reads(&mut self) {
        // A new leader drops read requests until an entry of its own term is committed.
        if self.asked.is_empty() || !self.leads() || !self.node.raft.commit_to_current_term() {
            return;
        }
        self.next_context += 1;
        self.node.read_index(self.next_context.to_le_bytes().to_vec());
        self.issued.insert(self.next_context, std::mem::take(&mut self.asked));
    }

    /// Processes a Raft message of another peer. Ignores errors, which mean that the message was for another peer or arrived too late.
    pub(super) fn step(&mut self, message: Message) {
        if message.to != self.node.raft.id || !self.peers.contains_key(&message.from) {
            return;
        }
        self.heard.insert(message.from, Instant::now());
        let _ = self.node.step(message);
    }

    pub(super) fn peer_on(&self, host: u64) -> Option<u64> {
        self.peers.iter().find(|(_, on)| **on == host).map(|(peer, _)| *peer)
    }

    pub(super) fn transfer(&mut self, to_host: u64) {
        if let Some(peer) = self.peer_on(to_host)
            && self.leads()
        {
            self.node.transfer_leader(peer);
        }
    }

    pub(super) fn unreachable(&mut self, peer: u64) {
        if self.leads() {
            self.node.report_unreachable(peer);
        }
    }

    pub(super) fn snapshot_sent(&mut self, peer: u64, arrived: bool) {
        let outcome = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer, outcome);
    }

    /// Replaces the state of the machine by a snapshot that is already on disk.
    pub(super) fn install(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let meta = snapshot.get_metadata();
        self.machine.restore(snapshot.get_data())?;
        self.applied = (meta.index, meta.term);
        self.saved = self.applied;
        self.node.mut_store().install(meta.index, meta.term);
        // The snapshot may contain the results of proposals of this host.
        self.fail_proposals(ProposeError::Unknown);
        Ok(())
    }

    /// Processes a `Ready` of the Raft library, whose entries and hard state are already on disk. Returns the number of applied entries.
    pub(super) fn finish(&mut self, mut ready: Ready, network: &mut HostLinks) -> usize {
        let store = self.node.mut_store();
        if let Some(hard) = ready.hs() {
            store.set_hard(hard.clone());
        }
        store.append(ready.take_entries());
        self.send(&ready.take_persisted_messages(), network);
        for state in ready.take_read_states() {
            let context = <[u8; 8]>::try_from(state.request_ctx.as_slice()).map(u64::from_le_bytes);
            if let Some(reads) = context.ok().and_then(|context| self.issued.remove(&context)) {
                self.confirmed.push((state.index, reads));
            }
        }
        let turned = ready.ss().is_some();
        let mut applied = self.apply(ready.take_committed_entries());
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            let store = self.node.mut_store();
            let mut hard: HardState = store.hard().clone();
            hard.commit = commit;
            store.set_hard(hard);
            self.hard_waits = true;
        }
        self.send(&light.take_messages(), network);
        applied += self.apply(light.take_committed_entries());
        self.node.advance_apply_to(self.applied.0);
        self.settle(turned);
        applied
    }

    pub(super) fn send(&self, messages: &[Message], network: &mut HostLinks) {
        for message in messages {
            if let Some(host) = self.peers.get(&message.to) {
                network.send(self.id, *host, message);
            }
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) -> usize {
        let count = entries.len();
        for entry in entries {
            // The first entry of a new leader is empty.
            let answer = if entry.get_data().is_empty() { Vec::new() } else { self.machine.apply(entry.index, entry.get_data()) };
            self.applied = (entry.index, entry.term);
            while self.proposals.front().is_some_and(|proposal| proposal.index <= entry.index) {
                let Some(proposal) = self.proposals.pop_front() else { break };
                let ours = (proposal.index, proposal.term) == (entry.index, entry.term);
                let _ = proposal.reply.send(if ours { Ok(answer.clone()) } else { Err(ProposeError::Dropped) });
            }
        }
        count
    }

    /// Answers the pending requests that the new state of the group decides. `turned` is true if the role or the leader changed.
    fn settle(&mut self, turned: bool) {
        let applied = self.applied.0;
        for (_, reads) in self.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            for read in reads {
                read(Ok(&*self.machine));
            }
        }
        let term = self.node.raft.term;
        if !self.leads() || self.proposals.back().is_some_and(|proposal| proposal.term != term) {
            self.fail_proposals(ProposeError::Unknown);
        }
        if !self.leads() {
            self.fail_reads(ReadError::NotLeader { leader_host: self.leader_host() });
        }
        if turned {
            let status = self.describe();
            // The status is published before the event, since receivers of the event read the status next.
            self.status.send_replace(status.clone());
            let GroupStatus { group, role, term, leader_peer, leader_host, .. } = status;
            // Sending fails if no receiver exists.
            let _ = self.events.send(RoleChange { group, role, term, leader_peer, leader_host });
        }
    }

    pub(super) fn fail_proposals(&mut self, error: ProposeError) {
        for proposal in self.proposals.drain(..) {
            let _ = proposal.reply.send(Err(error));
        }
    }

    pub(super) fn fail_reads(&mut self, error: ReadError) {
        let issued = std::mem::take(&mut self.issued).into_values().flatten();
        for read in std::mem::take(&mut self.asked).into_iter().chain(issued) {
            read(Err(error));
        }
    }

    pub(super) fn publish(&self) {
        self.status.send_replace(self.describe());
    }

    /// Publishes a status as a follower without a leader. Used while the host takes no part in elections and replication.
    pub(super) fn publish_mute(&self) {
        let status = GroupStatus { role: RaftRole::Follower, leader_peer: None, leader_host: None, serving: false, ..self.describe() };
        self.status.send_replace(GroupStatus { peers: BTreeMap::new(), ..status });
    }

    fn describe(&self) -> GroupStatus {
        describe(self.id, &self.peers, &self.node, self.applied, &self.heard)
    }
}

fn describe(
    group: u64,
    hosts: &BTreeMap<u64, u64>,
    node: &RawNode<GroupStore>,
    applied: (u64, u64),
    heard: &BTreeMap<u64, Instant>,
) -> GroupStatus {
    let raft = &node.raft;
    let role = RaftRole::from(raft.state);
    let peers = if role == RaftRole::Leader {
        let progress = raft.prs().iter().filter_map(|(id, progress)| {
            let peer = PeerStatus {
                host: *hosts.get(id)?,
                matched: progress.matched,
                next_index: progress.next_idx,
                state: match progress.state {
                    ProgressState::Probe => "Probe",
                    ProgressState::Replicate => "Replicate",
                    ProgressState::Snapshot => "Snapshot",
                },
                paused: progress.paused,
                pending_snapshot: progress.pending_snapshot,
                recent_active: progress.recent_active,
                heard: heard.get(id).copied(),
            };
            Some((*id, peer))
        });
        progress.collect()
    } else {
        BTreeMap::new()
    };
    GroupStatus {
        group,
        peer: raft.id,
        role,
        term: raft.term,
        vote: raft.vote,
        leader_peer: (raft.leader_id != 0).then_some(raft.leader_id),
        leader_host: hosts.get(&raft.leader_id).copied(),
        commit: raft.raft_log.committed,
        commit_term: raft.raft_log.term(raft.raft_log.committed).unwrap_or(applied.1),
        applied: applied.0,
        truncated: node.store().base(),
        last_index: raft.raft_log.last_index(),
        persisted: raft.raft_log.persisted,
        serving: role == RaftRole::Leader && raft.commit_to_current_term(),
        peers,
    }
}
