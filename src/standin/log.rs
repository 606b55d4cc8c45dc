//! The unified log format that TiKV and PD share (tikv/rfcs 0018), one line an event:
//! `[2026/06/21 11:02:09.629 +00:00] [INFO] [raft.rs:1273] ["became leader at term 8"] [term=8] [raft_id=46]`.

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::panic::Location;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use slog::KV as _;

/// Whose habits the lines follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `snake_case` keys in reverse of source order, `[thread_id=N]` at the end; consensus lines as they are.
    Tikv,
    /// `kebab-case` keys in source order; consensus lines as etcd's, with the member's id in hex before the message.
    Pd,
    /// `2026-06-21T11:02:09.629Z INFO message key=value`: no place in a source, and nobody's habits.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The level a configuration file or a flag names (`warning` and `err` are known to the originals too).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" | "trace" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" | "err" => Some(Self::Error),
            "fatal" | "critical" => Some(Self::Fatal),
            _ => None,
        }
    }
}

/// One field of a line. A slice of these is in source order; the dialect decides how it is printed.
pub type Field<'a> = (&'a str, &'a dyn Display);

/// Where a node's log lines go. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    dialect: Dialect,
    least: Level,
    out: Mutex<Box<dyn Write + Send>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dialect", &self.0.dialect).field("least", &self.0.least).finish_non_exhaustive()
    }
}

impl Log {
    #[must_use]
    pub fn new(dialect: Dialect, least: Level, out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Inner { dialect, least, out: Mutex::new(out) }))
    }

    /// Lines to stderr, as both programs do without `--log-file`.
    #[must_use]
    pub fn stderr(dialect: Dialect, least: Level) -> Self {
        Self::new(dialect, least, Box::new(io::stderr()))
    }

    /// Lines appended to a file.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn file(dialect: Dialect, least: Level, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::new(dialect, least, Box::new(file)))
    }

    #[track_caller]
    pub fn debug(&self, message: &str, fields: &[Field<'_>]) {
        self.here(Level::Debug, message, fields);
    }

    #[track_caller]
    pub fn info(&self, message: &str, fields: &[Field<'_>]) {
        self.here(Level::Info, message, fields);
    }

    #[track_caller]
    pub fn warn(&self, message: &str, fields: &[Field<'_>]) {
        self.here(Level::Warn, message, fields);
    }

    #[track_caller]
    pub fn error(&self, message: &str, fields: &[Field<'_>]) {
        self.here(Level::Error, message, fields);
    }

    #[track_caller]
    pub fn fatal(&self, message: &str, fields: &[Field<'_>]) {
        self.here(Level::Fatal, message, fields);
    }

    #[track_caller]
    fn here(&self, level: Level, message: &str, fields: &[Field<'_>]) {
        if level < self.0.least {
            return;
        }
        let place = Location::caller();
        let mut printed: Vec<(String, String)> = fields.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
        if self.0.dialect == Dialect::Tikv {
            printed.reverse();
        }
        self.line(level, place.file(), place.line(), message, printed);
    }

    /// Writes one line whose fields are already in printed order.
    fn line(&self, level: Level, file: &str, number: u32, message: &str, mut fields: Vec<(String, String)>) {
        if self.0.dialect == Dialect::Plain {
            return self.write(&plain(level, message, &fields));
        }
        let file = file.rsplit('/').next().unwrap_or(file);
        if self.0.dialect == Dialect::Tikv {
            fields.push(("thread_id".to_owned(), thread_id().to_string()));
        }
        let mut line = format!("[{}] [{}] [{file}:{number}] [", timestamp(), level.as_str());
        quote(&mut line, message);
        line.push(']');
        for (key, value) in fields {
            line.push_str(" [");
            match self.0.dialect {
                Dialect::Tikv => quote(&mut line, &key),
                Dialect::Pd | Dialect::Plain => quote(&mut line, &key.replace('_', "-")),
            }
            line.push('=');
            quote(&mut line, &value);
            line.push(']');
        }
        line.push('\n');
        self.write(&line);
    }

    fn write(&self, line: &str) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop the node: there is nowhere left to say it.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }

    /// The logger to hand to the consensus crate: its lines come out in this log's format. TiKV's carry the crate's own
    /// `raft_id` and then the `region_id`; etcd's begin with the `raft_id` in hex.
    pub fn consensus(&self, raft_id: u64, region_id: u64) -> slog::Logger {
        let drain = Drain { log: self.clone(), raft_id, region_id };
        slog::Logger::root(slog::Fuse(drain), slog::o!())
    }
}

/// Turns slog records into lines.
struct Drain {
    log: Log,
    raft_id: u64,
    region_id: u64,
}

impl slog::Drain for Drain {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, values: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let level = match record.level() {
            slog::Level::Critical => Level::Fatal,
            slog::Level::Error => Level::Error,
            slog::Level::Warning => Level::Warn,
            slog::Level::Info => Level::Info,
            slog::Level::Debug | slog::Level::Trace => Level::Debug,
        };
        if level < self.log.0.least {
            return Ok(());
        }
        let mut fields = Fields(Vec::new());
        // slog itself hands fields out in reverse of source order, which is why TiKV's are.
        let _ = record.kv().serialize(record, &mut fields).and_then(|()| values.serialize(record, &mut fields));
        let Fields(mut fields) = fields;
        let message = match self.log.0.dialect {
            Dialect::Tikv => {
                fields.push(("region_id".to_owned(), self.region_id.to_string()));
                record.msg().to_string()
            }
            Dialect::Pd | Dialect::Plain => {
                // The crate's own mark; here it stands before the message.
                fields.retain(|(key, _)| key != "raft_id");
                fields.reverse();
                format!("{:x} {}", self.raft_id, record.msg())
            }
        };
        self.log.line(level, record.file(), record.line(), &message, fields);
        Ok(())
    }
}

struct Fields(Vec<(String, String)>);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key.to_owned(), value.to_string()));
        Ok(())
    }
}

fn plain(level: Level, message: &str, fields: &[(String, String)]) -> String {
    let mut line = format!("{:.3} {} {message}", jiff::Timestamp::now(), level.as_str());
    for (key, value) in fields {
        line.push(' ');
        quote(&mut line, key);
        line.push('=');
        quote(&mut line, value);
    }
    line.push('\n');
    line
}

fn timestamp() -> String {
    jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S%.3f %:z").to_string()
}

/// A small number for the calling thread, counted from 1 in order of first use.
fn thread_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static ID: Cell<u64> = const { Cell::new(0) });
    ID.with(|id| {
        if id.get() == 0 {
            id.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        id.get()
    })
}

/// Appends `text` raw, or as a JSON string when it holds a character that would break the line's grammar.
fn quote(line: &mut String, text: &str) {
    let special = |c: char| c <= ' ' || matches!(c, '"' | '=' | '[' | ']');
    if text.chars().any(special) {
        match serde_json::to_string(text) {
            Ok(quoted) => line.push_str(&quoted),
            Err(_) => {
                let _ = write!(line, "{text:?}");
            }
        }
    } else {
        line.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        /// The lines without what differs from run to run: time, place and thread.
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let head = regex::Regex::new(r"^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[([A-Z]+)\] \[\w+\.rs:\d+\]").unwrap();
            let thread = regex::Regex::new(r" \[thread_id=\d+\]$").unwrap();
            text.lines().map(|line| thread.replace(&head.replace(line, "$1"), " T").into_owned()).collect()
        }
    }

    #[test]
    fn each_dialect_orders_and_quotes_fields_its_own_way() {
        let fields: [Field<'_>; 3] = [("store_id", &3), ("peer", &"id: 46 store_id: 2"), ("plain", &"a-b:1")];
        let (tikv, pd) = (Sink::default(), Sink::default());
        Log::new(Dialect::Tikv, Level::Info, Box::new(tikv.clone())).warn("connection aborted", &fields);
        Log::new(Dialect::Pd, Level::Info, Box::new(pd.clone())).warn("ok", &fields);
        assert_eq!(tikv.lines(), [r#"WARN ["connection aborted"] [plain=a-b:1] [peer="id: 46 store_id: 2"] [store_id=3] T"#]);
        assert_eq!(pd.lines(), [r#"WARN [ok] [store-id=3] [peer="id: 46 store_id: 2"] [plain=a-b:1]"#]);
    }

    #[test]
    fn consensus_lines_carry_their_peer_and_region() {
        let (tikv, pd) = (Sink::default(), Sink::default());
        for (sink, dialect) in [(&tikv, Dialect::Tikv), (&pd, Dialect::Pd)] {
            let logger = Log::new(dialect, Level::Info, Box::new(sink.clone())).consensus(46, 44);
            let logger = logger.new(slog::o!("raft_id" => 46));
            slog::info!(logger, "became leader at term {term}", term = 8);
            slog::info!(logger, "votes"; "vote" => true, "from" => 47, "to" => ?[45, 47]);
            slog::debug!(logger, "too quiet to print");
        }
        assert_eq!(
            tikv.lines(),
            [
                r#"INFO ["became leader at term 8"] [term=8] [raft_id=46] [region_id=44] T"#,
                r#"INFO [votes] [to="[45, 47]"] [from=47] [vote=true] [raft_id=46] [region_id=44] T"#,
            ]
        );
        assert_eq!(pd.lines()[0], r#"INFO ["2e became leader at term 8"] [term=8]"#);
    }
}
