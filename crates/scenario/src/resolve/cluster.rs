//! Resolution of a cluster file. Nodes are created from roles. Expressions are compiled in the order in which their names become available.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::{Checker, Names, item_of};
use crate::model::{Backend, ClusterSpec, ImageSource, Invariant, InvariantKind, LogRule, Node, OnUnknown, Role};
use crate::raw::{OneOrMany, RawCluster, RawInvariant, RawRole, RawSeverity, Text};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile};
use chaosrun_event::Severity;
use chaosrun_expr::topology::NODE_FIELDS;
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_input::Document;
use chaosrun_input::names;

/// Default folder of the Dockerfile for the container in which an agent works.
const TOOLBOX: &str = "images/toolbox";

/// Maximum number of nodes per role. A larger number is probably a typing error.
const MOST_NODES: usize = 100;

/// Backend and kind of programs of a run. Both determine the sections of the cluster file that apply.
#[derive(Debug, Clone, Copy)]
pub struct ClusterForm {
    pub backend: Backend,
    pub standin: bool,
}

/// Resolves a cluster. `files` contains the templates of nodes' files, by the names that the roles use for them.
pub fn cluster(
    doc: &Document,
    raw: &RawCluster,
    form: ClusterForm,
    files: &IndexMap<String, Arc<SourceFile>>,
) -> (ClusterSpec, Vec<Diagnostic>) {
    let ClusterForm { backend, standin } = form;
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    let empty = IndexMap::new();
    let raw_roles = raw.nodes.as_ref().unwrap_or(&empty);
    if raw.nodes.is_none() && doc.value.get("nodes").is_none_or(serde_json::Value::is_null) && !doc.lost("nodes") {
        check.wrong_key(
            &root,
            Diagnostic::error("missing_field", "`nodes` is missing").help("for a cluster without nodes, write `nodes: {}`"),
        );
    }
    if !doc.lost("nodes") {
        let nodes = raw_roles.iter().flat_map(|(name, role)| node_names(name, role.count)).collect();
        check.known = Some(Names { roles: raw_roles.keys().cloned().collect(), nodes });
    }
    let (roles, nodes) = roles(&mut check, raw_roles, backend, files);
    let tick = check.duration(&root.key("tick"), raw.tick.as_ref(), Duration::from_millis(100)).max(Duration::from_millis(10));
    let clock_scale = raw.clock_scale.map(|scale| check.within(&root.key("clock_scale"), Some(scale), 0.001..=100.0, 1.0));
    let role_names: Vec<&str> = doc_roles(doc, raw_roles);

    let mut observe = IndexMap::new();
    for (name, probe) in &raw.observe {
        let pointer = root.key("observe").key(name.as_str());
        check.identifier(&pointer, "an observation", name);
        check.not_reserved(&pointer, name);
        if let Some(probe) = super::probe::probe(&mut check, &pointer, name, probe, tick, &role_names) {
            observe.insert(name.clone(), probe);
        }
    }
    // Includes names that could not be resolved, so that one mistake causes only one problem.
    let mut known: Vec<String> = doc.keys("observe");
    let lets = named(&mut check, "let", &raw.lets, &mut known);
    let mut selectable = known.clone();
    let select = named(&mut check, "select", &raw.select, &mut selectable);
    for name in select.keys() {
        if nodes.iter().any(|node| node.name == *name) || name == "all" {
            let problem = Diagnostic::error(
                "duplicate_name",
                format!("select `{name}` has the same name as {}", if name == "all" { "the target `all`" } else { "a node" }),
            );
            check.wrong_key(&root.key("select").key(name.as_str()), problem.label("a target would be ambiguous"));
        }
    }
    let mut invariants = IndexMap::new();
    for (name, invariant) in &raw.invariants {
        let pointer = root.key("invariants").key(name.as_str());
        check.identifier(&pointer, "an invariant", name);
        if let Some(invariant) = resolve_invariant(&mut check, &pointer, name, invariant, &known) {
            invariants.insert(name.clone(), invariant);
        }
    }
    let workloads = super::workload::workloads(&mut check, &raw.workloads, &role_names);
    let mut logs = IndexMap::new();
    for (name, rule) in &raw.logs {
        let pointer = root.key("logs").key(name.as_str());
        check.pattern(&pointer.key("match"), &rule.pattern);
        if let Some(role) = super::probe::each_role(&mut check, &pointer.key("on"), &rule.on, &role_names) {
            logs.insert(name.clone(), LogRule { name: name.clone(), role, pattern: rule.pattern.clone() });
        }
    }
    let about = super::action::about(&doc.keys("observe"), &raw.lets);
    let ground = super::action::ActionScope { roles: &role_names, nodes: &nodes, known: &known, about: &about };
    let actions = super::action::actions(&mut check, &raw.actions, &ground);
    let tools = if backend.images { Vec::new() } else { raw.tools.local.clone() };
    let toolbox = backend.images.then(|| ImageSource::Build {
        folder: raw.tools.docker.clone().unwrap_or_else(|| TOOLBOX.to_owned()),
        packages: raw.tools.packages.clone(),
    });
    let name = raw.name.clone().unwrap_or_else(|| stem(&doc.file));
    let file = Arc::clone(&doc.file);
    let cluster = ClusterSpec {
        name,
        file,
        roles,
        nodes,
        tick,
        clock_scale,
        observe,
        lets,
        select,
        invariants,
        workloads,
        logs,
        actions,
        tools,
        toolbox,
        standin,
    };
    (cluster, check.problems)
}

/// Returns the name of a file without its folder and its extension.
pub(crate) fn stem(file: &SourceFile) -> String {
    let name = file.name.rsplit(['/', '\\', ':']).next().unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn doc_roles<'a>(doc: &Document, raw: &'a IndexMap<String, RawRole>) -> Vec<&'a str> {
    debug_assert!(raw.keys().all(|role| doc.keys("nodes").contains(role)));
    raw.keys().map(String::as_str).collect()
}

fn named(check: &mut Checker, section: &str, texts: &IndexMap<String, Text>, known: &mut Vec<String>) -> IndexMap<String, Expr> {
    let mut exprs = IndexMap::new();
    for (name, text) in texts {
        let pointer = Pointer::default().key(section).key(name.as_str());
        check.identifier(&pointer, "an expression", name);
        if section == "let" {
            check.not_reserved(&pointer, name);
        }
        if section == "let" && known.contains(name) {
            let problem = Diagnostic::error("duplicate_name", format!("`{name}` names an observation and a `let`"));
            check.wrong_key(&pointer, problem.label("expressions would be ambiguous").help("rename one of them"));
        }
        if let Some(expr) = check.expr(&pointer, text, Scope::Observations, known) {
            exprs.insert(name.clone(), expr);
        }
        if section == "let" {
            known.push(name.clone());
        }
    }
    exprs
}

fn roles(
    check: &mut Checker,
    raw: &IndexMap<String, RawRole>,
    backend: Backend,
    files: &IndexMap<String, Arc<SourceFile>>,
) -> (IndexMap<String, Role>, Vec<Node>) {
    let mut roles = IndexMap::new();
    let mut nodes: Vec<Node> = Vec::new();
    for (name, role) in raw {
        let pointer = Pointer::default().key("nodes").key(name.as_str());
        if !names::is_host_name(name) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a role"));
            check.wrong_key(
                &pointer,
                problem.label("expected small letters, digits and `-`").help("node names are host names and start with their role"),
            );
        }
        if let Some(count) = role.count.filter(|count| !(1..=MOST_NODES).contains(count)) {
            let problem = Diagnostic::error("out_of_range", format!("`{count}` is out of range"));
            check.wrong(&pointer.key("count"), problem.label(format!("expected a number from 1 to {MOST_NODES}")));
        }
        let names = node_names(name, role.count);
        check_after(check, &pointer, &role.after, raw);
        let Some(shared) = shared(check, &pointer, name, role, backend, files) else { continue };
        for (at, node) in names.iter().enumerate() {
            if nodes.iter().any(|other| other.name == *node) {
                let problem = Diagnostic::error("duplicate_name", format!("two nodes are named `{node}`"));
                check.wrong_key(&pointer, problem.label("another role creates a node with this name").help("rename one of the roles"));
                break;
            }
            nodes.push(Node { name: node.clone(), index: at + 1, ..shared.clone() });
        }
        roles.insert(name.clone(), Role { name: name.clone(), nodes: names, after: role.after.0.clone() });
    }
    check_cycles(check, raw);
    (roles, nodes)
}

/// Returns the names of a role's nodes, such as `tikv1`, `tikv2`, `tikv3`. If no count is given, the only node has the name of the role.
fn node_names(role: &str, count: Option<usize>) -> Vec<String> {
    match count {
        None => vec![role.to_owned()],
        Some(count) => (1..=count.min(MOST_NODES)).map(|index| format!("{role}{index}")).collect(),
    }
}

/// Resolves the properties that are equal for all nodes of a role.
fn shared(
    check: &mut Checker,
    pointer: &Pointer,
    name: &str,
    role: &RawRole,
    backend: Backend,
    files: &IndexMap<String, Arc<SourceFile>>,
) -> Option<Node> {
    let on = backend.as_str();
    if !backend.images && role.command.is_empty() && !check.doc.lost("nodes") {
        let problem = Diagnostic::error("no_command", format!("role `{name}` has no `command` for the backend `{on}`"));
        let help = match Backend::first(|other| other.images).filter(|_| role.image.is_some()) {
            Some(other) => format!("add `{on}: {{ command: [...] }}`, or run it with `--backend {}`", other.as_str()),
            None => "add `command: [...]`".to_owned(),
        };
        check.wrong_key(pointer, problem.label("nothing to start").help(help));
    }
    if backend.images && image(role).is_none() && !check.doc.lost("nodes") {
        let problem = Diagnostic::error("no_image", format!("role `{name}` has no `image` and no `build` for the backend `{on}`"));
        check.wrong_key(pointer, problem.label("nothing to start").help(format!("add `{on}: {{ image: ... }}`")));
    }
    for port in role.ports.keys() {
        let at = pointer.key("ports").key(port.as_str());
        check.identifier(&at, "a port", port);
        if NODE_FIELDS.contains(&port.as_str()) {
            let problem = Diagnostic::error("bad_name", format!("`{port}` cannot name a port")).label("a node has this field already");
            check.wrong_key(&at, problem.help(format!("taken: {}", names::listed(NODE_FIELDS.iter().copied()))));
        }
    }
    let scope = Scope::Node;
    let mut rendered = IndexMap::new();
    for (target, source) in &role.files {
        let at = pointer.key("files").key(target.as_str());
        if target.starts_with('/') || target.split('/').any(|part| part == "..") {
            let problem = Diagnostic::error("bad_path", format!("`{target}` is outside the directory of the node"));
            check.wrong_key(&at, problem.label("expected a path below the node's directory"));
        }
        // A missing file is reported by `load`, which knows the searched places.
        let Some(file) = files.get(source) else { continue };
        let place = chaosrun_diagnostic::SourcePlace::new(Arc::clone(file), Pointer::default());
        match Template::compile(&file.text, Some(place), scope, &[]) {
            Ok(template) => {
                rendered.insert(target.clone(), template);
            }
            Err(mut problems) => check.problems.append(&mut problems),
        }
    }
    let own_data = Text("{{ self.dir }}/data".to_owned());
    let data = check.template(&pointer.key("data"), role.data.as_ref().unwrap_or(&own_data), scope, &[])?;
    Some(Node {
        name: String::new(),
        role: name.to_owned(),
        index: 0,
        ports: role.ports.clone(),
        image: backend.images.then(|| image(role)).flatten(),
        command: check.templates(&pointer.key("command"), &role.command, scope, &[]),
        args: check.templates(&pointer.key("args"), &role.args, scope, &[]),
        env: check.template_map(&pointer.key("env"), &role.env, scope, &[]),
        files: rendered,
        data,
        disk: check.size(&pointer.key("disk"), role.disk.as_ref()),
        ulimits: role.ulimits.clone(),
        cpus: role.cpus.map(|cpus| check.within(&pointer.key("cpus"), Some(cpus), 0.01..=1024.0, 1.0)),
        memory: check.size(&pointer.key("memory"), role.memory.as_ref()),
        user: role.user.clone(),
        ready: role.ready.as_ref().and_then(|ready| super::probe::ready(check, &pointer.key("ready"), ready)),
        stop_grace: check.duration(&pointer.key("stop_grace"), role.stop_grace.as_ref(), Duration::from_secs(10)),
        clock: false,
        layer: false,
        place: check.doc.key_place(pointer),
    })
}

fn image(role: &RawRole) -> Option<ImageSource> {
    let build = role.build.clone().map(|folder| ImageSource::Build { folder, packages: Vec::new() });
    build.or_else(|| role.image.clone().map(ImageSource::Pull))
}

fn check_after(check: &mut Checker, pointer: &Pointer, after: &OneOrMany<String>, raw: &IndexMap<String, RawRole>) {
    for (at, name) in after.0.iter().enumerate() {
        if !raw.contains_key(name) && !check.doc.lost("nodes") {
            let pointer = item_of(check.doc, &pointer.key("after"), after, at);
            check.unknown(&pointer, "unknown_role", "role", name, raw.keys().map(String::as_str));
        }
    }
}

/// Reports every cycle in the start order of roles once, at the role of the cycle that is first in the file.
fn check_cycles(check: &mut Checker, raw: &IndexMap<String, RawRole>) {
    let mut told: Vec<&str> = Vec::new();
    for start in raw.keys() {
        let mut stack = vec![vec![start.as_str()]];
        let mut seen: Vec<&str> = Vec::new();
        while let Some(path) = stack.pop() {
            let last = path[path.len() - 1];
            for next in raw.get(last).map(|role| role.after.0.as_slice()).unwrap_or_default() {
                if next == start && !path.iter().any(|role| told.contains(role)) {
                    let cycle = path.iter().copied().chain([start.as_str()]).collect::<Vec<_>>().join(" -> ");
                    told.extend(&path);
                    let pointer = Pointer::default().key("nodes").key(start.as_str()).key("after");
                    let problem = Diagnostic::error("cyclic_after", format!("roles depend on each other: {cycle}"));
                    check.wrong(&pointer, problem.label("no role can start first").help("remove one `after` from the cycle"));
                } else if !seen.contains(&next.as_str()) {
                    seen.push(next);
                    let mut longer = path.clone();
                    longer.push(next);
                    stack.push(longer);
                }
            }
        }
    }
}

fn resolve_invariant(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawInvariant, known: &[String]) -> Option<Invariant> {
    let each = check.maybe_expr(&pointer.key("each"), raw.each.as_ref(), Scope::Observations, known);
    let node = check.maybe_expr(&pointer.key("node"), raw.node.as_ref(), Scope::Invariant, known);
    let hold = check.duration(&pointer.key("for"), raw.hold.as_ref(), Duration::ZERO);
    let expect = check.expr(&pointer.key("expect"), &raw.expect, Scope::Invariant, known)?;
    Some(Invariant {
        name: name.to_owned(),
        kind: raw.kind.unwrap_or(InvariantKind::Objective),
        each,
        node,
        expect,
        hold,
        severity: match raw.severity {
            Some(RawSeverity::Info) => Severity::Info,
            Some(RawSeverity::Warning) => Severity::Warning,
            Some(RawSeverity::Critical) | None => Severity::Critical,
        },
        unknown: raw.unknown.unwrap_or(OnUnknown::Hold),
        description: raw.description.clone(),
    })
}
