//! Targets of faults: the eligible nodes, the check that there are enough nodes, and the choice.

use rand::Rng;
use rand::seq::index;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ground::{FaultGround, FaultNode};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace};
use chaosrun_input::{Checker, OneOrMany, RawPick, Short, item_of, names, unknown};

/// Nodes that the fault hits: exactly one of `name`, `role`, `all`, `select`. Short form: the name of a node or of a `select`, or `all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "target")]
pub struct RawTarget {
    /// Name of a node, or a list of names.
    pub name: Option<OneOrMany<String>>,
    /// Name of a role. `pick` chooses among its nodes.
    pub role: Option<String>,
    /// `true`: all nodes of the cluster.
    pub all: Option<bool>,
    /// Name of a `select` of the cluster file, which is evaluated when the fault is injected.
    pub select: Option<String>,
    /// Number of nodes that are chosen: `2`, `50%`, `majority`, `minority` or `all` [default: 1 for a role, `all` for other targets].
    pub pick: Option<RawPick>,
    /// Names of nodes that are never chosen.
    #[serde(default)]
    pub except: OneOrMany<String>,
}

// Parameters of a fault that has none beside its target. A doc comment would become a description in the schema.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "target_only")]
pub struct TargetOnly {
    pub target: Short<RawTarget>,
}

/// Target of a fault: the nodes to choose from, and the number of nodes to choose. The choice is made at the injection and depends on the
/// seed.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub of: TargetOf,
    pub pick: Pick,
    /// Names of nodes that are never chosen.
    pub except: Vec<String>,
    #[serde(skip)]
    pub place: Option<SourcePlace>,
}

/// Set of nodes from which a target is chosen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOf {
    Nodes(Vec<String>),
    Role(String),
    All,
    /// Name of a `select` of the cluster file. A `select` is an expression whose value is a node or a list of nodes.
    Select(String),
}

/// Number of nodes that a target chooses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    Count(usize),
    /// Percentage of the nodes, from 0 to 100, rounded up to whole nodes.
    Percent(f64),
    /// Smallest number of nodes that is more than half.
    Majority,
    /// Largest number of nodes below half, such as 1 of 3 or 2 of 5, but at least 1.
    Minority,
    All,
}

/// Returns the names of the nodes to choose from, in the order of the cluster. Returns `None` for a `select`, whose value is determined
/// only at the injection.
#[must_use]
pub fn candidates(target: &Target, nodes: &[FaultNode]) -> Option<Vec<String>> {
    let taken = |name: &str| !target.except.iter().any(|except| except == name);
    let meant = nodes.iter().filter(|node| match &target.of {
        TargetOf::Nodes(names) => names.contains(&node.name),
        TargetOf::Role(role) => node.role == *role,
        TargetOf::All => true,
        TargetOf::Select(_) => false,
    });
    match target.of {
        TargetOf::Select(_) => None,
        _ => Some(meant.map(|node| node.name.clone()).filter(|name| taken(name)).collect()),
    }
}

impl FaultGround<'_> {
    /// Returns the names of the nodes that `target` can select. Returns `None` for a `select`, whose value is determined only at the
    /// injection.
    #[must_use]
    pub fn candidates(&self, target: &Target) -> Option<Vec<String>> {
        candidates(target, &self.nodes)
    }

    /// Returns the nodes that `target` can select. Returns all nodes for a `select`.
    pub fn possible(&self, target: &Target) -> Vec<&FaultNode> {
        let names = self.candidates(target);
        self.nodes.iter().filter(|node| names.as_ref().is_none_or(|names| names.contains(&node.name))).collect()
    }
}

/// Chooses the nodes of a target. `selected` is the value of the `select` of the target: names of nodes.
///
/// # Errors
/// Returns an error of one sentence if there are not enough nodes, or if the value of the `select` is not a list of nodes.
pub fn choose(target: &Target, nodes: &[FaultNode], rng: &mut impl Rng, selected: Option<&[String]>) -> Result<Vec<String>, String> {
    let candidates = match (candidates(target, nodes), &target.of) {
        (Some(candidates), _) => candidates,
        (None, TargetOf::Select(select)) => {
            let selected = selected.ok_or_else(|| format!("select `{select}` was not evaluated"))?;
            if let Some(stranger) = selected.iter().find(|name| !nodes.iter().any(|node| node.name == **name)) {
                return Err(format!("select `{select}` returned `{stranger}`, which is not a node"));
            }
            let named = |name: &String| selected.contains(name) && !target.except.contains(name);
            nodes.iter().map(|node| node.name.clone()).filter(named).collect()
        }
        (None, _) => Vec::new(),
    };
    if candidates.is_empty() {
        return Err(match &target.of {
            TargetOf::Select(select) => format!("select `{select}` returned no node"),
            _ => "no node is available".to_owned(),
        });
    }
    let wanted = wanted(target.pick, candidates.len());
    if wanted > candidates.len() {
        return Err(format!("{wanted} nodes requested, {} available", candidates.len()));
    }
    let mut chosen = index::sample(rng, candidates.len(), wanted).into_vec();
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|at| candidates[at].clone()).collect())
}

fn wanted(pick: Pick, of: usize) -> usize {
    match pick {
        Pick::Count(count) => count,
        Pick::All => of,
        Pick::Majority => of / 2 + 1,
        // A minority has at least one node, even of one or two nodes.
        Pick::Minority => (of.saturating_sub(1) / 2).max(1),
        Pick::Percent(percent) => {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cluster has few nodes, and the share is between 0 and 100"
            )]
            let nodes = (of as f64 * percent / 100.0).ceil() as usize;
            nodes.clamp(1, of.max(1))
        }
    }
}

/// Resolves the target at `pointer` of a file. Returns `None` after reporting a problem.
pub fn target(check: &mut Checker, pointer: &Pointer, raw: &Short<RawTarget>, ground: &FaultGround) -> Option<Target> {
    match raw {
        Short::Word(word) => word_target(check, pointer, word, ground),
        Short::Full(raw) => full_target(check, pointer, raw, ground),
    }
}

/// Resolves a target like [`target`], with one difference: a role without `pick` means all nodes of the role, also in the short form.
pub fn group(check: &mut Checker, pointer: &Pointer, raw: &Short<RawTarget>, ground: &FaultGround) -> Option<Target> {
    match raw {
        Short::Word(word) if ground.roles.iter().any(|role| role == word) && !ground.nodes.iter().any(|node| node.name == *word) => {
            Some(Target { of: TargetOf::Role(word.clone()), pick: Pick::All, except: Vec::new(), place: Some(check.place(pointer)) })
        }
        Short::Full(full) if full.pick.is_none() => {
            full_target(check, pointer, full, ground).map(|target| Target { pick: Pick::All, ..target })
        }
        _ => target(check, pointer, raw, ground),
    }
}

/// Resolves the short form of a target: a word such as `leader`, `tikv1` or `all`.
fn word_target(check: &mut Checker, pointer: &Pointer, word: &str, ground: &FaultGround) -> Option<Target> {
    let selects = ground.doc.keys("select");
    let of = if word == "all" {
        TargetOf::All
    } else if ground.nodes.iter().any(|node| node.name == word) {
        TargetOf::Nodes(vec![word.to_owned()])
    } else if selects.iter().any(|select| select == word) {
        TargetOf::Select(word.to_owned())
    } else {
        if !ground.doc.lost("nodes") {
            let nodes = ground.nodes.iter().map(|node| node.name.as_str());
            let known: Vec<&str> = nodes.chain(selects.iter().map(String::as_str)).chain(["all"]).collect();
            let mut problem = unknown("unknown_target", "target", word, known.iter().copied());
            if ground.roles.iter().any(|role| role == word) {
                problem = problem.label("this is a role").help(format!("add the number of nodes: `{{ role: {word}, pick: 1 }}`"));
            }
            check.wrong(pointer, problem);
        }
        return None;
    };
    Some(Target { of, pick: Pick::All, except: Vec::new(), place: Some(check.place(pointer)) })
}

fn full_target(check: &mut Checker, pointer: &Pointer, raw: &RawTarget, ground: &FaultGround) -> Option<Target> {
    let given = [("name", raw.name.is_some()), ("role", raw.role.is_some()), ("all", raw.all.is_some()), ("select", raw.select.is_some())];
    let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if given.len() != 1 {
        let message = if given.is_empty() {
            "this target names no nodes".to_owned()
        } else {
            format!("{} are set at the same time", names::listed(given))
        };
        let problem = Diagnostic::error("bad_target", message).label("expected exactly one of `name`, `role`, `all`, `select`");
        check.wrong_key(pointer, problem);
        return None;
    }
    let whole = !ground.doc.lost("nodes");
    let node_names: Vec<&str> = ground.nodes.iter().map(|node| node.name.as_str()).collect();
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
        if !ground.roles.contains(role) {
            if whole {
                check.unknown(&pointer.key("role"), "unknown_role", "role", role, ground.roles.iter().map(String::as_str));
            }
            return None;
        }
        TargetOf::Role(role.clone())
    } else if let Some(select) = &raw.select {
        let selects = ground.doc.keys("select");
        if !selects.contains(select) {
            check.unknown(&pointer.key("select"), "unknown_select", "select", select, selects.iter().map(String::as_str));
            return None;
        }
        TargetOf::Select(select.clone())
    } else {
        TargetOf::All
    };
    let pick = match raw.pick.as_ref().map(|pick| pick_of(&pick.0)) {
        None => default,
        Some(Ok(pick)) => pick,
        Some(Err(expected)) => {
            let found = raw.pick.as_ref().map(|pick| pick.0.as_str()).unwrap_or_default();
            check.wrong(&pointer.key("pick"), Diagnostic::error("bad_pick", format!("`{found}` is not a number of nodes")).label(expected));
            return None;
        }
    };
    let target = Target { of, pick, except: raw.except.0.clone(), place: Some(check.place(pointer)) };
    if whole && !unknown_nodes {
        enough(check, pointer, raw, &target, ground);
    }
    Some(target)
}

fn enough(check: &mut Checker, pointer: &Pointer, raw: &RawTarget, target: &Target, ground: &FaultGround) {
    let Some(candidates) = ground.candidates(target) else { return };
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
        format!(" without {}", names::listed(target.except.iter().map(String::as_str)))
    };
    let nodes = if wanted == 1 { "node" } else { "nodes" };
    let problem = Diagnostic::error("too_many_targets", format!("{wanted} {nodes} requested, {left} available{but}"))
        .label(format!("expected at most {left}"))
        .help(format!("available nodes: {}", names::listed(candidates.iter().map(String::as_str))));
    let problem = if left == 0 {
        problem.label("no node is available").help(if target.except.is_empty() { "name a node" } else { "remove a node from `except`" })
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

/// Parses a number of nodes: `2`, `50%`, `majority`, `minority` or `all`. The error message names the expected forms.
fn pick_of(text: &str) -> Result<Pick, String> {
    let text = text.trim();
    match text {
        "all" => return Ok(Pick::All),
        "majority" => return Ok(Pick::Majority),
        "minority" => return Ok(Pick::Minority),
        _ => (),
    }
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.trim().parse::<f64>() {
            Ok(value) if value > 0.0 && value <= 100.0 => Ok(Pick::Percent(value)),
            Ok(_) => Err("expected more than 0% and at most 100%".to_owned()),
            Err(_) => Err("expected a percentage such as `50%`".to_owned()),
        };
    }
    match text.parse::<usize>() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(Pick::Count(count)),
        Err(_) => Err("expected a number, a percentage such as `50%`, `majority`, `minority` or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nodes_are_read() {
        assert_eq!((pick_of("50%"), pick_of(" 2 ")), (Ok(Pick::Percent(50.0)), Ok(Pick::Count(2))));
        assert!(pick_of("0").is_err() && pick_of("101%").is_err() && pick_of("some").is_err());
    }
}
