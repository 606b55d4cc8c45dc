//! Resolution of probes: the requests that they send, and the nodes on which they run.

use std::time::Duration;

use super::Checker;
use crate::model::{On, Probe, Ready};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Scope;
use chaosrun_input::names;
use chaosrun_probe::{OBSERVABLE, ProbeSpec, READY, RawProbe, RawReady, WorkloadProbe};

pub(super) fn probe(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawProbe, tick: Duration, roles: &[&str]) -> Option<Probe> {
    let on = on(check, &pointer.key("on"), &raw.on, roles);
    let timeout = check.duration(&pointer.key("timeout"), raw.timeout.as_ref(), Duration::from_secs(1)).max(Duration::from_millis(1));
    let every = check.duration(&pointer.key("every"), raw.every.as_ref(), Duration::ZERO);
    // The result becomes stale only after three missing answers.
    let stale = check.duration(&pointer.key("stale_after"), raw.stale_after.as_ref(), every.max(tick) * 3 + timeout);
    let kind = kind(check, pointer, raw, on.as_ref());
    Some(Probe { name: name.to_owned(), on: on?, kind: kind?, timeout, every, stale_after: stale, place: check.place(pointer) })
}

/// Parses the place of a probe: `each ROLE`, `any ROLE`, `workload` or `tools`.
pub(super) fn on(check: &mut Checker, pointer: &Pointer, text: &str, roles: &[&str]) -> Option<On> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let on = match words.as_slice() {
        ["workload"] => return Some(On::Workload),
        ["tools"] => return Some(On::Tools),
        ["each", role] => On::Each((*role).to_owned()),
        ["any", role] => On::Any((*role).to_owned()),
        _ => {
            let mut problem = Diagnostic::error("unknown_word", format!("`{text}` is not a valid source"));
            problem = problem.label("expected `each ROLE`, `any ROLE`, `workload` or `tools`");
            let first = words.first().copied().unwrap_or_default();
            if roles.contains(&first) {
                problem = problem.help(format!("`each {first}` queries every node, `any {first}` the first node that answers"));
            } else if let Some(near) = names::closest(first, ["each", "any", "workload", "tools"]) {
                problem = problem.help(format!("did you mean `{near}`?"));
            }
            check.wrong(pointer, problem);
            return None;
        }
    };
    let (On::Each(role) | On::Any(role)) = &on else { return Some(on) };
    if !roles.contains(&role.as_str()) {
        if !check.doc.lost("nodes") {
            check.unknown(pointer, "unknown_role", "role", role, roles.iter().copied());
        }
        return None;
    }
    Some(on)
}

/// Parses `each ROLE`, for data such as logs that is read on every node of a role.
pub(super) fn each_role(check: &mut Checker, pointer: &Pointer, text: &str, roles: &[&str]) -> Option<String> {
    let on = on(check, pointer, text, roles)?;
    if let On::Each(role) = on {
        return Some(role);
    }
    let problem = Diagnostic::error("unknown_word", format!("`{text}` does not name the logs of a role"));
    check.wrong(pointer, problem.label("expected `each ROLE`"));
    None
}

fn kind(check: &mut Checker, pointer: &Pointer, raw: &RawProbe, on: Option<&On>) -> Option<ProbeSpec> {
    let given = raw.given();
    if on == Some(&On::Workload) {
        if let Some(extra) = given.first() {
            let problem = Diagnostic::error(
                "bad_probe",
                format!("`on: workload` returns the figures of the workload and cannot be combined with `{extra}`"),
            );
            check.wrong_key(&pointer.key(*extra), problem.label("remove this key, or observe nodes"));
        }
        let window = check.duration(&pointer.key("window"), raw.window.as_ref(), Duration::from_secs(10));
        return Some(ProbeSpec::new("workload", WorkloadProbe { window }));
    }
    one_kind(check, pointer, &given, OBSERVABLE)?;
    let kind = raw.read(pointer, check)?;
    if on == Some(&On::Tools) && kind.needs_node() {
        let problem = Diagnostic::error("bad_probe", format!("`{}` needs a node, but `on: tools` has no node", kind.name));
        check.wrong_key(&pointer.key(kind.name), problem.help("write `on: each ROLE`"));
    }
    Some(kind)
}

fn one_kind(check: &mut Checker, pointer: &Pointer, given: &[&str], known: &[&str]) -> Option<()> {
    match given {
        [_] => Some(()),
        [] => {
            check.wrong_key(
                pointer,
                Diagnostic::error("bad_probe", "the probe has no source").label(format!("expected one of {}", known.join(", "))),
            );
            None
        }
        [_, second, ..] => {
            let problem = Diagnostic::error("bad_probe", format!("{} are set at the same time", names::listed(given.iter().copied())));
            check.wrong_key(
                &pointer.key(*second),
                problem.label("expected only one of them").help("split it into two entries with different names"),
            );
            None
        }
    }
}

/// Resolves the readiness condition of a node.
pub(super) fn ready(check: &mut Checker, pointer: &Pointer, raw: &RawReady) -> Option<Ready> {
    let within = check.duration(&pointer.key("within"), raw.within.as_ref(), Duration::from_secs(30));
    one_kind(check, pointer, &raw.given(), READY)?;
    let probe = raw.read(pointer, check)?;
    let expect = match &raw.expect {
        Some(text) => check.expr(&pointer.key("expect"), text, Scope::Response, &[]),
        None => check.own_expr(probe.ready_when(), Scope::Response),
    };
    Some(Ready { probe, expect: expect?, within })
}
