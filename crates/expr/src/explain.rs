//! Explanation of a violated condition by the observed value and the expected value.

use super::ast::{ExprNode, NodeKind};
use super::context::Context;
use super::eval::Evaluation;
use super::value::{is_map, show};

/// Returns the observed value and the expected value of a condition, as texts. For a true condition, these are the values that made the
/// condition true.
pub(super) fn explain(text: &str, tree: &ExprNode, context: &Context) -> (String, String) {
    Evaluation::new(text, context).explain(tree)
}

impl Evaluation<'_> {
    fn explain(&mut self, node: &ExprNode) -> (String, String) {
        match &node.kind {
            // Explains the first side that does not hold; a false side takes precedence over an unknown one.
            NodeKind::And(left, right) => {
                let (first, second) = (self.condition(left), self.condition(right));
                match (first, second) {
                    (Ok(true), _) | (Err(_), Ok(false)) => self.explain(right),
                    _ => self.explain(left),
                }
            }
            NodeKind::Compare { first, rest } => {
                let mut left = first.as_ref();
                for (place, (op, right)) in rest.iter().enumerate() {
                    let last = place + 1 == rest.len();
                    let (a, b) = (self.value(left), self.value(right));
                    let compared = match (&a, &b) {
                        (Ok(a), Ok(b)) => super::compare::compare(*op, a, b).ok(),
                        _ => None,
                    };
                    if compared != Some(true) || last {
                        let observed = match (&a, &b) {
                            (Ok(a), Ok(_)) if compared.is_some() || a.is_none() => show(a),
                            (Err(unknown), _) | (_, Err(unknown)) => format!("unknown: {unknown}"),
                            (Ok(a), Ok(b)) => self.mismatch(*op, (left, a), (right, b)),
                        };
                        let written = self.written(&right.range);
                        let expected = match (&right.kind, &b) {
                            (NodeKind::Const(_) | NodeKind::List(_), _) | (_, Err(_)) => format!("{} {written}", op.as_str()),
                            (_, Ok(b)) => format!("{} {} ({written})", op.as_str(), show(b)),
                        };
                        return (observed, expected);
                    }
                    left = right;
                }
                (String::new(), self.written(&node.range).to_owned())
            }
            NodeKind::Not(inner) => (self.plain(inner), format!("not {}", self.written(&inner.range))),
            // The error of a probe is more informative than "not ok".
            NodeKind::Attr { of, name } if &**name == "ok" => {
                let owner = self.value(of).ok().filter(is_map);
                let error = owner.and_then(|owner| owner.get_attr("error").ok()).and_then(|error| error.as_str().map(str::to_owned));
                (error.unwrap_or_else(|| self.plain(node)), "ok".into())
            }
            _ => (self.plain(node), self.written(&node.range).to_owned()),
        }
    }

    fn plain(&mut self, node: &ExprNode) -> String {
        match self.value(node) {
            Ok(value) => show(&value),
            Err(unknown) => format!("unknown: {unknown}"),
        }
    }

    fn mismatch(
        &self,
        op: super::ast::ComparisonOperator,
        (left, a): (&ExprNode, &super::Value),
        (right, b): (&ExprNode, &super::Value),
    ) -> String {
        match super::compare::compare(op, a, b) {
            Ok(truth) => truth.to_string(),
            Err(mismatch) => {
                format!("unknown: {}", mismatch.reason(op, (&self.operand(left), a), (&self.operand(right), b)))
            }
        }
    }
}
