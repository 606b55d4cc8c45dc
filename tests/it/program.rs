//! Execution of the real program, as a user runs it: `Program::new().store(temp).args([...]).run()`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use chaosrun_event::{Event, EventKind, TrialFinished, TrialStarted, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Time limit that only a broken test reaches. Every trial of these tests takes less than a tenth of this time.
const HUNG: Duration = Duration::from_secs(240);

pub struct Program(Command);

impl Program {
    /// Creates a command for the program that runs in the project root, without the settings of the developer's shell.
    pub fn new() -> Self {
        Self::at(Path::new(env!("CARGO_BIN_EXE_chaosrun")))
    }

    /// Creates a command for another build of the program, which runs in the same way.
    pub fn at(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHAOSRUN_") {
                command.env_remove(name);
            }
        }
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"] {
            command.env_remove(name);
        }
        Self(command)
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args(args);
        self
    }

    pub fn store(self, dir: &Path) -> Self {
        self.arg("--store").arg(dir)
    }

    /// Makes the program print events instead of text, for [`Ran::events`] and [`Live::until`].
    pub fn json(self) -> Self {
        self.args(["--message-format", "json"])
    }

    pub fn dir(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn run(self) -> Ran {
        self.start().wait()
    }

    /// Runs the program with a stdout whose reader has ended. Returns the signal that ended the program, and the text on stderr.
    pub fn run_unread(mut self) -> (Option<i32>, String) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = self.0.stdout(writer).output().expect("the program starts");
        (output.status.signal(), String::from_utf8(output.stderr).expect("UTF-8"))
    }

    pub fn start(mut self) -> Live {
        let words: Vec<_> = self.0.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let mut child = self.0.spawn().expect("the program starts");
        let (tx, stdout) = channel();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if tx.send(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned()).is_err() {
                    return;
                }
            }
        });
        let (tx, stderr) = channel();
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            let _ = tx.send(text);
        });
        Live { words, child, stdout, stderr, seen: String::new() }
    }
}

/// Running program. The program is killed when this value is dropped.
pub struct Live {
    words: Vec<String>,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    seen: String,
}

impl Live {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        // Not yet reaped, so the pid is still its own.
        kill(Pid::from_raw(self.pid()), signal).expect("it is there");
    }

    /// Reads events until `wanted` accepts one.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&EventKind) -> bool) {
        loop {
            let line = self.stdout.recv_timeout(HUNG).unwrap_or_else(|_| panic!("never {what}: {:?}\n{}", self.words, self.seen));
            self.seen += &line;
            if wanted(&event(&line).kind) {
                return;
            }
        }
    }

    /// Reads the first event and returns the id of the run.
    pub fn run(&self) -> String {
        let run = self.seen.lines().find_map(|line| match event(line).kind {
            EventKind::RunStarted { run, .. } => Some(run.to_string()),
            _ => None,
        });
        run.expect("it began")
    }

    /// Reads lines of stdout until `wanted` accepts one, and returns that line.
    pub fn until_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.stdout.recv_timeout(HUNG).unwrap_or_else(|_| panic!("never {what}: {:?}\n{}", self.words, self.seen));
            self.seen += &line;
            if wanted(&line) {
                return line;
            }
        }
    }

    pub fn wait(mut self) -> Ran {
        while let Ok(line) = self.stdout.recv_timeout(HUNG) {
            self.seen += &line;
        }
        let stderr = self.stderr.recv_timeout(HUNG).unwrap_or_else(|_| panic!("{:?} does not end:\n{}", self.words, self.seen));
        let status = self.child.wait().expect("it is ours");
        Ran { words: self.words.join(" "), code: status.code(), stdout: std::mem::take(&mut self.seen), stderr }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Result of a program that has ended.
#[derive(Debug)]
pub struct Ran {
    words: String,
    /// Exit code of the program. `None` if a signal ended the program.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code of the program.
    ///
    /// # Panics
    /// Panics with the whole output of the program if the exit code differs.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Returns the events that the program printed. Asserts that each line is a valid event.
    pub fn events(&self) -> Vec<Event> {
        self.stdout.lines().map(event).collect()
    }

    /// Returns the trials of the run with their results, in the order of their starts.
    pub fn trials(&self) -> Vec<Trial> {
        let mut trials: Vec<Trial> = Vec::new();
        for event in self.events() {
            let id = event.trial.as_ref().map(ToString::to_string).unwrap_or_default();
            match event.kind {
                EventKind::TrialStarted(started) => trials.push(Trial { id, started: *started, finished: None, kinds: Vec::new() }),
                EventKind::TrialFinished(finished) => {
                    let trial = trials.iter_mut().find(|trial| trial.id == id).expect("it began");
                    assert!(trial.finished.replace(*finished).is_none(), "two ends of {id}");
                }
                kind => {
                    if let Some(trial) = trials.iter_mut().find(|trial| trial.id == id) {
                        trial.kinds.push(kind);
                    }
                }
            }
        }
        trials
    }

    /// Returns the only trial of the run.
    pub fn trial(&self) -> Trial {
        let mut trials = self.trials();
        assert_eq!(trials.len(), 1, "{self}");
        trials.remove(0)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "chaosrun {}\nexit {:?}\n--- stderr\n{}\n--- stdout", self.words, self.code, self.stderr)?;
        self.stdout.lines().filter(|line| !line.contains(r#""type":"log_matched""#)).try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn event(line: &str) -> Event {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no event: {error}: {line}"))
}

/// Trial of a run, assembled from its events.
#[derive(Debug)]
pub struct Trial {
    pub id: String,
    pub started: TrialStarted,
    pub finished: Option<TrialFinished>,
    /// All events between the start and the end of the trial, in order.
    pub kinds: Vec<EventKind>,
}

impl Trial {
    pub fn name(&self) -> String {
        format!("{}/{}", self.started.scenario, self.started.variant)
    }

    pub fn finished(&self) -> &TrialFinished {
        self.finished.as_ref().expect("a trial that started has an end")
    }

    pub fn verdict(&self) -> Verdict {
        self.finished().verdict
    }

    /// Returns each command of the trial with its result.
    pub fn commands(&self) -> Vec<Done> {
        let mut all: Vec<Done> = Vec::new();
        for kind in &self.kinds {
            match kind {
                EventKind::CommandStarted { command, .. } => all.push(Done { command: command.clone(), ..Done::default() }),
                EventKind::CommandFinished { exit_code, timed_out, stdout, stderr, .. } => {
                    let last = all.last_mut().expect("it began");
                    *last = Done {
                        exit_code: *exit_code,
                        timed_out: *timed_out,
                        stdout: stdout.clone(),
                        stderr: stderr.text.clone(),
                        ..std::mem::take(last)
                    };
                }
                _ => {}
            }
        }
        all
    }
}

/// Command of an agent, with its result.
#[derive(Debug, Default)]
pub struct Done {
    pub command: String,
    pub exit_code: i32,
    pub timed_out: bool,
    pub stdout: chaosrun_event::Output,
    pub stderr: String,
}

/// Project of a test, whose files are in a temporary directory.
pub struct Project(tempfile::TempDir);

impl Project {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
        self
    }

    /// Copies a scenario of the repository to the project, with text replacements.
    pub fn changed(self, scenario: &str, changes: &[(&str, &str)]) -> Self {
        self.copied(Path::new(env!("CARGO_MANIFEST_DIR")), scenario, changes)
    }

    /// Replaces texts in a scenario of the project.
    pub fn again(self, scenario: &str, changes: &[(&str, &str)]) -> Self {
        let own = self.path().to_owned();
        self.copied(&own, scenario, changes)
    }

    fn copied(self, root: &Path, scenario: &str, changes: &[(&str, &str)]) -> Self {
        let path = format!("scenarios/{scenario}.yaml");
        let mut text = std::fs::read_to_string(root.join(&path)).expect("a scenario");
        for (from, to) in changes {
            assert!(text.contains(from), "{path} has no `{from}`");
            text = text.replace(from, to);
        }
        self.file(&path, &text)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn store(&self) -> std::path::PathBuf {
        self.path().join("record")
    }

    /// Runs `chaosrun run` in the project. The record is in [`Project::store`].
    pub fn run(&self, args: &[&str]) -> Ran {
        self.program("run").args(args).json().run()
    }

    pub fn program(&self, word: &str) -> Program {
        Program::new().dir(self.path()).arg(word).store(&self.store())
    }
}
