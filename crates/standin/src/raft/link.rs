//! Messages between hosts over plain TCP.
//!
//! A link has one direction: each host dials every other one and only writes. The accepting side only reads, after it has answered the
//! greeting with one byte. Greeting: `magic | kind u8 | from u64 | to u64 | cluster u64 | note length u16 | note`. Frame: `length u32 |
//! group u64 | message`, where length counts group and message. A snapshot has its own connection, acknowledged by one byte, so that
//! heartbeats do not wait behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::HostObserver;
use super::handle::Input;
use crate::log::NodeLog;

const MAGIC: &[u8; 8] = b"CRRAFT1\n";
const GREETING: usize = 33;
const ACCEPTED: u8 = 1;
/// Largest accepted frame; only snapshots come near it.
const FRAME_LIMIT: usize = 256 << 20;
/// Capacity of a link's queue in batches. A link that is too slow loses messages, which Raft sends again.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 64 << 20;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// Time without progress after which an established link is replaced.
const STUCK: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Messages,
    Snapshot,
}

/// State shared by all tasks of the network.
struct Shared {
    id: u64,
    /// Cluster id, checked in greetings: a port may have belonged to another cluster shortly before.
    cluster: u64,
    note: String,
    inbox: SyncSender<Input>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    observer: Arc<dyn HostObserver>,
    log: NodeLog,
}

/// Links of the host, used from its thread; never blocks.
pub(super) struct HostLinks {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    links: BTreeMap<u64, Link>,
    lost: BTreeSet<(u64, u64)>,
}

struct Link {
    address: String,
    queue: mpsc::Sender<Vec<u8>>,
    up: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    pending: Vec<u8>,
    /// Pairs (group, peer) of the messages in `pending`.
    meant: BTreeSet<(u64, u64)>,
}

pub(super) struct NetworkConfig {
    pub(super) id: u64,
    pub(super) listener: StdListener,
    pub(super) peers: BTreeMap<u64, String>,
    pub(super) note: String,
    pub(super) inbox: SyncSender<Input>,
    pub(super) cancel: CancellationToken,
    /// All tasks of the network, awaited at the end.
    pub(super) tasks: TaskTracker,
    pub(super) observer: Arc<dyn HostObserver>,
    pub(super) log: NodeLog,
}

impl HostLinks {
    /// Listens and begins to dial. Must be called within a tokio runtime.
    pub(super) fn start(config: NetworkConfig) -> io::Result<Self> {
        let NetworkConfig { id, listener, peers, note, inbox, cancel, tasks, observer, log } = config;
        let mut hasher = blake3::Hasher::new();
        for (host, address) in &peers {
            hasher.update(format!("{host}={address}\n").as_bytes());
        }
        let cluster = hasher.finalize().as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let shared = Arc::new(Shared { id, cluster, note, inbox, cancel, tasks, observer, log });
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Handle::current();
        shared.tasks.spawn(accept(TcpListener::from_std(listener)?, Arc::clone(&shared)));
        let links = peers
            .into_iter()
            .filter(|(host, _)| *host != id)
            .map(|(host, address)| {
                let (queue, waiting_batches) = mpsc::channel(QUEUE);
                let (up, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
                let dialer = Dialer {
                    host,
                    address: address.clone(),
                    queue: waiting_batches,
                    up: Arc::clone(&up),
                    waiting: Arc::clone(&waiting),
                    shared: Arc::clone(&shared),
                };
                shared.tasks.spawn(dialer.run());
                (host, Link { address, queue, up, waiting, pending: Vec::new(), meant: BTreeSet::new() })
            })
            .collect();
        Ok(Self { shared, runtime, links, lost: BTreeSet::new() })
    }

    /// Queues a message, sent by the next [`HostLinks::flush`].
    pub(super) fn send(&mut self, group: u64, host: u64, message: &Message) {
        let Some(link) = self.links.get_mut(&host) else { return };
        let kind = kind_name(message.get_msg_type());
        let up = link.up.load(Ordering::Relaxed);
        self.shared.observer.message(kind, up);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let task = send_snapshot(link.address.clone(), host, group, message.clone(), Arc::clone(&self.shared));
            self.shared.tasks.spawn_on(task, &self.runtime);
        } else if !up || encode(&mut link.pending, group, message).is_err() {
            self.lost.insert((group, message.to));
            self.shared.observer.unreachable(host);
        } else {
            link.meant.insert((group, message.to));
        }
    }

    /// Passes queued messages to the links. Returns the pairs (group, peer) whose messages were lost.
    pub(super) fn flush(&mut self) -> BTreeSet<(u64, u64)> {
        for (host, link) in &mut self.links {
            if link.pending.is_empty() {
                continue;
            }
            let batch = std::mem::take(&mut link.pending);
            let meant = std::mem::take(&mut link.meant);
            let length = batch.len();
            let fits = link.waiting.load(Ordering::Relaxed) + length <= QUEUE_BYTES;
            link.waiting.fetch_add(length, Ordering::Relaxed);
            if !fits || link.queue.try_send(batch).is_err() {
                link.waiting.fetch_sub(length, Ordering::Relaxed);
                self.shared.observer.unreachable(*host);
                self.lost.extend(meant);
            }
        }
        std::mem::take(&mut self.lost)
    }
}

/// TiKV's names of message types in its metrics.
fn kind_name(kind: MessageType) -> &'static str {
    match kind {
        MessageType::MsgAppend => "append",
        MessageType::MsgAppendResponse => "append_resp",
        MessageType::MsgRequestPreVote => "prevote",
        MessageType::MsgRequestPreVoteResponse => "prevote_resp",
        MessageType::MsgRequestVote => "vote",
        MessageType::MsgRequestVoteResponse => "vote_resp",
        MessageType::MsgSnapshot => "snapshot",
        MessageType::MsgHeartbeat => "heartbeat",
        MessageType::MsgHeartbeatResponse => "heartbeat_resp",
        MessageType::MsgTransferLeader => "transfer_leader",
        MessageType::MsgTimeoutNow => "timeout_now",
        MessageType::MsgReadIndex => "read_index",
        MessageType::MsgReadIndexResp => "read_index_resp",
        _ => "other",
    }
}

fn encode(out: &mut Vec<u8>, group: u64, message: &Message) -> io::Result<()> {
    let body = message.write_to_bytes()?;
    let length = u32::try_from(body.len() + 8).map_err(|_| io::ErrorKind::InvalidInput)?;
    if body.len() + 8 > FRAME_LIMIT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    out.extend(length.to_le_bytes());
    out.extend(group.to_le_bytes());
    out.extend(body);
    Ok(())
}

/// Greets the host at the other end and waits for its acknowledgement.
async fn dial(address: &str, host: u64, kind: Kind, shared: &Shared) -> io::Result<TcpStream> {
    let greet = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut greeting = MAGIC.to_vec();
        greeting.push(u8::from(kind == Kind::Snapshot));
        greeting.extend(shared.id.to_le_bytes());
        greeting.extend(host.to_le_bytes());
        greeting.extend(shared.cluster.to_le_bytes());
        greeting.extend(u16::try_from(shared.note.len()).unwrap_or(u16::MAX).to_le_bytes());
        greeting.extend(shared.note.bytes().take(usize::from(u16::MAX)));
        stream.write_all(&greeting).await?;
        match stream.read_u8().await? {
            ACCEPTED => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "greeting refused")),
        }
    };
    timeout(STUCK, greet).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Task that maintains the link to one host.
struct Dialer {
    host: u64,
    address: String,
    queue: mpsc::Receiver<Vec<u8>>,
    up: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    shared: Arc<Shared>,
}

impl Dialer {
    async fn run(mut self) {
        let cancel = self.shared.cancel.clone();
        let _ = cancel.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) {
        let (mut pause, mut tries, mut told) = (SHORTEST_PAUSE, 0, false);
        loop {
            tries += 1;
            let why = match dial(&self.address, self.host, Kind::Messages, &self.shared).await {
                Ok(stream) => {
                    // Messages queued before the link broke are outdated.
                    self.drain();
                    self.up.store(true, Ordering::Relaxed);
                    self.shared.observer.connected(self.host, &self.address, tries);
                    tell(&self.shared, Input::Connected { host: self.host }).await;
                    (pause, tries, told) = (SHORTEST_PAUSE, 0, false);
                    let ended = self.carry(stream).await;
                    self.up.store(false, Ordering::Relaxed);
                    self.drain();
                    ended
                }
                Err(error) => error,
            };
            if !told {
                told = true;
                self.shared.observer.disconnected(self.host, &self.address, &why.to_string());
                tell(&self.shared, Input::Lost { host: self.host }).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn drain(&mut self) {
        while let Ok(batch) = self.queue.try_recv() {
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        }
    }

    /// Writes batches until the link breaks.
    async fn carry(&mut self, mut stream: TcpStream) -> io::Error {
        let (mut reader, mut writer) = stream.split();
        let mut silence = [0];
        loop {
            tokio::select! {
                batch = self.queue.recv() => {
                    let Some(batch) = batch else { return io::ErrorKind::BrokenPipe.into() };
                    self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
                    match timeout(STUCK, writer.write_all(&batch)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error,
                        Err(_) => return io::ErrorKind::TimedOut.into(),
                    }
                }
                // The other side never writes, so a read only detects its end.
                read = reader.read(&mut silence) => {
                    return read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// Adds an input that must not be lost to the queue of the host's thread. Waits while the queue is full.
async fn tell(shared: &Shared, mut input: Input) {
    while let Err(TrySendError::Full(back)) = shared.inbox.try_send(input) {
        input = back;
        if shared.cancel.run_until_cancelled(sleep(SHORTEST_PAUSE)).await.is_none() {
            return;
        }
    }
}

async fn send_snapshot(address: String, host: u64, group: u64, message: Message, shared: Arc<Shared>) {
    let peer = message.to;
    let outcome = shared
        .cancel
        .run_until_cancelled(async {
            let mut frame = Vec::new();
            encode(&mut frame, group, &message)?;
            let mut stream = dial(&address, host, Kind::Snapshot, &shared).await?;
            for part in frame.chunks(1 << 20) {
                timeout(STUCK, stream.write_all(part)).await??;
            }
            timeout(STUCK, stream.read_u8()).await?
        })
        .await;
    let index = message.get_snapshot().get_metadata().index;
    let arrived = matches!(outcome, Some(Ok(ACCEPTED)));
    if arrived {
        shared.log.info("sent snapshot", &[("region_id", &group), ("to", &peer), ("snapshot_index", &index)]);
    } else if let Some(Err(error)) = outcome {
        shared.log.warn("failed to send snapshot", &[("region_id", &group), ("to", &peer), ("err", &error)]);
    }
    tell(&shared, Input::SnapshotSent { group, peer, arrived }).await;
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let cancel = shared.cancel.clone();
    let accepting = async {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    let cancel = shared.cancel.clone();
                    let _ = cancel.run_until_cancelled(serve(stream, shared)).await;
                });
            } else {
                // Probably out of file descriptors, so accepting again at once would only fail again.
                sleep(LONGEST_PAUSE).await;
            }
        }
    };
    let _ = cancel.run_until_cancelled(accepting).await;
}

/// Reads one accepted connection to its end.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Ok(Ok((greeting, note))) = timeout(STUCK, read_greeting(&mut stream)).await else { return };
    let Some((kind, from)) = understand(&greeting, &shared) else { return };
    if stream.set_nodelay(true).is_err() || stream.write_u8(ACCEPTED).await.is_err() {
        return;
    }
    if kind == Kind::Messages {
        tell(&shared, Input::Heard { host: from, note }).await;
    }
    let mut stream = tokio::io::BufReader::with_capacity(64 << 10, stream);
    while let Ok((group, message)) = read_frame(&mut stream).await {
        let input = Input::Step { group, message: Box::new(message) };
        match kind {
            // A host that is too slow loses messages, as on a network.
            Kind::Messages => {
                if let Err(TrySendError::Disconnected(_)) = shared.inbox.try_send(input) {
                    return;
                }
            }
            Kind::Snapshot => {
                tell(&shared, input).await;
                if stream.write_u8(ACCEPTED).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_greeting(stream: &mut TcpStream) -> io::Result<([u8; GREETING], String)> {
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting).await?;
    let mut note = vec![0; usize::from(stream.read_u16_le().await?)];
    stream.read_exact(&mut note).await?;
    Ok((greeting, String::from_utf8_lossy(&note).into_owned()))
}

fn understand(greeting: &[u8; GREETING], shared: &Shared) -> Option<(Kind, u64)> {
    let (kind, numbers) = greeting.strip_prefix(MAGIC)?.split_first()?;
    let (from, numbers) = numbers.split_first_chunk::<8>()?;
    let (to, numbers) = numbers.split_first_chunk::<8>()?;
    let (cluster, _) = numbers.split_first_chunk::<8>()?;
    let (from, to, cluster) = (u64::from_le_bytes(*from), u64::from_le_bytes(*to), u64::from_le_bytes(*cluster));
    if cluster != shared.cluster || to != shared.id {
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("from", &from), ("meant_for", &to)];
        shared.log.warn("refused a peer of another cluster", &fields);
        return None;
    }
    let kind = if *kind == 0 { Kind::Messages } else { Kind::Snapshot };
    Some((kind, from))
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u64, Message)> {
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if !(8..=FRAME_LIMIT).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let group = stream.read_u64_le().await?;
    // The buffer grows with the received bytes, since the announced length is not trusted.
    let mut body = Vec::with_capacity(length.min(64 << 10));
    stream.take((length - 8) as u64).read_to_end(&mut body).await?;
    if body.len() != length - 8 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((group, Message::parse_from_bytes(&body)?))
}
