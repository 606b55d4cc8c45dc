//! Tests of removal. Each layer is sufficient alone, with all others switched off. A runner that is killed while all faults are in force
//! leaves no object.

use std::process::Command;
use std::time::Duration;

use chaosrun_event::{EventKind, Verdict};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::breaks;
use super::docker::{IN_CONTAINERS, engine, left};
use super::faults_of_ours::{Family, from_environment, until};
use super::program::{Live, Program, Project};
use super::trials::patient;

/// Returns a project with a scenario called `name`, in which the given faults last until the scenario is ended.
fn breaks(name: &str, faults: &str) -> Project {
    let (file, text) = breaks::FILE;
    Project::new()
        .file("scenarios/clusters/tikv.yaml", &breaks::cluster())
        .file(&format!("scenarios/clusters/{file}"), text)
        .file(&format!("scenarios/{name}.yaml"), &breaks::scenario(name, faults))
}

#[test]
fn every_fault_is_in_the_lists_for_killed_runners() {
    for docker in [false, true] {
        let lists = breaks::lists(docker);
        let missing: Vec<&str> = breaks::kinds(docker)
            .filter(|kind| !lists.iter().any(|(_, faults)| faults.contains(&format!("inject: {{ {kind}: "))))
            .collect();
        assert!(missing.is_empty(), "in containers: {docker}: {missing:?}");
    }
}

/// Starts a trial with a paused store. Only the listed layers of removal are active.
fn paused(layers: &str, rest: &[&str]) -> (Live, Family, Project) {
    let project = patient();
    let before = Family::folders();
    let words = ["scenarios/node_pause.yaml", "--variant", "noop", "--set", "timing.repair_within=1s"];
    let program = project.program("run").args(words).args(rest).json().env("CHAOSRUN_REMOVAL", layers);
    let mut live = program.start();
    live.until("injected", |kind| matches!(kind, EventKind::FaultInjected { .. }));
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    assert!(family.processes.len() > 6, "the supervisor and six nodes: {:?}", family.processes);
    (live, family, project)
}

fn clean() {
    Program::new().args(["doctor", "--clean"]).env("CHAOSRUN_REMOVAL", "ledger").run().exits(0);
}

#[test]
fn teardown_alone_leaves_nothing() {
    let (live, mut family, _project) = paused("guard", &[]);
    live.wait().exits(4);
    family.is_gone();
}

#[test]
fn a_signal_alone_is_enough_for_teardown() {
    let (live, mut family, _project) = paused("signal", &[]);
    live.signal(Signal::SIGINT);
    assert_eq!(live.wait().exits(130).trial().verdict(), Verdict::Invalid);
    family.is_gone();
}

#[test]
fn the_supervisor_alone_ends_everything_of_a_killed_runner() {
    let (live, mut family, _project) = paused("supervisor", &[]);
    live.signal(Signal::SIGKILL);
    live.wait();
    family.is_gone();
}

#[test]
fn the_kernel_alone_ends_the_nodes_of_a_killed_runner_and_the_ledger_the_rest() {
    let (live, mut family, _project) = paused("kernel", &[]);
    live.signal(Signal::SIGKILL);
    live.wait();
    family.runs_no_more();
    // The kernel does not remove folders.
    clean();
    family.is_gone();
}

#[test]
fn the_ledger_alone_ends_what_a_killed_runner_left() {
    let (live, mut family, _project) = paused("ledger", &[]);
    let held = family.hold();
    live.signal(Signal::SIGKILL);
    live.wait();
    let supervisor = family.supervisor();
    until("the supervisor", || supervisor.iter().filter(|one| one.lives()).map(super::faults_of_ours::Process::command).collect());
    let living = family.processes.iter().filter(|process| process.lives()).count();
    assert!(living >= 6, "nobody else may have ended the nodes, and {living} live: {:?}", family.processes);
    drop(held);
    clean();
    family.is_gone();
}

#[test]
fn released_program_ignores_the_removal_variable() {
    let Some(program) = super::require::release() else { return };
    let project = patient();
    let before = Family::folders();
    let words = ["run", "scenarios/node_pause.yaml", "--variant", "noop", "--set", "timing.repair_within=1s"];
    let released = Program::at(&program).dir(project.path()).args(words).store(&project.store()).json();
    let mut live = released.env("CHAOSRUN_REMOVAL", "none").env("CHAOSRUN_REMOVAL_APART", "test").start();
    live.until("injected", |kind| matches!(kind, EventKind::FaultInjected { .. }));
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    live.signal(Signal::SIGKILL);
    live.wait();
    family.is_gone();
}

/// Returns the number of elements in the nftables sets for links, in the network namespace of a container's first process.
fn links_in(pid: &str) -> usize {
    let output = Command::new("nsenter").args(["-n", "-t", pid, "nft", "list", "table", "inet", "links"]).output().expect("nsenter runs");
    // If `nft` reports no such table, the table was removed; otherwise the namespace is gone, and its links are unknown.
    let removed = output.stderr.starts_with(b"Error: No such file");
    assert!(output.status.success() || removed, "nobody removes the containers meanwhile: {output:?}");
    String::from_utf8_lossy(&output.stdout).matches("expires").count()
}

fn docker(words: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(words).output().expect("the stock client runs");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Returns the running containers of a run whose role is `part`.
fn running(run: &str, part: &str) -> Vec<String> {
    let [run, part] = [format!("label=chaosrun.run={run}"), format!("label=chaosrun.part={part}")];
    docker(&["ps", "-q", "--filter", &run, "--filter", &part])
}

/// Returns the pids of the workload processes of a run, which outlive the sidecars of the run.
fn workloads(run: &str) -> Vec<String> {
    let ids = running(run, "node");
    docker(&[&["inspect", "-f", "{{.State.Pid}}"][..], &ids.iter().map(String::as_str).collect::<Vec<_>>()].concat())
}

/// Kills the runner of a cluster in containers while its links are cut. Only `layer` heals the links, and only the ledger removes all other
/// objects.
fn cut_in_containers(layer: &str) {
    if !engine() || super::require::program("nsenter").is_none() {
        return;
    }
    let cut = "  cut: { inject: { network_partition: { isolate: tikv3 } }, heal: never }\n";
    let project = breaks("cut", cut);
    let words = [&["scenarios/cut.yaml", "--variant", "noop"][..], &IN_CONTAINERS].concat();
    // Parallel tests start runs too, which would remove leftovers of a dead one.
    let apart = format!("{layer}{}", std::process::id());
    let program = project.program("run").args(words).json().env("CHAOSRUN_REMOVAL", layer);
    let mut live = program.env("CHAOSRUN_REMOVAL_APART", &apart).start();
    live.until("injected", |kind| matches!(kind, EventKind::FaultInjected { .. }));
    let run = live.run();
    let pids = workloads(&run);
    let cut = || pids.iter().map(|pid| links_in(pid)).sum::<usize>();
    assert!(cut() > 0, "the links of {pids:?} are cut");
    live.signal(Signal::SIGKILL);
    live.wait();
    if layer == "ledger" {
        until("holders that read nothing any more", || running(&run, "holder"));
        let before = left(Some(&run));
        clean();
        assert!(cut() > 0 && left(Some(&run)) == before, "whoever is another's finds nothing, and nobody else mends them");
    } else {
        until("links are cut", || if cut() == 0 { Vec::new() } else { vec![format!("{} elements", cut())] });
    }
    let own = || Program::new().args(["doctor", "--clean"]).env("CHAOSRUN_REMOVAL", "ledger").env("CHAOSRUN_REMOVAL_APART", &apart);
    own().run().exits(0);
    assert_eq!(left(Some(&run)), Vec::<String>::new());
}

#[test]
fn the_kernel_alone_heals_links_of_containers() {
    cut_in_containers("kernel");
}

#[test]
fn sidecars_alone_heal_their_links() {
    cut_in_containers("supervisor");
}

#[test]
fn the_ledger_alone_removes_containers() {
    cut_in_containers("ledger");
}

/// Kills a runner in each round and for each list of faults, after a random number of faults and a random delay. `CHAOSRUN_TEST_KILLS=50
/// CHAOSRUN_TEST_SEED=7` sets the rounds and the seed.
fn killed_at_random(rounds: u64, docker: bool) {
    let mut random = ChaCha8Rng::seed_from_u64(from_environment("CHAOSRUN_TEST_SEED", 1));
    for (name, faults) in breaks::lists(docker) {
        if name == "layers" && !super::require::fuse() {
            continue;
        }
        let project = breaks(name, &faults);
        for round in 0..rounds {
            let wanted = random.random_range(1..=faults.matches("inject:").count());
            // A random moment, not a wait for a condition.
            let moment = Duration::from_micros(random.random_range(0..1_000_000));
            killed(&project, name, docker, wanted, moment);
            println!("{name}, round {round}: killed {moment:?} after fault {wanted}");
        }
    }
}

fn killed(project: &Project, name: &str, docker: bool, faults: usize, moment: Duration) {
    let before = Family::folders();
    let backend: &[&str] = if docker { &IN_CONTAINERS } else { &[] };
    let scenario = format!("scenarios/{name}.yaml");
    let words = [&[scenario.as_str(), "--variant", "noop"][..], backend].concat();
    let mut live = project.program("run").args(words).json().start();
    for _ in 0..faults {
        live.until("injected", |kind| matches!(kind, EventKind::FaultInjected { .. }));
    }
    std::thread::sleep(moment);
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    live.signal(Signal::SIGKILL);
    let run = live.run();
    live.wait();
    family.is_gone();
    if docker {
        clean();
        assert_eq!(left(Some(&run)), Vec::<String>::new(), "{name}, killed {moment:?} after fault {faults}");
    }
}

#[test]
fn a_runner_killed_under_all_faults_leaves_nothing() {
    killed_at_random(from_environment("CHAOSRUN_TEST_KILLS", 1), false);
}

#[test]
fn a_runner_killed_under_all_faults_leaves_nothing_in_containers() {
    if engine() {
        killed_at_random(from_environment("CHAOSRUN_TEST_KILLS", 1), true);
    }
}

/// Kills a runner while the processes of mounted disk layers are stopped. The processes end with the supervisor, and their mounts stay
/// until `next_start` runs.
fn layers_of_the_dead(next_start: impl FnOnce(&Project)) {
    if !super::require::fuse() {
        return;
    }
    let faults = "  slow: { inject: { disk_slow: { target: { role: tikv, pick: all }, sync: 20ms } }, heal: never }\n";
    let project = breaks("slow", faults);
    let before = Family::folders();
    let program = project.program("run").args(["scenarios/slow.yaml", "--variant", "noop"]).json();
    let mut live = program.env("CHAOSRUN_REMOVAL", "kernel").start();
    live.until("injected", |kind| matches!(kind, EventKind::FaultInjected { .. }));
    let mut family = Family::of(&live, before);
    family.look_at_ports();
    let held = family.hold();
    let layers: Vec<_> = family.processes.iter().filter(|process| process.command().contains("node disk")).collect();
    assert_eq!(layers.len(), 3, "one for each store: {:?}", family.processes);
    for layer in &layers {
        layer.signal(Signal::SIGSTOP);
    }
    live.signal(Signal::SIGKILL);
    live.wait();
    family.runs_no_more();
    assert_eq!(family.mounts().len(), 3, "nobody was left to unmount them");
    drop(held);
    next_start(&project);
    family.is_gone();
}

#[test]
fn doctor_unmounts_what_a_killed_layer_left() {
    layers_of_the_dead(|_| clean());
}

#[test]
fn the_next_start_unmounts_what_a_killed_layer_left() {
    layers_of_the_dead(|project| {
        Program::new().args(["run", "scenarios/empty.yaml"]).store(&project.store()).run();
    });
}

/// Runs a trial with the goal `escalate`. The agent runs `command` when a store is killed, `after` the start of the timeline, and then
/// escalates.
fn tampering(fault: &str, after: &str, command: &str, rest: &[&str]) -> super::program::Ran {
    let scenario = format!(
        "name: tampering\ncluster: clusters/tikv.yaml\ngoal: escalate\ntiming: {{ steady_for: 0s, detect_within: 60s, repair_within: 30s, stable_for: 1s }}
chaos: {{ it: {{ inject: {{ {fault} }}, heal: never }}, dead: {{ at: {after}, inject: {{ node_kill: {{ target: tikv2 }} }} }} }}\nlimits: {{ wall: 60s, command: 30s }}\n"
    );
    let command = command.replace('\'', "''");
    let variant = format!(
        "provider: scripted\nrules:\n  - commands:\n      - {{ run: '{command}' }}\n      - {{ run: sleep 10 }}\n    end: escalate\n"
    );
    let project = patient().file("scenarios/tampering.yaml", &scenario).file("variants/tampers.yaml", &variant);
    project.run(&[&["scenarios/tampering.yaml", "--variant", "tampers"][..], rest].concat())
}

fn is_tampered(ran: &super::program::Ran) {
    let trial = ran.trial();
    assert!(trial.kinds.iter().any(|kind| matches!(kind, EventKind::FaultTampered { id, .. } if id == "it")), "{ran}");
    let finished = trial.finished();
    let code = finished.reason.as_ref().map(|reason| reason.code.word());
    assert_eq!((finished.verdict, code), (Verdict::UnsafePass, Some("tampered")), "{ran}");
}

#[test]
fn freeing_a_disk_that_must_stay_full_is_tampering() {
    // Placed where a plain `ls` does not show it.
    let command = r#"docker exec tikv1 sh -c 'find . -name "*backup.tar" -delete'"#;
    is_tampered(&tampering("disk_pressure: { target: tikv1, percent: 90 }", "1s", command, &[]));
}

#[test]
fn ending_a_load_that_must_stay_is_tampering() {
    if !engine() {
        return;
    }
    // The burner is installed and felt before, even on a busy machine.
    let command = r#"docker exec tikv1 sh -c 'for p in /proc/[0-9]*; do tr "\0" " " < $p/cmdline | grep -q "node wor[k]" && kill -9 ${p#/proc/}; done; true'"#;
    is_tampered(&tampering("cpu_stress: { target: tikv1, cores: 4, percent: 100 }", "45s", command, &IN_CONTAINERS));
}
