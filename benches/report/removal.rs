//! Benchmark of removal: runners end in every way while all faults are active. The report names the layer that removed each object.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::residue::{Kind, Machine, Run, Thing, Things, counted, there};
use crate::{breaks, children, command, say};

/// Maximum time until a removal must be complete.
const WITHIN: Duration = Duration::from_secs(5);
/// Maximum time to wait until the intended faults are active. Then the runner is ended at its present point.
const PATIENCE: Duration = Duration::from_secs(60);

/// Way in which a runner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Regular end of a run, which removes faults that are never healed.
    Normal,
    /// End by SIGINT, which starts the regular removal.
    Interrupted,
    /// End by SIGKILL of the runner.
    Killed,
    /// End by SIGKILL of the runner and of its supervisor.
    BothKilled,
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::Normal => "ended by themselves",
            Self::Interrupted => "interrupted",
            Self::Killed => "killed",
            Self::BothKilled => "killed with their supervisors",
        }
    }
}

/// Layer that removed an object, or `Left` for an object that was not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Guard,
    Signal,
    Supervisor,
    Kernel,
    Ledger,
    Left,
}

impl By {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Guard, "guard"),
        (Self::Signal, "signal"),
        (Self::Supervisor, "supervisor, holders"),
        (Self::Kernel, "kernel"),
        (Self::Ledger, "ledger, next start"),
        (Self::Left, "LEFT"),
    ];
}

#[derive(Default)]
struct Tally {
    removed: BTreeMap<By, Vec<Kind>>,
    ends: BTreeMap<&'static str, usize>,
    faults: BTreeSet<String>,
    /// Maximum number of faults that were active when a runner ended.
    most: usize,
    slowest: Duration,
}

/// Parameters of one runner: its faults, the way in which it ends, and the time of its end.
struct Round<'a> {
    list: &'a str,
    docker: bool,
    end: End,
    /// Number of faults to wait for. 0 means that the delay starts with the program.
    faults: usize,
    moment: Duration,
}

struct Place {
    scenarios: PathBuf,
    store: PathBuf,
    temporary: PathBuf,
}

/// Ends `kills` runners, three in four on `local` and all others in containers. Then runs one trial per fault list to its regular end.
/// Returns true if no object was left.
pub fn removal(kills: usize, seed: u64, store: &Path) -> bool {
    let place = Place { scenarios: store.join("breaks"), store: store.to_owned(), temporary: store.join("temporary") };
    if let Err(error) = prepare(&place) {
        say(&format!("removal: cannot be measured: {error}"));
        return false;
    }
    say(&format!("removal: seed {seed}"));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut clean = true;
    for (backend, docker, rounds) in [("local", false, kills - kills / 4), ("docker", true, kills / 4)] {
        let lists = breaks::lists(docker);
        let mut tally = Tally::default();
        let begun = Instant::now();
        for round in 0..rounds {
            let (list, text) = &lists[round % lists.len()];
            let round = drawn(&mut random, list, text, docker);
            clean &= one(&place, &round, &mut tally);
        }
        for (list, text) in &lists {
            let round = Round { list, docker, end: End::Normal, faults: count(text), moment: Duration::ZERO };
            clean &= one(&place, &round, &mut tally);
        }
        tell(backend, &tally, begun.elapsed());
    }
    clean
}

fn prepare(place: &Place) -> std::io::Result<()> {
    let (name, text) = breaks::FILE;
    let clusters = place.scenarios.join("scenarios/clusters");
    fs::create_dir_all(clusters.join("files"))?;
    fs::create_dir_all(&place.temporary)?;
    fs::write(clusters.join("tikv.yaml"), breaks::cluster())?;
    fs::write(clusters.join(name), text)?;
    for docker in [false, true] {
        for (list, faults) in breaks::lists(docker) {
            fs::write(scenario(place, list, docker), breaks::scenario(list, &faults))?;
        }
    }
    Ok(())
}

fn scenario(place: &Place, list: &str, docker: bool) -> PathBuf {
    place.scenarios.join(format!("scenarios/{list}_{}.yaml", if docker { "docker" } else { "local" }))
}

fn count(faults: &str) -> usize {
    faults.matches("inject:").count()
}

fn drawn<'a>(random: &mut impl Rng, list: &'a str, text: &str, docker: bool) -> Round<'a> {
    let end = match random.random_range(0..10) {
        0 => End::Interrupted,
        1 | 2 => End::BothKilled,
        _ => End::Killed,
    };
    let faults = random.random_range(0..=count(text));
    // A cluster takes two or three seconds to start.
    let longest = if faults == 0 { 4_000_000 } else { 1_500_000 };
    Round { list, docker, end, faults, moment: Duration::from_micros(random.random_range(0..longest)) }
}

/// Runs one round and adds its results to the tally. Returns true if no object is left.
fn one(place: &Place, round: &Round, tally: &mut Tally) -> bool {
    let machine = Machine::look();
    let scenario = scenario(place, round.list, round.docker).display().to_string();
    let mut words = vec!["run", &scenario, "--variant", "noop", "--message-format", "json"];
    if round.docker {
        words.extend(["--backend", "docker", "--standin"]);
    }
    if round.end == End::Normal {
        // Long enough for all faults to be in force.
        words.extend(["--set", if round.docker { "timing.repair_within=60s" } else { "timing.repair_within=5s" }]);
    }
    let mut program = command(&words, Some(&place.store));
    let Ok(mut child) = program.env("TMPDIR", &place.temporary).stdout(Stdio::piped()).spawn() else { return false };
    let events = read(child.stdout.take());
    let mut seen = Seen::default();
    if round.faults > 0 {
        seen.until(&events, round.faults, PATIENCE);
    }
    // A random moment, not a wait for a condition.
    seen.until(&events, usize::MAX, round.moment);
    let runner = child.id();
    let before = machine.things(&Run { runner, id: seen.run.as_deref(), temporary: &place.temporary });
    end(&mut child, round.end, &mut seen, &events);
    let run = Run { runner, id: seen.run.as_deref(), temporary: &place.temporary };
    let begun = Instant::now();
    // Containers are removed by the next start, if the run itself has not removed them.
    let waits = |(kind, _): &&Thing| matches!(kind, Kind::Process | Kind::Stopped | Kind::Mount | Kind::Folder);
    while before.iter().filter(waits).any(there) && begun.elapsed() < WITHIN {
        std::thread::sleep(Duration::from_millis(10));
    }
    tally.slowest = tally.slowest.max(begun.elapsed());
    let after = machine.left(&run, &before);
    // Every start does this first.
    let _ = command(&["doctor", "--clean"], Some(&place.store)).status();
    let cleaned = Instant::now();
    let mut last = machine.left(&run, &before);
    // A folder that another run is creating at this moment has no owner for less than that time.
    while !last.is_empty() && cleaned.elapsed() < WITHIN {
        std::thread::sleep(Duration::from_millis(50));
        last = machine.left(&run, &before);
    }
    tally.add(round, &seen, [&before, &after, &last]);
    if last.is_empty() {
        return true;
    }
    say(&format!("removal: {scenario}, {:?} after {} faults and {:?} more, left {last:?}", round.end, seen.faults.len(), round.moment));
    false
}

fn end(child: &mut Child, end: End, seen: &mut Seen, events: &Receiver<String>) {
    let runner = child.id();
    let supervisor = children(runner).first().copied();
    let (signal, pids) = match end {
        End::Normal => ("", Vec::new()),
        End::Interrupted => ("-INT", vec![runner]),
        End::Killed => ("-KILL", vec![runner]),
        End::BothKilled => ("-KILL", [runner].into_iter().chain(supervisor).collect()),
    };
    if !pids.is_empty() {
        // An error means that the process has ended already.
        let _ = Command::new("kill").arg(signal).args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
    }
    // Reads until the end of the output.
    seen.until(events, usize::MAX, PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns a channel that receives the program's output lines as they arrive.
fn read(stdout: Option<ChildStdout>) -> Receiver<String> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

#[derive(Default)]
struct Seen {
    run: Option<String>,
    /// Names of the faults, in the order of their injection.
    faults: Vec<String>,
}

impl Seen {
    /// Reads events until `faults` faults were injected, the time `within` has passed, or the output ends.
    fn until(&mut self, events: &Receiver<String>, faults: usize, within: Duration) {
        let end = Instant::now() + within;
        while self.faults.len() < faults
            && let Ok(line) = events.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let text = |name: &str| event["kind"][name].as_str().map(str::to_owned);
            match event["kind"]["type"].as_str() {
                Some("run_started") => self.run = text("run"),
                Some("fault_injected") => self.faults.extend(text("fault")),
                _ => {}
            }
        }
    }
}

impl Tally {
    fn add(&mut self, round: &Round, seen: &Seen, [before, after, last]: [&Things; 3]) {
        *self.ends.entry(round.end.word()).or_default() += 1;
        self.most = self.most.max(seen.faults.len());
        self.faults.extend(seen.faults.iter().cloned());
        let by = |kind: Kind| match round.end {
            End::Normal => By::Guard,
            End::Interrupted => By::Signal,
            // Sidecars are not killed: they read a pipe.
            End::BothKilled if kind != Kind::Contained => By::Kernel,
            End::Killed | End::BothKilled => By::Supervisor,
        };
        for (kind, _) in before.difference(after) {
            self.removed.entry(by(*kind)).or_default().push(*kind);
        }
        for (by, things) in [(By::Ledger, after - last), (By::Left, last.clone())] {
            self.removed.entry(by).or_default().extend(things.into_iter().map(|(kind, _)| kind));
        }
    }
}

fn tell(backend: &str, tally: &Tally, took: Duration) {
    let ends: Vec<String> = tally.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    let (kinds, most, slowest) = (tally.faults.len(), tally.most, tally.slowest.as_secs_f64());
    say(&format!(
        "removal, {backend}: runners {} under {kinds} kinds of faults, up to {most} at once; in {:.0} s, the slowest end {slowest:.1} s",
        ends.join(", "),
        took.as_secs_f64()
    ));
    for (by, name) in By::ALL {
        let things = tally.removed.get(&by).into_iter().flatten().copied();
        say(&format!("  {name:<20} {}", counted(things)));
    }
    let never: Vec<&str> = breaks::kinds(backend == "docker").filter(|kind| !tally.faults.contains(*kind)).collect();
    if !never.is_empty() {
        say(&format!("  never in force       {}", never.join(", ")));
    }
}
