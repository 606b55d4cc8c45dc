//! Formats the parameters and the evidence of a fault as lines below the name of the fault.

use indexmap::IndexMap;
use serde_json::Value;

use super::layout::{LayoutLine, beside};
use crate::report::flow;
use chaosrun_base::style::Tone;
use chaosrun_event::EvidenceStep;
use chaosrun_event::{figures, timeline};

/// Column at which the text begins that follows a name.
pub(super) const NAMES: usize = 12;
/// Name of the recorded parameter that contains the chosen links.
const CHOSEN: &str = "chosen";

/// Formats a name and a text as lines such as `  felt      text`. Long text is wrapped.
pub(super) fn named(name: &str, tone: Tone, text: &str) -> Vec<LayoutLine> {
    beside(LayoutLine::new().plain("  ").put(Tone::Faint, name).to(NAMES), tone, text)
}

/// Formats the requested parameters of a fault in the notation of files, and the links that were chosen.
pub(super) fn asked(parameters: &Value) -> Vec<LayoutLine> {
    let Value::Object(parameters) = parameters else { return Vec::new() };
    let mut asked = parameters.clone();
    let chosen = asked.shift_remove(CHOSEN);
    let mut lines = if asked.is_empty() { Vec::new() } else { named("with", Tone::Plain, &flow::entries(&asked)) };
    lines.extend(chosen.iter().flat_map(links).flat_map(|text| named("links", Tone::Plain, &text)));
    lines
}

pub(super) fn evidence(step: EvidenceStep, ok: bool, after_us: u64, detail: &str) -> Vec<LayoutLine> {
    let tone = if ok { Tone::Plain } else { Tone::Fail };
    let after = format!("{}after {}", if ok { "" } else { "no: " }, figures::short(after_us));
    let word = timeline::step_word(step);
    // Aligns the values before, now and for comparison below each other.
    let parts: Vec<&str> = detail.split("; ").collect();
    if let [whole] = parts.as_slice() {
        return named(word, tone, &format!("{after}: {whole}"));
    }
    let mut lines = named(word, tone, &after);
    lines.extend(parts.into_iter().flat_map(|part| named("", tone, part)));
    lines
}

/// Formats network links such as `tikv3 ↔ pd1 pd2`. Links with a common end are merged. `chosen` is a list of texts `FROM -> TO`.
fn links(chosen: &Value) -> Vec<String> {
    let names = chosen.as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(|name| name.split_once(" -> "));
    let mut senders: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for (from, to) in names {
        senders.entry(to).or_default().push(from);
    }
    let mut groups: IndexMap<Vec<&str>, Vec<&str>> = IndexMap::new();
    for (to, mut from) in senders {
        // Removes duplicates, because the path of a port and the path of the whole link have the same ends.
        from.sort_unstable();
        from.dedup();
        groups.entry(from).or_default().push(to);
    }
    for to in groups.values_mut() {
        to.sort_unstable();
    }
    let told = groups.iter().enumerate().filter_map(|(at, (from, to))| {
        let (left, right) = (from.join(" "), to.join(" "));
        match groups.get_full(to) {
            // The link is already included in the opposite direction.
            Some((other, _, back)) if back == from && other < at => None,
            Some((_, _, back)) if back == from => Some(format!("{left} ↔ {right}")),
            _ => Some(format!("{left} → {right}")),
        }
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_with_the_same_ends_are_merged() {
        assert_eq!(links(&json!(["pd1 -> tikv3", "pd2 -> tikv3", "pd1 -> tikv3"])), ["pd1 pd2 → tikv3"]);
        let isolated = json!(["pd2 -> tikv3", "pd1 -> tikv3", "tikv3 -> pd1", "tikv3 -> pd2"]);
        assert_eq!(links(&isolated), ["pd1 pd2 ↔ tikv3"]);
        let ring = json!(["a -> b", "b -> a", "c -> b"]);
        assert_eq!(links(&ring), ["a c → b", "b → a"]);
        assert!(links(&json!(null)).is_empty());
    }
}
