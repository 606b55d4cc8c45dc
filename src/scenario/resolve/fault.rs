//! `inject:`: what is done, and whether this cluster on this backend can be done it to.

use std::time::Duration;

use super::{Checker, link, quantity, target, unknown};
use crate::chaos::catalogue;
use crate::cluster::harm::{DiskOperation, Shape};
use crate::diagnostic::{Diagnostic, Pointer};
use crate::expr::{Scope, Template};
use crate::plan::target::candidates;
use crate::scenario::document::Document;
use crate::scenario::model::{
    Backend, Change, Cluster, DiskAmount, Fault, Heal, LinkKind, MemoryAmount, Node, Ramp, Request, Signal, Target,
};
use crate::scenario::names;
use crate::scenario::raw::{
    RawAmount, RawConfigChange, RawDiskPressure, RawDiskSlow, RawExec, RawFault, RawHttpFault, RawMemoryStress, RawProcessArgs, RawRamp,
    RawRamped, RawRequest, RawTarget, Short, Text,
};

/// Where a fault is to be.
pub struct Ground<'a> {
    pub cluster: &'a Cluster,
    /// The cluster's file: it tells which names it has even if they could not be resolved.
    pub doc: &'a Document,
    pub backend: Backend,
}

/// The fault, and what an agent could run to repair it, where the file says so.
pub(super) fn fault(
    check: &mut Checker,
    pointer: &Pointer,
    raw: &RawFault,
    heal: Heal,
    ground: &Ground,
) -> Option<(Fault, Option<Template>)> {
    let mut repair = None;
    let fault = one(check, pointer, raw, heal, ground, &mut repair)?;
    let at = pointer.key(fault.name());
    here(check, &at, &fault, ground);
    Some((fault, repair))
}

fn one(
    check: &mut Checker,
    pointer: &Pointer,
    raw: &RawFault,
    heal: Heal,
    ground: &Ground,
    repair: &mut Option<Template>,
) -> Option<Fault> {
    let within = |name: &str| pointer.key(name);
    let target = |check: &mut Checker, name: &str, raw: &Short<RawTarget>| {
        target::target(check, &pointer.key(name).key("target"), raw, ground.cluster, ground.doc)
    };
    Some(match raw {
        RawFault::NodeKill(raw) => {
            let signal = signal(check, &within("node_kill").key("signal"), raw.signal.as_deref());
            Fault::NodeKill { target: target(check, "node_kill", &raw.target)?, signal }
        }
        RawFault::NodeStop(raw) => {
            let grace = check.duration(&within("node_stop").key("grace"), raw.grace.as_ref(), Duration::from_secs(10));
            Fault::NodeStop { target: target(check, "node_stop", &raw.target)?, grace }
        }
        RawFault::NodeRestart(raw) => {
            let at = within("node_restart");
            let grace = check.duration(&at.key("grace"), raw.grace.as_ref(), Duration::from_secs(10));
            let every = check.duration(&at.key("every"), raw.every.as_ref(), Duration::from_secs(5));
            let backoff = check.within(&at.key("backoff"), raw.backoff, 1.0..=10.0, 1.0);
            let times = whole(check, &at.key("times"), raw.times, 1..=1000, 1);
            Fault::NodeRestart { target: target(check, "node_restart", &raw.target)?, times, every, backoff, grace }
        }
        RawFault::NodePause(raw) => Fault::NodePause { target: target(check, "node_pause", &raw.target)? },
        RawFault::CrashLoop(raw) => {
            let after = check.duration(&within("crash_loop").key("after"), raw.after.as_ref(), Duration::from_secs(1));
            Fault::CrashLoop { target: target(check, "crash_loop", &raw.target)?, after }
        }
        RawFault::Latency(raw) => link::latency(check, &within("latency"), raw, ground)?,
        RawFault::PacketLoss(raw) => link::packet_loss(check, &within("packet_loss"), raw, ground)?,
        RawFault::Duplicate(raw) => share(check, &within("duplicate"), LinkKind::Duplicate, &raw.percent, &raw.ends(), ground)?,
        RawFault::Corrupt(raw) => share(check, &within("corrupt"), LinkKind::Corrupt, &raw.percent, &raw.ends(), ground)?,
        RawFault::Reorder(raw) => link::reorder(check, &within("reorder"), raw, ground)?,
        RawFault::Bandwidth(raw) => link::bandwidth(check, &within("bandwidth"), raw, ground)?,
        RawFault::ConnectionReset(raw) => link::connection_reset(check, &within("connection_reset"), raw, ground)?,
        RawFault::NetworkPartition(raw) => link::partition(check, &within("network_partition"), raw, ground)?,
        RawFault::DiskPressure(raw) => {
            let target = target(check, "disk_pressure", &raw.target);
            let (amount, ramp) = disk_amount(check, &within("disk_pressure"), raw)?;
            let file = raw.file.clone().unwrap_or_else(|| "backup.tar".to_owned());
            if file.is_empty() || file.contains('/') {
                let problem = Diagnostic::error("bad_name", format!("`{file}` is not the name of a file"));
                check.wrong(&within("disk_pressure").key("file"), problem.label("expected a name without `/`"));
            }
            Fault::DiskPressure { target: target?, amount, ramp, file }
        }
        RawFault::DiskSlow(raw) => {
            let target = target(check, "disk_slow", &raw.target);
            disk_slow(check, &within("disk_slow"), raw, target)?
        }
        RawFault::DiskError(raw) => {
            let at = within("disk_error");
            let share = amount(check, &at.key("percent"), raw.percent.as_ref(), quantity::percent).unwrap_or(100.0) / 100.0;
            let operations = match raw.operations.0.as_slice() {
                [] => vec![DiskOperation::Read, DiskOperation::Write, DiskOperation::Sync],
                named => named.to_vec(),
            };
            Fault::DiskError { target: target(check, "disk_error", &raw.target)?, share, errno: raw.errno.unwrap_or_default(), operations }
        }
        RawFault::LostUnsyncedWrites(raw) => Fault::LostUnsyncedWrites { target: target(check, "lost_unsynced_writes", &raw.target)? },
        RawFault::ClockSkew(raw) => {
            let at = within("clock_skew").key("offset");
            let offset_us = quantity::offset(&raw.offset.0);
            if let Err(help) = &offset_us {
                let problem = Diagnostic::error("bad_duration", format!("`{}` is not an offset", raw.offset.0));
                check.wrong(&at, problem.label("expected a duration such as `5m`, or `-30s`").help(help.clone()));
            }
            Fault::ClockSkew { target: target(check, "clock_skew", &raw.target)?, offset_us: offset_us.ok()? }
        }
        RawFault::ClockRate(raw) => {
            let rate = check.within(&within("clock_rate").key("rate"), Some(raw.rate), 0.01..=100.0, 1.0);
            Fault::ClockRate { target: target(check, "clock_rate", &raw.target)?, rate }
        }
        RawFault::CpuStress(raw) => {
            let at = within("cpu_stress");
            let cores = check.within(&at.key("cores"), raw.cores, 0.1..=1024.0, 1.0);
            let percent = raw.percent.as_ref().map(|raw| ramped(check, &at.key("percent"), raw, quantity::percent));
            let (percent, ramp) = percent.unwrap_or(Some((100.0, None)))?;
            Fault::CpuStress { target: target(check, "cpu_stress", &raw.target)?, cores, percent, ramp }
        }
        RawFault::MemoryStress(raw) => {
            let target = target(check, "memory_stress", &raw.target)?;
            let amount = memory_amount(check, &within("memory_stress"), raw, &target, ground)?;
            Fault::MemoryStress { target, amount }
        }
        RawFault::ConfigChange(raw) => {
            let target = target(check, "config_change", &raw.target);
            config_change(check, &within("config_change"), raw, target?, ground)?
        }
        RawFault::EnvChange(raw) => {
            let at = within("env_change").key("env");
            let env = raw.env.iter().map(|(name, text)| match text {
                None => Some((name.clone(), None)),
                Some(text) => Some((name.clone(), Some(check.template(&at.key(name.as_str()), text, Scope::Node, &[])?))),
            });
            let env = env.collect::<Option<_>>();
            Fault::EnvChange { target: target(check, "env_change", &raw.target)?, env: env? }
        }
        RawFault::ProcessArgs(raw) => {
            let target = target(check, "process_args", &raw.target);
            process_args(check, &within("process_args"), raw, target?)?
        }
        RawFault::Exec(raw) => {
            let target = target(check, "exec", &raw.target);
            *repair = command_line(check, &within("exec").key("repair"), raw.repair.as_ref());
            exec(check, &within("exec"), raw, target?, heal, ground)?
        }
        RawFault::Http(raw) => {
            let target = target(check, "http", &raw.target);
            *repair = command_line(check, &within("http").key("repair"), raw.repair.as_ref());
            http(check, &within("http"), raw, target?, heal, ground)?
        }
    })
}

/// Whether the backend and the nodes can be done this to.
fn here(check: &mut Checker, pointer: &Pointer, fault: &Fault, ground: &Ground) {
    let kind = catalogue::of(fault);
    if kind.ways(ground.backend).is_empty() {
        let other = match ground.backend {
            Backend::Local => Backend::Docker,
            Backend::Docker => Backend::Local,
        };
        let backend = ground.backend.as_str();
        let message = format!("`{}` cannot be made felt on `{backend}`: {}", kind.name, kind.refused);
        let problem = Diagnostic::error("fault_not_here", message).label(format!("not on `{backend}`"));
        let can = format!("`--backend {0}` can, or `backend: {0}` in the scenario", other.as_str());
        check.wrong_key(pointer, if kind.ways(other).is_empty() { problem } else { problem.help(can) });
        return;
    }
    let possible = |target: &Target| -> Vec<&Node> {
        let names = candidates(target, ground.cluster);
        ground.cluster.nodes.iter().filter(|node| names.as_ref().is_none_or(|names| names.contains(&node.name))).collect()
    };
    if let Fault::DiskPressure { target, .. } = fault {
        // Of a `select` it is known only when it is injected.
        let named = candidates(target, ground.cluster).is_some();
        let nodes = possible(target);
        if let Some(node) = nodes.iter().find(|node| named && node.disk.is_none()) {
            let problem = Diagnostic::error("no_disk", format!("{} has no disk of its own", node.name));
            let help = format!("give the role `{}` a size in the cluster file: `disk: 512MiB`", node.role);
            check.wrong_key(pointer, problem.label("expected a node with `disk:`").help(help));
        } else if let Some(node) = nodes.iter().find(|node| ground.backend == Backend::Local && named && !is_ours(node)) {
            let message =
                format!("{}'s program would get no ENOSPC on `local`: its data directory is a part of this machine's disk", node.name);
            let problem = Diagnostic::error("fault_not_here", message).label("not on `local`, for this program");
            check.wrong_key(pointer, problem.help("`--backend docker` gives the node a disk of its own"));
        }
    }
}

/// Stand-ins keep to their `disk`.
fn is_ours(node: &Node) -> bool {
    node.command.first().is_some_and(|word| word.text == "chaosrun")
}

pub(super) fn amount(
    check: &mut Checker,
    pointer: &Pointer,
    raw: Option<&RawAmount>,
    parse: fn(&str) -> Result<f64, String>,
) -> Option<f64> {
    let raw = raw?;
    match parse(&raw.0) {
        Ok(value) => Some(value),
        Err(expected) => {
            check.wrong(pointer, Diagnostic::error("out_of_range", format!("`{}` cannot be", raw.0)).label(expected));
            None
        }
    }
}

/// The first value, and the ramp if it is one.
pub(super) fn ramped(
    check: &mut Checker,
    pointer: &Pointer,
    raw: &RawRamped,
    parse: fn(&str) -> Result<f64, String>,
) -> Option<(f64, Option<Ramp>)> {
    match raw {
        RawRamped::Constant(text) => Some((amount(check, pointer, Some(&RawAmount(text.clone())), parse)?, None)),
        RawRamped::Ramp(RawRamp { from, to, steps, over }) => {
            let from = amount(check, &pointer.key("from"), Some(from), parse);
            let to = amount(check, &pointer.key("to"), Some(to), parse);
            let steps = whole(check, &pointer.key("steps"), *steps, 2..=1000, 10);
            let over = check.maybe_duration(&pointer.key("over"), Some(over));
            let from = from?;
            Some((from, Some(Ramp { from, to: to?, steps, over: over? })))
        }
    }
}

fn whole(check: &mut Checker, pointer: &Pointer, value: Option<u32>, range: std::ops::RangeInclusive<u32>, default: u32) -> u32 {
    match value {
        None => default,
        Some(value) if range.contains(&value) => value,
        Some(value) => {
            let expected = format!("expected a number from {} to {}", range.start(), range.end());
            check.wrong(pointer, Diagnostic::error("out_of_range", format!("`{value}` is out of range")).label(expected));
            default
        }
    }
}

fn share(
    check: &mut Checker,
    pointer: &Pointer,
    kind: LinkKind,
    raw: &RawAmount,
    ends: &crate::scenario::raw::Ends,
    ground: &Ground,
) -> Option<Fault> {
    let share = amount(check, &pointer.key("percent"), Some(raw), quantity::percent)? / 100.0;
    link::link(check, pointer, kind, ends, kind.with(Shape::default(), share), None, ground)
}

fn disk_amount(check: &mut Checker, pointer: &Pointer, raw: &RawDiskPressure) -> Option<(DiskAmount, Option<Ramp>)> {
    #[expect(clippy::cast_precision_loss, reason = "no disk is that large")]
    let bytes = |text: &str| {
        let bytes = quantity::size(text).map(|bytes| bytes as f64);
        bytes.ok_or_else(|| "expected a size such as `512MiB`".to_owned())
    };
    let given = [("percent", raw.percent.is_some()), ("size", raw.size.is_some()), ("leave_free", raw.leave_free.is_some())];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if given.len() > 1 {
        let problem = Diagnostic::error("bad_amount", format!("{} at once", names::listed(given)));
        check.wrong_key(pointer, problem.label("expected one of `percent`, `size`, `leave_free`"));
        return None;
    }
    if let Some(raw) = &raw.size {
        let (size, ramp) = ramped(check, &pointer.key("size"), raw, bytes)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it came from a whole number of bytes")]
        return Some((DiskAmount::Size(size as u64), ramp));
    }
    if raw.leave_free.is_some() {
        return Some((DiskAmount::LeaveFree(check.size(&pointer.key("leave_free"), raw.leave_free.as_ref())?), None));
    }
    let Some(raw) = &raw.percent else { return Some((DiskAmount::Percent(95.0), None)) };
    let (percent, ramp) = ramped(check, &pointer.key("percent"), raw, quantity::percent)?;
    Some((DiskAmount::Percent(percent), ramp))
}

fn disk_slow(check: &mut Checker, pointer: &Pointer, raw: &RawDiskSlow, target: Option<Target>) -> Option<Fault> {
    let mut time = |name: &str, raw| check.duration(&pointer.key(name), raw, Duration::ZERO);
    let (read, write, sync) = (time("read", raw.read.as_ref()), time("write", raw.write.as_ref()), time("sync", raw.sync.as_ref()));
    if read.is_zero() && write.is_zero() && sync.is_zero() {
        let problem = Diagnostic::error("no_effect", "nothing is slower").label("expected `read:`, `write:` or `sync:` in this map");
        check.wrong_key(pointer, problem.help("`sync: 50ms` is added to each sync"));
    }
    Some(Fault::DiskSlow { target: target?, read, write, sync })
}

fn memory_amount(check: &mut Checker, pointer: &Pointer, raw: &RawMemoryStress, target: &Target, ground: &Ground) -> Option<MemoryAmount> {
    match (&raw.size, &raw.percent) {
        (Some(_), None) => Some(MemoryAmount::Size(check.size(&pointer.key("size"), raw.size.as_ref())?)),
        (None, Some(_)) => {
            let percent = amount(check, &pointer.key("percent"), raw.percent.as_ref(), quantity::percent)?;
            let names = candidates(target, ground.cluster).unwrap_or_default();
            let unlimited = ground.cluster.nodes.iter().find(|node| names.contains(&node.name) && node.memory.is_none());
            if let Some(node) = unlimited.filter(|_| ground.backend == Backend::Docker) {
                let problem = Diagnostic::error("no_limit", format!("{} has no limit of memory", node.name));
                let help = "give the role a limit in the cluster file (`memory: 1GiB`), or say `size:`";
                check.wrong(&pointer.key("percent"), problem.label("a percentage of what?").help(help));
            }
            Some(MemoryAmount::Percent(percent))
        }
        _ => {
            let problem = Diagnostic::error("bad_amount", "how much memory?").label("expected exactly one of `size`, `percent`");
            check.wrong_key(pointer, problem);
            None
        }
    }
}

fn config_change(check: &mut Checker, pointer: &Pointer, raw: &RawConfigChange, target: Target, ground: &Ground) -> Option<Fault> {
    let names = candidates(&target, ground.cluster);
    let hit = ground.cluster.nodes.iter().filter(|node| names.as_ref().is_none_or(|names| names.contains(&node.name)));
    if let Some(node) = hit.clone().find(|node| names.is_some() && !node.files.contains_key(&raw.file)) {
        let known: Vec<&str> = node.files.keys().map(String::as_str).collect();
        let problem = unknown("unknown_file", &format!("file of {}", node.name), &raw.file, known.iter().copied());
        check.wrong(&pointer.key("file"), problem);
        return None;
    }
    let change = match (&raw.content, &raw.append, &raw.replace) {
        (Some(text), None, None) => Change::Content(check.template(&pointer.key("content"), text, Scope::Node, &[])?),
        (None, Some(text), None) => Change::Append(check.template(&pointer.key("append"), text, Scope::Node, &[])?),
        (None, None, Some(replace)) => {
            let at = pointer.key("replace");
            check.pattern(&at.key("pattern"), &replace.pattern);
            Change::Replace { pattern: replace.pattern.clone(), with: check.template(&at.key("with"), &replace.with, Scope::Node, &[])? }
        }
        _ => {
            let problem = Diagnostic::error("bad_change", "what becomes of the file?");
            check.wrong_key(pointer, problem.label("expected exactly one of `content`, `append`, `replace`"));
            return None;
        }
    };
    Some(Fault::ConfigChange { target, file: raw.file.clone(), change, restart: raw.restart.unwrap_or(true) })
}

fn process_args(check: &mut Checker, pointer: &Pointer, raw: &RawProcessArgs, target: Target) -> Option<Fault> {
    if raw.add.is_empty() && raw.remove.is_empty() {
        let problem = Diagnostic::error("no_effect", "no argument is changed").label("expected `add:` or `remove:` in this map");
        check.wrong_key(pointer, problem);
    }
    let add = check.templates(&pointer.key("add"), &raw.add, Scope::Node, &[]);
    let remove = check.templates(&pointer.key("remove"), &raw.remove, Scope::Node, &[]);
    Some(Fault::ProcessArgs { target, add, remove })
}

fn command_line(check: &mut Checker, pointer: &Pointer, raw: Option<&Text>) -> Option<Template> {
    raw.and_then(|text| check.template(pointer, text, Scope::Agent, &[]))
}

/// Names that a condition over the observations may use.
fn observed(ground: &Ground) -> Vec<String> {
    ground.doc.keys("observe").into_iter().chain(ground.doc.keys("let")).collect()
}

fn needs_undo(check: &mut Checker, pointer: &Pointer, there: bool, heal: Heal, example: &str) {
    if !there && matches!(heal, Heal::After(_)) {
        let problem = Diagnostic::error("no_undo", "this fault has an end, and no `undo`");
        check.wrong_key(pointer, problem.label(format!("expected `undo: {example}` in this map")));
    }
}

fn exec(check: &mut Checker, pointer: &Pointer, raw: &RawExec, target: Target, heal: Heal, ground: &Ground) -> Option<Fault> {
    if raw.command.is_empty() {
        let problem = Diagnostic::error("no_command", "the fault has no command").label("expected a program");
        check.wrong(&pointer.key("command"), problem);
    }
    needs_undo(check, pointer, !raw.undo.is_empty(), heal, "[PROGRAM, ARGUMENT, ...]");
    let felt = check.maybe_expr(&pointer.key("felt"), raw.felt.as_ref(), Scope::Observations, &observed(ground));
    let command = check.templates(&pointer.key("command"), &raw.command, Scope::Node, &[]);
    let undo = check.templates(&pointer.key("undo"), &raw.undo, Scope::Node, &[]);
    Some(Fault::Exec { target, command, undo, felt: felt.map(Box::new) })
}

fn http(check: &mut Checker, pointer: &Pointer, raw: &RawHttpFault, target: Target, heal: Heal, ground: &Ground) -> Option<Fault> {
    needs_undo(check, pointer, raw.undo.is_some(), heal, "http://...");
    let felt = check.maybe_expr(&pointer.key("felt"), raw.felt.as_ref(), Scope::Observations, &observed(ground));
    let request = request(check, &pointer.key("request"), &raw.request);
    let undo = match &raw.undo {
        None => None,
        Some(undo) => Some(Box::new(self::request(check, &pointer.key("undo"), undo)?)),
    };
    Some(Fault::Http { target, request: request?, undo, felt: felt.map(Box::new) })
}

fn request(check: &mut Checker, pointer: &Pointer, raw: &Short<RawRequest>) -> Option<Request> {
    let raw = match raw {
        Short::Word(url) => {
            let url = check.template(pointer, &Text(url.clone()), Scope::Probe, &[])?;
            return Some(Request { method: "POST".into(), url, headers: indexmap::IndexMap::new(), body: None, expect: None });
        }
        Short::Full(raw) => raw,
    };
    let method = super::probe::method(check, &pointer.key("method"), Some(raw.method.as_deref().unwrap_or("POST")));
    let url = check.template(&pointer.key("url"), &raw.url, Scope::Probe, &[]);
    let headers = check.template_map(&pointer.key("headers"), &raw.headers, Scope::Probe, &[]);
    let body = raw.body.as_ref().and_then(|body| check.template(&pointer.key("body"), body, Scope::Probe, &[]));
    let expect = check.maybe_expr(&pointer.key("expect"), raw.expect.as_ref(), Scope::Response, &[]);
    Some(Request { method, url: url?, headers, body, expect })
}

fn signal(check: &mut Checker, pointer: &Pointer, raw: Option<&str>) -> Signal {
    const SIGNALS: [(&str, Signal); 7] = [
        ("SIGKILL", Signal::Sigkill),
        ("SIGTERM", Signal::Sigterm),
        ("SIGINT", Signal::Sigint),
        ("SIGQUIT", Signal::Sigquit),
        ("SIGABRT", Signal::Sigabrt),
        ("SIGSEGV", Signal::Sigsegv),
        ("SIGHUP", Signal::Sighup),
    ];
    let Some(name) = raw else { return Signal::Sigkill };
    let whole = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    if let Some((_, signal)) = SIGNALS.iter().find(|(known, _)| *known == whole) {
        return *signal;
    }
    check.unknown(pointer, "bad_signal", "signal", name, SIGNALS.iter().map(|(name, _)| *name));
    Signal::Sigkill
}
