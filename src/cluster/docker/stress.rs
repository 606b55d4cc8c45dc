//! Nodes that are kept busy: what is asked for is in force start after start, until it is taken back.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::TopOptionsBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::node::Node;
use super::tool::{Burner, Tool};
use super::usage::clock;
use crate::burner::{Order, Reply};
use crate::cluster::ClusterError;
use crate::cluster::harm::{Stress, StressReading, Worked};
use crate::event::NodeState;

/// Processor time of a short piece of work.
const WORK: Duration = Duration::from_millis(40);

/// Of all nodes of a cluster.
#[derive(Debug)]
pub(super) struct Stresses {
    tool: Arc<Tool>,
    kept: Mutex<HashMap<String, Kept>>,
    tasks: TaskTracker,
    token: CancellationToken,
}

/// The two ends of a node's task.
#[derive(Debug, Clone)]
struct Kept {
    wanted: Arc<watch::Sender<Wanted>>,
    made: watch::Receiver<Made>,
    burner: Burning,
}

/// What keeps a node busy now.
type Burning = Arc<tokio::sync::Mutex<Option<Burner>>>;

#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// Counts what was asked for.
    turn: u64,
    stress: Option<Stress>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
struct Made {
    turn: u64,
    problem: Option<String>,
    /// The command that keeps the node busy, for the engine.
    command: Option<String>,
}

impl Stresses {
    pub fn new(program: PathBuf, tasks: TaskTracker, token: CancellationToken) -> Self {
        Self { tool: Arc::new(Tool::new(program)), kept: Mutex::default(), tasks, token }
    }

    /// A node that does not run is kept busy from its next start on.
    pub async fn set(&self, node: &Arc<Node>, stress: Option<Stress>) -> Result<(), ClusterError> {
        let Some(mut kept) = self.kept(node, stress.is_some()) else { return Ok(()) };
        let mut turn = 0;
        kept.wanted.send_modify(|wanted| {
            turn = wanted.turn + 1;
            *wanted = Wanted { turn, stress };
        });
        match kept.made.wait_for(|made| made.turn >= turn).await.map(|made| made.problem.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(ClusterError::Engine(format!("`{}` cannot be kept busy: {problem}", node.plan.name))),
            // All of it ends with the cluster.
            Err(_) if stress.is_none() => Ok(()),
            Err(_) => Err(ClusterError::Engine("the cluster is gone".into())),
        }
    }

    /// The node's task; a new one only if `begin`.
    fn kept(&self, node: &Arc<Node>, begin: bool) -> Option<Kept> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&node.plan.name) && begin {
            let (wanted, changes) = watch::channel(Wanted::default());
            let (tell, made) = watch::channel(Made::default());
            let burner = Burning::default();
            let keeping = keep(Arc::clone(node), Arc::clone(&self.tool), Arc::clone(&burner), changes, tell);
            let token = self.token.clone();
            self.tasks.spawn(async move { token.run_until_cancelled(keeping).await });
            all.insert(node.plan.name.clone(), Kept { wanted: Arc::new(wanted), made, burner });
        }
        all.get(&node.plan.name).cloned()
    }

    /// As the engine's host sees it.
    pub async fn reading(&self, node: &Arc<Node>) -> Result<StressReading, ClusterError> {
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

    /// By what keeps the node busy, if there is something: to bring another there takes longer than the work.
    pub async fn work(&self, node: &Arc<Node>) -> Result<Worked, ClusterError> {
        match node.state() {
            NodeState::Running => {}
            NodeState::Paused => return Err(node.conflict("is paused")),
            NodeState::Created | NodeState::Exited { .. } => return Err(node.conflict("is not running")),
        }
        let order = Order::Work(u64::try_from(WORK.as_micros()).unwrap_or_default());
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
            Some(Reply::Worked { cpu_us, wall_us }) => {
                Ok(Worked { cpu: Duration::from_micros(cpu_us), wall: Duration::from_micros(wall_us) })
            }
            _ => Err(node.conflict("has ended what was to work in it")),
        }
    }
}

/// Starts and ends what keeps the node busy, as it is wanted and as the node comes and goes.
async fn keep(node: Arc<Node>, tool: Arc<Tool>, burning: Burning, mut changes: watch::Receiver<Wanted>, tell: watch::Sender<Made>) {
    let mut view = node.view.subscribe();
    // The start and the turn for which it was last seen to.
    let mut seen = (0, 0);
    loop {
        let wanted = *changes.borrow_and_update();
        let (state, starts) = {
            let view = view.borrow_and_update();
            (view.state.clone(), view.starts)
        };
        if starts != seen.0 || !matches!(state, NodeState::Running | NodeState::Paused) {
            // It died with the container.
            *burning.lock().await = None;
        }
        let mut problem = None;
        let mut burner = burning.lock().await;
        match (wanted.stress, state) {
            (None, state) => {
                if let Some(burner) = burner.take() {
                    // One that stands still ends when it is let go on.
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
            // Either all is as it should be, or its time comes.
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

/// Changes the one there is, or starts one; none when that has ended again by itself, or was ended.
async fn burn(tool: &Tool, node: &Node, before: Option<Burner>, stress: Stress) -> Result<Option<Burner>, ClusterError> {
    let Stress { cores, percent, memory } = stress;
    let order = Order::Load { cores, percent, memory };
    if let Some(mut burner) = before
        && burner.ask(&order).await.is_some()
    {
        return Ok(Some(burner));
    }
    let mut burner = tool.start(node).await?;
    Ok(burner.ask(&order).await.map(|_| burner))
}

/// A process as `ps` on the engine's host shows it.
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

    /// `ps` counts in seconds, and the program's file as memory. Where the engine's host is this machine its kernel says more,
    /// if the process of that number is the same here.
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
