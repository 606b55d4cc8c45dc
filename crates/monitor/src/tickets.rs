//! Tickets: one per problem, not one per violation. The functions are pure.
//!
//! Violations of the same node share one ticket; violations without a node have one ticket per invariant. A ticket closes only when all its
//! invariants hold again, and is reopened when one of them is violated again.

use indexmap::IndexMap;
use jiff::Timestamp;

use chaosrun_event::{EventKind, Severity, Spot, Ticket};

/// Violation that opens or joins a ticket.
#[derive(Debug, Clone)]
pub struct Violation {
    pub invariant: String,
    pub item: String,
    pub node: Option<String>,
    pub severity: Severity,
    pub observed: String,
    pub expected: String,
    pub place: Option<Spot>,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    open: bool,
    /// Pairs of invariant and item that belong to the ticket. The value is true while the pair is violated.
    parts: IndexMap<(String, String), bool>,
}

/// All tickets of a trial.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    entries: Vec<Entry>,
}

impl Tickets {
    /// Records the start of a violation. Returns the event to emit, or `None` if the violation is already known.
    pub fn violated(&mut self, violation: Violation, now: Timestamp) -> Option<EventKind> {
        let part = (violation.invariant.clone(), violation.item.clone());
        let same = |entry: &Entry| match &violation.node {
            Some(node) => entry.ticket.node.as_ref() == Some(node),
            None => entry.ticket.node.is_none() && entry.ticket.invariant == violation.invariant,
        };
        if let Some(entry) = self.entries.iter_mut().find(|entry| same(entry)) {
            let before = entry.parts.insert(part, true);
            entry.ticket.severity = entry.ticket.severity.max(violation.severity);
            if !entry.open {
                entry.open = true;
                return Some(EventKind::TicketReopened { ticket: entry.ticket.id, invariant: violation.invariant, node: violation.node });
            }
            return (before != Some(true)).then(|| EventKind::TicketJoined {
                ticket: entry.ticket.id,
                invariant: violation.invariant,
                node: violation.node,
                observed: violation.observed,
            });
        }
        let id = u32::try_from(self.entries.len()).map_or(u32::MAX, |count| count.saturating_add(1));
        let ticket = Ticket {
            id,
            invariant: violation.invariant,
            node: violation.node,
            severity: violation.severity,
            observed: violation.observed,
            expected: violation.expected,
            first_seen: now,
            place: violation.place,
        };
        self.entries.push(Entry { ticket: ticket.clone(), open: true, parts: IndexMap::from([(part, true)]) });
        Some(EventKind::TicketOpened(ticket))
    }

    /// Records that an invariant holds again for an item. Returns the event to emit, if any.
    pub fn holds(&mut self, invariant: &str, item: &str) -> Option<EventKind> {
        let part = (invariant.to_owned(), item.to_owned());
        let entry = self.entries.iter_mut().find(|entry| entry.open && entry.parts.contains_key(&part))?;
        entry.parts.insert(part, false);
        if entry.parts.values().any(|violated| *violated) {
            return None;
        }
        entry.open = false;
        Some(EventKind::TicketClosed { ticket: entry.ticket.id })
    }

    /// Opens a ticket that was requested manually, without a violated invariant. The ticket stays open until the trial ends.
    pub fn page(&mut self, violation: Violation, now: Timestamp) -> Option<EventKind> {
        self.violated(violation, now)
    }

    /// Returns all tickets. The second value is true for an open ticket.
    pub fn all(&self) -> impl Iterator<Item = (&Ticket, bool)> {
        self.entries.iter().map(|entry| (&entry.ticket, entry.open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(invariant: &str, node: Option<&str>) -> Violation {
        Violation {
            invariant: invariant.into(),
            item: node.unwrap_or_default().into(),
            node: node.map(Into::into),
            severity: Severity::Warning,
            observed: "false".into(),
            expected: "true".into(),
            place: None,
        }
    }

    fn raise(tickets: &mut Tickets, invariant: &str, node: Option<&str>) -> Option<String> {
        tickets.violated(violation(invariant, node), Timestamp::UNIX_EPOCH).map(|kind| name(&kind))
    }

    fn open(tickets: &Tickets) -> Vec<u32> {
        tickets.all().filter(|(_, open)| *open).map(|(ticket, _)| ticket.id).collect()
    }

    fn name(kind: &EventKind) -> String {
        serde_json::to_value(kind).unwrap()["type"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_second_violation_of_a_node_joins_and_all_must_hold_to_close() {
        let mut tickets = Tickets::default();
        assert_eq!(raise(&mut tickets, "node_up", Some("tikv2")).as_deref(), Some("ticket_opened"));
        assert_eq!(raise(&mut tickets, "node_up", Some("tikv2")), None);
        assert_eq!(raise(&mut tickets, "store_down", Some("tikv2")).as_deref(), Some("ticket_joined"));
        assert_eq!(raise(&mut tickets, "node_up", Some("tikv3")).as_deref(), Some("ticket_opened"));
        assert_eq!(open(&tickets), [1, 2]);
        assert_eq!(tickets.holds("node_up", "tikv2"), None);
        assert_eq!(tickets.holds("store_down", "tikv2"), Some(EventKind::TicketClosed { ticket: 1 }));
        assert_eq!(tickets.holds("store_down", "tikv2"), None);
        assert_eq!(open(&tickets), [2]);
    }

    #[test]
    fn returning_violation_reopens_its_ticket() {
        let mut tickets = Tickets::default();
        raise(&mut tickets, "node_up", Some("tikv2"));
        tickets.holds("node_up", "tikv2");
        assert_eq!(raise(&mut tickets, "node_up", Some("tikv2")).as_deref(), Some("ticket_reopened"));
        assert_eq!(open(&tickets), [1]);
    }

    #[test]
    fn a_reopened_ticket_has_the_highest_severity_of_its_violations() {
        let mut tickets = Tickets::default();
        for (severity, highest) in
            [(Severity::Warning, Severity::Warning), (Severity::Critical, Severity::Critical), (Severity::Warning, Severity::Critical)]
        {
            tickets.violated(Violation { severity, ..violation("node_up", Some("tikv2")) }, Timestamp::UNIX_EPOCH);
            assert_eq!(tickets.all().map(|(ticket, _)| ticket.severity).collect::<Vec<_>>(), [highest]);
            tickets.holds("node_up", "tikv2");
        }
    }

    #[test]
    fn violations_without_a_node_have_one_ticket_per_invariant() {
        let mut tickets = Tickets::default();
        raise(&mut tickets, "no_leader", None);
        assert_eq!(raise(&mut tickets, "slow", None).as_deref(), Some("ticket_opened"));
        assert_eq!(raise(&mut tickets, "no_leader", None), None);
    }
}
