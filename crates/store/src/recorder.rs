//! Recorder of a run: a thread that writes the events of the run in batches, in their order.
//!
//! A batch is written at once if it contains the begin or the end of the run, or announces a fault. A batch with the begin or the end of a
//! trial is written within [`SOON`], and any other batch within [`LINGER`]. An event that announces a fault is on disk (fsync) before
//! [`Recorder::durable`] answers.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::database::Database;
use super::error::StoreError;
use super::project::{self, int};
use chaosrun_base::ids::RunId;
use chaosrun_base::process::ProcessId;
use chaosrun_event::{Event, EventKind};

/// Maximum time that an event waits for further events of its batch.
const LINGER: Duration = Duration::from_millis(50);
/// Maximum time that the begin or the end of a trial waits, so that short trials that end together share a batch.
const SOON: Duration = Duration::from_millis(5);
/// Maximum number of events in a batch.
const BATCH: usize = 1_000;
/// Capacity of the queue to the recorder thread. If the queue is full, the dispatcher waits for the disk. The engine never waits.
const QUEUE: usize = 8_192;
/// Maximum number of events that stay in memory after a failed write. The end of a run may free disk space, and these events are then
/// written.
const KEPT: usize = 100_000;

/// Channel for the response to one call of [`Recorder::durable`].
pub type DurableReply = oneshot::Sender<Result<(), String>>;

/// Callback that receives the reason of the first write failure.
type Failed = Box<dyn FnOnce(&str) + Send>;

enum Message {
    Event(Arc<Event>),
    Durable(DurableReply),
}

/// Handle that sends events to the recorder thread. If it is dropped without [`Recorder::finish`], the thread still writes all sent events.
#[derive(Debug)]
pub struct Recorder {
    tx: SyncSender<Message>,
    thread: JoinHandle<Option<StoreError>>,
}

impl Recorder {
    /// Records on disk which process writes the run, and starts the recorder thread.
    ///
    /// If an event cannot be written, the thread calls `failed` once, with the reason. The caller should then end the run gracefully.
    ///
    /// # Errors
    /// The database cannot be written, or the thread cannot be started.
    pub fn start(database: Database, run: RunId, failed: impl FnOnce(&str) + Send + 'static) -> Result<Self, StoreError> {
        sync(&database, true)?;
        let process = ProcessId::this();
        database
            .connection
            .execute(
                "INSERT INTO runners (run, pid, started_ticks, boot) VALUES (?, ?, ?, ?)",
                params![run.as_str(), process.pid, process.started_ticks.map(int), process.boot],
            )
            .map_err(|error| database.failed(error))?;
        let path = database.directory().path().to_path_buf();
        let (tx, rx) = sync_channel(QUEUE);
        let writer = Writer { database, run, failed: Some(Box::new(failed)), failure: None, pending: Vec::new(), unsynced: false };
        let thread = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run_or_report(&rx))
            .map_err(|source| StoreError::Unwritable { path, source })?;
        Ok(Self { tx, thread })
    }

    /// Queues an event for writing. Blocks only if the queue is full.
    pub fn record(&self, event: Arc<Event>) {
        let _ = self.tx.send(Message::Event(event));
    }

    /// Requests a response when all events recorded so far are on disk. The response is an error if they cannot be written.
    pub fn durable(&self, answer: DurableReply) {
        match self.tx.try_send(Message::Durable(answer)) {
            Err(TrySendError::Full(message)) => drop(self.tx.send(message)),
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Writes all remaining events and ends the thread.
    ///
    /// # Errors
    /// Writing an event failed at any time, even if a later attempt succeeded.
    pub fn finish(self) -> Result<(), StoreError> {
        drop(self.tx);
        match self.thread.join() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Writer {
    database: Database,
    run: RunId,
    failed: Option<Failed>,
    failure: Option<StoreError>,
    pending: Vec<Arc<Event>>,
    /// True if data was committed but may not have reached the disk.
    unsynced: bool,
}

impl Writer {
    /// Runs the writer. A panic ends the run like a failed write, and is then passed on to [`Recorder::finish`].
    fn run_or_report(mut self, rx: &Receiver<Message>) -> Option<StoreError> {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| self.run(rx)));
        match ended {
            Ok(()) => self.failure,
            Err(payload) => {
                if let Some(failed) = self.failed.take() {
                    failed("the recorder panicked");
                }
                panic::resume_unwind(payload)
            }
        }
    }

    fn run(&mut self, rx: &Receiver<Message>) {
        let mut due = Instant::now();
        loop {
            let first = if self.pending.is_empty() || self.failure.is_some() {
                rx.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                rx.recv_timeout(due.saturating_duration_since(Instant::now()))
            };
            if self.pending.is_empty() {
                due = Instant::now() + LINGER;
            }
            let mut urgent = Urgency::CanWait;
            let mut answers = Vec::new();
            let mut over = false;
            match first {
                Ok(message) => {
                    // Messages that queued up in the meantime join the batch.
                    for message in std::iter::once(message).chain(rx.try_iter().take(BATCH)) {
                        urgent = urgent.max(self.take(message, &mut answers));
                    }
                }
                Err(RecvTimeoutError::Timeout) => urgent = Urgency::Now,
                Err(RecvTimeoutError::Disconnected) => over = true,
            }
            if over {
                self.last_write();
                return;
            }
            if urgent == Urgency::Soon {
                due = due.min(Instant::now() + SOON);
            }
            if self.failure.is_none() && (urgent > Urgency::Soon || self.pending.len() >= BATCH || Instant::now() >= due) {
                let synced = urgent == Urgency::Synced;
                if let Err(error) = self.write(synced).and_then(|()| if synced { self.sync_committed() } else { Ok(()) }) {
                    self.fail(error);
                }
            }
            for answer in answers {
                let _ = answer.send(self.failure.as_ref().map_or(Ok(()), |error| Err(error.to_string())));
            }
        }
    }

    fn take(&mut self, message: Message, answers: &mut Vec<DurableReply>) -> Urgency {
        match message {
            Message::Event(event) => {
                let urgency = Urgency::of(&event.kind);
                if self.failure.is_none() || self.pending.len() < KEPT {
                    self.pending.push(event);
                }
                urgency
            }
            Message::Durable(answer) => {
                answers.push(answer);
                Urgency::Synced
            }
        }
    }

    /// Writes all pending events to the database. If the disk is full, writes as many events as possible.
    fn write(&mut self, synced: bool) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        sync(&self.database, synced)?;
        let mut size = self.pending.len();
        while !self.pending.is_empty() {
            size = size.min(self.pending.len());
            match insert(&self.database.connection, &self.run, &self.pending[..size]) {
                Ok(()) => {
                    self.pending.drain(..size);
                    self.unsynced = !synced;
                }
                Err(error) => {
                    let error = self.database.failed(error);
                    if size == 1 || !matches!(error, StoreError::Full { .. }) {
                        return Err(error);
                    }
                    size /= 2;
                }
            }
        }
        Ok(())
    }

    /// Syncs earlier commits to disk. SQLite syncs only at a commit that writes something, so this function increments a counter.
    fn sync_committed(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            sync(&self.database, true)?;
            self.database
                .connection
                .execute("UPDATE runners SET synced = synced + 1 WHERE run = ?", [self.run.as_str()])
                .map_err(|error| self.database.failed(error))?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        if let Some(failed) = self.failed.take() {
            failed(&error.to_string());
        }
        self.failure.get_or_insert(error);
    }

    /// Writes the remaining events, even after a failure. The disk may have space again after the trials removed their clusters.
    fn last_write(&mut self) {
        if let Err(error) = self.write(false) {
            self.fail(error);
        }
    }
}

/// Urgency with which a batch must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    CanWait,
    /// Batch that is written within [`SOON`].
    Soon,
    /// Batch that is written at once. Its events survive the death of the runner, but not a power loss.
    Now,
    /// Batch that is written at once and synced to disk.
    Synced,
}

impl Urgency {
    const fn of(kind: &EventKind) -> Self {
        match kind {
            EventKind::FaultIntended { .. } => Self::Synced,
            EventKind::RunStarted { .. } | EventKind::PlanDeclared(_) | EventKind::RunFinished { .. } => Self::Now,
            EventKind::TrialStarted(_) | EventKind::TrialFinished(_) => Self::Soon,
            _ => Self::CanWait,
        }
    }
}

/// Sets SQLite's sync mode. In WAL mode, FULL syncs every commit, and NORMAL syncs only checkpoints.
fn sync(database: &Database, synced: bool) -> Result<(), StoreError> {
    let sql = if synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
    let connection = &database.connection;
    connection.prepare_cached(sql).and_then(|mut pragma| pragma.execute([])).map_err(|error| database.failed(error))?;
    Ok(())
}

fn insert(connection: &rusqlite::Connection, run: &RunId, events: &[Arc<Event>]) -> rusqlite::Result<()> {
    // Starts an immediate transaction. A transaction that reads before it writes could not wait for another writer.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    {
        let mut insert =
            transaction.prepare_cached("INSERT INTO events (run, seq, at, elapsed_us, trial, type, json) VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        for event in events {
            let json = serde_json::to_string(&event.kind).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            insert.execute(params![
                run.as_str(),
                int(event.seq),
                event.at.to_string(),
                int(event.elapsed_us),
                event.trial.as_ref().map(chaosrun_base::ids::TrialId::as_str),
                event.kind.name(),
                json
            ])?;
            project::apply(&transaction, run, event)?;
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Directory;
    use crate::read::Filter;
    use crate::row::RecordState;
    use chaosrun_event::Verdict;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    fn never(problem: &str) {
        panic!("{problem}");
    }

    fn record(directory: &Directory, stream: &GalleryStream) {
        let recorder = Recorder::start(Database::create(directory).unwrap(), stream.run.clone(), never).unwrap();
        stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
        recorder.finish().unwrap();
    }

    #[test]
    fn recorded_events_are_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        record(&directory, &stream);

        let mut database = Database::open(&directory).unwrap();
        let mut events = Vec::new();
        database.run_events(&stream.run, |event| events.push(Arc::new(event))).unwrap();
        assert_eq!(events, stream.events);

        let trials = database.trials(&Filter { limit: 100, all_roles: true, ..Filter::default() }).unwrap();
        assert_eq!(trials.len(), 12);
        assert_eq!(trials[0].trial.as_str(), "t-abab000c", "the newest first");
        assert_eq!(database.trials(&Filter { limit: 100, ..Filter::default() }).unwrap().len(), 11, "without the control");
        let unsafe_ones = Filter { verdicts: vec![Verdict::UnsafePass], scenario: Some("node_*".into()), limit: 9, ..Filter::default() };
        assert_eq!(database.trials(&unsafe_ones).unwrap()[0].variant, "wipe");
        assert_eq!(database.last_failure().unwrap().unwrap().trial.as_str(), "t-abab000c");
        assert_eq!(database.trial_events(&trials[1]).unwrap().len(), 2);

        let run = database.run(&stream.run).unwrap();
        assert_eq!((run.state, run.planned, run.trials, run.counts[&Verdict::Pass]), (RecordState::Finished, 12, 12, 4));
        database.rebuild().unwrap();
        let derived = |run: &crate::row::Run| serde_json::to_value(run).unwrap();
        assert_eq!(derived(&database.run(&stream.run).unwrap()), derived(&run));
        let again = database.trials(&Filter { limit: 100, all_roles: true, ..Filter::default() }).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), serde_json::to_value(trials).unwrap());
    }

    #[test]
    fn prefix_finds_one_or_lists_several() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        record(
            &directory,
            GalleryStream::new("r-2b", 1).whole("t-3f9c0001", gallery::started("a", "b", 1), gallery::failed()).finish(false),
        );
        record(
            &directory,
            GalleryStream::new("r-2c", 1).whole("t-3f9d0001", gallery::started("a", "b", 1), gallery::failed()).finish(false),
        );
        let database = Database::open(&directory).unwrap();
        assert_eq!(database.find_trial("3F9D").unwrap().as_str(), "t-3f9d0001");
        assert_eq!(database.find_run("r-2c").unwrap().as_str(), "r-2c");
        assert_eq!(
            database.find_trial("t-3f").unwrap_err().to_string(),
            "`t-3f` is ambiguous, it matches 2 trials: t-3f9c0001, t-3f9d0001"
        );
        assert_eq!(database.find_trial("zz").unwrap_err().to_string(), "no trial begins with `zz`");
        assert!(database.find_trial("r-2c").unwrap_err().help().unwrap().contains("`r-2c` is a run"));
    }

    /// Checks that the trials of a killed child process are in the record, with the unfinished trial marked as cut off.
    #[test]
    fn a_killed_runner_leaves_its_trials_cut_off() {
        const CHILD: &str = "CHAOSRUN_TEST_RECORD_INTO";
        if let Some(path) = std::env::var_os(CHILD) {
            let mut stream = GalleryStream::new("r-dead", 2);
            stream
                .whole("t-aa", gallery::started("a", "b", 1), gallery::finished(Verdict::Pass))
                .trial("t-bb", gallery::started("a", "b", 2));
            let directory = Directory::new(path);
            let recorder = Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), never).unwrap();
            stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
            let (answer, durable) = oneshot::channel();
            recorder.durable(answer);
            durable.blocking_recv().unwrap().unwrap();
            let database = Database::open(&directory).unwrap();
            assert_eq!(database.trial(&gallery::trial_id("t-bb")).unwrap().state, RecordState::Running);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
        let temp = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recorder::tests::a_killed_runner_leaves_its_trials_cut_off"])
            .env(CHILD, temp.path())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));

        let database = Database::open(&Directory::new(temp.path())).unwrap();
        assert_eq!(database.runs(9).unwrap()[0].state, RecordState::CutOff);
        let states = |id| database.trial(&gallery::trial_id(id)).unwrap().state;
        assert_eq!((states("t-aa"), states("t-bb")), (RecordState::Finished, RecordState::CutOff));
        let cut_off = Filter { states: vec![RecordState::CutOff], limit: 9, ..Filter::default() };
        assert_eq!(database.trials(&cut_off).unwrap().len(), 1);
    }

    #[test]
    fn full_disk_is_reported_once_and_recorded_events_stay() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        let database = Database::create(&directory).unwrap();
        database.connection.pragma_update(None, "max_page_count", 20).unwrap();
        let (told, failures) = mpsc::channel();
        let recorder = Recorder::start(database, stream.run.clone(), move |problem| told.send(problem.to_owned()).unwrap()).unwrap();
        recorder.record(Arc::clone(&stream.events[0]));
        let (answer, first) = oneshot::channel();
        recorder.durable(answer);
        first.blocking_recv().unwrap().unwrap();

        for seq in 2..200 {
            let event = Event { seq, ..(*stream.events[2]).clone() };
            recorder.record(Arc::new(Event { trial: None, ..event }));
        }
        let (answer, later) = oneshot::channel();
        recorder.durable(answer);
        let problem = later.blocking_recv().unwrap().unwrap_err();
        assert!(problem.contains("is full"), "{problem}");
        assert!(matches!(recorder.finish(), Err(StoreError::Full { .. })));
        assert_eq!(failures.iter().collect::<Vec<_>>(), [problem]);
        assert_eq!(Database::open(&directory).unwrap().runs(9).unwrap().len(), 1);
    }

    #[test]
    fn several_runs_record_into_one_database() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        std::thread::scope(|scope| {
            for runner in 0..4 {
                let directory = &directory;
                scope.spawn(move || {
                    let mut stream = GalleryStream::new(&format!("r-{runner}"), 50);
                    for trial in 0..50 {
                        stream.whole(&format!("t-{runner}x{trial}"), gallery::started("a", "b", trial), gallery::finished(Verdict::Pass));
                    }
                    record(directory, stream.finish(false));
                });
            }
        });
        let runs = Database::open(&directory).unwrap().runs(9).unwrap();
        assert_eq!(runs.iter().map(|run| run.counts[&Verdict::Pass]).collect::<Vec<_>>(), [50; 4]);
    }
}
