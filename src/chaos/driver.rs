//! Runs the timeline of a trial: waits, chooses targets, writes the intent down, injects, collects evidence, heals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fault::{self, Inject, Setting, Signs};
use super::network_partition::{self, Links};
use super::pairs::Pairs;
use super::timeline::{self, Action};
use crate::agent::ActiveFault;
use crate::cluster::{Cluster, Cut, NodeStatus};
use crate::emit::Emitter;
use crate::event::{Actor, EvidenceStep, Kind};
use crate::expr::{Expr, Truth};
use crate::monitor::MonitorHandle;
use crate::plan::{seed, target};
use crate::scenario::model::{Chaos, Fault, Scenario, Target, TargetOf};

/// How long a fault may take until a probe of ours notices it, before it counts as not felt.
pub(super) const FELT_WITHIN: Duration = Duration::from_secs(3);
/// How long one probe for evidence waits for an answer: a stopped process accepts connections and stays silent.
pub(super) const PROBE: Duration = Duration::from_millis(150);

/// What has become of the timeline so far.
#[derive(Debug, Clone, Default)]
pub struct ChaosState {
    pub active: Vec<ActiveFault>,
    pub felt: Vec<Felt>,
    /// Why the timeline could not go on: the trial is invalid.
    pub failure: Option<Failure>,
    /// Moment of the first injection of a fault that counts as truth.
    pub first_injected: Option<Instant>,
    /// Every step has been taken and every evidence is in.
    pub finished: bool,
}

#[derive(Debug, Clone)]
pub struct Felt {
    pub id: String,
    /// Since the injection; none = it was not felt.
    pub after: Option<Duration>,
    pub detail: String,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
    /// The chaos entry it came from.
    pub entry: usize,
}

/// Everything the driver needs of the trial.
pub struct Driver {
    pub scenario: Arc<Scenario>,
    pub seed: u64,
    pub cluster: Arc<dyn Cluster>,
    pub monitor: MonitorHandle,
    pub emitter: Emitter,
    pub cancel: CancellationToken,
    /// What is cut now.
    pub links: Links,
}

impl Driver {
    /// Takes every step in time, counted from `steady`. Ends when all is done or the trial is cancelled.
    pub async fn run(self, steady: Instant, state: watch::Sender<ChaosState>) {
        let mut evidence: JoinSet<Felt> = JoinSet::new();
        let mut targets: Vec<Vec<String>> = vec![Vec::new(); self.scenario.chaos.len()];
        for step in timeline::steps(&self.scenario.chaos) {
            let due = tokio::time::Instant::from_std(steady + step.at);
            loop {
                tokio::select! {
                    () = self.cancel.cancelled() => return,
                    () = tokio::time::sleep_until(due) => break,
                    Some(found) = evidence.join_next() => note(&state, found),
                }
            }
            let entry = &self.scenario.chaos[step.entry];
            match step.action {
                Action::Inject => match self.inject(entry, &state, &mut evidence).await {
                    Ok(chosen) => targets[step.entry] = chosen,
                    Err((code, message)) => {
                        state.send_modify(|state| state.failure = Some(Failure { code, message, entry: step.entry }));
                        return;
                    }
                },
                Action::Heal => self.heal(entry, &targets[step.entry]).await,
            }
        }
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return,
                found = evidence.join_next() => match found {
                    Some(found) => note(&state, found),
                    None => break,
                },
            }
        }
        state.send_modify(|state| state.finished = true);
    }

    async fn inject(
        &self,
        entry: &Chaos,
        state: &watch::Sender<ChaosState>,
        evidence: &mut JoinSet<Felt>,
    ) -> Result<Vec<String>, (&'static str, String)> {
        let targets = self.choose(entry.fault.target(), &entry.id, "target").await.map_err(|message| ("no_target", message))?;
        let cuts = self.cuts(entry, &targets).await.map_err(|message| ("no_target", message))?;
        let fault = entry.fault.name();
        let mut parameters = serde_json::to_value(&entry.fault).unwrap_or_default();
        if !cuts.is_empty() {
            // What was chosen counts, not how.
            parameters["cuts"] = cuts.iter().map(|cut| format!("{} -> {}", cut.from, cut.to)).collect();
        }
        self.emitter.emit(Kind::FaultIntended { id: entry.id.clone(), fault: fault.into(), targets: targets.clone(), parameters });
        self.emitter.durable().await.map_err(|message| ("store_failed", message))?;

        let bystander = self.bystander(&targets);
        let inject: Arc<dyn Inject> = Arc::from(self.built(entry, cuts));
        let mut pairs = Pairs::default();
        let before = match inject.signs() {
            Signs::Silence => self.before(&targets, bystander.as_deref()).await,
            Signs::Observed(sign) if self.monitor.truth(sign.clone()).await == Truth::True => {
                return Err(("not_injected", format!("`{}` is true before {fault} is injected", sign.text)));
            }
            Signs::Observed(sign) => format!("`{}` was not true", sign.text),
            Signs::Links(partition) => {
                let chosen = Pairs::choose(&*self.cluster, &partition.cuts, &self.links.all(), &targets).await;
                pairs = chosen.map_err(|message| ("not_injected", message))?;
                pairs.before.clone()
            }
            Signs::Nothing => String::new(),
        };
        let mut changes = self.cluster.changes();
        let began = Instant::now();
        if let Err(error) = inject.inject_all(&*self.cluster, &targets).await {
            return Err(("not_injected", format!("{fault} could not be injected: {error}")));
        }
        let took_us = micros(began.elapsed());
        self.emitter.emit(Kind::FaultInjected { id: entry.id.clone(), fault: fault.into(), targets: targets.clone(), took_us });
        state.send_modify(|state| {
            if self.scenario.truth.contains(&entry.id) && state.first_injected.is_none() {
                state.first_injected = Some(began);
            }
            let repair = if let Fault::Exec { repair, .. } = &entry.fault { repair.as_deref().cloned() } else { None };
            let (id, fault) = (entry.id.clone(), fault.into());
            state.active.push(ActiveFault { id, fault, targets: targets.clone(), heal: entry.heal, repair });
        });

        let witness = Witness {
            id: entry.id.clone(),
            targets: targets.clone(),
            inject,
            cluster: Arc::clone(&self.cluster),
            monitor: self.monitor.clone(),
            pairs,
            emitter: self.emitter.clone(),
            began,
        };
        let watcher = witness.clone();
        evidence.spawn(async move {
            match witness.installed(&mut changes).await {
                Ok(()) => witness.felt(bystander.as_deref(), &before).await,
                Err(detail) => Felt { id: witness.id, after: None, detail },
            }
        });
        let cancel = self.cancel.clone();
        // Whoever removes the fault, and whenever: it is seen. This watch ends with the trial, not with the timeline.
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => (),
                () = watcher.gone() => (),
            }
        });
        Ok(targets)
    }

    fn built(&self, entry: &Chaos, cuts: Vec<Cut>) -> Box<dyn Inject> {
        let Self { scenario, seed, links, .. } = self;
        fault::of(&entry.fault, Setting { id: &entry.id, scenario, seed: *seed, links, cuts })
    }

    /// Of a fault that cuts links.
    async fn cuts(&self, entry: &Chaos, targets: &[String]) -> Result<Vec<Cut>, String> {
        let Fault::NetworkPartition { from, one_way, mode, .. } = &entry.fault else { return Ok(Vec::new()) };
        let others = match from {
            Some(from) => self.choose(from, &entry.id, "from").await?,
            None => {
                let names = self.cluster.topology().nodes.iter().map(|node| node.name.clone());
                names.filter(|name| !targets.contains(name)).collect()
            }
        };
        let cuts = network_partition::cuts(targets, &others, *one_way, *mode);
        if cuts.is_empty() {
            return Err(format!("nobody is left that {} could be cut from", targets.join(", ")));
        }
        Ok(cuts)
    }

    async fn choose(&self, wanted: &Target, id: &str, what: &str) -> Result<Vec<String>, String> {
        let selected = match &wanted.of {
            TargetOf::Select(name) => {
                let expr = self.scenario.cluster.select.get(name).ok_or_else(|| format!("no select `{name}` in the cluster"))?;
                Some(self.monitor.select_nodes(expr.clone()).await?)
            }
            TargetOf::Nodes(_) | TargetOf::Role(_) | TargetOf::All => None,
        };
        let mut stream = seed::stream(self.seed, &format!("chaos.{id}.{what}"));
        target::choose(wanted, &self.scenario.cluster, &mut stream, selected.as_deref())
    }

    /// An unaffected node to compare with. Of another role when there is one: those of the same role may well answer worse
    /// while one of them is gone (an election), and that is no fault of the injection.
    fn bystander(&self, targets: &[String]) -> Option<String> {
        let topology = self.cluster.topology();
        let role = targets.first().and_then(|name| topology.node(name)).map(|node| node.role.clone());
        let running = self.cluster.status();
        let alive = |name: &str| running.iter().any(|status| status.node == name && status.state == crate::event::NodeState::Running);
        let mut others: Vec<_> = topology.nodes.iter().filter(|node| !targets.contains(&node.name) && alive(&node.name)).collect();
        others.sort_by_key(|node| Some(&node.role) == role.as_ref());
        others.first().map(|node| node.name.clone())
    }

    /// What the probes say before the fault: `tikv2 answered in 0.4 ms`.
    async fn before(&self, targets: &[String], bystander: Option<&str>) -> String {
        let nodes = targets.iter().map(String::as_str).chain(bystander);
        let answers = futures_util::future::join_all(nodes.map(|node| async move {
            match self.cluster.answers(node, PROBE).await {
                Ok(took) => format!("{node} answered in {}", ms(took)),
                Err(error) => format!("{node} did not answer ({error})"),
            }
        }))
        .await;
        answers.join(", ")
    }

    async fn heal(&self, entry: &Chaos, targets: &[String]) {
        match self.built(entry, Vec::new()).heal_all(&*self.cluster, targets).await {
            Err(error) => self.emitter.warn(format!("{} `{}` could not be healed: {error}", entry.fault.name(), entry.id)),
            Ok(()) => self.emitter.emit(Kind::FaultHealed { id: entry.id.clone(), by: Actor::Time }),
        }
    }
}

fn note(state: &watch::Sender<ChaosState>, found: Result<Felt, tokio::task::JoinError>) {
    if let Ok(felt) = found {
        state.send_modify(|state| state.felt.push(felt));
    }
}

/// Collects the evidence of one injected fault.
#[derive(Clone)]
pub(super) struct Witness {
    pub(super) id: String,
    targets: Vec<String>,
    inject: Arc<dyn Inject>,
    pub(super) cluster: Arc<dyn Cluster>,
    monitor: MonitorHandle,
    pub(super) pairs: Pairs,
    pub(super) emitter: Emitter,
    pub(super) began: Instant,
}

impl Witness {
    /// Reads the state back until every target shows the fault.
    async fn installed(&self, changes: &mut tokio::sync::broadcast::Receiver<crate::cluster::NodeChange>) -> Result<(), String> {
        if let Signs::Links(partition) = self.inject.signs() {
            return self.links_installed(&partition).await;
        }
        let deadline = tokio::time::Instant::now() + FELT_WITHIN;
        loop {
            let found: Vec<_> = self.statuses().iter().map(|status| (status.node.clone(), self.inject.installed(status))).collect();
            let missing = found.iter().find_map(|(node, found)| found.as_ref().err().map(|problem| format!("{node}: {problem}")));
            let Some(missing) = missing else {
                let detail = found.iter().map(|(node, found)| format!("{node}: {}", found.as_deref().unwrap_or_default()));
                self.evidence(EvidenceStep::Installed, true, detail.collect::<Vec<_>>().join(", "));
                return Ok(());
            };
            if tokio::time::timeout_at(deadline, changes.recv()).await.is_err() {
                self.evidence(EvidenceStep::Installed, false, missing.clone());
                return Err(missing);
            }
        }
    }

    /// Waits until the fault shows itself, as its kind does.
    async fn felt(&self, bystander: Option<&str>, before: &str) -> Felt {
        match self.inject.signs() {
            Signs::Silence => self.silence(bystander, before).await,
            Signs::Observed(sign) => self.observed(&sign, before).await,
            Signs::Links(partition) => self.links_felt(&partition, before).await,
            Signs::Nothing => Felt { id: self.id.clone(), after: Some(self.began.elapsed()), detail: "nothing is said to show it".into() },
        }
    }

    /// Until the observations show it.
    async fn observed(&self, sign: &Expr, before: &str) -> Felt {
        let shown = tokio::time::timeout(FELT_WITHIN, self.becomes(sign, Truth::True)).await == Ok(true);
        let after = self.began.elapsed();
        let detail = format!("{before} before; now it is{}", if shown { "" } else { " not either" });
        self.evidence(EvidenceStep::Felt, shown, detail.clone());
        Felt { id: self.id.clone(), after: shown.then_some(after), detail }
    }

    /// Until a condition over the observations is `wanted`; false when the monitor has ended before.
    async fn becomes(&self, sign: &Expr, wanted: Truth) -> bool {
        let mut state = self.monitor.state();
        loop {
            if self.monitor.truth(sign.clone()).await == wanted {
                return true;
            }
            if state.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Asks the affected nodes, and one unaffected node, through the probe that says whether a node is ready.
    async fn silence(&self, bystander: Option<&str>, before: &str) -> Felt {
        let mut silent = Vec::new();
        for node in &self.targets {
            match self.silent(node).await {
                Ok(how) => silent.push(format!("{node} {how}")),
                Err(problem) => {
                    let detail = format!("{before} before; {problem}, wanted: no answer");
                    self.evidence(EvidenceStep::Felt, false, detail.clone());
                    return Felt { id: self.id.clone(), after: None, detail };
                }
            }
        }
        let after = self.began.elapsed();
        let other = match bystander {
            None => String::new(),
            Some(node) => match self.cluster.answers(node, PROBE).await {
                Ok(took) => format!("; unaffected {node} answered in {}", ms(took)),
                Err(error) => {
                    self.emitter.warn(format!("fault `{}`: the unaffected node `{node}` did not answer either: {error}", self.id));
                    format!("; unaffected {node} did not answer: {error}")
                }
            },
        };
        let detail = format!("{before} before; now {}{other}", silent.join(", "));
        self.evidence(EvidenceStep::Felt, true, detail.clone());
        Felt { id: self.id.clone(), after: Some(after), detail }
    }

    /// Until the node does not answer; `Err` when it keeps answering.
    async fn silent(&self, node: &str) -> Result<String, String> {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            match self.cluster.answers(node, PROBE).await {
                Err(how) => return Ok(how),
                Ok(took) if Instant::now() > deadline => return Err(format!("{node} still answers in {}", ms(took))),
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Until no target shows the fault any more.
    async fn gone(&self) {
        match self.inject.signs() {
            Signs::Silence => (),
            Signs::Nothing => return,
            Signs::Links(partition) => return self.links_gone(&partition).await,
            // It counts as gone only after it was there.
            Signs::Observed(sign) => {
                if self.becomes(&sign, Truth::True).await && self.becomes(&sign, Truth::False).await {
                    self.evidence(EvidenceStep::Gone, true, format!("`{}` is no longer true", sign.text));
                }
                return;
            }
        }
        let mut changes = self.cluster.changes();
        loop {
            let statuses = self.statuses();
            if !statuses.is_empty() && statuses.iter().all(|status| self.inject.gone(status)) {
                break;
            }
            if matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                return;
            }
        }
        for node in &self.targets {
            while self.cluster.answers(node, PROBE).await.is_err() {
                if self.statuses().iter().any(|status| !self.inject.gone(status)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.evidence(EvidenceStep::Gone, true, format!("{} answers again", self.targets.join(", ")));
    }

    fn statuses(&self) -> Vec<NodeStatus> {
        self.cluster.status().into_iter().filter(|status| self.targets.contains(&status.node)).collect()
    }

    pub(super) fn evidence(&self, step: EvidenceStep, ok: bool, detail: String) {
        let after_us = micros(self.began.elapsed());
        self.emitter.emit(Kind::FaultEvidence { id: self.id.clone(), step, ok, detail, after_us });
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
