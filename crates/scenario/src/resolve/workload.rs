//! Resolution of workloads in the cluster file. A workload has a model and operations.

use std::time::Duration;

use indexmap::IndexMap;

use super::Checker;
use crate::model::{Driver, HttpOperation, Model, RateLimit, Workload};
use crate::raw::{RawHttpDriver, RawOperation, RawWorkload};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Scope;
use chaosrun_input::names;

/// Returns the names of the operations that a model requires, and the names of all operations that the model allows.
const fn operations(model: Model) -> (&'static [&'static str], &'static [&'static str]) {
    match model {
        Model::Register => (&["read", "write"], &["read", "write", "cas"]),
        Model::Set | Model::Counter => (&["add", "read"], &["add", "read"]),
        Model::Queue => (&["enqueue", "dequeue"], &["enqueue", "dequeue"]),
        Model::Limit => (&["check"], &["check"]),
        Model::None => (&[], &["read", "write", "cas", "add", "enqueue", "dequeue"]),
    }
}

pub(super) fn workloads(check: &mut Checker, raw: &IndexMap<String, RawWorkload>, roles: &[&str]) -> IndexMap<String, Workload> {
    let mut found = IndexMap::new();
    for (name, raw) in raw {
        let pointer = Pointer::default().key("workloads").key(name.as_str());
        check.identifier(&pointer, "a workload", name);
        if let Some(workload) = workload(check, &pointer, name, raw, roles) {
            found.insert(name.clone(), workload);
        }
    }
    found
}

fn workload(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawWorkload, roles: &[&str]) -> Option<Workload> {
    for (key, value, most) in [("keys", raw.keys, 1_000_000), ("value_size", raw.value_size, 1 << 20)] {
        if value.is_some_and(|value| value == 0 || value > most) {
            let problem = Diagnostic::error("out_of_range", format!("`{}` is out of range", value.unwrap_or_default()));
            check.wrong(&pointer.key(key), problem.label(format!("expected a number from 1 to {most}")));
        }
    }
    let timeout = check.duration(&pointer.key("timeout"), raw.timeout.as_ref(), Duration::from_secs(1));
    let limit = limit(check, pointer, raw);
    let driver = match (&raw.http, &raw.driver) {
        (Some(http), None) => Some(http_driver(check, &pointer.key("http"), raw.model, http, roles)),
        (None, Some(driver)) => {
            let pointer = pointer.key("driver");
            if driver.command.is_empty() {
                check.wrong(
                    &pointer.key("command"),
                    Diagnostic::error("no_command", "the driver has no command").label("expected a program"),
                );
            }
            Some(Driver::Program {
                command: check.templates(&pointer.key("command"), &driver.command, Scope::Node, &[]),
                env: check.template_map(&pointer.key("env"), &driver.env, Scope::Node, &[]),
            })
        }
        (Some(_), Some(_)) => {
            let problem =
                Diagnostic::error("bad_workload", "`http` and `driver` are set at the same time").label("expected only one of them");
            check.wrong_key(&pointer.key("driver"), problem);
            None
        }
        (None, None) => {
            let problem = Diagnostic::error("bad_workload", format!("workload `{name}` has no operations"));
            check.wrong_key(pointer, problem.label("expected `http` or `driver`"));
            None
        }
    };
    Some(Workload {
        name: name.to_owned(),
        model: raw.model,
        keys: raw.keys.unwrap_or(100),
        value_size: raw.value_size.unwrap_or(64),
        timeout,
        limit,
        driver: driver?,
    })
}

/// Resolves the rate limit, which the model `limit` requires.
fn limit(check: &mut Checker, pointer: &Pointer, raw: &RawWorkload) -> Option<RateLimit> {
    let given = [("limit", raw.limit.is_some()), ("window", raw.window.is_some())];
    if raw.model != Model::Limit {
        if let Some((key, _)) = given.iter().find(|(_, there)| *there) {
            let problem = Diagnostic::error("bad_workload", format!("`{key}` is only valid for the model `limit`"));
            check.wrong_key(&pointer.key(*key), problem.label("remove this key"));
        }
        return None;
    }
    let missing: Vec<&str> = given.into_iter().filter(|(_, there)| !there).map(|(key, _)| key).collect();
    if !missing.is_empty() && !check.doc.lost("workloads") {
        let problem = Diagnostic::error("missing_field", format!("the model `limit` needs {}", names::listed(missing)));
        check.wrong_key(pointer, problem.label("expected `limit: NUMBER` and `window: DURATION` in this map"));
    }
    let window = check.maybe_duration(&pointer.key("window"), raw.window.as_ref())?;
    if window.is_zero() {
        let problem = Diagnostic::error("out_of_range", "the window must not be empty");
        check.wrong(&pointer.key("window"), problem.label("expected a duration above 0"));
    }
    Some(RateLimit { limit: raw.limit?, window })
}

fn http_driver(check: &mut Checker, pointer: &Pointer, model: Model, raw: &RawHttpDriver, roles: &[&str]) -> Driver {
    let (needed, allowed) = operations(model);
    if !roles.contains(&raw.role.as_str()) && !check.doc.lost("nodes") {
        check.unknown(&pointer.key("role"), "unknown_role", "role", &raw.role, roles.iter().copied());
    }
    let pointer = pointer.key("operations");
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !raw.operations.contains_key(*name)).collect();
    if !missing.is_empty() && !check.doc.lost("workloads") {
        let problem = Diagnostic::error("bad_workload", format!("the model needs {}", names::listed(missing)));
        check.wrong_key(&pointer, problem.label(format!("expected {}", names::listed(needed.iter().copied()))));
    }
    let mut operations = IndexMap::new();
    for (name, operation) in &raw.operations {
        let pointer = pointer.key(name.as_str());
        if !allowed.contains(&name.as_str()) {
            let problem = super::unknown("unknown_operation", "operation", name, allowed.iter().copied());
            check.wrong_key(&pointer, problem);
        }
        if let Some(operation) = self::operation(check, &pointer, name, operation) {
            operations.insert(name.clone(), operation);
        }
    }
    Driver::Http { role: raw.role.clone(), operations }
}

fn operation(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawOperation) -> Option<HttpOperation> {
    let scope = Scope::Operation;
    let method = check.method(&pointer.key("method"), raw.method.as_deref());
    let url = check.template(&pointer.key("url"), &raw.url, scope, &[]);
    let headers = check.template_map(&pointer.key("headers"), &raw.headers, scope, &[]);
    let body = raw.body.as_ref().and_then(|body| check.template(&pointer.key("body"), body, scope, &[]));
    let ok = match &raw.ok {
        Some(text) => check.expr(&pointer.key("ok"), text, Scope::Response, &[]),
        None => check.own_expr("status == 200", Scope::Response),
    };
    let fail = match &raw.fail {
        Some(text) => check.expr(&pointer.key("fail"), text, Scope::Response, &[]),
        None => check.own_expr("false", Scope::Response),
    };
    let mismatch = match (&raw.mismatch, &fail) {
        (Some(text), _) => check.expr(&pointer.key("mismatch"), text, Scope::Response, &[]),
        (None, Some(fail)) => {
            let statuses = match name {
                // HTTP status codes Conflict and Precondition Failed.
                "cas" => "[409, 412]",
                // HTTP status code Too Many Requests.
                "check" => "[429]",
                _ => "[]",
            };
            check.own_expr(&format!("({}) and status in {statuses}", fail.text), Scope::Response)
        }
        (None, None) => None,
    };
    let value = check.maybe_expr(&pointer.key("value"), raw.value.as_ref(), Scope::Response, &[]);
    Some(HttpOperation { method, url: url?, headers, body, ok: ok?, fail: fail?, mismatch: mismatch?, value })
}
