//! Messages between hosts over plain TCP.
//!
//! A link has one direction: each host connects to every other host and only writes. The accepting side answers the greeting with one byte,
//! and only reads after that. Greeting: `magic | kind u8 | from u64 | to u64 | cluster u64 | note length u16 | note`. Frame: `length u32 |
//! group u64 | message`, where length counts group and message. A snapshot has its own connection, acknowledged by one byte, so that
//! heartbeats do not wait behind a snapshot.

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
/// Largest accepted frame in bytes. Only snapshots reach a size near this limit.
const FRAME_LIMIT: usize = 256 << 20;
/// Capacity of the queue of a link, in batches of messages. A link that is too slow loses messages, and Raft sends them again.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 64 << 20;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// Time without progress after which the host replaces an established link.
const STUCK: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Messages,
    Snapshot,
}

/// State that all network tasks of a host share.
struct Shared {
    id: u64,
    /// Id of the cluster, compared in greetings. A port may have belonged to another cluster shortly before.
    cluster: u64,
    note: String,
    inbox: SyncSender<Input>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    observer: Arc<dyn HostObserver>,
    log: NodeLog,
}

/// Outgoing links of a host to all other hosts. The methods are called on the host's thread and never block.
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
    /// Pairs of group and peer to which the messages in `pending` are addressed.
    meant: BTreeSet<(u64, u64)>,
}

pub(super) struct NetworkConfig {
    pub(super) id: u64,
    pub(super) listener: StdListener,
    pub(super) peers: BTreeMap<u64, String>,
    pub(super) note: String,
    pub(super) inbox: SyncSender<Input>,
    pub(super) cancel: CancellationToken,
    /// Tracker of all network tasks. The stop of the host waits for these tasks.
    pub(super) tasks: TaskTracker,
    pub(super) observer: Arc<dyn HostObserver>,
    pub(super) log: NodeLog,
}

impl HostLinks {
    /// Starts to listen and to connect to all other hosts. Must be called within a tokio runtime.
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

    /// Queues a message to a host. The next [`HostLinks::flush`] sends the message.
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

    /// Passes all queued messages to the links. Returns the pairs of group and peer whose messages were lost.
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

/// Returns TiKV's name of a message type, as in its metrics.
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

/// Connects to the host at `address`, sends the greeting, and waits for the acknowledgement.
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

/// Task that maintains the outgoing link to one host.
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

    /// Writes batches to the connection until it breaks. Returns the error.
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
                // The remote side never writes, so a read only detects the end of the connection.
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
                // The process has probably no free file descriptor, so an immediate retry fails too.
                sleep(LONGEST_PAUSE).await;
            }
        }
    };
    let _ = cancel.run_until_cancelled(accepting).await;
}

/// Reads the frames of one accepted connection until the connection ends.
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
            // A host that is too slow loses messages, as on a real network.
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
