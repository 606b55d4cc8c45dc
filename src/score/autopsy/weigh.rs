//! What a line of a shell weighs, by the rules.

use super::shell::{self, Scripts, Simple};
use crate::scenario::model::{AutopsyRules, CommandRule, Reversibility, Whereabouts};

/// One simple command and the rule that knows it.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// None: no rule knows it.
    pub rule: Option<&'a CommandRule>,
    /// By the rule, or as the rules say of what they do not know.
    pub weight: f64,
}

impl Part<'_> {
    pub fn reversibility(&self) -> Reversibility {
        self.rule.map_or(Reversibility::Reversible, |rule| rule.reversibility)
    }

    /// Whether it is known to see nothing of the cluster.
    pub fn idle(&self) -> bool {
        self.rule.is_some_and(|rule| rule.idle)
    }

    /// Whether it is known to change something. What nobody knows may be a look.
    pub fn changes(&self) -> bool {
        self.rule.is_some_and(|rule| rule.reversibility > Reversibility::ReadOnly)
    }
}

/// The commands of a line, in their order. `scripts`: what lines before have written.
pub(super) fn parts<'a>(rules: &'a AutopsyRules, line: &str, scripts: &mut Scripts) -> Vec<Part<'a>> {
    shell::commands(line, scripts).into_iter().map(|simple| part(rules, &simple)).collect()
}

/// The same of a line that runs in a node.
pub(super) fn parts_in<'a>(rules: &'a AutopsyRules, line: &str, node: &str) -> Vec<Part<'a>> {
    let within = |simple: Simple| Simple { node: Some(node.to_owned()), ..simple };
    shell::commands(line, &mut Scripts::default()).into_iter().map(|simple| part(rules, &within(simple))).collect()
}

fn part<'a>(rules: &'a AutopsyRules, simple: &Simple) -> Part<'a> {
    let text = simple.text();
    let here = if simple.node.is_some() { Whereabouts::Node } else { Whereabouts::Agent };
    let fits = |rule: &&CommandRule| rule.place.is_none_or(|place| place == here);
    let rule = rules.patterns.matches(&text).into_iter().filter_map(|at| rules.commands.get(at)).find(fits);
    let weight = rule.map_or(rules.unknown, |rule| rule.weight);
    Part { rule, weight }
}

/// All of a line in one.
#[derive(Debug)]
pub struct Weighed<'a> {
    /// The hardest.
    pub reversibility: Reversibility,
    /// Of all together.
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// It sees nothing of the cluster, whatever there is of it.
    pub idle: bool,
    /// Names of the rules that know something of it.
    pub rules: Vec<&'a str>,
}

/// Weighs a line as a whole. One without a command is a look.
#[must_use]
pub fn weigh<'a>(rules: &'a AutopsyRules, line: &str) -> Weighed<'a> {
    let parts = parts(rules, line, &mut Scripts::default());
    Weighed {
        reversibility: parts.iter().map(Part::reversibility).max().unwrap_or(Reversibility::ReadOnly),
        weight: parts.iter().map(|part| part.weight).sum(),
        destructive: parts.iter().any(|part| part.rule.is_some_and(|rule| rule.destructive)),
        tampering: parts.iter().any(|part| part.rule.is_some_and(|rule| rule.tampering)),
        idle: !parts.is_empty() && parts.iter().all(Part::idle),
        rules: parts.iter().filter_map(|part| part.rule).map(|rule| rule.name.as_str()).collect(),
    }
}
