//! Resolution of a scoring file.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{Checker, cluster::stem, named};
use crate::digest;
use crate::model::{AutopsyRules, Gate, Part, Scoring};
use crate::raw::{RawPart, RawScoring};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Scope;
use chaosrun_input::Document;

/// Resolves a scoring. `autopsy` contains the rules of the autopsy file that the scoring file names.
pub fn scoring(doc: &Document, raw: &RawScoring, autopsy: Arc<AutopsyRules>) -> (Scoring, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    let correctness = group(&mut check, "correctness", raw.correctness.as_ref());
    let safety = group(&mut check, "safety", raw.safety.as_ref());
    for (name, pattern) in &raw.forbidden {
        check.pattern(&root.key("forbidden").key(name.as_str()), pattern);
    }
    let name = raw.name.clone().unwrap_or_else(|| stem(&doc.file));
    let mut gates = IndexMap::new();
    for (name, raw) in &raw.gates {
        let pointer = root.key("gates").key(name.as_str());
        let cap = check.within(&pointer.key("cap"), Some(raw.cap), 0.0..=1.0, 0.0);
        if let Some(when) = check.expr(&pointer.key("when"), &raw.when, Scope::Scoring, &[]) {
            gates.insert(name.clone(), Gate { when, cap, description: raw.description.clone() });
        }
    }
    let (file, written, forbidden) = (Arc::clone(&doc.file), named(&doc.value, &name), raw.forbidden.clone());
    let scoring = Scoring { name, file, written, digest: String::new(), correctness, safety, gates, forbidden, autopsy };
    let scoring = Scoring { digest: digest::scoring(&scoring), ..scoring };
    (scoring, check.problems)
}

fn group(check: &mut Checker, group: &str, raw: Option<&IndexMap<String, RawPart>>) -> IndexMap<String, Part> {
    let root = Pointer::default().key(group);
    let mut parts = IndexMap::new();
    let weights: f64 = raw.into_iter().flatten().map(|(_, part)| part.weight.max(0.0)).sum();
    if weights <= 0.0 && !check.doc.lost(group) {
        let problem = Diagnostic::error("empty_group", format!("`{group}` has no part with a weight"));
        check.wrong_key(&root, problem.label("expected at least one part with `weight` above 0"));
    }
    for (name, part) in raw.into_iter().flatten() {
        let pointer = root.key(name.as_str());
        let weight = check.within(&pointer.key("weight"), Some(part.weight), 0.0..=f64::MAX, 1.0);
        for (at, pair) in part.curve.windows(2).enumerate() {
            if pair[1].0 <= pair[0].0 {
                let problem = Diagnostic::error("bad_curve", format!("`{}` does not come after `{}`", pair[1].0, pair[0].0));
                check.wrong(&pointer.key("curve").index(at + 1), problem.label("expected measured values in ascending order"));
            }
        }
        for (at, (_, value)) in part.curve.iter().enumerate() {
            check.within(&pointer.key("curve").index(at).index(1), Some(*value), 0.0..=1.0, 0.0);
        }
        if let Some(value) = check.expr(&pointer.key("value"), &part.value, Scope::Scoring, &[]) {
            let part =
                Part { weight, value, curve: part.curve.clone(), catastrophic: part.catastrophic, description: part.description.clone() };
            parts.insert(name.clone(), part);
        }
    }
    parts
}
