//! Tests of failures of chaosrun itself. After every failure of the runner, all its processes have ended, and the record shows the trials
//! that were cut off.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chaosrun_event::{EventKind, Verdict};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::program::{Live, Program, Project};
use super::trials::patient;

/// Polls until `left` returns an empty list, because no descriptor signals this state. Only a broken test reaches the time limit.
pub fn until(what: &str, mut left: impl FnMut() -> Vec<String>) {
    let begin = Instant::now();
    loop {
        let rest = left();
        if rest.is_empty() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {rest:#?}");
        std::thread::yield_now();
    }
}

/// Process with its start time, which distinguishes it from a later process with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pid: i32,
    started: u64,
    parent: i32,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
        // A process that waits to be reaped by the system's init holds no resources.
        let lives = !matches!(fields.first(), Some(&"Z" | &"X"));
        lives.then_some(Self { pid, started: fields.get(19)?.parse().ok()?, parent: fields.get(1)?.parse().ok()? })
    }

    fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Self::read).collect()
    }

    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("it is there");
    }

    pub fn command(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    }

    /// Returns true if the executable or the working directory of the process is below `folder`, even if it was removed.
    fn uses(&self, folder: &Path) -> bool {
        ["exe", "cwd"].iter().any(|link| fs::read_link(format!("/proc/{}/{link}", self.pid)).is_ok_and(|path| path.starts_with(folder)))
    }

    /// Returns the inode numbers of the sockets that the process has open.
    fn sockets(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return Vec::new() };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())).collect()
    }
}

/// Returns the local addresses of all listening sockets in the format of `/proc/net/tcp`, each with the inode number of its socket.
fn listening() -> Vec<(String, String)> {
    let text = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let fields = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(3) == Some(&"0A")).map(|fields| (fields[1].to_owned(), fields[9].to_owned())).collect()
}

/// Processes and files of a runner, observed from outside. They are collected while the runner lives, and must be gone after its end.
pub struct Family {
    runner: i32,
    before: BTreeSet<PathBuf>,
    pub processes: BTreeSet<Process>,
    addresses: BTreeSet<String>,
    /// Work directories in which processes of this runner were observed. Other work directories belong to other tests.
    own: BTreeSet<PathBuf>,
}

impl Family {
    /// Returns the work directories that exist now. Must be called before the runner is started.
    pub fn folders() -> BTreeSet<PathBuf> {
        let entries = fs::read_dir("/var/tmp").map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 9 && name.to_string_lossy().starts_with('w'));
        entries.unwrap_or_default().into_iter().filter(ours).collect()
    }

    pub fn of(live: &Live, before: BTreeSet<PathBuf>) -> Self {
        Self { runner: live.pid(), before, processes: BTreeSet::new(), addresses: BTreeSet::new(), own: BTreeSet::new() }
    }

    /// Adds the processes that exist now: the supervisor, which adopts every orphan, and all descendants of the supervisor.
    fn look(&mut self) {
        let all = Process::all();
        let supervisor = format!("--runner {}", self.runner);
        let mut known: BTreeSet<i32> = self.processes.iter().filter(|process| process.lives()).map(|process| process.pid).collect();
        known.extend(all.iter().filter(|process| process.command().contains(&supervisor)).map(|process| process.pid));
        loop {
            let more: Vec<i32> =
                all.iter().filter(|one| known.contains(&one.parent) && !known.contains(&one.pid)).map(|one| one.pid).collect();
            if more.is_empty() {
                break;
            }
            known.extend(more);
        }
        let family: Vec<Process> = all.into_iter().filter(|process| known.contains(&process.pid)).collect();
        let new = self.new_folders();
        self.own.extend(new.into_iter().filter(|folder| family.iter().any(|process| process.uses(folder))));
        self.processes.extend(family);
    }

    /// Adds the processes that exist now and their listening ports, which belong to nodes or to the runner's relays.
    pub fn look_at_ports(&mut self) {
        self.look();
        let runner = Process::read(self.runner);
        let sockets: BTreeSet<String> = self.processes.iter().chain(&runner).flat_map(Process::sockets).collect();
        self.addresses.extend(listening().into_iter().filter(|(_, inode)| sockets.contains(inode)).map(|(address, _)| address));
    }

    /// Returns the supervisor processes of the runner.
    pub fn supervisor(&self) -> Vec<Process> {
        self.processes.iter().filter(|process| process.command().contains("supervise")).cloned().collect()
    }

    /// Returns the work directories created since the start of the test, including those of other tests.
    pub fn new_folders(&self) -> Vec<PathBuf> {
        Self::folders().difference(&self.before).cloned().collect()
    }

    /// Locks the runner's work directories, as a living owner does. Other tests do not remove the directories while the locks are held.
    pub fn hold(&self) -> Vec<Flock<File>> {
        let lock = |folder: &PathBuf| Flock::lock(File::open(folder).expect("it is there"), FlockArg::LockShared).expect("locked");
        self.own.iter().map(lock).collect()
    }

    /// Returns the mounts in the runner's work directories.
    pub fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let at = table.lines().filter_map(|line| line.split(' ').nth(1));
        at.filter(|at| self.own.iter().any(|folder| Path::new(at).starts_with(folder))).map(str::to_owned).collect()
    }

    /// Waits until all processes of the runner have ended.
    pub fn runs_no_more(&mut self) {
        until("these still run", || {
            self.look();
            self.processes
                .iter()
                .filter(|process| process.lives())
                .map(|process| format!("{} {}", process.pid, process.command()))
                .collect()
        });
    }

    /// Waits until all processes, ports, mounts and directories of the runner are gone.
    pub fn is_gone(&mut self) {
        self.runs_no_more();
        until("these ports are still held", || {
            listening().into_iter().map(|(address, _)| address).filter(|address| self.addresses.contains(address)).collect()
        });
        until("these are still mounted", || self.mounts());
        until("these folders are still there", || {
            self.own.iter().filter(|folder| folder.exists()).map(|folder| folder.display().to_string()).collect()
        });
    }
}

fn node_kill(store: &Path) -> Program {
    Program::new().args(["run", "scenarios/node_kill.yaml"]).store(store).json()
}

pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Kills runners at random times. `CHAOSRUN_TEST_KILLS=50 CHAOSRUN_TEST_SEED=7` sets the number of rounds and the seed.
#[test]
fn killed_runner_leaves_only_a_record_of_the_cut_off_trial() {
    let rounds = from_environment("CHAOSRUN_TEST_KILLS", 6);
    let mut random = ChaCha8Rng::seed_from_u64(from_environment("CHAOSRUN_TEST_SEED", 1));
    let mut cut_off = 0;
    for round in 0..rounds {
        // A random moment, not a wait for a condition. A trial takes about six seconds.
        let moment = Duration::from_micros(random.random_range(0..6_000_000));
        let temp = tempfile::tempdir().expect("a folder");
        let before = Family::folders();
        let live = node_kill(temp.path()).start();
        std::thread::sleep(moment);
        let mut family = Family::of(&live, before);
        family.look_at_ports();
        live.signal(Signal::SIGKILL);
        let seen = live.wait();
        family.is_gone();
        println!("round {round}: killed after {moment:?}, {} processes, {} ports", family.processes.len(), family.addresses.len());

        let listed = Program::new().args(["list", "--all"]).store(temp.path()).json().run();
        if seen.stdout.contains("fault_injected") {
            assert_eq!(listed.code, Some(0), "what is injected is on the disk before: {listed}");
        }
        // The runner may have been killed before the first event, or after the end.
        if listed.code == Some(6) {
            continue;
        }
        let listed = listed.exits(0);
        let row: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|error| panic!("{error}: {listed}"));
        let human = Program::new().args(["list", "--all"]).store(temp.path()).run().exits(0);
        let shown = Program::new().arg("show").arg(row["trial"].as_str().expect("an id")).store(temp.path()).run().exits(0);
        let replayed = Program::new().arg("replay").store(temp.path()).run();
        if row["state"] == "finished" {
            assert!(human.stdout.contains("PASS"), "{human}");
            continue;
        }
        cut_off += 1;
        assert_eq!((&row["state"], &row["verdict"]), (&"cut_off".into(), &Value::Null), "{listed}");
        assert!(human.stdout.contains("CUT OFF"), "{human}");
        assert!(shown.stdout.starts_with("CUT OFF node_kill/playbook"), "{shown}");
        assert!(replayed.stderr.contains("CUT OFF"), "{replayed}");
        replayed.exits(130);
    }
    assert!(cut_off > 0, "none of {rounds} kills hit a trial");
}

/// Sends a signal to a runner in the middle of a trial. Sends the signal a second time if `twice` is true.
fn interrupted(scenario: &str, signal: Signal, twice: bool) {
    let project = patient();
    let before = Family::folders();
    let mut live = project.program("run").args([&format!("scenarios/{scenario}.yaml"), "--variant", "noop"]).json().start();
    live.until("the agent is over", |kind| matches!(kind, EventKind::AgentFinished { .. }));
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    assert!(family.processes.len() > 5 && family.addresses.len() > 6, "the supervisor and the nodes that are left: {:?}", family.processes);
    live.signal(signal);
    if twice {
        live.signal(if signal == Signal::SIGINT { Signal::SIGTERM } else { Signal::SIGINT });
    }
    let ran = live.wait().exits(130);
    family.is_gone();
    let trial = ran.trial();
    let finished = trial.finished();
    let reason = finished.reason.as_ref().expect("a reason");
    assert_eq!((finished.verdict, reason.code.word()), (Verdict::Invalid, "interrupted"), "{ran}");
    assert!(matches!(ran.events().last().map(|event| event.kind.clone()), Some(EventKind::RunFinished { interrupted: true, .. })), "{ran}");
    assert!(ran.stderr.contains("interrupted"), "{ran}");
    let listed = project.program("list").run().exits(0);
    assert!(listed.stdout.contains("INVALID"), "{listed}");
    assert_eq!(project.program("replay").run().code, Some(130));
}

#[test]
fn sigint_once_heals_and_tears_down() {
    // The paused store must end too, although it cannot handle a signal.
    interrupted("node_pause", Signal::SIGINT, false);
}

#[test]
fn sigterm_behaves_like_sigint() {
    interrupted("node_kill", Signal::SIGTERM, false);
}

#[test]
fn a_second_signal_kills_at_once() {
    interrupted("pd_kill", Signal::SIGINT, true);
}

/// Cluster without nodes. The shell of the agent is the only process.
const ALARM: &str =
    "name: alarm\ncluster: clusters/none.yaml\ngoal: nothing\ntiming: { steady_for: 0s, stable_for: 0s }\npage: { text: a false alarm }\n";

#[test]
fn daemons_of_the_agent_end_with_the_trial() {
    // Argument that no other process has, and that the search does not find in itself.
    let rest = format!("{:08}", std::process::id());
    let seconds = format!("6{rest}");
    let variant = format!(
        "provider: scripted
rules:
  - commands:
      - setsid sleep {seconds} >/dev/null 2>&1 &
      - (setsid sh -c 'trap \"\" HUP TERM; nohup sleep {seconds} >/dev/null 2>&1 & exec sleep {seconds}' >/dev/null 2>&1 &)
      - run: grep -lzx '[6]{rest}' /proc/[0-9]*/cmdline 2>/dev/null | wc -l
        until: last.stdout | trim == '3'
    end: no_action
"
    );
    let project =
        Project::new().file("scenarios/alarm.yaml", &format!("{ALARM}limits: {{ wall: 30s }}\n")).file("variants/daemons.yaml", &variant);
    let before = Family::folders();
    let live = project.program("run").args(["scenarios/alarm.yaml", "--variant", "daemons"]).json().start();
    let mut family = Family::of(&live, before);
    let ran = live.wait().exits(0);
    assert_eq!(ran.trial().commands().last().map(|done| done.stdout.text.clone()), Some("3\n".to_owned()), "all were there: {ran}");
    family.is_gone();
    let sleeps = format!("sleep {seconds}");
    until("these still run", || Process::all().iter().map(Process::command).filter(|line| line.starts_with(&sleeps)).collect());
}

#[test]
fn unwritable_record_is_reported_before_the_start() {
    let temp = tempfile::tempdir().expect("a folder");
    let file = temp.path().join("a file");
    fs::write(&file, "mine").expect("written");
    // Permissions do not stop root; these places stop every user.
    for place in [file.as_path(), &file.join("below"), Path::new("/proc/record"), Path::new("/dev/null")] {
        let ran = node_kill(place).run().exits(8);
        assert!(ran.stdout.is_empty(), "nothing began: {ran}");
        let line = ran.stderr.lines().next().unwrap_or_default();
        assert!(line.starts_with("error: ") && line.contains(&format!("`{}`", place.display())), "{ran}");
    }
    assert_eq!(fs::read_to_string(&file).expect("it reads"), "mine");
}

/// Small file system on a separate mount, which is unmounted when this value is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// Mounts a file system of the given size. Returns `None` without permission to mount.
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        crate::require::missing("mount", "it is not allowed");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn full_disk_ends_the_run_and_preserves_the_record() {
    let Some(disk) = Disk::new("1m") else { return };
    let variant = "provider: scripted
rules:
  - commands:
      - { run: head -c 12000 /dev/urandom | base64, until: false }
    end: no_action
";
    let scenario = format!("{ALARM}limits: {{ wall: 5m, turns: 100000, output: 64KiB }}\n");
    let project = Project::new().file("scenarios/alarm.yaml", &scenario).file("variants/talks.yaml", variant);
    let store = disk.0.path().join("record");
    let run = || Program::new().dir(project.path()).args(["run", "scenarios/alarm.yaml", "--variant", "talks"]).store(&store);
    let ran = run().json().run().exits(8);
    let told = |kind: &EventKind| matches!(kind, EventKind::Warning { message } if message.contains("is full"));
    assert!(ran.events().iter().any(|event| told(&event.kind)), "{ran}");
    let trial = ran.trial();
    assert_eq!(trial.verdict(), Verdict::Invalid, "{ran}");

    let listed = Program::new().arg("list").store(&store).run().exits(0);
    assert!(listed.stdout.contains("alarm/talks"), "{listed}");
    let kept = Program::new().args(["show", &trial.id, "--events"]).store(&store).json().run().exits(0);
    assert!(kept.events().len() > 10, "{kept}");
}
