//! Selection of nodes by an expression of the cluster file, for `select` and for targets of faults.

use chaosrun_cluster::Topology;
use chaosrun_expr::{Context, Expr, Value};

/// Evaluates an expression and returns the node names in its value. The value is a node name or address, an object with a `name` or `node`,
/// or a list of these.
pub(super) fn nodes(expr: &Expr, context: &Context, topology: &Topology) -> Result<Vec<String>, String> {
    let value = expr.eval(context).map_err(|unknown| format!("`{}` is unknown: {unknown}", expr.text))?;
    let mut nodes = Vec::new();
    if value.as_str().is_some() || !chaosrun_expr::is_list(&value) {
        nodes.push(one(&value, expr, topology)?);
    } else {
        for item in value.try_iter().map_err(|error| error.to_string())? {
            nodes.push(one(&item, expr, topology)?);
        }
    }
    nodes.dedup();
    Ok(nodes)
}

fn one(value: &Value, expr: &Expr, topology: &Topology) -> Result<String, String> {
    let field = |name: &str| value.get_attr(name).ok().and_then(|value| value.as_str().map(str::to_owned));
    let text = value.as_str().map(str::to_owned).or_else(|| field("name")).or_else(|| field("node"));
    let text = text.ok_or_else(|| format!("`{}` returned `{value}`, which is not the name of a node", expr.text))?;
    topology.find(&text).map(|node| node.name.clone()).ok_or_else(|| format!("`{}` returned `{text}`, which is not a node", expr.text))
}
