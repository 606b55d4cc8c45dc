//! `just bench`: measures chaosrun's promised figures with the real binary, and prints a report.
//!
//! Usage: `cargo bench --bench report [-- RUNS]`. Words select parts:
//! * `faults`: accuracy and speed of faults on both backends
//! * `turns` or `agents`: agents that use a model
//! * `docker-links` or `local-links`: links in containers or on this machine
//! * `removal` (and `seed=N`): leftovers of killed runners
//! * `store [TRIALS EVENTS]`: a large record
//! * `parallel [SEEDS]`: eight trials at once
//! * `rates [CAMPAIGNS]`: error rates of comparisons and gates
//!
//! Timings are informative; only leftovers of a runner are a failure. The measured program is that of `CHAOSRUN_BENCH_PROGRAM`, otherwise
//! the one that cargo built with the bench.

#[path = "../../tests/it/breaks.rs"]
mod breaks;
mod docker;
mod docker_links;
mod faults;
mod local_links;
mod parallel;
mod rates;
mod removal;
mod residue;
mod store;
mod turns;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn program() -> PathBuf {
    // Cargo runs benches in the package's own directory.
    std::env::var_os("CHAOSRUN_BENCH_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_chaosrun").into(), PathBuf::from)
}

fn main() -> ExitCode {
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let seed = std::env::args().find_map(|word| word.strip_prefix("seed=")?.parse().ok()).unwrap_or(1);
    let store = tempfile::tempdir().expect("a temporary directory");
    let mut report = Report::default();
    if std::env::args().any(|word| word == "faults") {
        local_links::links(&mut report, runs);
        docker_links::links(&mut report, runs);
        faults::faults(&mut report, store.path(), runs);
        report.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|word| word == "docker-links") {
        docker_links::links(&mut report, runs);
        report.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|word| word == "local-links") {
        local_links::links(&mut report, runs);
        report.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|word| word == "removal") {
        return code(removal::removal(runs * 20, seed, store.path()));
    }
    let words: Vec<String> = std::env::args().collect();
    if words.iter().any(|word| word == "store") {
        let mut sizes = words.iter().filter_map(|word| word.parse().ok());
        let (trials, events) = (sizes.next().unwrap_or(100_000), sizes.next().unwrap_or(10_000_000));
        store::store(&mut report, trials, events);
        report.print();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "parallel") {
        parallel::parallel(&mut report, store.path(), runs);
        report.print();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "rates") {
        rates::rates(&mut report, words.iter().find_map(|word| word.parse().ok()).unwrap_or(10_000));
        report.print();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "turns" || word == "agents") {
        if words.iter().any(|word| word == "turns") {
            turns::turns(&mut report);
        }
        if words.iter().any(|word| word == "agents") {
            turns::agents(&mut report);
        }
        report.print();
        return ExitCode::SUCCESS;
    }
    start_up(&mut report, runs * 4);
    files(&mut report, runs * 4);
    empty(&mut report, store.path());
    list(&mut report, store.path(), runs * 4);
    node_kill(&mut report, store.path(), runs);
    relay(&mut report, store.path());
    parallel::parallel(&mut report, store.path(), runs);
    turns::turns(&mut report);
    turns::agents(&mut report);
    docker::containers(&mut report, store.path(), runs);
    docker_links::links(&mut report, runs);
    local_links::links(&mut report, runs);
    faults::faults(&mut report, store.path(), runs);
    inspect(&mut report);
    report.print();
    code(removal::removal(runs * 20, seed, store.path()))
}

fn code(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Row of the report: a measured figure with all its values, and the promised value.
struct Row {
    name: &'static str,
    unit: &'static str,
    target: Option<f64>,
    values: Vec<f64>,
}

#[derive(Default)]
struct Report(Vec<Row>);

impl Report {
    fn add(&mut self, name: &'static str, unit: &'static str, target: impl Into<Option<f64>>, values: Vec<f64>) {
        self.0.push(Row { name, unit, target: target.into(), values });
    }

    fn print(&self) {
        say(&format!("{:<52}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "median", "p95", "min", "max", "target"));
        for row in &self.0 {
            let mut sorted = row.values.clone();
            sorted.sort_by(f64::total_cmp);
            let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
                say(&format!("{:<52}{:>9}", row.name, "not run"));
                continue;
            };
            let median = sorted[sorted.len() / 2];
            let target = row.target.map_or(String::new(), |target| format!("{target:.1}"));
            let verdict = row.target.map_or("", |target| if median <= target { "ok" } else { "NOT MET" });
            let p95 = if sorted.len() < 20 { String::new() } else { format!("{:.2}", sorted[sorted.len() * 95 / 100]) };
            say(&format!("{:<52}{median:>9.2}{p95:>9}{min:>9.2}{max:>9.2}{target:>9} {} {verdict}", row.name, row.unit));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report of the bench is its output")]
fn say(line: &str) {
    println!("{line}");
}

/// Resources used by a child process that has ended.
struct Finished {
    wall: Duration,
    /// CPU time of the process and of its supervisor, without the CPU time of the programs that they run.
    cpu: Duration,
    peak_mib: f64,
    passed: bool,
    /// True if the program does not know the subcommand.
    unknown: bool,
    stdout: String,
}

/// Runs the program until it ends. Measures its own CPU time and memory from `/proc`.
fn measure(arguments: &[&str], store: Option<&Path>) -> Finished {
    let mut command = command(arguments, store);
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let (cpu, peak_mib) = watch(&mut child);
    let wall = began.elapsed();
    let status = child.wait().ok();
    let (passed, unknown) = (status.is_some_and(|status| status.success()), status.and_then(|status| status.code()) == Some(2));
    Finished { wall, cpu, peak_mib, passed, unknown, stdout: reader.join().unwrap_or_default() }
}

fn command(arguments: &[&str], store: Option<&Path>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(store) = store {
        command.env("CHAOSRUN_STORE", store);
    }
    command
}

fn watch(child: &mut Child) -> (Duration, f64) {
    let (mut own, mut supervisor, mut peak) = (Duration::ZERO, Duration::ZERO, 0.0_f64);
    loop {
        own = own.max(cpu(child.id()));
        // The supervisor is the only child of a runner.
        supervisor = children(child.id()).first().map_or(supervisor, |pid| supervisor.max(cpu(*pid)));
        if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            peak = peak.max(kib.unwrap_or_default() / 1024.0);
        }
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            _ => return (own + supervisor, peak),
        }
    }
}

/// Returns the CPU time of a process without its children. The kernel counts in ticks of 10 ms.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields 14 and 15, counted after the name in parentheses.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the child processes of a process's main thread, which starts all child processes.
fn children(pid: u32) -> Vec<u32> {
    let pids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn start_up(report: &mut Report, runs: usize) {
    let values = (0..runs).map(|_| ms(measure(&["--version"], None).wall)).collect();
    report.add("start-up: --version", "ms", 30.0, values);
}

fn files(report: &mut Report, runs: usize) {
    let done = (0..runs).map(|_| measure(&["check", "--files-only", "scenarios"], None));
    let values = done.filter(|done| done.passed).map(|done| ms(done.wall)).collect();
    report.add("check --files-only scenarios", "ms", 25.0, values);
}

fn list(report: &mut Report, store: &Path, runs: usize) {
    let values = (0..runs).map(|_| ms(measure(&["list"], Some(store)).wall)).collect();
    report.add("list, 500 trials recorded", "ms", 30.0, values);
}

/// Runs 500 trials of an empty cluster with three scripted shell commands each, to measure the overhead of chaosrun.
fn empty(report: &mut Report, store: &Path) {
    const TRIALS: f64 = 500.0;
    let arguments = ["run", "scenarios/empty.yaml", "--repeat", "500", "--jobs", "2"];
    let done = measure(&arguments, Some(store));
    report.add("empty trial, 3 commands: wall a trial", "ms", 5.0, vec![ms(done.wall) / TRIALS]);
    report.add("empty trial, 3 commands: CPU of ours a trial", "ms", 3.0, vec![ms(done.cpu) / TRIALS]);
    report.add("empty trial: peak memory over 500", "MiB", 40.0, vec![done.peak_mib]);
}

fn node_kill(report: &mut Report, store: &Path, runs: usize) {
    let mut figures: [Vec<f64>; 7] = Default::default();
    for seed in 1..=runs {
        let seed = seed.to_string();
        let arguments = ["run", "scenarios/node_kill.yaml", "--seed", &seed, "--message-format", "json"];
        let done = measure(&arguments, Some(store));
        let events = events(&done.stdout);
        let up = phase(&events, "up");
        let Some(end) = kinds(&events, "trial_finished").next() else { continue };
        let wall = seconds(&end["wall_us"]).unwrap_or_default();
        let declared = seconds(&end["declared_us"]).unwrap_or_default();
        figures[0].extend(up);
        figures[1].extend(seconds(&end["detect_us"]).map(|detect| detect * 1e3));
        figures[2].push(wall);
        figures[3].push(declared);
        figures[4].push(wall - declared);
        figures[5].push(done.peak_mib);
        figures[6].push(done.cpu.as_secs_f64() / done.wall.as_secs_f64() * 100.0);
    }
    let [up, detect, wall, declared, rest, peak, cpu] = figures;
    report.add("node_kill: cluster ready", "s", 1.0, up);
    report.add("node_kill: death to first ticket", "ms", 300.0, detect);
    report.add("node_kill: whole trial", "s", 6.0, wall);
    report.add("node_kill:   declared waits", "s", None, declared);
    report.add("node_kill:   the rest", "s", 2.5, rest);
    report.add("node_kill: peak memory of the runner", "MiB", 60.0, peak);
    report.add("node_kill: CPU of the runner, of one core", "%", None, cpu);
}

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn kinds<'a>(events: &'a [Value], name: &'static str) -> impl Iterator<Item = &'a Value> {
    events.iter().map(|event| &event["kind"]).filter(move |kind| kind["type"] == name)
}

/// Converts a JSON number of microseconds to milliseconds.
fn ms_of(value: &Value) -> Option<f64> {
    seconds(value).map(|seconds| seconds * 1e3)
}

fn seconds(value: &Value) -> Option<f64> {
    value.as_f64().map(|us| us / 1e6)
}

/// Returns the duration of a trial phase in seconds.
fn phase(events: &[Value], name: &str) -> Option<f64> {
    kinds(events, "phase_finished").find(|kind| kind["phase"] == name).and_then(|kind| seconds(&kind["took_us"]))
}

/// Measures the overhead of the relay per request. A node of a running trial alternately receives requests through the relay and directly.
fn relay(report: &mut Report, store: &Path) {
    const PAIRS: usize = 500;
    let mut run = command(&["run", "scenarios/node_pause.yaml"], Some(store)).spawn().expect("the program starts");
    let mut direct = Vec::new();
    let mut relayed = Vec::new();
    if let Some([mut near, mut far]) = both_ways(&mut run) {
        for _ in 0..PAIRS {
            let (Some(one), Some(other)) = (ask(&mut near), ask(&mut far)) else { break };
            direct.push(one);
            relayed.push(other);
        }
    }
    let _ = run.wait();
    direct.sort_by(f64::total_cmp);
    relayed.sort_by(f64::total_cmp);
    let added = direct.get(direct.len() / 2).zip(relayed.get(relayed.len() / 2)).map(|(direct, relayed)| relayed - direct);
    report.add("relay: added to a request, under load", "us", 100.0, added.into_iter().collect());
    report.add("relay:   such a request without it", "us", None, direct);
}

/// Waits until the first placement driver (PD node) is ready. Returns a direct connection to it, and a connection through its relay.
fn both_ways(run: &mut Child) -> Option<[BufReader<TcpStream>; 2]> {
    while matches!(run.try_wait(), Ok(None)) {
        for pid in children(run.id()).into_iter().flat_map(children) {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let address = |option: &str| command.split('\0').find_map(|word| word.strip_prefix(option));
            let (Some(near), Some(far)) = (address("--client-urls=http://"), address("--advertise-client-urls=http://")) else { continue };
            let open = |address: &str| {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_nodelay(true).ok()?;
                let mut stream = BufReader::new(stream);
                ask(&mut stream).map(|_| stream)
            };
            if let (Some(near), Some(far)) = (open(near), open(far)) {
                return Some([near, far]);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Sends one request over an open connection and returns the response time in microseconds.
fn ask(stream: &mut BufReader<TcpStream>) -> Option<f64> {
    let began = Instant::now();
    stream.get_mut().write_all(b"GET /pd/api/v1/version HTTP/1.1\r\nhost: pd\r\n\r\n").ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(ms(began.elapsed()) * 1e3)
}

/// Runs the same trials without work in `inspect_ai`, if it is installed, for comparison.
fn inspect(report: &mut Report) {
    const SAMPLES: f64 = 50.0;
    let task = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/inspect_empty.py");
    let logs = tempfile::tempdir().expect("a temporary directory");
    let began = Instant::now();
    let done = Command::new("inspect")
        .args(["eval", &task.display().to_string(), "--model", "mockllm/model", "--display", "none", "--log-dir"])
        .arg(logs.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let name = "inspect_ai, 50 samples x 3 commands: wall a sample";
    match done {
        Ok(status) if status.success() => report.add(name, "ms", None, vec![ms(began.elapsed()) / SAMPLES]),
        _ => report.add(name, "ms", None, Vec::new()),
    }
}
