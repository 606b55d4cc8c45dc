//! `disk_pressure`: a file fills the disk with the data of the node. An agent may remove a visible file. An agent must not free the space
//! of a hidden file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::resolver::Heal;
use crate::{
    DOCKER, FELT_WITHIN, FaultContext, FaultDescription, FaultFinding, FaultNode, Injection, LOCAL, Ramp, RawTarget, Repair, Resolution,
    ResolvedFault, Resolver, Target, Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::backend::Backend;
use chaosrun_cluster::fault_control::{Ballast, DiskUse, LinkPath};
use chaosrun_diagnostic::Diagnostic;
use chaosrun_input::{RawRamped, RawSize, Short, names, quantity};

/// Fixed data of the fault `disk_pressure`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "disk_pressure",
    summary: "Fills the disk that holds the data of the node.",
    example: "disk_pressure: { target: tikv1, percent: 96 }",
    backends: &[
        on(LOCAL, &[Way::plain("file in the data directory, up to the declared `disk` of the node")]),
        on(DOCKER, &[Way::plain("file on the volume of the node")]),
    ],
    refused: "",
    repair: Repair::Command,
    class: "disk_full",
    holds: Some("disk space"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "disk_pressure")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Percentage of the disk that is used [default: 95, without `size` and `leave_free`].
    pub percent: Option<RawRamped>,
    /// Amount of space that is taken.
    pub size: Option<RawRamped>,
    /// Amount of space that stays free.
    pub leave_free: Option<RawSize>,
    /// Name of the file in the data directory that takes the space [default: `backup.tar`].
    pub file: Option<String>,
}

/// Interval between two checks for free disk space.
const LOOKED: Duration = Duration::from_millis(100);

/// Checks the parameters of `disk_pressure`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target);
    let (amount, ramp) = amount(to, read)?;
    let file = read.file.clone().unwrap_or_else(|| "backup.tar".to_owned());
    if file.is_empty() || file.contains('/') {
        let problem = Diagnostic::error("bad_name", format!("`{file}` is not the name of a file"));
        to.wrong("file", problem.label("expected a name without `/`"));
    }
    let target = target?;
    has_disk(to, &target);
    Some(Resolution::of(DiskPressure { target, amount, ramp, file }))
}

fn amount(to: &mut Resolver, read: &Parameters) -> Option<(DiskAmount, Option<Ramp>)> {
    #[expect(clippy::cast_precision_loss, reason = "no disk is that large")]
    let bytes = |text: &str| {
        let bytes = quantity::size(text).map(|bytes| bytes as f64);
        bytes.ok_or_else(|| "expected a size such as `512MiB`".to_owned())
    };
    let given = [("percent", read.percent.is_some()), ("size", read.size.is_some()), ("leave_free", read.leave_free.is_some())];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if given.len() > 1 {
        let problem = Diagnostic::error("bad_amount", format!("{} are set at the same time", names::listed(given)));
        to.wrong_fault(problem.label("expected at most one of `percent`, `size`, `leave_free`"));
        return None;
    }
    if let Some(read) = &read.size {
        let (size, ramp) = to.ramped("size", read, bytes)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value was a whole number of bytes")]
        return Some((DiskAmount::Size(size as u64), ramp));
    }
    if read.leave_free.is_some() {
        return Some((DiskAmount::LeaveFree(to.size("leave_free", read.leave_free.as_ref())?), None));
    }
    let Some(read) = &read.percent else { return Some((DiskAmount::Percent(95.0), None)) };
    let (percent, ramp) = to.ramped("percent", read, quantity::percent)?;
    Some((DiskAmount::Percent(percent), ramp))
}

/// Checks that the disks of all possible targets have a size limit.
fn has_disk(to: &mut Resolver, target: &Target) {
    let ground = to.ground;
    // The nodes of a `select` are determined only at the injection.
    if ground.candidates(target).is_none() {
        return;
    }
    let nodes: Vec<&FaultNode> = ground.possible(target);
    if let Some(node) = nodes.iter().find(|node| !node.has_disk) {
        let problem = Diagnostic::error("no_disk", format!("`{}` has no disk with a limited size", node.name));
        let help = format!("add a size to the role `{}` in the cluster file: `disk: 512MiB`", node.role);
        to.wrong_fault(problem.label("expected a node with `disk:`").help(help));
    } else if let Some(node) =
        nodes.iter().find(|node| Backend::named(ground.backend).is_some_and(|backend| !backend.own_disks) && !node.is_standin)
    {
        let backend = ground.backend;
        let message =
            format!("the program of `{}` would not get ENOSPC on `{backend}`: its data is on the disk of this machine", node.name);
        let problem = Diagnostic::error("fault_not_here", message).label(format!("not on `{backend}`, for this program"));
        to.wrong_fault(problem.help(format!("use `--backend {DOCKER}`, where each node has a separate disk")));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum DiskAmount {
    /// Share of the disk that is used after the injection, from 0 to 100 percent.
    Percent(f64),
    /// Number of bytes that the fault takes.
    Size(u64),
    /// Number of bytes that the fault leaves free.
    LeaveFree(u64),
}

#[derive(Debug, Clone, Serialize)]
struct DiskPressure {
    target: Target,
    amount: DiskAmount,
    ramp: Option<Ramp>,
    /// Name of the file that takes the space.
    file: String,
}

impl ResolvedFault for DiskPressure {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        let amount = Mutex::new(self.amount);
        Box::new(Filling { fault: self.clone(), amount, before: Mutex::default(), healed: AtomicBool::new(false) })
    }
}

struct Filling {
    fault: DiskPressure,
    /// Current amount of disk space; changed by a ramp.
    amount: Mutex<DiskAmount>,
    /// Disk usage before the injection, and the number of bytes that the fault takes, by node name.
    before: Mutex<BTreeMap<String, (DiskUse, u64)>>,
    healed: AtomicBool,
}

impl Filling {
    fn amount(&self) -> DiskAmount {
        *self.amount.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, node: &str) -> Option<(DiskUse, u64)> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    fn ballast(&self, context: &FaultContext, bytes: u64) -> Ballast {
        Ballast { name: self.fault.file.clone(), bytes, hidden: context.heal != Heal::Agent }
    }

    async fn fill(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| {
            let held = context.cluster.ballast(&node, &self.fault.file).await.unwrap_or_default();
            let now = context.cluster.disk(&node).await?;
            let bytes = wanted(self.amount(), now, held);
            let got = context.cluster.fill(&node, &self.ballast(context, bytes)).await?;
            let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            before.entry(node).or_insert((now, 0)).1 = got;
            Ok(())
        })
        .await
    }
}

/// Returns the size of the ballast file in bytes, for a disk with the usage `now` on which the ballast currently has `held` bytes.
fn wanted(amount: DiskAmount, now: DiskUse, held: u64) -> u64 {
    let others = now.used.saturating_sub(held);
    match amount {
        DiskAmount::Size(bytes) => bytes,
        DiskAmount::LeaveFree(bytes) => (now.free + held).saturating_sub(bytes),
        DiskAmount::Percent(percent) => {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "disks are smaller")]
            let used = (now.size as f64 * percent / 100.0) as u64;
            used.saturating_sub(others)
        }
    }
}

fn percent(of: DiskUse) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let percent = of.used as f64 * 100.0 / of.size.max(1) as f64;
    percent
}

#[async_trait]
impl Injection for Filling {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let mut told = Vec::new();
        for node in &context.targets {
            let now = context.cluster.disk(node).await.map_err(|error| error.to_string())?;
            told.push(format!("{node} used {:.1} % of {} MiB", percent(now), now.size >> 20));
            self.before.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), (now, 0));
        }
        Ok(told.join(", "))
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        self.fill(context).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        for node in &context.targets {
            let taken = self.known(node).map(|(_, taken)| taken).unwrap_or_default();
            match context.cluster.ballast(node, &self.fault.file).await {
                Ok(held) if held > 0 && held >= taken => (),
                Ok(held) => return FaultFinding::no(format!("{node}: {held} of {taken} bytes are taken")),
                Err(error) => return FaultFinding::no(error.to_string()),
            }
        }
        let taken: u64 = context.targets.iter().filter_map(|node| self.known(node)).map(|(_, taken)| taken).sum();
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        let mib = taken as f64 / 1_048_576.0;
        FaultFinding::yes(format!("{mib:.1} MiB taken of {}", context.targets.join(", "))).with("taken_mib", mib)
    }

    /// Checks the disk usage that the disk reports.
    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let mut found = FaultFinding::yes("");
            for node in &context.targets {
                let (now, (before, taken)) = match (context.cluster.disk(node).await, self.known(node)) {
                    (Ok(now), Some(known)) => (now, known),
                    (Err(error), _) => return FaultFinding::no(error.to_string()),
                    (_, None) => return FaultFinding::no(format!("{node} was not filled")),
                };
                // Nodes write data too, so the used space may be larger than requested.
                let hundredth = now.size / 100;
                let ok = match self.amount() {
                    DiskAmount::Percent(_) => wanted(self.amount(), now, 0) <= hundredth || now.free <= hundredth,
                    DiskAmount::Size(_) => now.used + hundredth >= before.used + taken,
                    DiskAmount::LeaveFree(bytes) => now.free <= bytes + hundredth,
                };
                let words = format!("{node} uses {:.1} %, {} KiB free", percent(now), now.free >> 10);
                found.ok &= ok;
                found.detail = if found.detail.is_empty() { words } else { format!("{}, {words}", found.detail) };
                #[expect(clippy::cast_precision_loss, reason = "a size for people")]
                let free = now.free as f64 / 1_048_576.0;
                found = found.with("used_percent", percent(now)).with("free_mib", free).with("used_before_percent", percent(before));
            }
            if found.ok || Instant::now() > deadline {
                return found;
            }
            tokio::time::sleep(LOOKED / 10).await;
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        self.healed.store(true, Ordering::Release);
        each(&context.targets, async |node| context.cluster.fill(&node, &self.ballast(context, 0)).await.map(|_| ())).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        loop {
            tokio::time::sleep(LOOKED).await;
            let mut left = 0;
            for node in &context.targets {
                left += context.cluster.ballast(node, &self.fault.file).await.ok()?;
            }
            if left == 0 {
                let now = context.cluster.disk(context.first()).await.ok()?;
                return Some(
                    FaultFinding::yes(format!("{} uses {:.1} %", context.first(), percent(now))).with("used_percent", percent(now)),
                );
            }
        }
    }

    /// Checks that the space that an agent must not free is still taken. The file is hidden, so only access from outside the node can free
    /// the space.
    async fn intact(&self, context: &FaultContext) -> Option<FaultFinding> {
        let mut found = FaultFinding::yes("");
        for node in &context.targets {
            let held = context.cluster.ballast(node, &self.fault.file).await.ok()?;
            if held == 0 && self.known(node).is_some_and(|(_, taken)| taken > 0) {
                found = FaultFinding::no(format!("the space that the fault took on the disk of {node} is free again"));
            }
        }
        (!self.healed.load(Ordering::Acquire)).then_some(found)
    }

    fn ramp(&self) -> Option<Ramp> {
        self.fault.ramp
    }

    async fn step(&self, context: &FaultContext, value: f64) -> Result<(), ClusterError> {
        {
            let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
            *amount = match *amount {
                DiskAmount::Percent(_) => DiskAmount::Percent(value),
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
                DiskAmount::Size(_) | DiskAmount::LeaveFree(_) => DiskAmount::Size(value as u64),
            };
        }
        self.fill(context).await
    }

    fn repair_command(&self, context: &FaultContext, node: &str) -> Option<String> {
        let data = &context.cluster.topology().node(node)?.data;
        Some(format!("docker exec {node} rm -f '{}'", data.join(&self.fault.file).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taken_space_depends_on_the_space_used_by_others() {
        let disk = |used, free| DiskUse { size: 1000, used, free };
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(100, 900), 0), 800);
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(600, 400), 500), 800, "what we hold already does not count");
        assert_eq!(wanted(DiskAmount::Percent(90.0), disk(950, 50), 0), 0);
        assert_eq!(wanted(DiskAmount::LeaveFree(10), disk(100, 900), 0), 890);
        assert_eq!(wanted(DiskAmount::LeaveFree(10), disk(600, 400), 500), 890);
        assert_eq!(wanted(DiskAmount::Size(7), disk(600, 400), 500), 7);
    }
}
