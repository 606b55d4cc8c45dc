//! CPU and memory loads on nodes. A requested load is applied after every start of the node, until the load is removed.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::TopOptionsBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::node::ContainerNode;
use super::tool::{Burner, ToolContainer};
use super::usage::clock;
use chaosrun_base::task::Tasks;
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{Stress, StressReading, Worked};
use chaosrun_event::NodeState;
use chaosrun_node::burner::{BurnerReply, BurnerRequest};

/// CPU time of the short piece of work that [`Stresses::work`] measures.
const WORK: Duration = Duration::from_millis(40);

/// Loads of all nodes of a cluster, with one task per node.
#[derive(Debug)]
pub(super) struct Stresses {
    tool: Arc<ToolContainer>,
    kept: Mutex<HashMap<String, RunningStress>>,
    tasks: Tasks,
    token: CancellationToken,
}

/// Channels to the task that manages the load of a node, and the burner of the node. A burner is the program that produces the load.
#[derive(Debug, Clone)]
struct RunningStress {
    wanted: Arc<watch::Sender<Wanted>>,
    made: watch::Receiver<Made>,
    burner: Burning,
}

/// Burner that currently produces the load of a node; `None` if no burner runs.
type Burning = Arc<tokio::sync::Mutex<Option<Burner>>>;

#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// Sequence number of the request.
    turn: u64,
    stress: Option<Stress>,
}

/// Outcome of a request for a load.
#[derive(Debug, Clone, Default)]
struct Made {
    turn: u64,
    problem: Option<String>,
    /// Id, in the engine, of the command that produces the load.
    command: Option<String>,
}

impl Stresses {
    pub fn new(program: PathBuf, tasks: Tasks, token: CancellationToken) -> Self {
        Self { tool: Arc::new(ToolContainer::new(program)), kept: Mutex::default(), tasks, token }
    }

    /// Sets the load of a node; `None` removes the load. If the node does not run, the load begins at its next start.
    pub async fn set(&self, node: &Arc<ContainerNode>, stress: Option<Stress>) -> Result<(), ClusterError> {
        let Some(mut kept) = self.kept(node, stress.is_some()) else { return Ok(()) };
        let mut turn = 0;
        kept.wanted.send_modify(|wanted| {
            turn = wanted.turn + 1;
            *wanted = Wanted { turn, stress };
        });
        match kept.made.wait_for(|made| made.turn >= turn).await.map(|made| made.problem.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(ClusterError::Engine(format!("`{}` cannot be kept busy: {problem}", node.plan.name))),
            // The end of the cluster ends all loads, so the removal of a load succeeds.
            Err(_) if stress.is_none() => Ok(()),
            Err(_) => Err(ClusterError::Engine("the cluster is gone".into())),
        }
    }

    /// Returns the channels to the load task of a node. If there is no task and `begin` is true, starts the task.
    fn kept(&self, node: &Arc<ContainerNode>, begin: bool) -> Option<RunningStress> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&node.plan.name) && begin {
            let (wanted, changes) = watch::channel(Wanted::default());
            let (tell, made) = watch::channel(Made::default());
            let burner = Burning::default();
            let keeping = keep(Arc::clone(node), Arc::clone(&self.tool), Arc::clone(&burner), changes, tell);
            let token = self.token.clone();
            self.tasks.spawn(async move { token.run_until_cancelled(keeping).await });
            all.insert(node.plan.name.clone(), RunningStress { wanted: Arc::new(wanted), made, burner });
        }
        all.get(&node.plan.name).cloned()
    }

    /// Measures the load that the burner of a node produces, from the host of the engine.
    pub async fn reading(&self, node: &Arc<ContainerNode>) -> Result<StressReading, ClusterError> {
        let command = self.kept(node, false).and_then(|kept| kept.made.borrow().command.clone());
        let Some(command) = command else { return Ok(StressReading::default()) };
        let api = node.shared.engine.api();
        let Ok(state) = api.inspect_exec(&command).await else { return Ok(StressReading::default()) };
        let pid = state.pid.filter(|_| state.running == Some(true)).unwrap_or_default();
        let options = TopOptionsBuilder::new().ps_args("-eo pid,stat,time,rss,args").build();
        let Ok(top) = api.top_processes(&node.container, Some(options)).await else { return Ok(StressReading::default()) };
        let rows = top.processes.unwrap_or_default();
        let found = rows.iter().filter_map(|row| Row::read(row)).find(|row| i64::from(row.pid) == pid);
        Ok(found.map(Row::reading).unwrap_or_default())
    }

    /// Measures the duration of a short piece of work in the node. An existing burner does the work, since the start of another burner
    /// takes longer than the work.
    pub async fn work(&self, node: &Arc<ContainerNode>) -> Result<Worked, ClusterError> {
        match node.state() {
            NodeState::Running => {}
            NodeState::Paused => return Err(node.conflict("is paused")),
            NodeState::Created | NodeState::Exited { .. } => return Err(node.conflict("is not running")),
        }
        let order = BurnerRequest::Work(u64::try_from(WORK.as_micros()).unwrap_or_default());
        let mut reply = None;
        if let Some(kept) = self.kept(node, false)
            && let Some(burner) = &mut *kept.burner.lock().await
        {
            reply = burner.ask(&order).await;
        }
        if reply.is_none() {
            let mut worker = self.tool.start(node).await?;
            reply = worker.ask(&order).await;
            worker.end().await;
        }
        match reply {
            Some(BurnerReply::Worked { cpu_us, wall_us }) => {
                Ok(Worked { cpu: Duration::from_micros(cpu_us), wall: Duration::from_micros(wall_us) })
            }
            _ => Err(node.conflict("has ended a process that chaosrun started in it")),
        }
    }
}

/// Starts and ends the burner of a node, according to the requested load and the state of the node. Runs as a task.
async fn keep(
    node: Arc<ContainerNode>,
    tool: Arc<ToolContainer>,
    burning: Burning,
    mut changes: watch::Receiver<Wanted>,
    tell: watch::Sender<Made>,
) {
    let mut view = node.view.subscribe();
    // The tuple contains the numbers of the start and of the request that were handled last.
    let mut seen = (0, 0);
    loop {
        let wanted = *changes.borrow_and_update();
        let (state, starts) = {
            let view = view.borrow_and_update();
            (view.state.clone(), view.starts)
        };
        if starts != seen.0 || !matches!(state, NodeState::Running | NodeState::Paused) {
            // The burner ended together with the container.
            *burning.lock().await = None;
        }
        let mut problem = None;
        let mut burner = burning.lock().await;
        match (wanted.stress, state) {
            (None, state) => {
                if let Some(burner) = burner.take() {
                    // A paused burner cannot end now. It ends when it is unpaused.
                    if state == NodeState::Paused { drop(burner) } else { burner.end().await }
                }
                seen = (starts, wanted.turn);
            }
            (Some(stress), NodeState::Running) if seen != (starts, wanted.turn) => {
                match burn(&tool, &node, burner.take(), stress).await {
                    Ok(now) => *burner = now,
                    Err(error) => problem = Some(error.to_string()),
                }
                seen = (starts, wanted.turn);
            }
            // Either the requested load is active, or the node must start first.
            (Some(_), _) => {}
        }
        let command = burner.as_ref().map(|burner| burner.id.clone());
        drop(burner);
        tell.send_replace(Made { turn: wanted.turn, problem, command });
        let changed = tokio::select! {
            changed = changes.changed() => changed,
            changed = view.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Changes the load of the current burner, or starts a burner. Returns `None` if the new burner has already ended.
async fn burn(tool: &ToolContainer, node: &ContainerNode, before: Option<Burner>, stress: Stress) -> Result<Option<Burner>, ClusterError> {
    let Stress { cores, percent, memory } = stress;
    let order = BurnerRequest::Load { cores, percent, memory };
    if let Some(mut burner) = before
        && burner.ask(&order).await.is_some()
    {
        return Ok(Some(burner));
    }
    let mut burner = tool.start(node).await?;
    Ok(burner.ask(&order).await.map(|_| burner))
}

/// Process in the output of `ps` on the host of the engine.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    pid: u32,
    stopped: bool,
    used: Duration,
    memory: u64,
    command: String,
}

impl Row {
    fn read(row: &[String]) -> Option<Self> {
        let [pid, state, used, memory, command @ ..] = row else { return None };
        Some(Self {
            pid: pid.parse().ok()?,
            stopped: state.starts_with(['T', 't', 'Z', 'X']),
            used: clock(used)?,
            memory: memory.parse::<u64>().ok()?.saturating_mul(1024),
            command: command.join(" "),
        })
    }

    fn reading(self) -> StressReading {
        let (used, memory) = self.exactly().unwrap_or((self.used, self.memory));
        StressReading { running: !self.stopped, used, memory }
    }

    /// Returns the exact CPU time and memory from the kernel of this machine, if the process with this pid is the same process here. The
    /// values of `ps` are less exact: the time is in seconds, and the memory includes the program file.
    fn exactly(&self) -> Option<(Duration, u64)> {
        let read = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", self.pid)).ok();
        let here = read("cmdline")?.trim_end_matches('\0').replace('\0', " ");
        let stat = read("stat")?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
        let a_second = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??).ok()?;
        let status = read("status")?;
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_ascii_whitespace().next()?;
        let exact = (Duration::from_millis(ticks.checked_mul(1000)? / a_second), memory.parse::<u64>().ok()?.checked_mul(1024)?);
        (here == self.command).then_some(exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_does_not_work() {
        let row = |state: &str| Row::read(&["7", state, "00:01:02", "2048", "/x/upkeep", "node", "work"].map(str::to_owned)).unwrap();
        let reading = |state: &str| Row { pid: u32::MAX, ..row(state) }.reading();
        assert_eq!(reading("Rl"), StressReading { running: true, used: Duration::from_secs(62), memory: 2 << 20 });
        assert!(!reading("Tl").running && !reading("Z").running);
        assert_eq!(row("S").command, "/x/upkeep node work");
    }
}
