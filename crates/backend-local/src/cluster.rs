//! Cluster of one trial on the local backend: one task per node, one relay, one scope of the supervisor.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use indexmap::IndexMap;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::address;
use super::clock;
use super::definition::{NodeStartPlan, merged};
use super::layer::{self, LayerStorage, Layers};
use super::node::{self, NodeCommand, NodeMessage, NodeView};
use super::options::LocalOptions;
use super::plan;
use super::port_forwarder::{ForwardTargets, PortForwarder};
use super::program::WorkRoot;
use super::readiness::ReadinessTarget;
use super::relay::{Relay, RelayLink};
use super::roster::{Roster, Who};
use super::sandbox::{self, Brought};
use super::stdio::StdioEnds;
use super::supervisor::{Spawn, SpawnError};
use super::trial::LocalShared;
use super::usage;
use super::workspace;
use chaosrun_backend::ready;
use chaosrun_backend::ready::Readiness;
use chaosrun_backend::render;
use chaosrun_base::task;
use chaosrun_cluster::fault_control::ClockReading;
use chaosrun_cluster::{
    Cluster, ClusterError, ExecRequest, Killer, NodeChange, NodeStatus, NodeUsage, ProcessInfo, Running, Topology, Workspace, WorkspaceSpec,
};
use chaosrun_event::{Actor, NodeState};
use chaosrun_node::clock::{ClockPage, look};
use chaosrun_scenario::model;

/// Role name of the shell host, whose program is therefore called `workstation-server`.
const STATION: &str = "workstation";

/// Capacity of the channel of node changes. A reader that falls further behind loses the oldest changes.
const CHANGES: usize = 1024;

/// Cluster whose nodes are processes on loopback addresses.
pub struct LocalCluster {
    spec: Arc<model::ClusterSpec>,
    topology: Topology,
    nodes: IndexMap<String, NodeHandle>,
    shared: Arc<LocalShared>,
    work: Arc<WorkRoot>,
    /// Folder of all files of this trial that nodes may see.
    dir: PathBuf,
    logs: PathBuf,
    agent_dir: PathBuf,
    tools_dir: Option<PathBuf>,
    pub(super) layers: Layers,
    /// Port forwarder of the sandbox of the agent; `None` if no sandbox is open.
    door: Mutex<Option<PortForwarder>>,
}

pub(super) struct NodeHandle {
    pub plan: Arc<NodeStartPlan>,
    pub inbox: mpsc::UnboundedSender<NodeMessage>,
    view: watch::Receiver<NodeView>,
}

impl std::fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCluster").field("name", &self.spec.name).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl LocalCluster {
    /// Creates the cluster: chooses addresses, renders all templates and starts the relay. Starts no node and writes no file. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if no addresses are free, if a template fails, or if the relay cannot start.
    pub fn new(spec: Arc<model::ClusterSpec>, options: LocalOptions) -> Result<Self, ClusterError> {
        let dir = options.work.path().join(&options.trial);
        let logs = options.run_dir.join("logs");
        let addressed = address::assign(&spec.nodes)?;
        let mut topology = render::topology(&spec, addressed.iter().map(|one| one.ports.clone()), &dir);
        let roster = Arc::new(Roster::new(options.client.pid()));
        let relay = if options.relay {
            relay(&topology, addressed, Arc::clone(&roster))?
        } else {
            for port in topology.nodes.iter_mut().flat_map(|node| node.ports.values_mut()) {
                port.advertised = port.listen;
            }
            None
        };
        let rendered = render::nodes(&spec, &mut topology, options.seed)?;
        let plans = spec.nodes.iter().zip(&topology.nodes).zip(rendered);
        let plans = plans.map(|((node, placed), rendered)| plan::plan(node, placed, rendered, &options.work, &logs));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(LocalShared {
            scope: options.client.new_scope(),
            client: options.client,
            emitter: options.emitter,
            changes: broadcast::channel(CHANGES).0,
            relay,
            roster,
            prober: ready::Prober::default(),
        });
        let node = |plan: NodeStartPlan| {
            let plan = Arc::new(plan);
            let (inbox, view) = node::spawn(Arc::clone(&plan), Arc::clone(&shared));
            (plan.name.clone(), NodeHandle { plan, inbox, view })
        };
        let nodes = plans.into_iter().map(node).collect();
        let (agent_dir, tools_dir) = (options.agent_dir, options.tools_dir);
        let (layers, door) = (Layers::default(), Mutex::default());
        Ok(Self { spec, topology, nodes, shared, work: options.work, dir, logs, agent_dir, tools_dir, layers, door })
    }

    /// Creates a cluster without nodes. The cluster runs helper programs of chaosrun, such as disk layers, beside a cluster of another
    /// backend.
    ///
    /// # Errors
    /// Returns an error in the cases of [`LocalCluster::new`].
    pub fn without_nodes(spec: &model::ClusterSpec, options: LocalOptions) -> Result<Self, ClusterError> {
        let none = model::ClusterSpec { nodes: Vec::new(), roles: IndexMap::new(), ..spec.clone() };
        Self::new(Arc::new(none), options)
    }

    /// Returns the relay, which applies link faults. Returns `None` if the cluster was created without a relay, or if no node has ports.
    #[must_use]
    pub fn relay(&self) -> Option<&Relay> {
        self.shared.relay.as_ref()
    }

    /// Kills all processes of the cluster without waiting for their end. Used at the second SIGINT.
    pub fn kill_now(&self) {
        self.shared.client.kill_scope_now(self.shared.scope);
    }

    pub(super) fn node(&self, name: &str) -> Result<&NodeHandle, ClusterError> {
        self.nodes.get(name).ok_or_else(|| ClusterError::NoSuchNode(name.into()))
    }

    async fn order(&self, name: &str, order: NodeCommand, by: Actor) -> Result<(), ClusterError> {
        let (reply, answer) = oneshot::channel();
        // An error means that the task of the node has ended, and that the reply channel is closed.
        let _ = self.node(name)?.inbox.send(NodeMessage::Order { order, by, reply });
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn start_role(&self, role: &model::Role, ready: &HashMap<&str, watch::Sender<bool>>) -> Result<(), ClusterError> {
        for other in &role.after {
            if let Some(ready) = ready.get(other.as_str()) {
                // The caller owns the sender of `ready`, and the caller lives longer than this task.
                let _ = ready.subscribe().wait_for(|ready| *ready).await;
            }
        }
        try_join_all(role.nodes.iter().map(async |name| {
            self.order(name, NodeCommand::Start, Actor::Runner).await?;
            self.until_ready(name).await
        }))
        .await?;
        if let Some(ready) = ready.get(role.name.as_str()) {
            ready.send_replace(true);
        }
        Ok(())
    }

    async fn until_ready(&self, name: &str) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        let mut view = node.view.clone();
        let settled = view.wait_for(|view| view.readiness != Readiness::Waiting).await;
        let readiness = settled.map_err(|_| gone())?.readiness.clone();
        readiness.settled(name, node.plan.ready.within)
    }

    /// Creates the directories, files and programs of all nodes, before any node runs.
    fn prepare(plans: &[Arc<NodeStartPlan>], work: &WorkRoot, logs: &Path) -> Result<(), ClusterError> {
        let at = |path: &Path| {
            let what = format!("cannot write `{}`", path.display());
            move |source| ClusterError::Io { what, source }
        };
        fs::create_dir_all(logs).map_err(at(logs))?;
        for plan in plans {
            for dir in [&plan.dir, &plan.data, &plan.dir.join("tmp")] {
                fs::create_dir_all(dir).map_err(at(dir))?;
            }
            // Some databases refuse a data directory that other users may read.
            fs::set_permissions(&plan.data, Permissions::from_mode(0o700)).map_err(at(&plan.data))?;
            File::create(&plan.log).map_err(at(&plan.log))?;
            // A hard link across file systems fails. In that case the node sees the real path of its log.
            let _ = fs::hard_link(&plan.log, &plan.log_link);
            for (path, content) in &plan.files {
                let path = plan.dir.join(path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(at(parent))?;
                }
                fs::write(&path, content).map_err(at(&path))?;
            }
            if plan.is_copy {
                work.make_server(&plan.role).map_err(at(&work.server(&plan.role)))?;
            }
            clock::prepare(plan).map_err(clock::failed(&plan.name))?;
            if plan.layer.is_some() {
                layer::prepare(plan).map_err(layer::failed(&plan.name))?;
            }
        }
        Ok(())
    }

    async fn run(
        &self,
        exec: ExecRequest,
        env: Vec<(OsString, OsString)>,
        dir: PathBuf,
        with: Option<u64>,
        who: Who,
    ) -> Result<Running, ClusterError> {
        let mut env = env;
        if exec.terminal.is_some() && !env.iter().any(|(name, _)| name == "TERM") {
            env.push(("TERM".into(), "xterm".into()));
        }
        let Some(program) = exec.command.first() else {
            return Err(ClusterError::Conflict { node: String::new(), problem: "cannot run an empty command".into() });
        };
        let io = |source| ClusterError::Io { what: format!("cannot run `{program}`"), source };
        let StdioEnds { ours: (stdin, stdout, stderr), theirs, resize } = match exec.terminal {
            Some(size) => StdioEnds::terminal(size),
            None => StdioEnds::pipes(&exec),
        }
        .map_err(io)?;
        let (told, exit) = oneshot::channel();
        let (client, roster) = (self.shared.client.clone(), Arc::clone(&self.shared.roster));
        let tree = client.new_tree();
        roster.insert(tree, &client.marker(tree), who);
        let spawn = Spawn {
            program: program.into(),
            argv: exec.command.iter().map(Into::into).collect(),
            env,
            dir,
            stdio: theirs,
            tree,
            scope: self.shared.scope,
            with,
            linger: true,
            on_exit: Box::new(move |ended| {
                roster.root_ended(tree);
                // The caller may have stopped waiting for the exit code.
                let _ = told.send(ended.shell_code());
            }),
        };
        let pid = client.spawn(spawn).await.map_err(|error| {
            self.shared.roster.remove(tree);
            match error {
                SpawnError::Refused { message, errno } => ClusterError::Io { what: message, source: io::Error::from_raw_os_error(errno) },
                SpawnError::Gone => gone(),
            }
        })?;
        self.shared.roster.is_root(tree, pid);
        let killer: Killer = Box::new(move || {
            client.kill_now(tree);
            let client = client.clone();
            Box::pin(async move { client.kill(tree).await })
        });
        Ok(Running { pid, stdin, stdout, stderr, exit, killer, resize })
    }
}

#[async_trait]
impl Cluster for LocalCluster {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn status(&self) -> Vec<NodeStatus> {
        let status = |(name, node): (&String, &NodeHandle)| {
            let view = node.view.borrow();
            let (state, since) = (view.state.clone(), view.since.elapsed());
            NodeStatus { node: name.clone(), state, pid: view.pid, starts: view.starts, since }
        };
        self.nodes.iter().map(status).collect()
    }

    fn changes(&self) -> broadcast::Receiver<NodeChange> {
        self.shared.changes.subscribe()
    }

    async fn up(&self) -> Result<(), ClusterError> {
        let plans: Vec<_> = self.nodes.values().map(|node| Arc::clone(&node.plan)).collect();
        if !plans.is_empty() {
            let (work, logs) = (Arc::clone(&self.work), self.logs.clone());
            let prepared = task::spawn_blocking(move || Self::prepare(&plans, &work, &logs)).await;
            prepared.map_err(|error| ClusterError::Io { what: "cannot prepare nodes".into(), source: io::Error::other(error) })??;
            self.mount_layers().await?;
        }
        let ready: HashMap<&str, watch::Sender<bool>> =
            self.spec.roles.keys().map(|name| (name.as_str(), watch::Sender::new(false))).collect();
        try_join_all(self.spec.roles.values().map(|role| self.start_role(role, &ready))).await?;
        Ok(())
    }

    async fn answers(&self, node: &str, timeout: Duration) -> Result<Duration, String> {
        let node = self.node(node).map_err(|error| error.to_string())?;
        let (tree, env) = {
            let view = node.view.borrow();
            (view.tree, Arc::clone(&view.env))
        };
        let begin = Instant::now();
        let asked = ReadinessTarget { plan: Arc::clone(&node.plan), shared: Arc::clone(&self.shared), tree, env };
        self.shared.prober.ask(&node.plan.ready, &asked, timeout).await?;
        Ok(begin.elapsed())
    }

    async fn start(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Start, by).await
    }

    async fn stop(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Stop { grace }, by).await
    }

    async fn restart(&self, node: &str, grace: Duration, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Restart { grace }, by).await
    }

    async fn kill(&self, node: &str, signal: i32, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Kill { signal }, by).await
    }

    async fn pause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Pause, by).await
    }

    async fn unpause(&self, node: &str, by: Actor) -> Result<(), ClusterError> {
        self.order(node, NodeCommand::Unpause, by).await
    }

    async fn exec(&self, node: &str, exec: ExecRequest) -> Result<Running, ClusterError> {
        let NodeHandle { plan, view, .. } = self.node(node)?;
        let (state, tree, env) = {
            let view = view.borrow();
            (view.state.clone(), view.tree, Arc::clone(&view.env))
        };
        let conflict = |problem: &str| ClusterError::Conflict { node: node.into(), problem: problem.into() };
        match state {
            NodeState::Running => {}
            NodeState::Paused => return Err(conflict("is paused; unpause it")),
            NodeState::Created | NodeState::Exited { .. } => return Err(conflict("is not running")),
        }
        let env = merged(&env, &exec.env);
        let dir = if exec.dir.as_os_str().is_empty() { plan.dir.clone() } else { exec.dir.clone() };
        self.run(exec, env, dir, tree, Who::Node(plan.name.clone())).await
    }

    async fn open_workspace(&self, workspace_spec: &WorkspaceSpec) -> Result<Workspace, ClusterError> {
        self.seated(workspace_spec).await.map_err(|source| ClusterError::Io { what: "no agent can work here".into(), source })
    }

    async fn close_workspace(&self) {
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn spawn(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.beside(exec, Who::Agent).await
    }

    async fn spawn_driver(&self, exec: ExecRequest) -> Result<Running, ClusterError> {
        self.beside(exec, Who::Workload).await
    }

    async fn usage(&self, node: &str) -> Result<NodeUsage, ClusterError> {
        let (supervisor, root) = (self.shared.client.pid(), self.root(node)?);
        Ok(blocking(move || usage::usage(supervisor, root)).await)
    }

    async fn processes(&self, node: &str) -> Result<Vec<ProcessInfo>, ClusterError> {
        let (supervisor, root) = (self.shared.client.pid(), self.root(node)?);
        Ok(blocking(move || usage::processes(supervisor, root)).await)
    }

    fn log_file(&self, node: &str) -> Option<PathBuf> {
        Some(self.nodes.get(node)?.plan.log.clone())
    }

    async fn down(&self) -> Result<(), ClusterError> {
        let closed = self.nodes.values().map(|node| {
            let (reply, closed) = oneshot::channel();
            // A node whose task has ended has no process to end.
            let _ = node.inbox.send(NodeMessage::Close { reply });
            closed
        });
        let closed: Vec<_> = closed.collect();
        self.shared.client.kill_scope(self.shared.scope).await;
        join_all(closed).await;
        if let Some(relay) = &self.shared.relay {
            relay.stop().await;
        }
        let dir = self.dir.clone();
        // A cluster without nodes has no folder.
        if !dir.exists() {
            return Ok(());
        }
        // The removal runs in the background, since the removal of large files takes long. Files that remain at the end of the run are
        // removed with the work root.
        task::spawn_blocking(move || {
            chaosrun_node::disk::mounts::detach_below(&dir);
            fs::remove_dir_all(dir)
        });
        Ok(())
    }
}

impl LocalCluster {
    /// Creates the program of a role under a neutral name, as a copy of this program. Returns the path of the program.
    async fn server(&self, role: &'static str) -> io::Result<PathBuf> {
        if let Some(path) = self.work.made_server(role) {
            return Ok(path);
        }
        let work = Arc::clone(&self.work);
        task::spawn_blocking(move || work.make_server(role).map(|()| work.server(role))).await?
    }

    /// Mounts the disk layers of the nodes of this cluster.
    async fn mount_layers(&self) -> Result<(), ClusterError> {
        let layered = self.nodes.values().filter_map(|node| node.plan.layer.as_ref().map(|behind| (&node.plan, behind)));
        let mounted = layered.map(async |(plan, behind)| self.mount_layer(&plan.name, LayerStorage::Folder(behind), &plan.data).await);
        try_join_all(mounted).await.map(drop)
    }

    /// Mounts a disk layer with the storage `behind` at the path `at`. Faults select the layer by the name of the node. The layer is
    /// unmounted when this cluster ends.
    pub async fn mount_layer(&self, node: &str, behind: LayerStorage<'_>, at: &Path) -> Result<(), ClusterError> {
        let program = self.server(layer::ROLE).await.map_err(layer::failed(node))?;
        let exec = layer::exec(&program, behind, at);
        let running = self.run(exec, plan::clean(), PathBuf::from("/"), None, Who::Workload).await?;
        let layer = layer::RunningLayer::start(running).await.map_err(layer::failed(node))?;
        self.layers.insert(node, layer);
        Ok(())
    }

    /// Returns two paths for a node of another backend: the folder behind the disk layer, and the mount point of the layer. Creates neither
    /// of the two folders.
    pub fn layer_places(&self, node: &str) -> [PathBuf; 2] {
        layer::places(&self.dir, node)
    }

    async fn seated(&self, workspace_spec: &WorkspaceSpec) -> io::Result<Workspace> {
        let WorkspaceSpec { engine, sandbox, services, files } = workspace_spec;
        let shell_host = self.server(STATION).await?;
        let (door, etc, folder) = (self.dir.with_extension("door"), self.dir.with_extension("etc"), self.dir.with_extension("files"));
        // A sandbox needs the folder even without files, as a mount point.
        if *sandbox || !files.is_empty() {
            let (to, brought) = (folder.clone(), files.clone());
            task::spawn_blocking(move || workspace::bring(&to, &brought)).await??;
        }
        let open = |behind: &ForwardTargets| {
            let open = PortForwarder::open(&door, behind.clone())?;
            self.door.lock().unwrap_or_else(PoisonError::into_inner).replace(open);
            io::Result::Ok(behind.addresses())
        };
        let behind = ForwardTargets::services(services);
        if *sandbox {
            let nodes = self.topology.nodes.iter().flat_map(|node| node.ports.values()).map(|port| port.advertised).collect();
            let listen = open(&behind.with_nodes(nodes, Arc::clone(&self.shared.roster)))?;
            let work = Arc::clone(&self.work);
            let docker = task::spawn_blocking(move || work.make_tool("docker")).await??;
            let brought = Brought { shell_host: &shell_host, docker: &docker, engine, door: &door, listen, files: &folder, etc: &etc };
            return sandbox::open_workspace(&brought);
        }
        let mut workspace = workspace::beside(&self.agent_dir, self.tools_dir.as_deref(), engine, &shell_host, &folder)?;
        if !services.is_empty() {
            workspace::behind(&mut workspace, &door, &open(&behind)?);
        }
        Ok(workspace)
    }

    /// Returns the data directory of the node.
    pub(super) fn data(&self, name: &str) -> Result<PathBuf, ClusterError> {
        Ok(self.node(name)?.plan.data.clone())
    }

    /// Returns the clock page, through which the clocks of the node are set.
    pub(super) fn clock_page(&self, name: &str) -> Result<ClockPage, ClusterError> {
        clock::of(&self.node(name)?.plan)
    }

    /// Reads the clock of the node with a command in the environment of the node. Also works while the node does not run.
    pub(super) async fn look_at_clock(&self, name: &str) -> Result<ClockReading, ClusterError> {
        let page = self.clock_page(name)?;
        let plan = &self.node(name)?.plan;
        let reads = page.seen().map_err(clock::failed(name))?.reads;
        let (exec, begin) = (look::exec(), chaosrun_node::clock::ours());
        let env = merged(&plan.definition.start().1, &exec.env);
        let running = self.run(exec, env, plan.dir.clone(), None, Who::Node(plan.name.clone())).await?;
        let reading = look::reading(begin, running, reads, async || page.seen().ok()).await;
        reading.map_err(|why| ClusterError::Conflict { node: name.into(), problem: format!("cannot be asked for the time: {why}") })
    }

    /// Returns the pid of the first process of the node.
    fn root(&self, name: &str) -> Result<u32, ClusterError> {
        let pid = self.node(name)?.view.borrow().pid;
        pid.ok_or_else(|| ClusterError::Conflict { node: name.into(), problem: "is not running".into() })
    }

    /// Runs a command outside all nodes, in an environment without variables of the runner except PATH.
    async fn beside(&self, exec: ExecRequest, who: Who) -> Result<Running, ClusterError> {
        let env = merged(&plan::clean(), &exec.env);
        let dir = if exec.dir.as_os_str().is_empty() { PathBuf::from("/") } else { exec.dir.clone() };
        self.run(exec, env, dir, None, who).await
    }
}

impl Drop for LocalCluster {
    /// Kills all processes of a cluster that was not shut down because of a panic or an error. The regular shutdown is `down`.
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// Runs the closure `read` on a blocking thread, since reading `/proc` takes up to milliseconds.
async fn blocking<T: Default + Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    // The join fails only if the closure panics.
    task::spawn_blocking(read).await.unwrap_or_default()
}

pub(super) fn gone() -> ClusterError {
    ClusterError::Supervisor("its process has ended".into())
}

fn relay(topology: &Topology, addressed: Vec<address::Addressed>, roster: Arc<Roster>) -> Result<Option<Relay>, ClusterError> {
    let mut links = Vec::new();
    for (placed, addressed) in topology.nodes.iter().zip(addressed) {
        for ((port, listener), address) in addressed.listeners.into_iter().zip(placed.ports.values()) {
            links.push(RelayLink { node: placed.name.clone(), port, listener, target: address.listen });
        }
    }
    if links.is_empty() {
        return Ok(None);
    }
    let relay = Relay::start(links, roster).map_err(|source| ClusterError::Io { what: "cannot start the relay".into(), source })?;
    // No node runs yet, so all advertised addresses refuse connections.
    topology.nodes.iter().for_each(|node| relay.refuse(&node.name));
    Ok(Some(relay))
}
