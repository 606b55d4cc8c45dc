//! Tests of an agent on real nodes: its shell, the `docker` command in the shell, the docker proxy, and the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaosrun_agent as agent;
use chaosrun_agent::{ActiveFault, AgentReport, AgentTask, AgentView, Subject, TicketView};
use chaosrun_backend_local::supervisor::{Supervisor, SupervisorClient};
use chaosrun_backend_local::{LocalCluster, LocalOptions, WorkRoot, workspace};
use chaosrun_cluster::{Cluster, ExecRequest, NodeStatus, Terminal, Workspace, WorkspaceSpec};
use chaosrun_diagnostic::{Pointer, SourceFile, SourcePlace};
use chaosrun_docker_proxy::{DockerProxy, DockerProxyHandle, ProxySettings};
use chaosrun_event::emit::{DispatcherMessage, Emitter};
use chaosrun_event::{Actor, AgentEnd, EventKind, NodeState, Severity, Ticket};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_probe::{Alive, ProbeSpec};
use chaosrun_scenario::model;
use chaosrun_scenario::model::{Heal, Limits, LimitsOverride, Provider, Rule, RuleCommand, RuleDiagnosis, RuleDoing, RuleEnd, Variant};
use indexmap::IndexMap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::require;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");

fn file() -> Arc<SourceFile> {
    Arc::new(SourceFile { name: "test.yaml".into(), text: String::new() })
}

fn template(text: &str, scope: Scope) -> Template {
    Template::compile(text, None, scope, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn expr(text: &str) -> Expr {
    Expr::compile(text, None, Scope::Agent, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn node(name: &str) -> model::Node {
    let command = ["sh", "-c", "echo here is $NAME; exec sleep 1000"];
    model::Node {
        name: name.into(),
        role: "db".into(),
        index: 1,
        ports: [("client".to_owned(), 2000)].into_iter().collect(),
        image: None,
        command: command.iter().map(|word| template(word, Scope::Node)).collect(),
        args: Vec::new(),
        env: [("NAME".to_owned(), template(name, Scope::Node))].into_iter().collect(),
        files: IndexMap::new(),
        data: template("{{ self.dir }}/data", Scope::Node),
        disk: None,
        ulimits: IndexMap::new(),
        cpus: None,
        memory: None,
        user: None,
        ready: Some(model::Ready {
            probe: ProbeSpec::new("alive", Alive),
            expect: Expr::compile("text == 'running'", None, Scope::Response, &[]).unwrap(),
            within: Duration::from_secs(30),
        }),
        stop_grace: Duration::from_secs(1),
        clock: false,
        layer: false,
        place: SourcePlace::new(file(), Pointer::default()),
    }
}

fn spec(names: &[&str]) -> Arc<model::ClusterSpec> {
    let role = model::Role { name: "db".into(), nodes: names.iter().map(|name| (*name).to_owned()).collect(), after: Vec::new() };
    Arc::new(model::ClusterSpec {
        name: "test".into(),
        file: file(),
        roles: if names.is_empty() { IndexMap::new() } else { [("db".to_owned(), role)].into_iter().collect() },
        nodes: names.iter().map(|name| node(name)).collect(),
        tick: Duration::from_millis(100),
        clock_scale: None,
        observe: IndexMap::new(),
        lets: IndexMap::new(),
        select: IndexMap::new(),
        invariants: IndexMap::new(),
        workloads: IndexMap::new(),
        logs: IndexMap::new(),
        actions: IndexMap::new(),
        tools: Vec::new(),
        toolbox: None,
        standin: false,
    })
}

pub struct Rig {
    client: SupervisorClient,
    pub cluster: Arc<LocalCluster>,
    docker_proxy: DockerProxyHandle,
    pub work: Arc<WorkRoot>,
    events: mpsc::UnboundedReceiver<DispatcherMessage>,
    emitter: Emitter,
    pub dir: tempfile::TempDir,
    workspace: Workspace,
    /// Time limit of one command of the agent.
    pub limit: Duration,
    view: watch::Sender<AgentView>,
    truth: watch::Sender<Vec<ActiveFault>>,
}

impl Rig {
    async fn new(names: &[&str]) -> Self {
        Self::seated(names, false).await
    }

    /// Creates the test environment with the agent in a sandbox.
    pub async fn walled(names: &[&str]) -> Self {
        Self::seated(names, true).await
    }

    async fn seated(names: &[&str], sandbox: bool) -> Self {
        let client = Supervisor::spawn_program(Path::new(PROGRAM)).unwrap().attach().unwrap();
        let work = Arc::new(WorkRoot::new(Path::new(PROGRAM), &client).unwrap());
        let (emitter, events) = Emitter::new(Instant::now());
        let dir = tempfile::tempdir().unwrap();
        let options = LocalOptions {
            run_dir: dir.path().to_owned(),
            work: Arc::clone(&work),
            trial: "t1".into(),
            seed: 7,
            client: client.clone(),
            emitter: emitter.clone(),
            agent_dir: work.path().join("shell"),
            tools_dir: Some(work.path().join("tools")),
            relay: true,
        };
        let cluster = Arc::new(LocalCluster::new(spec(names), options).unwrap());
        cluster.up().await.unwrap();
        std::fs::create_dir(work.path().join("shell")).unwrap();
        // This program under the name `docker` is used on every machine. The tests with the engine use the stock client.
        work.make_tool("docker").unwrap();
        let docker_proxy =
            DockerProxy::start(cluster.clone(), ProxySettings::new(work.path().join("engine.sock"), "secret"), emitter.clone()).unwrap();
        let seating = WorkspaceSpec { engine: work.path().join("engine.sock"), sandbox, ..WorkspaceSpec::default() };
        let workspace = cluster.open_workspace(&seating).await.unwrap();
        let limit = Duration::from_secs(30);
        let ticket = Ticket {
            id: 1,
            invariant: "node_up".into(),
            node: Some("db2".into()),
            severity: Severity::Critical,
            observed: "false".into(),
            expected: "true".into(),
            first_seen: "1970-01-01T00:00:00Z".parse().unwrap(),
            place: None,
        };
        let tickets = vec![TicketView { ticket, open: true }];
        let (view, _) = watch::channel(AgentView { tickets, ..AgentView::default() });
        let (truth, _) = watch::channel(Vec::new());
        Self { client, cluster, docker_proxy, work, events, emitter, dir, workspace, limit, view, truth }
    }

    fn task(&self, subject: Subject) -> AgentTask {
        AgentTask {
            subject,
            limits: Limits { wall: Duration::from_secs(1200), turns: 30, tokens: None, usd: None, command: self.limit, output: 16_000 },
            deadline: tokio::time::Instant::now() + Duration::from_secs(1200),
            ticket: 1,
            view: self.view.subscribe(),
            truth: self.truth.subscribe(),
            cluster: self.cluster.clone(),
            run_dir: self.dir.path().to_owned(),
            workspace: self.workspace.clone(),
            emitter: self.emitter.clone(),
            cancel: CancellationToken::new(),
            begun: tokio::sync::watch::channel(0).0,
            solution: Vec::new(),
            faults: 0,
            seed: 7,
            clock_scale: None,
            served: None,
            record: None,
            cassette: None,
            action_context: None,
        }
    }

    pub async fn commands(&self, commands: &[&str]) -> AgentReport {
        let commands = commands.iter().map(|text| template(text, Scope::Agent)).collect();
        agent::run(self.task(Subject::Commands { name: "test".into(), commands })).await
    }

    fn status(&self, name: &str) -> NodeStatus {
        self.cluster.status().into_iter().find(|status| status.node == name).unwrap()
    }

    fn kinds(&mut self) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        while let Ok(DispatcherMessage::Event(draft)) = self.events.try_recv() {
            kinds.push(draft.kind);
        }
        kinds
    }

    pub async fn end(self) {
        self.docker_proxy.stop().await;
        self.cluster.down().await.unwrap();
        self.client.close().await;
    }
}

/// Returns a shortened version of the rule in the shipped playbook.
fn playbook() -> Subject {
    let command = |when: Option<&str>, run: &str, until: Option<&str>| RuleCommand {
        when: when.map(expr),
        what: RuleDoing::Run(template(run, Scope::Agent)),
        reasoning: template("{{ ticket.invariant }} of {{ ticket.node }}", Scope::Agent),
        until: until.map(expr),
    };
    let state = "docker inspect -f '{{ '{{.State.Status}}' }}' {{ ticket.node }}";
    let rule = Rule {
        when: expr("ticket.invariant in ['node_up', 'store_down']"),
        commands: vec![
            command(None, "docker ps -a", None),
            command(None, state, None),
            command(Some("results[1].stdout | trim == 'exited'"), "docker start {{ ticket.node }}", None),
            command(Some("results[1].stdout | trim == 'paused'"), "docker unpause {{ ticket.node }}", None),
            command(None, state, Some("last.stdout | trim == 'running'")),
        ],
        diagnosis: Some(RuleDiagnosis {
            root_cause: template("{{ ticket.node }} was {{ results[1].stdout | trim }}", Scope::Agent),
            component: template("{{ ticket.node }}", Scope::Agent),
            fault_class: "process_crash".into(),
            confidence: 0.9,
            evidence: Vec::new(),
        }),
        end: RuleEnd::Resolve,
    };
    variant(Provider::Scripted { rules: vec![rule] })
}

fn variant(provider: Provider) -> Subject {
    let (name, description) = ("v".to_owned(), String::new());
    Subject::Variant(Arc::new(Variant { name, description, file: file(), provider, limits: LimitsOverride::default(), sandbox: false }))
}

#[tokio::test]
async fn a_playbook_repairs_a_node() {
    let mut rig = Rig::new(&["db1", "db2", "db3"]).await;
    rig.cluster.kill("db2", 9, Actor::Fault).await.unwrap();
    rig.kinds();
    let report = agent::run(rig.task(playbook())).await;
    let ran: Vec<(&str, i32)> = report.commands.iter().map(|record| (record.command.as_str(), record.exit_code)).collect();
    let inspect = "docker inspect -f '{{.State.Status}}' db2";
    assert_eq!(ran, [("docker ps -a", 0), (inspect, 0), ("docker start db2", 0), (inspect, 0)], "{report:?}");
    assert!(report.commands[0].stdout.text.contains("Exited (137)"), "{}", report.commands[0].stdout.text);
    assert_eq!((report.end, report.diagnosis().unwrap().root_cause.as_str()), (AgentEnd::Resolve, "db2 was exited"));
    assert_eq!(rig.status("db2").state, NodeState::Running);
    // The audit entry is between the intent of the command and its end, and names the action and the node.
    let kinds = rig.kinds();
    let place = |wanted: &dyn Fn(&EventKind) -> bool| kinds.iter().position(wanted).expect("told");
    let intent = place(&|kind| matches!(kind, EventKind::CommandStarted { command, .. } if command == "docker start db2"));
    let effect = place(&|kind| matches!(kind, EventKind::NodeChanged { state: NodeState::Running, by: Some(Actor::Agent), .. }));
    let call = place(
        &|kind| matches!(kind, EventKind::EngineCall { verb, node, status: 204, .. } if verb == "start" && node.as_deref() == Some("db2")),
    );
    let end = place(&|kind| matches!(kind, EventKind::CommandFinished { number: 3, .. }));
    assert!(intent < effect && effect < call && call < end, "{kinds:#?}");
    // The same rule for a node that hangs, this time carried out by the oracle.
    rig.cluster.pause("db3", Actor::Fault).await.unwrap();
    let fault = |id: &str, targets: &[&str], fault: &str| ActiveFault {
        id: id.into(),
        fault: fault.into(),
        class: "process_hang".into(),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        linked: vec![],
        heal: Heal::Agent,
        repair_commands: targets.iter().map(|target| ((*target).to_owned(), format!("docker unpause {target}"))).collect(),
        repair: None,
    };
    rig.truth.send_replace(vec![fault("hang", &["db3"], "node_pause")]);
    rig.view.send_modify(|view| view.healthy = true);
    let report = agent::run(rig.task(variant(Provider::Oracle))).await;
    assert_eq!((report.end, report.commands.len()), (AgentEnd::Resolve, 1), "{report:?}");
    assert_eq!(rig.status("db3").state, NodeState::Running);
    rig.end().await;
}

#[tokio::test]
async fn the_engine_works_on_real_nodes() {
    let rig = Rig::new(&["db1", "db2"]).await;
    let pid = rig.status("db1").pid.unwrap();
    let report = rig
        .commands(&[
            "docker exec db1 sh -c 'echo $NAME; exit 3'",
            "echo typed | docker exec -i db1 cat",
            "docker exec db1 no-such-program",
            "docker logs db1",
            "docker pause db1 && docker exec db1 true",
            "docker restart -t 1 db1",
            "docker logs --tail 1 db1; docker inspect -f '{{ '{{.State.Status}} {{.State.ExitCode}}' }}' db1",
            "docker stop -t 0 db1; docker logs -f db1; docker wait db1; docker start db1",
            "docker rm -f db1",
            "docker port db2",
        ])
        .await;
    let said: Vec<(i32, &str, &str)> =
        report.commands.iter().map(|record| (record.exit_code, record.stdout.text.as_str(), record.stderr.text.as_str())).collect();
    assert_eq!(said[0], (3, "db1\n", ""));
    assert_eq!(said[1], (0, "typed\n", ""));
    assert_eq!((said[2].0, said[2].1.contains("executable file not found in $PATH")), (126, true), "{:?}", said[2]);
    assert_eq!(said[3], (0, "here is db1\n", ""));
    let paused = "Error response from daemon: Container db1 is paused, unpause the container before exec\n";
    assert_eq!(said[4], (1, "db1\n", paused));
    assert_eq!(said[5], (0, "db1\n", ""), "a paused node is brought back by a restart");
    assert_eq!(said[6], (0, "here is db1\nrunning 0\n", ""));
    assert_eq!(said[7], (0, "db1\nhere is db1\nhere is db1\n137\ndb1\n", ""));
    assert!(said[8].0 == 1 && said[8].2.contains("access denied"), "{:?}", said[8]);
    let port = rig.cluster.topology().node("db2").unwrap().ports["client"].advertised;
    assert_eq!(said[9].1, format!("{}/tcp -> {port}\n", port.port()));
    assert_ne!(rig.status("db1").pid.unwrap(), pid);
    rig.end().await;
}

#[tokio::test]
async fn the_stock_client_has_terminals_figures_and_events() {
    let (Some(docker), Some(_)) = (require::program("docker"), require::program("script")) else { return };
    let docker = docker.display();
    let rig = Rig::new(&["db1", "db2"]).await;
    let until_resized = r#"until stty size | grep -q \"40 100\"; do :; done; tty; echo \$TERM"#;
    let commands = [
        format!("script -qec 'stty rows 40 cols 100; {docker} exec -it db1 sh -c \"{until_resized}\"' /dev/null < /dev/null"),
        format!("{docker} stats --no-stream --format '{{{{ '{{{{.Name}}}} {{{{.PIDs}}}} {{{{.MemPerc}}}}' }}}}' db1 db2"),
        format!("{docker} top db1 -o pid,comm; {docker} top db1 | head -1"),
        format!(
            "{docker} restart -t 0 db2; {docker} events --since 1h --until $(date -d +2sec +%s) --format '{{{{ '{{{{.Action}}}} {{{{.Actor.Attributes.name}}}}' }}}}'"
        ),
        format!(
            "{docker} events --since 1h --until $(date -d +2sec +%s) --filter event=die --format '{{{{ '{{{{.Actor.Attributes.exitCode}}}}' }}}}'"
        ),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let report = rig.commands(&commands).await;
    let said = |place: usize| format!("{}{}", report.commands[place].stdout.text, report.commands[place].stderr.text);
    assert!(said(0).contains("/dev/pts/") && said(0).contains("xterm"), "{}", said(0));
    let figures = said(1);
    let figures: Vec<Vec<&str>> = figures.lines().map(|line| line.split(' ').collect()).collect();
    assert!(figures.len() == 2 && figures[0][0] == "db1" && figures[0][1] != "0" && figures[0][2] != "0.00%", "{figures:?}");
    let pid = rig.status("db1").pid.unwrap().to_string();
    assert!(said(2).contains(&pid) && said(2).contains("UID"), "{}", said(2));
    assert_eq!(said(3), "db2\nkill db2\ndie db2\nstart db2\n");
    assert_eq!(said(4), "137\n");
    rig.end().await;
}

#[tokio::test]
async fn a_terminal_passes_keys_on_and_changes_its_size() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::new(&["db1"]).await;
    let size = Terminal { rows: 10, columns: 20 };
    let command =
        ["sh", "-c", "trap 'stty size' WINCH; stty size; until read line; do :; done; echo got $line; echo ready; exec sleep 600"];
    let exec =
        ExecRequest { command: command.map(str::to_owned).to_vec(), interactive: true, terminal: Some(size), ..ExecRequest::default() };
    let mut running = rig.cluster.exec("db1", exec).await.unwrap();
    let mut shown = String::new();
    let mut buffer = [0; 256];
    let mut stdin = running.stdin.take().unwrap();
    let (mut resized, mut typed, mut broken) = (false, false, false);
    while let Ok(read @ 1..) = running.stdout.read(&mut buffer).await {
        shown += &String::from_utf8_lossy(&buffer[..read]);
        if shown.contains("10 20\r\n") && !resized {
            resized = true;
            running.resize.as_ref().unwrap()(Terminal { rows: 33, columns: 44 }).await;
        }
        // The trap runs at once and interrupts `read`, or waits for the line.
        if resized && !typed {
            typed = true;
            stdin.write_all(b"a line\r").await.unwrap();
        }
        if shown.contains("ready\r\n") && !broken {
            broken = true;
            stdin.write_all(&[3]).await.unwrap();
        }
    }
    assert_eq!(running.exit.await.unwrap(), 130, "{shown}");
    assert!(shown.contains("33 44\r\n") && shown.contains("got a line\r\n"), "{shown}");
    rig.end().await;
}

#[tokio::test]
async fn runner_is_invisible_and_no_process_is_left() {
    let rig = Rig::new(&["db1"]).await;
    let daemon = "setsid sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 & until test -s pid; do :; done; cat pid";
    let report = rig
        .commands(&[
            "env; pwd; command -v docker; tr '\\0' '\\n' < /proc/$$/environ",
            daemon,
            "docker version; docker info; docker inspect db1",
        ])
        .await;
    for record in &report.commands {
        let text = format!("{}{}", record.stdout.text, record.stderr.text).to_lowercase();
        assert!(record.exit_code == 0 && !text.contains("chaosrun"), "{text}");
        assert!(!text.contains(rig.dir.path().to_str().unwrap()), "{text}");
    }
    // The daemon has ended before the agent's report was available.
    let pid = report.commands[1].stdout.text.trim();
    assert!(!pid.is_empty() && !Path::new("/proc").join(pid).exists());
    assert!(workspace::find("docker", rig.work.path().join("tools").as_os_str()).is_some());
    rig.end().await;
}
