//! Tests of agents with real processes: scripts, controls, limits and leftover processes.

use chaosrun_backend_local::workspace;
use chaosrun_cluster::Workspace;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ActiveFault, AgentReport, AgentTask, AgentView, Subject, TicketView, run};
use chaosrun_diagnostic::SourceFile;
use chaosrun_docker_proxy::testing::Processes;
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{AgentEnd, EventKind, Severity, Ticket};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_node::shell_host;
use chaosrun_scenario::model::{Heal, Limits, LimitsOverride, Provider, Rule, RuleCommand, RuleDiagnosis, RuleDoing, RuleEnd, Variant};

struct Rig {
    dir: tempfile::TempDir,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
    view: watch::Sender<AgentView>,
    truth: watch::Sender<Vec<ActiveFault>>,
    cancel: CancellationToken,
}

fn view(open: bool, healthy: bool) -> AgentView {
    let ticket = Ticket {
        id: 1,
        invariant: "node_up".into(),
        node: Some("tikv2".into()),
        severity: Severity::Critical,
        observed: "refused".into(),
        expected: "up".into(),
        first_seen: jiff::Timestamp::UNIX_EPOCH,
        place: None,
    };
    AgentView { tickets: vec![TicketView { ticket, open }], healthy, ..AgentView::default() }
}

fn variant(provider: Provider) -> Subject {
    let file = Arc::new(SourceFile { name: "v.yaml".into(), text: String::new() });
    Subject::Variant(Arc::new(Variant {
        name: "v".into(),
        description: String::new(),
        file,
        provider,
        limits: LimitsOverride::default(),
        sandbox: false,
    }))
}

fn expr(text: &str) -> Expr {
    Expr::compile(text, None, Scope::Agent, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn template(text: &str) -> Template {
    Template::compile(text, None, Scope::Agent, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Creates a rule from its condition and its commands, each a tuple of `when`, `run` and `until`.
fn rule(when: &str, commands: &[(Option<&str>, &str, Option<&str>)]) -> Rule {
    let command = |(when, run, until): &(Option<&str>, &str, Option<&str>)| RuleCommand {
        when: when.map(expr),
        what: RuleDoing::Run(template(run)),
        reasoning: template("for {{ ticket.node }}"),
        until: until.map(expr),
    };
    Rule { when: expr(when), commands: commands.iter().map(command).collect(), diagnosis: None, end: RuleEnd::Resolve }
}

fn bare(commands: &[&str]) -> Subject {
    Subject::Commands { name: "wipe".into(), commands: commands.iter().map(|text| template(text)).collect() }
}

/// File descriptor from which the runner reads the messages of a shell host.
const TOLD: i32 = 200;

/// Runs as the shell host of the other tests, which start this test program because the chaosrun program may not be built yet. Tests
/// nothing itself.
#[test]
fn as_station() {
    // SAFETY: the call takes only numbers.
    if unsafe { nix::libc::dup2(TOLD, nix::libc::STDOUT_FILENO) } < 0 {
        return;
    }
    let args = shell_host::Args { shell: "/bin/bash".into(), door: None, listen: Vec::new(), user: None, confined: false };
    shell_host::serve(&args).expect("serves");
}

fn workspace(dir: &Path) -> Workspace {
    let (work, tools, engine) = (dir.join("work"), dir.join("tools"), dir.join("e.sock"));
    let mut workspace = workspace::beside(&work, Some(&tools), &engine, Path::new(""), Path::new("")).expect("a bash");
    let own = std::env::current_exe().expect("known").display().to_string();
    // Output of the test harness must not reach the protocol.
    let script = format!("exec {TOLD}>&1 >/dev/null; exec '{own}' --exact tests::as_station --nocapture");
    workspace.shell_host.command = ["bash".to_owned(), "-c".to_owned(), script].into();
    workspace
}

impl Rig {
    fn new(subject: Subject) -> (Self, AgentTask) {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["work", "run", "tools"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        // Fake docker client that prints its arguments.
        let docker = dir.path().join("tools/docker");
        std::fs::write(&docker, "#!/bin/sh\necho \"docker $*\"\n").expect("written");
        std::fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        let (emitter, events) = Emitter::new(StdInstant::now());
        let (view, seen) = watch::channel(view(true, false));
        let (truth, known) = watch::channel(Vec::new());
        let cancel = CancellationToken::new();
        let task = AgentTask {
            subject,
            limits: Limits {
                wall: Duration::from_secs(60),
                turns: 30,
                tokens: None,
                usd: None,
                command: Duration::from_secs(60),
                output: 1000,
            },
            deadline: Instant::now() + Duration::from_secs(60),
            ticket: 1,
            view: seen,
            truth: known,
            cluster: Processes::new(dir.path(), &["pd1", "tikv1", "tikv2"], "sleep 60"),
            run_dir: dir.path().join("run"),
            workspace: workspace(dir.path()),
            emitter,
            cancel: cancel.clone(),
            seed: 1,
            begun: tokio::sync::watch::channel(0).0,
            solution: Vec::new(),
            faults: 0,
            clock_scale: None,
            served: None,
            record: None,
            cassette: None,
            action_context: None,
        };
        (Self { dir, events, view, truth, cancel }, task)
    }

    fn kinds(&mut self) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        while let Ok(DispatcherMessage::Event(draft)) = self.events.try_recv() {
            kinds.push(draft.kind);
        }
        kinds
    }

    fn work(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("work").join(name)
    }
}

fn commands(report: &AgentReport) -> Vec<&str> {
    report.commands.iter().map(|record| record.command.as_str()).collect()
}

/// Waits until a file has content and returns the content.
async fn written(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Waits until a process no longer exists or is a zombie.
async fn gone(pid: &str) {
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn first_matching_rule_is_carried_out() {
    let count = "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; test $n -ge 3";
    let mut chosen = rule(
        "ticket.invariant == 'node_up' and ticket.open",
        &[
            (Some("node(ticket.node).state == 'created' and role('tikv') | length == 2"), "echo exited {{ ticket.node }}", None),
            (Some("'paused' in last.stdout"), "echo not this", None),
            (Some("last.stdout | trim == 'exited tikv2'"), "echo start; exit 3", None),
            (None, count, Some("last.exit_code == 0")),
        ],
    );
    chosen.diagnosis = Some(RuleDiagnosis {
        root_cause: template("{{ ticket.node }} had ended"),
        component: template("{{ ticket.node }}"),
        fault_class: "process_crash".into(),
        confidence: 0.9,
        evidence: vec![template("{{ results[0].stdout | trim }}"), template("{{ results | length }} commands")],
    });
    let other = |when| rule(when, &[(None, "echo wrong", None)]);
    let (mut rig, task) = Rig::new(variant(Provider::Scripted {
        rules: vec![other("ticket.invariant == 'x'"), other("last.exit_code == 0"), chosen, other("true")],
    }));
    let report = run(task).await;
    assert_eq!((report.end, report.detail.as_str()), (AgentEnd::Resolve, "rule 3 of `v`"));
    assert_eq!(commands(&report), ["echo exited tikv2", "echo start; exit 3", count, count, count, count]);
    assert_eq!(report.commands[1].exit_code, 3);
    assert_eq!(report.turns, 4, "three commands and a diagnosis: repetitions are free");
    let diagnosis = report.diagnosis().expect("submitted");
    assert_eq!(diagnosis.root_cause, "tikv2 had ended");
    assert_eq!(diagnosis.evidence, ["exited tikv2", "3 commands"]);
    let kinds = rig.kinds();
    let names: Vec<&str> = kinds.iter().map(EventKind::name).collect();
    assert_eq!(names[..3], ["agent_started", "command_started", "command_finished"]);
    assert_eq!(names[names.len() - 2..], ["diagnosis_submitted", "agent_finished"]);
    assert!(matches!(&kinds[1], EventKind::CommandStarted { number: 1, reasoning, .. } if reasoning == "for tikv2"));
}

#[tokio::test]
async fn remaining_rules_run_once_after_a_rule_without_end() {
    let again = |when, run| Rule { end: RuleEnd::Again, ..rule(when, &[(None, run, None)]) };
    let rules = vec![
        again("last.exit_code == 3", "echo third"),
        again("true", "echo first"),
        again("results | length == 1", "exit 3"),
        Rule { end: RuleEnd::NoAction, ..rule("not healthy", &[]) },
    ];
    let (_rig, task) = Rig::new(variant(Provider::Scripted { rules }));
    let report = run(task).await;
    assert_eq!(commands(&report), ["echo first", "exit 3", "echo third"]);
    assert_eq!((report.end, report.detail.as_str()), (AgentEnd::NoAction, "rule 4 of `v`"));
}

#[tokio::test]
async fn until_waits_for_a_condition() {
    let wait = rule("true", &[(None, "echo looked >> looks", Some("not ticket.open"))]);
    let (rig, task) = Rig::new(variant(Provider::Scripted { rules: vec![wait] }));
    let looks = rig.work("looks");
    let (report, ()) = tokio::join!(run(task), async {
        written(&looks).await;
        rig.view.send_replace(view(false, true));
    });
    assert_eq!(report.end, AgentEnd::Resolve);
    assert_eq!(std::fs::read_to_string(&looks).expect("reads").lines().count(), report.commands.len());
}

#[tokio::test]
async fn missing_rule_escalates_and_render_error_fails() {
    let (_rig, task) = Rig::new(variant(Provider::Scripted { rules: vec![rule("ticket.node == 'pd1'", &[])] }));
    assert_eq!(run(task).await.end, AgentEnd::Escalate);
    let (_rig, task) = Rig::new(variant(Provider::Scripted { rules: vec![rule("true", &[(None, "echo {{ last.stdout }}", None)])] }));
    let report = run(task).await;
    assert_eq!(report.end, AgentEnd::Error);
    assert!(report.detail.contains("`echo {{ last.stdout }}`"), "{}", report.detail);
}

#[tokio::test]
async fn environment_of_commands_hides_the_runner() {
    let (rig, task) = Rig::new(bare(&["env; pwd", "command -v docker", "echo err >&2; printf '\\377'", "cat", "kill -9 $$"]));
    let report = run(task).await;
    let said = &report.commands[0].stdout.text;
    let names = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    // The last two are set by the shell.
    let known = ["DOCKER_CLI_HINTS", "DOCKER_HOST", "HOME", "LANG", "PATH", "PWD", "SHELL", "TERM", "SHLVL", "_"];
    let (mut ours, others): (Vec<&str>, Vec<&str>) = names.partition(|name| known.contains(name));
    ours.sort_unstable();
    ours.retain(|name| !["SHLVL", "_"].contains(name));
    assert_eq!((ours.as_slice(), others.as_slice()), (&known[..8], &[][..]), "{said}");
    assert!(said.contains(&format!("DOCKER_HOST=unix://{}", rig.dir.path().join("e.sock").display())));
    assert_eq!(said.lines().last(), rig.work("").to_str().map(|dir| dir.trim_end_matches('/')));
    assert_eq!(report.commands[1].stdout.text.trim(), rig.dir.path().join("tools/docker").to_str().expect("UTF-8"));
    assert_eq!((report.commands[2].stderr.text.as_str(), report.commands[2].stdout.text.as_str()), ("err\n", "\u{fffd}"));
    assert_eq!(report.commands[3].exit_code, 0, "no stdin: nothing waits for it");
    assert_eq!(report.commands[4].exit_code, 137);
    assert_eq!((report.end, report.turns), (AgentEnd::Resolve, 5));
}

#[tokio::test]
async fn long_output_is_truncated_and_saved_in_full() {
    let (rig, task) = Rig::new(bare(&["seq 1 100000"]));
    let report = run(task).await;
    let out = &report.commands[0].stdout;
    assert!(out.truncated && out.text.starts_with("1\n2\n") && out.text.ends_with("99999\n100000\n") && out.text.len() < 1100);
    assert_eq!(out.file.as_deref(), Some("commands/1.stdout"));
    let whole = std::fs::read_to_string(rig.dir.path().join("run/commands/1.stdout")).expect("kept");
    assert_eq!((whole.len() as u64, whole.lines().count()), (out.bytes, 100_000));
}

#[tokio::test]
async fn command_limit_kills_the_process_tree() {
    let (rig, mut task) = Rig::new(bare(&["sleep 60 & echo $! > pid; echo begun; wait", "echo next"]));
    task.limits.command = Duration::from_secs(2);
    let report = run(task).await;
    let first = &report.commands[0];
    assert!(first.timed_out && first.exit_code == 137 && first.stdout.text == "begun\n", "{first:?}");
    gone(&written(&rig.work("pid")).await).await;
    assert_eq!(report.commands[1].stdout.text, "next\n", "the agent goes on");
}

#[tokio::test]
async fn other_limits_end_the_agent() {
    let (_rig, mut task) = Rig::new(bare(&["sleep 60"]));
    task.deadline = Instant::now() + Duration::from_millis(300);
    let report = run(task).await;
    assert_eq!((report.end, report.commands[0].timed_out), (AgentEnd::Limit, true));
    assert_eq!(report.detail, "the time limit of 1m was reached");
    let (_rig, mut task) = Rig::new(bare(&["echo 1", "echo 2", "echo 3"]));
    task.limits.turns = 2;
    let report = run(task).await;
    assert_eq!((report.end, report.commands.len(), report.detail.as_str()), (AgentEnd::Limit, 2, "the limit of 2 turns was reached"));
    let (_rig, mut task) = Rig::new(bare(&["echo 1"]));
    task.limits.turns = 1;
    assert_eq!(run(task).await.end, AgentEnd::Resolve, "saying that it is done is free");
}

#[tokio::test]
async fn interrupt_ends_the_agent_at_once() {
    let (rig, task) = Rig::new(bare(&["echo $$ > pid; sleep 60"]));
    let pid = rig.work("pid");
    let (report, pid) = tokio::join!(run(task), async {
        let pid = written(&pid).await;
        rig.cancel.cancel();
        pid
    });
    assert_eq!((report.end, report.commands[0].exit_code, report.commands[0].timed_out), (AgentEnd::Interrupted, 137, false));
    gone(&pid).await;
}

#[tokio::test]
async fn leftover_processes_end_with_the_agent() {
    let (rig, task) = Rig::new(bare(&["sleep 1000 & echo $! > pid", "kill -0 $(cat pid) && echo lives"]));
    let report = run(task).await;
    assert_eq!(report.commands[1].stdout.text, "lives\n", "but not with the command");
    gone(&written(&rig.work("pid")).await).await;
}

#[tokio::test]
async fn invalid_command_is_reported_to_the_agent() {
    let (_rig, task) = Rig::new(bare(&[&format!("echo {}", "x".repeat(200_000)), &"x".repeat(2_000_000), "echo next"]));
    let report = run(task).await;
    assert_eq!((report.commands[0].exit_code, report.commands[0].stdout.bytes), (0, 200_001));
    assert_eq!((report.commands[1].exit_code, report.commands[1].stderr.text.as_str()), (126, "bash: Argument list too long\n"));
    assert_eq!(report.commands[2].stdout.text, "next\n");
}

/// Command with its expected exit code, its expected stdout and the expected prefix of its stderr.
type Said<'a> = (&'a str, i32, &'a str, &'a str);

async fn says(said: &[Said<'_>], limit: Duration) {
    let commands: Vec<&str> = said.iter().map(|(command, ..)| *command).collect();
    let (_rig, mut task) = Rig::new(bare(&commands));
    task.limits.command = limit;
    task.limits.turns = 100;
    let report = run(task).await;
    assert_eq!(report.end, AgentEnd::Resolve, "{}", report.detail);
    for ((command, code, stdout, stderr), record) in said.iter().zip(&report.commands) {
        let heard = (record.exit_code, record.stdout.text.as_str());
        assert_eq!(heard, (*code, *stdout), "{command}: {}", record.stderr.text);
        assert!(record.stderr.text.starts_with(stderr) && stderr.is_empty() == record.stderr.text.is_empty(), "{command}: {record:?}");
    }
}

#[tokio::test]
async fn shell_keeps_state_and_reports_every_exit_code() {
    let said = [
        ("cd /usr; x=5; export Y=6; f() { echo f $1; }; alias ll='echo aliased'", 0, "", ""),
        ("echo $PWD $x $Y; f 2; ll", 0, "/usr 5 6\nf 2\naliased\n", ""),
        ("echo 'not closed", 2, "", "bash: unexpected EOF"),
        ("echo $?", 0, "2\n", ""),
        ("if true; then", 2, "", "bash: syntax error"),
        ("(exit 7)", 7, "", ""),
        ("echo $?; echo err >&2", 0, "7\n", "err\n"),
        ("cat <<E\nit's \"here\"\nE", 0, "it's \"here\"\n", ""),
        ("printf 'a\\0b\\377'", 0, "a\0b\u{fffd}", ""),
        ("set -u; echo $nope", 1, "", "bash: nope: unbound"),
        ("set +u; kill -TERM $$; (kill -9 $BASHPID)", 137, "", ""),
        ("cd $HOME; mkdir d; cd d; rmdir ../d", 0, "", ""),
        ("echo still $x; cd", 0, "still 5\n", ""),
        ("trap 'echo trapped' USR1; kill -USR1 $$; read z; echo $?", 0, "trapped\n1\n", ""),
        ("exec 9>lock; flock -n 9 && ! flock -n lock true && echo locked", 0, "locked\n", ""),
        ("exit 9", 9, "", "[the shell exited"),
        ("echo x=$x $PWD; cd /", 0, "x=\n", ""),
        ("exec sh -c 'echo gone; exit 4'", 4, "gone\n", "[the shell exited"),
        ("set -e; false", 1, "", "[the shell exited"),
        ("echo exit >&2", 0, "", "exit\n"),
        ("echo exit >&2; exit 0", 0, "", "exit\n[the shell exited"),
    ];
    let home = said.map(|(command, code, stdout, stderr)| (command, code, stdout, stderr));
    let mut said = home.to_vec();
    // The folder has a different name each time.
    said[16].0 = "echo x=$x; [ $PWD = $HOME ]";
    says(&said, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn hanging_command_ends_and_shell_and_jobs_survive() {
    // Uses only shell builtins: a process killed by a signal between fork and exec would end the loop.
    let stubborn = "trap '' INT; while :; do :; done";
    let said = [
        ("x=5; sleep 1000 2>/dev/null & echo $! > job", 0, "", "["),
        ("while :; do sleep 1; done", 137, "", ""),
        ("while :; do :; done", 137, "", ""),
        ("echo begun; sh -c 'trap \"\" INT TERM; sleep 1000; sleep 1000'", 137, "begun\n", ""),
        ("kill -0 $(cat job) && echo $x", 0, "5\n", ""),
        (stubborn, 137, "", "[the shell exited"),
        ("kill $(cat job) && echo x=$x", 0, "x=\n", ""),
        ("(while :; do echo spam; sleep 0.01; done) & echo $! > job", 0, "", "["),
    ];
    says(&said[..7], Duration::from_secs(10)).await;
    // Jobs that hold the output open are not awaited. Their output appears with the next command.
    let (_rig, task) = Rig::new(bare(&[said[7].0, "until test -s job; do :; done; sleep 0.1; kill $(cat job); echo over"]));
    let report = run(task).await;
    assert!(report.commands[1].stdout.text.contains("spam\n") && report.commands[1].stdout.text.ends_with("over\n"), "{report:?}");
}

#[tokio::test]
async fn controls_act_through_the_shell() {
    let (_rig, task) = Rig::new(variant(Provider::Noop));
    let report = run(task).await;
    assert_eq!((report.end, report.turns, report.commands.len()), (AgentEnd::NoAction, 0, 0));
    let (_rig, task) = Rig::new(variant(Provider::RestartAll));
    let report = run(task).await;
    assert_eq!(commands(&report), ["docker restart pd1", "docker restart tikv1", "docker restart tikv2"]);
    assert_eq!((report.end, report.commands[0].stdout.text.as_str()), (AgentEnd::Resolve, "docker restart pd1\n"));
}

#[tokio::test]
async fn oracle_reverts_visible_faults_and_waits() {
    let fault = |id: &str, fault: &str, target: &str, heal| ActiveFault {
        id: id.into(),
        fault: fault.into(),
        class: "process_crash".into(),
        targets: vec![target.into()],
        linked: vec![],
        heal,
        repair_commands: [(target.into(), format!("docker {} {target}", if fault == "node_pause" { "unpause" } else { "start" }))].into(),
        repair: None,
    };
    let (mut rig, task) = Rig::new(variant(Provider::Oracle));
    let first = fault("kill", "node_kill", "tikv2", Heal::Agent);
    let second = fault("hang", "node_pause", "pd1", Heal::Agent);
    let passing = fault("slow", "node_pause", "tikv1", Heal::After(Duration::from_secs(1)));
    rig.truth.send_replace(vec![first.clone(), passing.clone()]);
    let (report, ()) = tokio::join!(run(task), async {
        // The oracle has diagnosed and waits. Another fault follows, then all objectives hold.
        while !rig.kinds().iter().any(|kind| matches!(kind, EventKind::DiagnosisSubmitted { .. })) {
            tokio::task::yield_now().await;
        }
        rig.truth.send_replace(vec![first.clone(), passing.clone(), second.clone()]);
        while !rig.kinds().iter().any(|kind| matches!(kind, EventKind::CommandFinished { .. })) {
            tokio::task::yield_now().await;
        }
        rig.view.send_replace(view(false, true));
    });
    assert_eq!(commands(&report), ["docker start tikv2", "docker unpause pd1"]);
    assert_eq!((report.end, report.diagnosis().expect("one").fault_class.as_str()), (AgentEnd::Resolve, "process_crash"));
    let (rig, task) = Rig::new(variant(Provider::Oracle));
    rig.truth.send_replace(vec![fault("kill", "node_kill", "tikv2", Heal::Never)]);
    let report = run(task).await;
    assert_eq!((report.end, report.commands.len()), (AgentEnd::Escalate, 0));
}

#[tokio::test]
async fn checks_may_use_the_ground_truth() {
    let (rig, task) = Rig::new(bare(&["echo {{ chaos.kill.target }} {{ chaos.kill.targets | length }}"]));
    let targets = vec!["tikv2".to_owned(), "tikv1".to_owned()];
    rig.truth.send_replace(vec![ActiveFault {
        id: "kill".into(),
        fault: "node_kill".into(),
        class: "process_crash".into(),
        targets,
        linked: vec![],
        heal: Heal::Agent,
        repair_commands: indexmap::IndexMap::new(),
        repair: None,
    }]);
    assert_eq!(run(task).await.commands[0].stdout.text, "tikv2 2\n");
}
