//! Classification and weight of a shell command line by the rules of an autopsy.

use crate::model::{AutopsyRules, CommandRule, Reversibility, Whereabouts};
use chaosrun_shell as shell;
use chaosrun_shell::{Scripts, Simple};

/// Simple command with its matching rule.
#[derive(Debug)]
pub struct WeighedCommand<'a> {
    /// Matching rule, if any.
    pub rule: Option<&'a CommandRule>,
    /// Weight from the rule, or the weight of unknown commands.
    pub weight: f64,
}

impl WeighedCommand<'_> {
    pub fn reversibility(&self) -> Reversibility {
        self.rule.map_or(Reversibility::Reversible, |rule| rule.reversibility)
    }

    /// Returns true if the command is known not to inspect the cluster.
    pub fn idle(&self) -> bool {
        self.rule.is_some_and(|rule| rule.idle)
    }

    /// Returns true if the command is known to change something. An unknown command may be read-only.
    pub fn changes(&self) -> bool {
        self.rule.is_some_and(|rule| rule.reversibility > Reversibility::ReadOnly)
    }
}

/// Returns the simple commands of a line, in order. `scripts` are the scripts that earlier lines wrote.
pub fn parts<'a>(rules: &'a AutopsyRules, line: &str, scripts: &mut Scripts) -> Vec<WeighedCommand<'a>> {
    shell::commands(line, scripts).into_iter().map(|simple| part(rules, &simple)).collect()
}

/// Returns the simple commands of a line that runs in a node.
pub fn parts_in<'a>(rules: &'a AutopsyRules, line: &str, node: &str) -> Vec<WeighedCommand<'a>> {
    let within = |simple: Simple| Simple { node: Some(node.to_owned()), ..simple };
    shell::commands(line, &mut Scripts::default()).into_iter().map(|simple| part(rules, &within(simple))).collect()
}

fn part<'a>(rules: &'a AutopsyRules, simple: &Simple) -> WeighedCommand<'a> {
    let text = simple.text();
    let here = if simple.node.is_some() { Whereabouts::Node } else { Whereabouts::Agent };
    let fits = |rule: &&CommandRule| rule.place.is_none_or(|place| place == here);
    let rule = rules.patterns.matches(&text).into_iter().filter_map(|at| rules.commands.get(at)).find(fits);
    let weight = rule.map_or(rules.unknown, |rule| rule.weight);
    WeighedCommand { rule, weight }
}

/// Classification of a whole line.
#[derive(Debug)]
pub struct Weighed<'a> {
    /// Most severe class of the line's commands.
    pub reversibility: Reversibility,
    /// Sum of the weights of the line's commands.
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// True if the line has commands, but no command inspects the cluster.
    pub idle: bool,
    /// Names of the matching rules.
    pub rules: Vec<&'a str>,
}

/// Classifies a whole line. A line without a command is read-only.
#[must_use]
pub fn weigh<'a>(rules: &'a AutopsyRules, line: &str) -> Weighed<'a> {
    let parts = parts(rules, line, &mut Scripts::default());
    Weighed {
        reversibility: parts.iter().map(WeighedCommand::reversibility).max().unwrap_or(Reversibility::ReadOnly),
        weight: parts.iter().map(|part| part.weight).sum(),
        destructive: parts.iter().any(|part| part.rule.is_some_and(|rule| rule.destructive)),
        tampering: parts.iter().any(|part| part.rule.is_some_and(|rule| rule.tampering)),
        idle: !parts.is_empty() && parts.iter().all(WeighedCommand::idle),
        rules: parts.iter().filter_map(|part| part.rule).map(|rule| rule.name.as_str()).collect(),
    }
}
