//! Tests of whole trials in containers: the same verdicts as on `local`, no objects left behind, and an agent that sees only its trial.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use chaosrun_event::{EventKind, Phase, Verdict};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::program::{Program, Project, Ran, Trial};
use super::require;

pub const IN_CONTAINERS: [&str; 3] = ["--backend", "docker", "--standin"];

/// Returns the project of [`super::trials::patient`] with longer time limits for containers. In these tests, four clusters of a debug build
/// share two processors with other tests.
fn patient() -> Project {
    let slower = [
        ("rate: 100", "rate: 20"),
        ("detect_within: 15s", "detect_within: 120s"),
        ("repair_within: 30s", "repair_within: 120s"),
        ("wall: 30s", "wall: 120s"),
        ("command: 15s", "command: 60s"),
    ];
    let project = super::trials::patient().again("clusters/tikv", &[("clock_scale: 0.2", "clock_scale: 0.5")]);
    project.again("node_kill", &slower).again("pd_kill", &slower).again("node_pause", &slower)
}

/// Returns true if a Docker Engine and the `docker` command are available.
pub fn engine() -> bool {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    require::program("docker").is_some() && runtime.block_on(require::engine()).is_some()
}

/// Returns chaosrun's objects in the Docker Engine, as the `docker` command lists them.
pub fn left(run: Option<&str>) -> Vec<String> {
    let label = run.map_or("label=chaosrun.run".to_owned(), |run| format!("label=chaosrun.run={run}"));
    let listed = |words: &[&str]| {
        let output = Command::new("docker").args(words).args(["-q", "--filter", &label]).output().expect("the stock client runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    [&["ps", "-a"][..], &["network", "ls"], &["volume", "ls"]].iter().flat_map(|words| listed(words)).collect()
}

#[track_caller]
fn nothing_is_left(ran: &Ran) {
    let run = ran.events().into_iter().find_map(|event| match event.kind {
        EventKind::RunStarted { run, .. } => Some(run.to_string()),
        _ => None,
    });
    assert_eq!(left(run.as_deref()), Vec::<String>::new(), "{ran}");
}

fn proof(trial: &Trial, wanted: Phase) -> Option<String> {
    trial.kinds.iter().find_map(|kind| match kind {
        EventKind::PhaseFinished { phase, ok: true, proof, .. } if *phase == wanted => Some(proof.clone()),
        _ => None,
    })
}

#[test]
fn every_fault_is_repaired_in_containers_four_trials_at_a_time() {
    if !engine() {
        return;
    }
    let scenarios = ["scenarios/node_kill.yaml", "scenarios/pd_kill.yaml", "scenarios/node_pause.yaml"];
    let rest = ["--variant", "playbook", "--variant", "oracle", "--jobs", "4"];
    let ran = patient().run(&[&scenarios[..], &IN_CONTAINERS, &rest].concat()).exits(0);
    let trials = ran.trials();
    assert_eq!(trials.len(), 6, "{ran}");
    for trial in &trials {
        assert_eq!(trial.verdict(), Verdict::Pass, "{}\n{ran}", trial.name());
        for phase in [Phase::Up, Phase::Felt, Phase::Detect, Phase::Stable, Phase::Preserved, Phase::Down] {
            assert!(proof(trial, phase).is_some(), "{} has no proof of {phase:?}\n{ran}", trial.name());
        }
        assert_eq!(trial.started.backend, "docker");
        assert!(trial.started.images.contains_key("tikv") && trial.started.images.contains_key("toolbox"), "{:?}", trial.started.images);
    }
    let yardsticks: BTreeSet<_> = trials.iter().map(|trial| (&trial.started.scenario, &trial.started.yardstick)).collect();
    assert_eq!(yardsticks.len(), 3, "one yardstick a scenario: {yardsticks:?}");
    nothing_is_left(&ran);
}

#[test]
fn noop_fails_in_containers_too() {
    if !engine() {
        return;
    }
    let soon = [("repair_within: 120s", "repair_within: 2s")];
    let project = patient().again("node_kill", &soon).again("pd_kill", &soon).again("node_pause", &soon);
    let scenarios = ["scenarios/node_kill.yaml", "scenarios/pd_kill.yaml", "scenarios/node_pause.yaml"];
    let ran = project.run(&[&scenarios[..], &IN_CONTAINERS, &["--variant", "noop", "--jobs", "2"]].concat()).exits(4);
    for trial in ran.trials() {
        assert_eq!(trial.verdict(), Verdict::Fail, "{}\n{ran}", trial.name());
    }
    nothing_is_left(&ran);
}

/// Returns a project with a variant whose agent runs the given commands.
fn curious(commands: &[String]) -> Project {
    let commands = commands.iter().fold(String::new(), |mut text, command| {
        let _ = writeln!(text, "      - {{ run: '{}' }}", command.replace('\'', "''"));
        text
    });
    let text = format!("provider: scripted\nrules:\n  - commands:\n{commands}    end: escalate\n");
    let slower = [
        ("rate: 100", "rate: 20"),
        ("detect_within: 15s", "detect_within: 120s"),
        ("repair_within: 30s", "repair_within: 2s"),
        ("wall: 30s", "wall: 120s"),
        ("command: 15s", "command: 60s"),
    ];
    patient().changed("node_kill", &slower).file("variants/curious.yaml", &text)
}

#[test]
fn an_agent_sees_its_trial_and_nothing_else() {
    if !engine() {
        return;
    }
    // The host listens on all addresses; a container on another network represents a node of another trial.
    let host = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = host.local_addr().expect("an address").port();
    let addresses = Command::new("hostname").arg("-I").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let addresses: Vec<String> = addresses.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let reach = |address: &str, port: u16| format!("timeout 4 bash -c 'echo > /dev/tcp/{address}/{port}' && echo REACHED");
    let gateway = "timeout 4 bash -c 'echo > /dev/tcp/'$(hostname -I | sed 's/[0-9]* *$/1/')'/PORT' && echo REACHED"
        .replace("PORT", &port.to_string());
    let mut commands: Vec<String> = [
        "id -u; hostname; pwd; ls -la",
        "docker ps -a | awk 'NR > 1 { print $NF }' | sort | tr '\\n' ' '",
        "docker inspect tikv1 pd1",
        "docker run --rm debian:bookworm-slim true",
        "DOCKER_HOST= docker ps -a | awk 'NR > 1 { print $NF }' | sort | tr '\\n' ' '",
        "touch /etc/x /usr/x; touch x && echo mine",
        "cat /proc/1/cmdline /proc/self/environ | tr '\\0' ' '; ls / /run /srv /home /root; cat /proc/self/mountinfo",
        "docker exec tikv1 sh -c 'cat /proc/1/cmdline /proc/1/environ | tr \"\\0\" \" \"; ls -R /srv; ls -la /usr/local/bin'",
        "getent hosts pd1 tikv3 && echo known",
        "timeout 4 getent hosts example.com; echo code $?",
        "timeout 4 curl -sS -m 3 http://1.1.1.1/; echo code $?",
        "ps -e -o args; find / -xdev -iname '*chaos*' 2>/dev/null | head",
    ]
    .map(str::to_owned)
    .to_vec();
    commands.push(gateway);
    commands.extend(addresses.iter().map(|address| reach(address, port)));
    let ran = curious(&commands).run(&[&["scenarios/node_kill.yaml"][..], &IN_CONTAINERS, &["--variant", "curious"]].concat()).exits(4);
    let trial = ran.trial();
    let done = trial.commands();
    assert_eq!(done.len(), commands.len(), "{ran}");
    let text = |place: usize| format!("{}{}", done[place].stdout.text, done[place].stderr);
    assert!(text(0).starts_with("65534\nworkstation\n/work\n"), "{}", text(0));
    assert_eq!(text(1), "pd1 pd2 pd3 tikv1 tikv2 tikv3 ");
    assert!(text(2).contains("\"Name\": \"/tikv1\""), "{}", text(2));
    assert!(done[3].exit_code != 0, "{}", text(3));
    assert_eq!(text(4), text(1), "the usual place of the socket leads to the same engine");
    assert!(done[5].stdout.text == "mine\n" && done[5].stderr.contains("Read-only"), "{}", text(5));
    assert!(text(8).contains("known"), "names of the trial are resolved: {}", text(8));
    assert!(text(9).contains("code 2"), "names of outside end at once: {}", text(9));
    assert!(!text(10).contains("code 0"), "{}", text(10));
    for (place, command) in commands.iter().enumerate().skip(commands.len() - 1 - addresses.len()) {
        assert!(!text(place).contains("REACHED"), "`{command}` leads out: {}", text(place));
    }
    let project = trial.started.file.clone();
    for (place, command) in commands.iter().enumerate() {
        // Text that the agent typed itself is no secret.
        let told = text(place).to_lowercase();
        for secret in ["chaosrun", "node_kill", "curious", "scenario", &trial.id.to_lowercase(), &project.to_lowercase()] {
            assert!(!told.contains(secret), "`{command}` tells `{secret}`: {}", text(place));
        }
    }
    nothing_is_left(&ran);
}

#[test]
fn processes_of_an_agent_are_ended_before_the_judgement() {
    if !engine() {
        return;
    }
    let commands = [
        // No process may end its own container, and with it the proof about it.
        "kill -TERM 1; env -i setsid sh -c 'while :; do date >> alive; done' & echo left",
        "until [ -s alive ]; do :; done; wc -l < alive",
        "sleep 600",
        "ps -e -o args",
    ]
    .map(str::to_owned);
    let project = curious(&commands).again("node_kill", &[("command: 60s", "command: 10s")]);
    let ran = project.run(&[&["scenarios/node_kill.yaml"][..], &IN_CONTAINERS, &["--variant", "curious"]].concat()).exits(4);
    let done = ran.trial().commands();
    assert!(done[1].stdout.text.trim().parse::<u32>().is_ok_and(|lines| lines > 0), "{done:?}");
    assert!(done[2].timed_out, "{done:?}");
    assert!(!done[3].stdout.text.contains("sleep 600"), "what was cut off is gone: {done:?}");
    nothing_is_left(&ran);
}

#[test]
fn a_killed_runner_leaves_nothing_after_the_next_start() {
    if !engine() {
        return;
    }
    let rounds: u64 = std::env::var("CHAOSRUN_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let seed: u64 = std::env::var("CHAOSRUN_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let project = patient();
    // Runs of parallel tests would remove the leftovers.
    let apart = |program: Program| program.env("CHAOSRUN_REMOVAL_APART", format!("killed{}", std::process::id()));
    let mut hit = 0;
    for round in 0..rounds {
        // A random moment, not a wait for a condition. A trial takes about eight seconds.
        let moment = Duration::from_micros(random.random_range(0..8_000_000));
        let words = [&["scenarios/node_kill.yaml"][..], &IN_CONTAINERS, &["--variant", "playbook"]].concat();
        let mut live = apart(project.program("run").args(&words).json()).start();
        live.until("a trial begins", |kind| matches!(kind, EventKind::TrialStarted(_)));
        std::thread::sleep(moment);
        live.signal(Signal::SIGKILL);
        let ran = live.wait();
        let run = ran.events().into_iter().find_map(|event| match event.kind {
            EventKind::RunStarted { run, .. } => Some(run.to_string()),
            _ => None,
        });
        hit += usize::from(run.is_some() && !left(run.as_deref()).is_empty());
        let cleaned = apart(Program::new().args(["doctor", "--clean"])).run();
        assert_eq!(left(run.as_deref()), Vec::<String>::new(), "round {round}, killed after {moment:?}\n{cleaned}");
    }
    assert!(hit > 0, "none of {rounds} kills left anything to clean up");
}
