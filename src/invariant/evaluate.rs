//! What each invariant says of one snapshot, before any timer.

use crate::cluster::Topology;
use crate::expr::{Context, Expr, Unknown, Value};
use crate::scenario::model::{Cluster, Invariant};

/// What an invariant says of one item now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Holds,
    Broken { observed: String, expected: String },
    Unknown(Unknown),
}

/// One invariant of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Index into the cluster's invariants.
    pub invariant: usize,
    /// Which item: its node when one is known, else its place in the list. Empty without `each`.
    pub item: String,
    pub node: Option<String>,
    pub judgement: Judgement,
}

/// Judges all invariants on a context that holds the observations. Lets are evaluated in the order of the file.
#[must_use]
pub fn evaluate(cluster: &Cluster, topology: &Topology, mut context: Context) -> (Vec<Judged>, Context) {
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

fn judge(index: usize, invariant: &Invariant, topology: &Topology, context: &Context, judged: &mut Vec<Judged>) {
    let Some(each) = &invariant.each else {
        let node = node_of(invariant.node.as_ref(), None, topology, context);
        let judgement = condition(&invariant.expect, context);
        judged.push(Judged { invariant: index, item: String::new(), node, judgement });
        return;
    };
    let items = each.eval(context).and_then(|list| items(&list));
    let items = match items {
        Ok(items) => items,
        Err(unknown) => {
            judged.push(Judged { invariant: index, item: String::new(), node: None, judgement: Judgement::Unknown(unknown) });
            return;
        }
    };
    for (place, (key, item)) in items.into_iter().enumerate() {
        let mut inner = context.clone();
        let own_node = item.get_attr("node").ok();
        inner.set("item", item);
        inner.set("index", Value::from(place));
        let key_text = key.as_ref().map(ToString::to_string);
        inner.set("key", key.unwrap_or_default());
        let node = node_of(invariant.node.as_ref(), own_node, topology, &inner);
        let item = node.clone().or(key_text).unwrap_or_else(|| format!("#{place}"));
        judged.push(Judged { invariant: index, item, node, judgement: condition(&invariant.expect, &inner) });
    }
}

/// Items of a list, or entries of an object with their keys.
fn items(list: &Value) -> Result<Vec<(Option<Value>, Value)>, Unknown> {
    use crate::expr::{Why, is_map, unknown_of};
    if let Some(unknown) = unknown_of(list) {
        return Err(unknown.clone());
    }
    let not_a_list = || Unknown::new(Why::Types, "`each` needs a list or an object");
    let entries = list.try_iter().map_err(|_| not_a_list())?;
    if list.as_str().is_some() {
        return Err(not_a_list());
    }
    if is_map(list) {
        return entries.map(|key| list.get_item(&key).map(|item| (Some(key.clone()), item)).map_err(|_| not_a_list())).collect();
    }
    Ok(entries.map(|item| (None, item)).collect())
}

/// The node an item is about: what `node:` says, else the item's own `.node`.
fn node_of(expr: Option<&Expr>, own: Option<Value>, topology: &Topology, context: &Context) -> Option<String> {
    let value = match expr {
        Some(expr) => expr.eval(context).ok()?,
        None => own?,
    };
    let text = value.as_str()?;
    topology.find(text).map(|node| node.name.clone())
}

fn condition(expect: &Expr, context: &Context) -> Judgement {
    match expect.condition(context) {
        Ok(true) => Judgement::Holds,
        Ok(false) => {
            let (observed, expected) = expect.explain(context);
            Judgement::Broken { observed, expected }
        }
        Err(unknown) => Judgement::Unknown(unknown),
    }
}
