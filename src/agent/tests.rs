//! Agents on real processes: scripts, controls, limits, and what is left behind.

use crate::cluster::local::seat;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ActiveFault, AgentReport, AgentTask, AgentView, Subject, TicketView, run};
use crate::cluster::mediator::testing::Processes;
use crate::diagnostic::SourceFile;
use crate::emit::{Emitter, Message};
use crate::event::{AgentEnd, Kind, Severity, Ticket};
use crate::expr::{Expr, Scope, Template};
use crate::scenario::model::{Heal, Limits, LimitsOverride, Provider, Rule, RuleCommand, RuleDiagnosis, RuleEnd, Variant};

struct Rig {
    dir: tempfile::TempDir,
    events: mpsc::UnboundedReceiver<Message>,
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
    Subject::Variant(Arc::new(Variant { name: "v".into(), description: String::new(), file, provider, limits: LimitsOverride::default() }))
}

fn expr(text: &str) -> Expr {
    Expr::compile(text, None, Scope::Agent, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn template(text: &str) -> Template {
    Template::compile(text, None, Scope::Agent, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// (when, run, until)
fn rule(when: &str, commands: &[(Option<&str>, &str, Option<&str>)]) -> Rule {
    let command = |(when, run, until): &(Option<&str>, &str, Option<&str>)| RuleCommand {
        when: when.map(expr),
        run: template(run),
        reasoning: template("for {{ ticket.node }}"),
        until: until.map(expr),
    };
    Rule { when: expr(when), commands: commands.iter().map(command).collect(), diagnosis: None, end: RuleEnd::Resolve }
}

fn bare(commands: &[&str]) -> Subject {
    Subject::Commands { name: "wipe".into(), commands: commands.iter().map(|text| template(text)).collect() }
}

impl Rig {
    fn new(subject: Subject) -> (Self, AgentTask) {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["work", "run", "tools"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        // Says what it was asked, in place of an engine.
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
            seat: seat::beside(&dir.path().join("work"), Some(&dir.path().join("tools")), &dir.path().join("e.sock")),
            emitter,
            cancel: cancel.clone(),
            seed: 1,
            clock_scale: None,
        };
        (Self { dir, events, view, truth, cancel }, task)
    }

    fn kinds(&mut self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Ok(Message::Event(draft)) = self.events.try_recv() {
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

/// Until that file has something in it.
async fn written(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Until that process is gone, or only its entry is left.
async fn gone(pid: &str) {
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_rule_that_applies_is_carried_out() {
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
    let diagnosis = report.diagnosis.expect("submitted");
    assert_eq!(diagnosis.root_cause, "tikv2 had ended");
    assert_eq!(diagnosis.evidence, ["exited tikv2", "3 commands"]);
    let kinds = rig.kinds();
    let names: Vec<&str> = kinds.iter().map(Kind::name).collect();
    assert_eq!(names[..3], ["agent_started", "command_started", "command_finished"]);
    assert_eq!(names[names.len() - 2..], ["diagnosis_submitted", "agent_finished"]);
    assert!(matches!(&kinds[1], Kind::CommandStarted { number: 1, reasoning, .. } if reasoning == "for tikv2"));
}

#[tokio::test]
async fn an_until_may_wait_for_the_world() {
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
async fn without_a_rule_people_are_called_and_what_cannot_be_rendered_is_an_error() {
    let (_rig, task) = Rig::new(variant(Provider::Scripted { rules: vec![rule("ticket.node == 'pd1'", &[])] }));
    assert_eq!(run(task).await.end, AgentEnd::Escalate);
    let (_rig, task) = Rig::new(variant(Provider::Scripted { rules: vec![rule("true", &[(None, "echo {{ last.stdout }}", None)])] }));
    let report = run(task).await;
    assert_eq!(report.end, AgentEnd::Error);
    assert!(report.detail.contains("`echo {{ last.stdout }}`"), "{}", report.detail);
}

#[tokio::test]
async fn commands_see_nothing_of_the_runner() {
    let (rig, task) = Rig::new(bare(&["env; pwd", "command -v docker", "echo err >&2; printf '\\377'", "cat", "kill -9 $$"]));
    let report = run(task).await;
    let said = &report.commands[0].stdout.text;
    let names = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    // The last two are the shell's own.
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
async fn long_output_is_shown_in_part_and_kept_whole() {
    let (rig, task) = Rig::new(bare(&["seq 1 100000"]));
    let report = run(task).await;
    let out = &report.commands[0].stdout;
    assert!(out.truncated && out.text.starts_with("1\n2\n") && out.text.ends_with("99999\n100000\n") && out.text.len() < 1100);
    assert_eq!(out.file.as_deref(), Some("commands/1.stdout"));
    let whole = std::fs::read_to_string(rig.dir.path().join("run/commands/1.stdout")).expect("kept");
    assert_eq!((whole.len() as u64, whole.lines().count()), (out.bytes, 100_000));
}

#[tokio::test]
async fn the_command_limit_kills_the_whole_tree() {
    let (rig, mut task) = Rig::new(bare(&["sleep 60 & echo $! > pid; echo begun; wait", "echo next"]));
    task.limits.command = Duration::from_secs(2);
    let report = run(task).await;
    let first = &report.commands[0];
    assert!(first.timed_out && first.exit_code == 137 && first.stdout.text == "begun\n", "{first:?}");
    gone(&written(&rig.work("pid")).await).await;
    assert_eq!(report.commands[1].stdout.text, "next\n", "the agent goes on");
}

#[tokio::test]
async fn the_other_limits_end_the_agent() {
    let (_rig, mut task) = Rig::new(bare(&["sleep 60"]));
    task.deadline = Instant::now() + Duration::from_millis(300);
    let report = run(task).await;
    assert_eq!((report.end, report.commands[0].timed_out), (AgentEnd::Limit, true));
    assert_eq!(report.detail, "the wall limit of 1m is over");
    let (_rig, mut task) = Rig::new(bare(&["echo 1", "echo 2", "echo 3"]));
    task.limits.turns = 2;
    let report = run(task).await;
    assert_eq!((report.end, report.commands.len(), report.detail.as_str()), (AgentEnd::Limit, 2, "the limit of 2 turns is over"));
    let (_rig, mut task) = Rig::new(bare(&["echo 1"]));
    task.limits.turns = 1;
    assert_eq!(run(task).await.end, AgentEnd::Resolve, "saying that it is done is free");
}

#[tokio::test]
async fn an_interrupt_ends_it_at_once() {
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
async fn what_is_left_behind_ends_with_the_agent() {
    let (rig, task) = Rig::new(bare(&["sleep 60 & echo $! > pid", "kill -0 $(cat pid) && echo lives"]));
    let report = run(task).await;
    assert_eq!(report.commands[1].stdout.text, "lives\n", "but not with the command");
    gone(&written(&rig.work("pid")).await).await;
}

#[tokio::test]
async fn a_command_too_long_is_the_agents_affair() {
    let (mut rig, task) = Rig::new(bare(&[&format!("echo {}", "x".repeat(200_000)), "echo next"]));
    let report = run(task).await;
    assert_eq!((report.commands[0].exit_code, report.commands[0].stderr.text.as_str()), (126, "bash: Argument list too long\n"));
    assert_eq!(report.commands[1].stdout.text, "next\n");
    assert!(rig.kinds().iter().any(|kind| matches!(kind, Kind::Warning { .. })));
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
async fn the_oracle_undoes_what_it_sees_and_waits() {
    let fault = |id: &str, fault: &str, target: &str, heal| ActiveFault {
        id: id.into(),
        fault: fault.into(),
        targets: vec![target.into()],
        heal,
        repair: None,
    };
    let (mut rig, task) = Rig::new(variant(Provider::Oracle));
    let first = fault("kill", "node_kill", "tikv2", Heal::Agent);
    let second = fault("hang", "node_pause", "pd1", Heal::Agent);
    let passing = fault("slow", "node_pause", "tikv1", Heal::After(Duration::from_secs(1)));
    rig.truth.send_replace(vec![first.clone(), passing.clone()]);
    let (report, ()) = tokio::join!(run(task), async {
        // It has diagnosed, so it waits; a further fault comes, then all is well.
        while !rig.kinds().iter().any(|kind| matches!(kind, Kind::DiagnosisSubmitted { .. })) {
            tokio::task::yield_now().await;
        }
        rig.truth.send_replace(vec![first.clone(), passing.clone(), second.clone()]);
        while !rig.kinds().iter().any(|kind| matches!(kind, Kind::CommandFinished { .. })) {
            tokio::task::yield_now().await;
        }
        rig.view.send_replace(view(false, true));
    });
    assert_eq!(commands(&report), ["docker start tikv2", "docker unpause pd1"]);
    assert_eq!((report.end, report.diagnosis.expect("one").fault_class.as_str()), (AgentEnd::Resolve, "process_crash"));
    let (rig, task) = Rig::new(variant(Provider::Oracle));
    rig.truth.send_replace(vec![fault("kill", "node_kill", "tikv2", Heal::Never)]);
    let report = run(task).await;
    assert_eq!((report.end, report.commands.len()), (AgentEnd::Escalate, 0));
}

#[tokio::test]
async fn checks_may_name_the_truth() {
    let (rig, task) = Rig::new(bare(&["echo {{ chaos.kill.target }} {{ chaos.kill.targets | length }}"]));
    let targets = vec!["tikv2".to_owned(), "tikv1".to_owned()];
    rig.truth.send_replace(vec![ActiveFault { id: "kill".into(), fault: "node_kill".into(), targets, heal: Heal::Agent, repair: None }]);
    assert_eq!(run(task).await.commands[0].stdout.text, "tikv2 2\n");
}
