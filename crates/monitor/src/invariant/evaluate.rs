//! Evaluation of each invariant on one snapshot of observations, before any timer applies.

use std::collections::HashSet;
use std::fmt;

use chaosrun_cluster::Topology;
use chaosrun_expr::{Context, Expr, Unknown, UnknownReason, Value, is_map, unknown_of};
use chaosrun_scenario::model::{ClusterSpec, Invariant};

/// Result of an invariant for one item at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvariantResult {
    Holds,
    Broken { observed: String, expected: String },
    Unknown(Unknown),
}

/// Identity of an item of an invariant, which stays the same from tick to tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// The invariant as a whole, because `each` is absent or its list is not available now.
    Whole,
    /// Item that is identified by its node, or by its key in an object. If the item disappears, it counts as broken.
    Named(String),
    /// Item that is identified by its position in the list, from 0, because it has no node or shares a node with other items.
    At(usize),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Named(name) => f.write_str(name),
            Self::At(place) => write!(f, "#{place}"),
        }
    }
}

/// Result of one invariant for one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluatedInvariant {
    /// Index of the invariant in the cluster's list of invariants.
    pub invariant: usize,
    pub item: Item,
    pub node: Option<String>,
    pub judgement: InvariantResult,
}

/// Evaluates all invariants in a context with the observations. Returns the results, and the context extended by the `let` variables.
#[must_use]
pub fn evaluate(cluster: &ClusterSpec, topology: &Topology, mut context: Context) -> (Vec<EvaluatedInvariant>, Context) {
    for (name, expr) in &cluster.lets {
        let value = expr.eval(&context).unwrap_or_else(Value::from);
        context.set(name.clone(), value);
    }
    let mut judged = Vec::new();
    for (index, invariant) in cluster.invariants.values().enumerate() {
        judge(index, invariant, topology, &context, &mut judged);
    }
    (judged, context)
}

fn judge(index: usize, invariant: &Invariant, topology: &Topology, context: &Context, judged: &mut Vec<EvaluatedInvariant>) {
    let mut whole = |node, judgement| judged.push(EvaluatedInvariant { invariant: index, item: Item::Whole, node, judgement });
    let Some(each) = &invariant.each else {
        let (node, judgement) = judge_item(invariant, None, topology, context);
        return whole(node, judgement);
    };
    let items = match each.eval(context).and_then(|list| items(&list)) {
        Ok(items) => items,
        Err(unknown) => return whole(None, InvariantResult::Unknown(unknown)),
    };
    if items.is_empty() {
        // A check of an empty list has not passed.
        let reason = format!("`{}` is empty: there is nothing to judge", each.text);
        return whole(None, InvariantResult::Unknown(Unknown::new(UnknownReason::Undecided, reason)));
    }
    let mut found = Vec::with_capacity(items.len());
    for (place, (key, value)) in items.into_iter().enumerate() {
        let mut inner = context.clone();
        let own_node = value.get_attr("node").ok();
        inner.set("item", value);
        inner.set("index", Value::from(place));
        let key_text = key.as_ref().map(ToString::to_string);
        inner.set("key", key.unwrap_or_default());
        let (node, judgement) = judge_item(invariant, own_node, topology, &inner);
        found.push((key_text.or_else(|| node.clone()), node, judgement));
    }
    // The node does not identify the items if two of them have the same one (regions by their leader).
    let names: HashSet<_> = found.iter().filter_map(|(name, ..)| name.as_ref()).collect();
    let distinct = names.len() == found.len();
    for (place, (name, node, judgement)) in found.into_iter().enumerate() {
        let item = name.filter(|_| distinct).map_or(Item::At(place), Item::Named);
        judged.push(EvaluatedInvariant { invariant: index, item, node, judgement });
    }
}

/// Returns the items of a list, or the entries of an object with their keys.
fn items(list: &Value) -> Result<Vec<(Option<Value>, Value)>, Unknown> {
    if let Some(unknown) = unknown_of(list) {
        return Err(unknown.clone());
    }
    let not_a_list = || Unknown::new(UnknownReason::Types, "`each` needs a list or an object");
    let entries = list.try_iter().map_err(|_| not_a_list())?;
    if list.as_str().is_some() {
        return Err(not_a_list());
    }
    if is_map(list) {
        return entries.map(|key| list.get_item(&key).map(|item| (Some(key.clone()), item)).map_err(|_| not_a_list())).collect();
    }
    Ok(entries.map(|item| (None, item)).collect())
}

/// Returns the node of an item and the result of the invariant. The node is the value of `node:` if present, otherwise the item's own
/// `.node`.
fn judge_item(invariant: &Invariant, own: Option<Value>, topology: &Topology, context: &Context) -> (Option<String>, InvariantResult) {
    let value = match &invariant.node {
        Some(expr) => match expr.eval(context) {
            Ok(value) => Some(value),
            // If `node:` did not fit the items, every ticket would lack its node.
            Err(unknown) if unknown.is_malformed() => return (None, InvariantResult::Unknown(unknown)),
            Err(_) => None,
        },
        None => own,
    };
    let node = value.as_ref().and_then(Value::as_str).and_then(|text| topology.find(text)).map(|node| node.name.clone());
    (node, condition(&invariant.expect, context))
}

fn condition(expect: &Expr, context: &Context) -> InvariantResult {
    match expect.condition(context) {
        Ok(true) => InvariantResult::Holds,
        Ok(false) => {
            let (observed, expected) = expect.explain(context);
            InvariantResult::Broken { observed, expected }
        }
        Err(unknown) => InvariantResult::Unknown(unknown),
    }
}
