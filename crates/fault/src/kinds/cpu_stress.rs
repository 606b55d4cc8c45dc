//! `cpu_stress`: an additional load keeps CPUs busy, within the CPU limit of the node.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::description::on;
use crate::resources::{gone, installed, intact, put};
use crate::{
    DOCKER, FELT_WITHIN, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, PATIENT, Ramp, RawTarget, Repair, Resolution,
    ResolvedFault, Resolver, Target, Way, ms,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{LinkPath, Stress, Worked};
use chaosrun_input::{RawRamped, Short, quantity};

/// Fixed data of the fault `cpu_stress`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "cpu_stress",
    summary: "Keeps the processors of the node busy, within the CPU limit of the node.",
    example: "cpu_stress: { target: tikv1, cores: 2, percent: 95 }",
    backends: &[
        on(LOCAL, &[Way::plain("SIGSTOP and SIGCONT to the node in turns")]),
        on(DOCKER, &[Way::plain("program in the container of the node that uses CPU time")]),
    ],
    refused: "",
    repair: Repair::Verb("restart"),
    class: "cpu_exhaustion",
    holds: Some("processors"),
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "cpu_stress")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    /// Number of processors [default: 1].
    pub cores: Option<f64>,
    /// Percentage of their time [default: 100].
    pub percent: Option<RawRamped>,
}

/// Minimum difference between the response times of the affected node and of an unaffected node that proves throttling. The value assumes a
/// throttling period of 100 ms.
const TURN: Duration = Duration::from_millis(25);
/// Number of response times that are measured for one comparison.
const LOOKS: usize = 9;

/// Checks the parameters of `cpu_stress`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let cores = to.within("cores", read.cores, 0.1..=1024.0, 1.0);
    let percent = read.percent.as_ref().map(|read| to.ramped("percent", read, quantity::percent));
    let (percent, ramp) = percent.unwrap_or(Some((100.0, None)))?;
    Some(Resolution::of(CpuStress { target: to.target(&read.target)?, cores, percent, ramp }))
}

#[derive(Debug, Clone, Serialize)]
struct CpuStress {
    target: Target,
    cores: f64,
    /// Share of the time for which each CPU is busy, from 0 to 100 percent.
    percent: f64,
    ramp: Option<Ramp>,
}

impl ResolvedFault for CpuStress {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Burning { fault: self.clone(), percent: Mutex::new(self.percent), before: OnceLock::new() })
    }
}

struct Burning {
    fault: CpuStress,
    /// Current share of busy CPU time, from 0 to 100 percent; changed by a ramp.
    percent: Mutex<f64>,
    before: OnceLock<Look>,
}

/// Measurement from outside the node that shows if its CPUs are busy.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Duration of a piece of work in the node, divided by the CPU time of the work.
    Stretch(f64),
    /// Third quartile and maximum of several response times, because a single response time on a busy machine proves nothing. `beside` is
    /// the third quartile of an unaffected node, measured alternately with the affected node.
    Answers { quarter: Duration, slowest: Duration, beside: Option<Duration> },
}

impl Burning {
    fn stress(&self) -> Stress {
        let percent = *self.percent.lock().unwrap_or_else(PoisonError::into_inner);
        Stress { cores: self.fault.cores, percent, memory: 0 }
    }
}

fn answers(context: &FaultContext, quarter: Duration, slowest: Duration) -> String {
    format!("one of four answers of {} takes {} or more, the slowest {}", context.first(), ms(quarter), ms(slowest))
}

async fn look(context: &FaultContext) -> Look {
    let mut stretches = Vec::new();
    for _ in 0..LOOKS {
        match context.cluster.work(context.first()).await {
            Ok(Worked { cpu, wall }) if !cpu.is_zero() => stretches.push(wall.as_secs_f64() / cpu.as_secs_f64()),
            _ => break,
        }
    }
    stretches.sort_by(f64::total_cmp);
    if let Some(middle) = stretches.get(stretches.len() / 2) {
        return Look::Stretch(*middle);
    }
    let mut others = context.cluster.topology().nodes.iter().map(|node| node.name.clone());
    let other = others.find(|node| !context.targets.contains(node));
    let (mut took, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS * 3 {
        let began = Instant::now();
        let _ = context.cluster.answers(context.first(), PATIENT).await;
        took.push(began.elapsed());
        if let Some(other) = &other {
            let began = Instant::now();
            let _ = context.cluster.answers(other, PATIENT).await;
            beside.push(began.elapsed());
        }
    }
    took.sort_unstable();
    beside.sort_unstable();
    let quarter = |times: &[Duration]| times.get(times.len() * 3 / 4).copied();
    Look::Answers {
        quarter: quarter(&took).unwrap_or_default(),
        slowest: took.last().copied().unwrap_or_default(),
        beside: quarter(&beside),
    }
}

#[async_trait]
impl Injection for Burning {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        let look = look(context).await;
        let _ = self.before.set(look);
        Ok(match look {
            Look::Stretch(stretch) => format!("work in {} took {stretch:.2} times its processor time", context.first()),
            Look::Answers { quarter, slowest, .. } => answers(context, quarter, slowest),
        })
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        put(context, Some(self.stress())).await
    }

    async fn installed(&self, context: &FaultContext) -> FaultFinding {
        installed(context, |_| true).await
    }

    async fn hit(&self, context: &FaultContext) -> Option<FaultFinding> {
        let used = context.cluster.stress(context.first()).await.ok()?.used;
        Some(FaultFinding::new(!used.is_zero(), format!("{} used so far", ms(used))).time("used_ms", used))
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        let deadline = Instant::now() + FELT_WITHIN;
        loop {
            let found = match (self.before.get(), look(context).await) {
                (Some(Look::Stretch(before)), Look::Stretch(now)) => {
                    let detail = format!("work in {} takes {now:.2} times its processor time", context.first());
                    FaultFinding::new(now >= before * 1.1, detail).with("stretch_before", *before).with("stretch", now)
                }
                (Some(Look::Answers { quarter: before, slowest: slowest_before, .. }), Look::Answers { quarter, slowest, beside }) => {
                    let longer = |now: Duration, before: Duration| now >= before * 2 && now >= Duration::from_millis(10);
                    // On a busy machine the delay from before the fault, doubled, may exceed one throttling period. However, such a delay
                    // also affects the responses of the unaffected node.
                    let apart = beside.is_some_and(|beside| quarter >= beside + TURN);
                    let ok = longer(quarter, *before) || longer(slowest, *slowest_before) || apart;
                    let found = FaultFinding::new(ok, answers(context, quarter, slowest)).time("quarter_before_ms", *before);
                    let found = found.time("quarter_ms", quarter).time("slowest_before_ms", *slowest_before).time("slowest_ms", slowest);
                    beside.map_or(found.clone(), |beside| found.time("quarter_beside_ms", beside))
                }
                _ => FaultFinding::no(format!("the load of {} cannot be measured in the same way as before the fault", context.first())),
            };
            if found.ok || Instant::now() > deadline {
                return found;
            }
        }
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        put(context, None).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        gone(context).await
    }

    async fn intact(&self, context: &FaultContext) -> Option<FaultFinding> {
        intact(context).await
    }

    fn ramp(&self) -> Option<Ramp> {
        self.fault.ramp
    }

    async fn step(&self, context: &FaultContext, value: f64) -> Result<(), ClusterError> {
        *self.percent.lock().unwrap_or_else(PoisonError::into_inner) = value;
        self.inject(context).await
    }
}
