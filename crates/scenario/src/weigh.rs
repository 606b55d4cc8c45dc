//! Classification of shell command lines by the rules of an autopsy file. Each command gets a class and a weight.

use crate::model::{AutopsyRules, CommandRule, Reversibility, Whereabouts};
use chaosrun_shell as shell;
use chaosrun_shell::{Scripts, Simple};

/// Simple command of a shell line, with its matching rule and its weight.
#[derive(Debug)]
pub struct WeighedCommand<'a> {
    /// Rule that matches the command. `None` if no rule matches.
    pub rule: Option<&'a CommandRule>,
    /// Weight of the rule. If no rule matches, this is the weight of unknown commands.
    pub weight: f64,
}

impl WeighedCommand<'_> {
    pub fn reversibility(&self) -> Reversibility {
        self.rule.map_or(Reversibility::Reversible, |rule| rule.reversibility)
    }

    /// Returns true if the rule says that the command does not inspect the cluster. An unknown command is not idle.
    pub fn idle(&self) -> bool {
        self.rule.is_some_and(|rule| rule.idle)
    }

    /// Returns true if the rule says that the command changes something. An unknown command counts as read-only here.
    pub fn changes(&self) -> bool {
        self.rule.is_some_and(|rule| rule.reversibility > Reversibility::ReadOnly)
    }
}

/// Returns the simple commands of a shell line, in order. `scripts` contains the scripts that earlier lines wrote to files.
pub fn parts<'a>(rules: &'a AutopsyRules, line: &str, scripts: &mut Scripts) -> Vec<WeighedCommand<'a>> {
    shell::commands(line, scripts).into_iter().map(|simple| part(rules, &simple)).collect()
}

/// Returns the simple commands of a shell line that runs inside the node `node`.
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

/// Classification of a whole shell line, combined from its simple commands.
#[derive(Debug)]
pub struct Weighed<'a> {
    /// Most severe class of all commands of the line.
    pub reversibility: Reversibility,
    /// Sum of the weights of all commands of the line.
    pub weight: f64,
    pub destructive: bool,
    pub tampering: bool,
    /// True if the line has at least one command, and no command inspects the cluster.
    pub idle: bool,
    /// Names of the rules that match commands of the line.
    pub rules: Vec<&'a str>,
}

/// Classifies a whole shell line. A line without a command counts as read-only.
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
