//! Probes: what to look at, and on which nodes.

use std::time::Duration;

use super::Checker;
use crate::diagnostic::{Diagnostic, Pointer};
use crate::expr::Scope;
use crate::observe::metrics::query::Query;
use crate::scenario::model::{On, Probe, ProbeKind, Ready, SkipPlace};
use crate::scenario::names;
use crate::scenario::raw::{RawDuration, RawHttp, RawProbe, RawReady, RawRedis, Short};

pub(super) fn probe(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawProbe, tick: Duration, roles: &[&str]) -> Option<Probe> {
    let on = on(check, &pointer.key("on"), &raw.on, roles);
    let timeout = check.duration(&pointer.key("timeout"), raw.timeout.as_ref(), Duration::from_secs(1)).max(Duration::from_millis(1));
    let every = check.duration(&pointer.key("every"), raw.every.as_ref(), Duration::ZERO);
    // Three answers may be missing before the last one counts as old.
    let stale = check.duration(&pointer.key("stale_after"), raw.stale_after.as_ref(), every.max(tick) * 3 + timeout);
    let kind = kind(check, pointer, raw, on.as_ref());
    Some(Probe { name: name.to_owned(), on: on?, kind: kind?, timeout, every, stale_after: stale, place: check.place(pointer) })
}

/// `each tikv`, `any pd`, `workload`, `tools`.
pub(super) fn on(check: &mut Checker, pointer: &Pointer, text: &str, roles: &[&str]) -> Option<On> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let on = match words.as_slice() {
        ["workload"] => return Some(On::Workload),
        ["tools"] => return Some(On::Tools),
        ["each", role] => On::Each((*role).to_owned()),
        ["any", role] => On::Any((*role).to_owned()),
        _ => {
            let mut problem = Diagnostic::error("unknown_word", format!("`{text}` does not say where to look"));
            problem = problem.label("expected `each ROLE`, `any ROLE`, `workload` or `tools`");
            let first = words.first().copied().unwrap_or_default();
            if roles.contains(&first) {
                problem = problem.help(format!("`each {first}` asks every node, `any {first}` the first that answers"));
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

/// For what is read on every node of a role: logs.
pub(super) fn each_role(check: &mut Checker, pointer: &Pointer, text: &str, roles: &[&str]) -> Option<String> {
    let on = on(check, pointer, text, roles)?;
    if let On::Each(role) = on {
        return Some(role);
    }
    let problem = Diagnostic::error("unknown_word", format!("`{text}` does not name a role's logs"));
    check.wrong(pointer, problem.label("expected `each ROLE`"));
    None
}

fn kind(check: &mut Checker, pointer: &Pointer, raw: &RawProbe, on: Option<&On>) -> Option<ProbeKind> {
    let given = [
        ("alive", raw.alive.is_some()),
        ("http", raw.http.is_some()),
        ("metrics", raw.metrics.is_some()),
        ("promql", raw.promql.is_some()),
        ("redis", raw.redis.is_some()),
        ("tcp", raw.tcp.is_some()),
        ("exec", raw.exec.is_some()),
        ("log", raw.log.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    let window = |check: &mut Checker| check.duration(&pointer.key("window"), raw.window.as_ref(), Duration::from_secs(10));
    if on == Some(&On::Workload) {
        if let Some(extra) = given.first() {
            let problem = Diagnostic::error(
                "bad_probe",
                format!("`on: workload` gives the workload's own figures, `{extra}` asks for something else"),
            );
            check.wrong_key(&pointer.key(*extra), problem.label("take this out, or look at nodes"));
        }
        return Some(ProbeKind::Workload { window: window(check) });
    }
    one_kind(check, pointer, &given, "alive, http, metrics, promql, redis, tcp, exec, log")?;
    if raw.window.is_some() && given != ["log"] {
        let problem = Diagnostic::error("bad_probe", "`window` belongs to `log` and to `on: workload`");
        check.wrong_key(
            &pointer.key("window"),
            problem.label("has no meaning here").help("a metric's window stands in `expr`: `rate(NAME, 10s)`"),
        );
    }
    if raw.expr.is_some() != raw.metrics.is_some() {
        let (there, missing) = if raw.expr.is_some() { ("expr", "metrics") } else { ("metrics", "expr") };
        let problem = Diagnostic::error("bad_probe", format!("`{there}` needs `{missing}`"));
        check.wrong_key(
            &pointer.key(there),
            problem.help("`metrics` is the address, `expr` the question: `quantile(0.99, rate(NAME, 10s))`"),
        );
    }
    if on == Some(&On::Tools) && (raw.alive.is_some() || raw.log.is_some()) {
        let problem = Diagnostic::error("bad_probe", format!("`{}` is about a node, `on: tools` has none", given[0]));
        check.wrong_key(&pointer.key(given[0]), problem.help("write `on: each ROLE`"));
    }
    let scope = Scope::Probe;
    if raw.alive.is_some() {
        if raw.alive == Some(false) {
            check.wrong(&pointer.key("alive"), Diagnostic::error("bad_probe", "`alive: false` asks nothing").label("expected `true`"));
        }
        return Some(ProbeKind::Alive);
    }
    if let Some(http) = &raw.http {
        return self::http(check, &pointer.key("http"), http);
    }
    if let (Some(url), Some(expr)) = (&raw.metrics, &raw.expr) {
        let place = SkipPlace(check.place(&pointer.key("expr")));
        if let Err(wrong) = Query::parse(expr) {
            let mut problem = Diagnostic::error("bad_query", wrong.message).at(place.0.within(wrong.at));
            problem.help = wrong.help;
            check.problems.push(problem);
        }
        let url = check.template(&pointer.key("metrics"), url, scope, &[])?;
        return Some(ProbeKind::Metrics { url, expr: expr.clone(), place });
    }
    if let Some(promql) = &raw.promql {
        let at = pointer.key("promql");
        let range = promql.range.as_ref().map(|range| check.duration(&at.key("range"), Some(range), Duration::ZERO));
        let tenth = range.map_or(Duration::ZERO, |range| (range / 10).max(Duration::from_secs(1)));
        let step = check.duration(&at.key("step"), promql.step.as_ref(), tenth);
        let place = SkipPlace(check.place(&at.key("query")));
        let url = check.template(&at.key("url"), &promql.url, scope, &[])?;
        return Some(ProbeKind::Promql { url, query: check.template(&at.key("query"), &promql.query, scope, &[])?, range, step, place });
    }
    if let Some(redis) = &raw.redis {
        return self::redis(check, &pointer.key("redis"), redis);
    }
    if let Some(address) = &raw.tcp {
        return Some(ProbeKind::Tcp { address: check.template(&pointer.key("tcp"), address, scope, &[])? });
    }
    if let Some(command) = &raw.exec {
        return Some(ProbeKind::Exec { command: check.templates(&pointer.key("exec"), command, scope, &[]) });
    }
    if let Some(pattern) = &raw.log {
        check.pattern(&pointer.key("log"), pattern);
        return Some(ProbeKind::Log { pattern: pattern.clone(), window: window(check) });
    }
    None
}

fn one_kind(check: &mut Checker, pointer: &Pointer, given: &[&str], known: &str) -> Option<()> {
    match given {
        [_] => Some(()),
        [] => {
            check.wrong_key(pointer, Diagnostic::error("bad_probe", "nothing to look at").label(format!("expected one of {known}")));
            None
        }
        [_, second, ..] => {
            let problem = Diagnostic::error("bad_probe", format!("{} at once", names::listed(given.iter().copied())));
            check.wrong_key(
                &pointer.key(*second),
                problem.label("expected only one of them").help("make two of it, each with its own name"),
            );
            None
        }
    }
}

fn http(check: &mut Checker, pointer: &Pointer, raw: &Short<RawHttp>) -> Option<ProbeKind> {
    let scope = Scope::Probe;
    match raw {
        Short::Word(url) => {
            let url = check.template(pointer, &crate::scenario::raw::Text(url.clone()), scope, &[])?;
            Some(ProbeKind::Http { method: "GET".to_owned(), url, headers: indexmap::IndexMap::new(), body: None })
        }
        Short::Full(raw) => {
            let method = self::method(check, &pointer.key("method"), raw.method.as_deref());
            let headers = check.template_map(&pointer.key("headers"), &raw.headers, scope, &[]);
            let body = raw.body.as_ref().and_then(|body| check.template(&pointer.key("body"), body, scope, &[]));
            Some(ProbeKind::Http { method, url: check.template(&pointer.key("url"), &raw.url, scope, &[])?, headers, body })
        }
    }
}

fn redis(check: &mut Checker, pointer: &Pointer, raw: &RawRedis) -> Option<ProbeKind> {
    if raw.command.is_empty() {
        let problem = Diagnostic::error("no_command", "the probe has no command").label("expected a command such as `[PING]`");
        check.wrong(&pointer.key("command"), problem);
    }
    let command = check.templates(&pointer.key("command"), &raw.command, Scope::Probe, &[]);
    Some(ProbeKind::Redis { address: check.template(&pointer.key("address"), &raw.address, Scope::Probe, &[])?, command })
}

/// The HTTP method; GET where none is given.
pub(super) fn method(check: &mut Checker, pointer: &Pointer, raw: Option<&str>) -> String {
    const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    let Some(method) = raw else { return "GET".to_owned() };
    if !METHODS.contains(&method) {
        let upper = method.to_uppercase();
        let problem = super::unknown("unknown_word", "method", method, METHODS);
        check.wrong(pointer, if METHODS.contains(&upper.as_str()) { problem.label(format!("did you mean `{upper}`?")) } else { problem });
    }
    method.to_owned()
}

/// When a node counts as started.
pub(super) fn ready(check: &mut Checker, pointer: &Pointer, raw: &RawReady) -> Option<Ready> {
    let given = [
        ("http", raw.http.is_some()),
        ("tcp", raw.tcp.is_some()),
        ("redis", raw.redis.is_some()),
        ("exec", raw.exec.is_some()),
        ("log", raw.log.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    let within: Option<&RawDuration> = raw.within.as_ref();
    let within = check.duration(&pointer.key("within"), within, Duration::from_secs(30));
    one_kind(check, pointer, &given, "http, tcp, redis, exec, log")?;
    let scope = Scope::Probe;
    let probe = if let Some(http) = &raw.http {
        self::http(check, &pointer.key("http"), http)?
    } else if let Some(address) = &raw.tcp {
        ProbeKind::Tcp { address: check.template(&pointer.key("tcp"), address, scope, &[])? }
    } else if let Some(redis) = &raw.redis {
        self::redis(check, &pointer.key("redis"), redis)?
    } else if let Some(command) = &raw.exec {
        ProbeKind::Exec { command: check.templates(&pointer.key("exec"), command, scope, &[]) }
    } else {
        let pattern = raw.log.clone().unwrap_or_default();
        check.pattern(&pointer.key("log"), &pattern);
        ProbeKind::Log { pattern, window: within }
    };
    let own = match probe {
        ProbeKind::Http { .. } => "status >= 200 and status < 300",
        ProbeKind::Exec { .. } => "status == 0",
        // That it answered is all there is to ask.
        _ => "error is none",
    };
    let expect = if let Some(text) = &raw.expect {
        check.expr(&pointer.key("expect"), text, Scope::Response, &[])
    } else {
        check.own_expr(own, Scope::Response)
    }?;
    Some(Ready { probe, expect, within })
}
