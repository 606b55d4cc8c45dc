//! A broken condition in words: what was observed, and what was expected.

use super::ast::{Kind, Node};
use super::context::Context;
use super::eval::Evaluation;
use super::value::{is_map, show};

/// Observed and expected of a condition that is false or unknown; of one that is true, what made it so.
pub(super) fn explain(text: &str, tree: &Node, context: &Context) -> (String, String) {
    Evaluation::new(text, context).explain(tree)
}

impl Evaluation<'_> {
    fn explain(&mut self, node: &Node) -> (String, String) {
        match &node.kind {
            // The first side that does not hold is the one to talk about; a false one before an unknown one.
            Kind::And(left, right) => {
                let (first, second) = (self.condition(left), self.condition(right));
                match (first, second) {
                    (Ok(true), _) | (Err(_), Ok(false)) => self.explain(right),
                    _ => self.explain(left),
                }
            }
            Kind::Compare { first, rest } => {
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
                            (Kind::Const(_) | Kind::List(_), _) | (_, Err(_)) => format!("{} {written}", op.as_str()),
                            (_, Ok(b)) => format!("{} {} ({written})", op.as_str(), show(b)),
                        };
                        return (observed, expected);
                    }
                    left = right;
                }
                (String::new(), self.written(&node.range).to_owned())
            }
            Kind::Not(inner) => (self.plain(inner), format!("not {}", self.written(&inner.range))),
            // The error of a probe tells more than that it is not ok.
            Kind::Attr { of, name } if &**name == "ok" => {
                let owner = self.value(of).ok().filter(is_map);
                let error = owner.and_then(|owner| owner.get_attr("error").ok()).and_then(|error| error.as_str().map(str::to_owned));
                (error.unwrap_or_else(|| self.plain(node)), "ok".into())
            }
            _ => (self.plain(node), self.written(&node.range).to_owned()),
        }
    }

    fn plain(&mut self, node: &Node) -> String {
        match self.value(node) {
            Ok(value) => show(&value),
            Err(unknown) => format!("unknown: {unknown}"),
        }
    }

    fn mismatch(&self, op: super::ast::Comparison, (left, a): (&Node, &super::Value), (right, b): (&Node, &super::Value)) -> String {
        match super::compare::compare(op, a, b) {
            Ok(truth) => truth.to_string(),
            Err(mismatch) => {
                format!("unknown: {}", mismatch.reason(op, (&self.operand(left), a), (&self.operand(right), b)))
            }
        }
    }
}
