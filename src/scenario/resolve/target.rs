//! Targets of faults: which nodes, and whether there are enough of them.

use super::{Checker, item_of, quantity, unknown};
use crate::diagnostic::{Diagnostic, Pointer};
use crate::scenario::document::Document;
use crate::scenario::model::{Cluster, Pick, Target, TargetOf};
use crate::scenario::names;
use crate::scenario::raw::{RawTarget, Short};

/// `cluster_doc` tells which names its file has even if they could not be resolved.
pub(super) fn target(
    check: &mut Checker,
    pointer: &Pointer,
    raw: &Short<RawTarget>,
    cluster: &Cluster,
    cluster_doc: &Document,
) -> Option<Target> {
    match raw {
        Short::Word(word) => word_target(check, pointer, word, cluster, cluster_doc),
        Short::Full(raw) => full_target(check, pointer, raw, cluster, cluster_doc),
    }
}

/// As [`target`], but a role that says no number means all of it, as a word too.
pub(super) fn group(
    check: &mut Checker,
    pointer: &Pointer,
    raw: &Short<RawTarget>,
    cluster: &Cluster,
    cluster_doc: &Document,
) -> Option<Target> {
    match raw {
        Short::Word(word) if cluster.roles.contains_key(word) && !cluster.nodes.iter().any(|node| node.name == *word) => {
            Some(Target { of: TargetOf::Role(word.clone()), pick: Pick::All, except: Vec::new(), place: Some(check.place(pointer)) })
        }
        Short::Full(full) if full.pick.is_none() => {
            full_target(check, pointer, full, cluster, cluster_doc).map(|target| Target { pick: Pick::All, ..target })
        }
        _ => target(check, pointer, raw, cluster, cluster_doc),
    }
}

/// `leader`, `tikv1`, `all`.
fn word_target(check: &mut Checker, pointer: &Pointer, word: &str, cluster: &Cluster, cluster_doc: &Document) -> Option<Target> {
    let selects = cluster_doc.keys("select");
    let of = if word == "all" {
        TargetOf::All
    } else if cluster.nodes.iter().any(|node| node.name == word) {
        TargetOf::Nodes(vec![word.to_owned()])
    } else if selects.iter().any(|select| select == word) {
        TargetOf::Select(word.to_owned())
    } else {
        if !cluster_doc.lost("nodes") {
            let nodes = cluster.nodes.iter().map(|node| node.name.as_str());
            let known: Vec<&str> = nodes.chain(selects.iter().map(String::as_str)).chain(["all"]).collect();
            let mut problem = unknown("unknown_target", "target", word, known.iter().copied());
            if cluster.roles.contains_key(word) {
                problem = problem.label("this is a role").help(format!("say how many: `{{ role: {word}, pick: 1 }}`"));
            }
            check.wrong(pointer, problem);
        }
        return None;
    };
    Some(Target { of, pick: Pick::All, except: Vec::new(), place: Some(check.place(pointer)) })
}

fn full_target(check: &mut Checker, pointer: &Pointer, raw: &RawTarget, cluster: &Cluster, cluster_doc: &Document) -> Option<Target> {
    let given = [("name", raw.name.is_some()), ("role", raw.role.is_some()), ("all", raw.all.is_some()), ("select", raw.select.is_some())];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if given.len() != 1 {
        let message = if given.is_empty() { "this target names no nodes".to_owned() } else { format!("{} at once", names::listed(given)) };
        let problem = Diagnostic::error("bad_target", message).label("expected exactly one of `name`, `role`, `all`, `select`");
        check.wrong_key(pointer, problem);
        return None;
    }
    let whole = !cluster_doc.lost("nodes");
    let node_names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut unknown_nodes = false;
    for (key, list) in [("name", raw.name.as_ref()), ("except", Some(&raw.except))] {
        for (at, name) in list.map(|list| list.0.as_slice()).unwrap_or_default().iter().enumerate() {
            if whole && !node_names.contains(&name.as_str()) {
                unknown_nodes = true;
                if let Some(list) = list {
                    let pointer = item_of(check.doc, &pointer.key(key), list, at);
                    check.unknown(&pointer, "unknown_node", "node", name, node_names.iter().copied());
                }
            }
        }
    }
    let mut default = Pick::All;
    let of = if let Some(names) = &raw.name {
        TargetOf::Nodes(names.0.clone())
    } else if let Some(role) = &raw.role {
        default = Pick::Count(1);
        if !cluster.roles.contains_key(role) {
            if whole {
                check.unknown(&pointer.key("role"), "unknown_role", "role", role, cluster.roles.keys().map(String::as_str));
            }
            return None;
        }
        TargetOf::Role(role.clone())
    } else if let Some(select) = &raw.select {
        let selects = cluster_doc.keys("select");
        if !selects.contains(select) {
            check.unknown(&pointer.key("select"), "unknown_select", "select", select, selects.iter().map(String::as_str));
            return None;
        }
        TargetOf::Select(select.clone())
    } else {
        TargetOf::All
    };
    let pick = match raw.pick.as_ref().map(|pick| quantity::pick(&pick.0)) {
        None => default,
        Some(Ok(pick)) => pick,
        Some(Err(expected)) => {
            let found = raw.pick.as_ref().map(|pick| pick.0.as_str()).unwrap_or_default();
            check.wrong(&pointer.key("pick"), Diagnostic::error("bad_pick", format!("`{found}` does not say how many")).label(expected));
            return None;
        }
    };
    let target = Target { of, pick, except: raw.except.0.clone(), place: Some(check.place(pointer)) };
    if whole && !unknown_nodes {
        enough(check, pointer, raw, &target, cluster);
    }
    Some(target)
}

fn enough(check: &mut Checker, pointer: &Pointer, raw: &RawTarget, target: &Target, cluster: &Cluster) {
    let Some(candidates) = crate::plan::target::candidates(target, cluster) else { return };
    let wanted = match target.pick {
        Pick::Count(count) => count,
        Pick::Percent(_) | Pick::Majority | Pick::Minority | Pick::All => 1,
    };
    if candidates.len() >= wanted {
        return;
    }
    let left = candidates.len();
    let but = if target.except.is_empty() {
        String::new()
    } else {
        format!(" besides {}", names::listed(target.except.iter().map(String::as_str)))
    };
    let nodes = if wanted == 1 { "node" } else { "nodes" };
    let problem = Diagnostic::error("too_many_targets", format!("{wanted} {nodes} wanted, {left} to choose from{but}"))
        .label(format!("expected at most {left}"))
        .help(format!("to choose from: {}", names::listed(candidates.iter().map(String::as_str))));
    let problem = if left == 0 {
        problem.label("nothing is left to choose").help(if target.except.is_empty() {
            "name a node"
        } else {
            "take a node out of `except`"
        })
    } else {
        problem
    };
    let key = match raw.pick {
        Some(_) => pointer.key("pick"),
        None if target.except.is_empty() => pointer.key("name"),
        None => pointer.key("except"),
    };
    check.wrong(&key, problem);
}
