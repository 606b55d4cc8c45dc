//! Log formats of the stand-ins. TiKV and PD share the unified log format (tikv/rfcs 0018) with one line per event:
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

/// Format of the log lines, named after the program that the stand-in imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// Format of TiKV: `snake_case` keys in reverse of source order and `[thread_id=N]` at the end. Lines of the Raft library are printed
    /// unchanged.
    Tikv,
    /// Format of PD: `kebab-case` keys in source order. Lines of the Raft library look like those of etcd, with the member id in hex before
    /// the message.
    Pd,
    /// Neutral format: `2026-06-21T11:02:09.629Z INFO message key=value`, without a source location.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
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

    /// Parses a log level from a configuration file or a flag. Accepts `warning` and `err` too, like TiKV and PD.
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

/// Field of a log line: key and value. A slice of fields is in source order; the [`LogStyle`] decides how the fields are printed.
pub type Field<'a> = (&'a str, &'a dyn Display);

/// Log of a node. Clones write to the same output.
#[derive(Clone)]
pub struct NodeLog(Arc<Inner>);

struct Inner {
    dialect: LogStyle,
    least: LogLevel,
    out: Mutex<Box<dyn Write + Send>>,
}

impl fmt::Debug for NodeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dialect", &self.0.dialect).field("least", &self.0.least).finish_non_exhaustive()
    }
}

impl NodeLog {
    #[must_use]
    pub fn new(dialect: LogStyle, least: LogLevel, out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Inner { dialect, least, out: Mutex::new(out) }))
    }

    /// Creates a log that writes to stderr, as TiKV and PD do without `--log-file`.
    #[must_use]
    pub fn stderr(dialect: LogStyle, least: LogLevel) -> Self {
        Self::new(dialect, least, Box::new(io::stderr()))
    }

    /// Creates a log that appends to a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened for appending.
    pub fn file(dialect: LogStyle, least: LogLevel, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::new(dialect, least, Box::new(file)))
    }

    #[track_caller]
    pub fn debug(&self, message: &str, fields: &[Field<'_>]) {
        self.here(LogLevel::Debug, message, fields);
    }

    #[track_caller]
    pub fn info(&self, message: &str, fields: &[Field<'_>]) {
        self.here(LogLevel::Info, message, fields);
    }

    #[track_caller]
    pub fn warn(&self, message: &str, fields: &[Field<'_>]) {
        self.here(LogLevel::Warn, message, fields);
    }

    #[track_caller]
    pub fn error(&self, message: &str, fields: &[Field<'_>]) {
        self.here(LogLevel::Error, message, fields);
    }

    #[track_caller]
    pub fn fatal(&self, message: &str, fields: &[Field<'_>]) {
        self.here(LogLevel::Fatal, message, fields);
    }

    #[track_caller]
    fn here(&self, level: LogLevel, message: &str, fields: &[Field<'_>]) {
        if level < self.0.least {
            return;
        }
        let place = Location::caller();
        let mut printed: Vec<(String, String)> = fields.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
        if self.0.dialect == LogStyle::Tikv {
            printed.reverse();
        }
        self.line(level, place.file(), place.line(), message, printed);
    }

    /// Writes one line whose fields are already in printed order.
    fn line(&self, level: LogLevel, file: &str, number: u32, message: &str, mut fields: Vec<(String, String)>) {
        if self.0.dialect == LogStyle::Plain {
            return self.write(&plain(level, message, &fields));
        }
        let file = file.rsplit('/').next().unwrap_or(file);
        if self.0.dialect == LogStyle::Tikv {
            fields.push(("thread_id".to_owned(), thread_id().to_string()));
        }
        let mut line = format!("[{}] [{}] [{file}:{number}] [", timestamp(), level.as_str());
        quote(&mut line, message);
        line.push(']');
        for (key, value) in fields {
            line.push_str(" [");
            match self.0.dialect {
                LogStyle::Tikv => quote(&mut line, &key),
                LogStyle::Pd | LogStyle::Plain => quote(&mut line, &key.replace('_', "-")),
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
        // A log that cannot be written must not stop the node, and the error cannot be reported anywhere else.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }

    /// Returns a logger for the Raft library that prints in the format of this log. TiKV's lines have the library's own field `raft_id` and
    /// then the field `region_id`. The other styles print `raft_id` in hex before the message.
    pub fn consensus(&self, raft_id: u64, region_id: u64) -> slog::Logger {
        let drain = Drain { log: self.clone(), raft_id, region_id };
        slog::Logger::root(slog::Fuse(drain), slog::o!())
    }
}

/// Converter from slog records of the Raft library to log lines.
struct Drain {
    log: NodeLog,
    raft_id: u64,
    region_id: u64,
}

impl slog::Drain for Drain {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, values: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let level = match record.level() {
            slog::Level::Critical => LogLevel::Fatal,
            slog::Level::Error => LogLevel::Error,
            slog::Level::Warning => LogLevel::Warn,
            slog::Level::Info => LogLevel::Info,
            slog::Level::Debug | slog::Level::Trace => LogLevel::Debug,
        };
        if level < self.log.0.least {
            return Ok(());
        }
        let mut fields = Fields(Vec::new());
        // Slog passes fields in reverse of source order, which is the reason for TiKV's order.
        let _ = record.kv().serialize(record, &mut fields).and_then(|()| values.serialize(record, &mut fields));
        let Fields(mut fields) = fields;
        let message = match self.log.0.dialect {
            LogStyle::Tikv => {
                fields.push(("region_id".to_owned(), self.region_id.to_string()));
                record.msg().to_string()
            }
            LogStyle::Pd | LogStyle::Plain => {
                // The crate's own field `raft_id` is removed, because this style prints it before the message.
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

fn plain(level: LogLevel, message: &str, fields: &[(String, String)]) -> String {
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
    jiff::Timestamp::now().strftime("%Y/%m/%d %H:%M:%S%.3f %:z").to_string()
}

/// Returns a small number of the calling thread, counted from 1 in the order in which threads first log.
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

/// Appends `text` to the line. Text with a character that would break the grammar of the line is appended as a JSON string.
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
        /// Returns the log lines without time, source location and thread, which differ from run to run.
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let head = regex::Regex::new(r"^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[([A-Z]+)\] \[\w+\.rs:\d+\]").unwrap();
            let thread = regex::Regex::new(r" \[thread_id=\d+\]$").unwrap();
            text.lines().map(|line| thread.replace(&head.replace(line, "$1"), " T").into_owned()).collect()
        }
    }

    #[test]
    fn each_dialect_has_its_order_and_quoting() {
        let fields: [Field<'_>; 3] = [("store_id", &3), ("peer", &"id: 46 store_id: 2"), ("plain", &"a-b:1")];
        let (tikv, pd) = (Sink::default(), Sink::default());
        NodeLog::new(LogStyle::Tikv, LogLevel::Info, Box::new(tikv.clone())).warn("connection aborted", &fields);
        NodeLog::new(LogStyle::Pd, LogLevel::Info, Box::new(pd.clone())).warn("ok", &fields);
        assert_eq!(tikv.lines(), [r#"WARN ["connection aborted"] [plain=a-b:1] [peer="id: 46 store_id: 2"] [store_id=3] T"#]);
        assert_eq!(pd.lines(), [r#"WARN [ok] [store-id=3] [peer="id: 46 store_id: 2"] [plain=a-b:1]"#]);
    }

    #[test]
    fn consensus_lines_carry_their_peer_and_region() {
        let (tikv, pd) = (Sink::default(), Sink::default());
        for (sink, dialect) in [(&tikv, LogStyle::Tikv), (&pd, LogStyle::Pd)] {
            let logger = NodeLog::new(dialect, LogLevel::Info, Box::new(sink.clone())).consensus(46, 44);
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
