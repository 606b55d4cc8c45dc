//! Which bytes may pass: pure.

use std::time::Duration;

use indexmap::IndexMap;

use super::Source;

/// What is done to the bytes that `from` sends to `to`, on every connection between the two, whoever dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub from: Source,
    pub to: Source,
    /// Name of the port that was dialled, of whichever side it is; none = all.
    pub port: Option<String>,
    pub effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Every byte arrives this much later (one way), in order.
    Delay(Duration),
    Cut(Cut),
}

/// How a direction is cut. A new connection needs both directions, as the handshake of TCP does: it is not dialled through while either is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Bytes wait in the sender's socket and go on when the rule is lifted. The sender feels back-pressure.
    Stall,
    /// A black hole: bytes are swallowed without a word. A connection that lost bytes so is reset when the rule is lifted.
    Drop,
    /// Connections of the pair are reset at once, new ones too.
    Reject,
}

/// What all rules together do to one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// The strictest of all cuts.
    pub(super) cut: Option<Cut>,
    /// The sum of all delays.
    pub(super) delay: Duration,
}

/// All rules in force, by the id they were put under.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(IndexMap<String, Vec<Rule>>);

impl Table {
    pub(super) fn with(&self, id: &str, rules: Vec<Rule>) -> Self {
        let mut table = self.clone();
        table.0.insert(id.into(), rules);
        table
    }

    pub(super) fn without(&self, id: &str) -> Self {
        let mut table = self.clone();
        table.0.shift_remove(id);
        table
    }

    pub(super) fn of(&self, id: &str) -> &[Rule] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Nobody is cut from itself.
    pub(super) fn effects(&self, from: &Source, to: &Source, port: &str) -> Effects {
        let mut effects = Effects::default();
        if from == to {
            return effects;
        }
        for rule in self.0.values().flatten() {
            if rule.from == *from && rule.to == *to && rule.port.as_deref().is_none_or(|only| only == port) {
                match rule.effect {
                    Effect::Delay(delay) => effects.delay += delay,
                    Effect::Cut(cut) => effects.cut = effects.cut.max(Some(cut)),
                }
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Source {
        Source::Node(name.into())
    }

    fn rule(from: &str, to: &str, port: Option<&str>, effect: Effect) -> Rule {
        Rule { from: node(from), to: node(to), port: port.map(Into::into), effect }
    }

    #[test]
    fn rules_are_directed_add_up_and_are_lifted_by_id() {
        let delay = Effect::Delay(Duration::from_millis(3));
        let table = Table::default()
            .with("slow", vec![rule("a", "b", None, delay), rule("b", "a", None, delay)])
            .with("cut", vec![rule("a", "b", Some("peer"), Effect::Cut(Cut::Drop)), rule("a", "b", None, delay)])
            .with("wall", vec![rule("a", "b", Some("peer"), Effect::Cut(Cut::Stall)), rule("a", "a", None, Effect::Cut(Cut::Reject))]);
        let millis = Duration::from_millis;
        assert_eq!(table.effects(&node("a"), &node("b"), "peer"), Effects { cut: Some(Cut::Drop), delay: millis(6) });
        assert_eq!(table.effects(&node("a"), &node("b"), "client"), Effects { cut: None, delay: millis(6) });
        assert_eq!(table.effects(&node("b"), &node("a"), "peer"), Effects { cut: None, delay: millis(3) });
        assert_eq!(table.effects(&node("a"), &node("a"), "peer"), Effects::default(), "nobody is cut from itself");
        assert_eq!(table.effects(&Source::Workload, &node("b"), "peer"), Effects::default());
        let lifted = table.without("cut").without("wall");
        assert_eq!(lifted.effects(&node("a"), &node("b"), "peer"), Effects { cut: None, delay: millis(3) });
    }
}
