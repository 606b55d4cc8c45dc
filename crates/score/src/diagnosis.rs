//! Grading of diagnoses by rules, without a model: component, fault class and cited evidence.
//!
//! Component and class score 1 if right and 0.5 if close ([`Fit`]). If there are several faults, each fault is graded against the diagnosis
//! that fits it best. Only the last diagnosis per component counts, and only as many diagnoses as there are faults. So an agent gains
//! nothing by naming everything.

use std::collections::{HashMap, HashSet};

use chaosrun_event::{AgentMessage, Diagnosis, EventKind, FaultGrade, Fit, Grade};

/// Minimum length of a quote in characters, after white space is collapsed. Shorter quotes would occur in any text.
const SHORTEST: usize = 8;
/// Maximum number of quotes not found that a grade lists.
const TOLD: usize = 5;

/// Pairs of similar fault classes. A diagnosis that names the similar class instead of the true class scores half.
const ALIKE: &[(&str, &str)] = &[
    ("process_crash", "process_hang"),
    ("process_crash", "process_stop"),
    ("process_crash", "process_restart"),
    ("process_crash", "crash_loop"),
    ("process_crash", "power_loss"),
    ("process_stop", "process_restart"),
    ("process_restart", "crash_loop"),
    ("process_hang", "cpu_exhaustion"),
    ("bad_config", "crash_loop"),
    ("network_partition", "packet_loss"),
    ("network_partition", "connection_reset"),
    ("network_partition", "quorum_loss"),
    ("network_latency", "bandwidth"),
    ("network_latency", "packet_loss"),
    ("packet_loss", "packet_corruption"),
    ("packet_duplication", "packet_reordering"),
    ("network_latency", "packet_reordering"),
    ("disk_full", "disk_error"),
    ("disk_slow", "disk_error"),
    ("cpu_exhaustion", "overload"),
    ("memory_exhaustion", "overload"),
    ("data", "data_loss"),
    ("data", "data_corruption"),
    ("data_loss", "data_corruption"),
    ("data_loss", "power_loss"),
];

/// Injected fault that a correct diagnosis names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrueFault {
    pub id: String,
    pub class: String,
    pub nodes: Vec<String>,
    /// Nodes at the other ends of the links that the fault affects.
    pub linked: Vec<String>,
}

/// Ground truth against which diagnoses are graded.
#[derive(Debug, Clone, Default)]
pub struct DiagnosisTruth {
    pub faults: Vec<TrueFault>,
    /// Role of each node, by node name.
    pub roles: HashMap<String, String>,
    /// True if the problem ends without a repair, so that a diagnosis without a fault is correct.
    pub passes: bool,
}

/// Grades the submitted diagnoses, given in the order of submission. Returns `None` if there are no diagnoses and `expected` is false.
#[must_use]
pub fn grade(diagnoses: &[Diagnosis], expected: bool, truth: &DiagnosisTruth, shown: &Shown) -> Option<Grade> {
    if diagnoses.is_empty() && !expected {
        return None;
    }
    let counted = counted(diagnoses, truth.faults.len().max(1));
    let none = counted.last().is_some_and(|last| means_none(&last.component));
    let faults: Vec<FaultGrade> = if truth.faults.is_empty() || (truth.passes && none) {
        vec![of_nothing(counted.last().copied())]
    } else {
        truth.faults.iter().map(|fault| best(fault, &counted, truth)).collect()
    };
    let mean = |fit: fn(&FaultGrade) -> Fit| {
        #[expect(clippy::cast_precision_loss, reason = "a handful of faults")]
        let count = faults.len() as f64;
        faults.iter().map(|grade| fit(grade).value()).sum::<f64>() / count
    };
    let (component, fault_class) = (mean(|grade| grade.component), mean(|grade| grade.fault_class));
    let quotes: Vec<&String> = counted.iter().flat_map(|diagnosis| &diagnosis.evidence).collect();
    let mut not_found: Vec<String> = quotes.iter().filter(|quote| !shown.has(quote)).map(|quote| (*quote).clone()).collect();
    let quotes_found = quotes.len() - not_found.len();
    not_found.truncate(TOLD);
    Some(Grade { submitted: diagnoses.len(), faults, component, fault_class, quotes: quotes.len(), quotes_found, not_found })
}

/// Returns true if the last diagnosis names a node of any fault. Returns `None` without a fault. Older scoring files use this value.
#[must_use]
pub(crate) fn names_the_truth(last: Option<&Diagnosis>, truth: &DiagnosisTruth) -> Option<bool> {
    let named = |said: &Diagnosis| truth.faults.iter().any(|fault| component(&said.component, fault, truth) == Fit::Exact);
    (!truth.faults.is_empty()).then(|| last.is_some_and(named))
}

/// Returns the last diagnosis per component, in order. If there are more than `most`, returns only the last `most`.
fn counted(diagnoses: &[Diagnosis], most: usize) -> Vec<&Diagnosis> {
    let mut components = HashSet::new();
    let mut counted: Vec<&Diagnosis> =
        diagnoses.iter().rev().filter(|diagnosis| components.insert(diagnosis.component.trim())).take(most).collect();
    counted.reverse();
    counted
}

fn best(fault: &TrueFault, diagnoses: &[&Diagnosis], truth: &DiagnosisTruth) -> FaultGrade {
    let grades = diagnoses.iter().map(|diagnosis| FaultGrade {
        id: Some(fault.id.clone()),
        nodes: fault.nodes.clone(),
        class: fault.class.clone(),
        said: Some(said(diagnosis)),
        component: component(&diagnosis.component, fault, truth),
        fault_class: class(&diagnosis.fault_class, &fault.class),
    });
    // For equal totals, the node has priority over the class.
    let worth = |grade: &FaultGrade| (grade.component.value() + grade.fault_class.value(), grade.component.value());
    let unsaid = FaultGrade {
        id: Some(fault.id.clone()),
        nodes: fault.nodes.clone(),
        class: fault.class.clone(),
        said: None,
        component: Fit::None,
        fault_class: Fit::None,
    };
    grades.max_by(|one, other| worth(one).partial_cmp(&worth(other)).unwrap_or(std::cmp::Ordering::Equal)).unwrap_or(unsaid)
}

/// Grades the last diagnosis of a trial whose correct diagnosis is that there is no fault.
fn of_nothing(last: Option<&Diagnosis>) -> FaultGrade {
    let (component, fault_class) = match last {
        None => (Fit::None, Fit::None),
        Some(last) => {
            let component = if means_none(&last.component) { Fit::Exact } else { Fit::Wrong };
            let class = match last.fault_class.as_str() {
                "none" => Fit::Exact,
                "unknown" => Fit::Near,
                _ => Fit::Wrong,
            };
            (component, class)
        }
    };
    FaultGrade { id: None, nodes: Vec::new(), class: "none".into(), said: last.map(said), component, fault_class }
}

fn said(diagnosis: &Diagnosis) -> AgentMessage {
    AgentMessage { component: diagnosis.component.clone(), fault_class: diagnosis.fault_class.clone() }
}

fn means_none(component: &str) -> bool {
    ["", "none", "nothing", "n/a"].contains(&component.trim().to_ascii_lowercase().as_str())
}

/// Grades the component that a diagnosis names. Either end of a faulty link, and any node of a fault on several nodes, is correct. The
/// grade is not exact if other nodes are named too.
fn component(said: &str, fault: &TrueFault, truth: &DiagnosisTruth) -> Fit {
    if means_none(said) {
        return Fit::None;
    }
    let words: HashSet<&str> = said.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).collect();
    let named: Vec<&str> = truth.roles.keys().map(String::as_str).filter(|node| words.contains(node)).collect();
    let (hit, others): (Vec<&str>, Vec<&str>) = named.into_iter().partition(|node| fault.nodes.iter().any(|hit| hit == node));
    let linked = |node: &&str| fault.linked.iter().any(|linked| linked == node);
    if !hit.is_empty() && others.len() <= 1 && others.iter().all(linked) {
        return Fit::Exact;
    }
    let roles: HashSet<&str> = fault.nodes.iter().filter_map(|node| truth.roles.get(node)).map(String::as_str).collect();
    let same_role = |node: &&str| truth.roles.get(*node).is_some_and(|role| roles.contains(role.as_str()));
    let near =
        !hit.is_empty() || others.iter().any(|node| linked(node) || same_role(node)) || roles.iter().any(|role| words.contains(role));
    if near { Fit::Near } else { Fit::Wrong }
}

fn class(said: &str, real: &str) -> Fit {
    let alike = |(one, other): &(&str, &str)| (*one, *other) == (said, real) || (*other, *one) == (said, real);
    match said {
        _ if said == real => Fit::Exact,
        _ if ALIKE.iter().any(alike) => Fit::Near,
        _ => Fit::Wrong,
    }
}

/// Texts that were shown to an agent, gathered from the events of the trial. Cited evidence is searched in these texts.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Texts with collapsed white space. Each has the number of commands that started before it was shown, or `None` if no command printed
    /// it.
    texts: Vec<(String, Option<usize>)>,
    commands: Vec<String>,
}

impl Shown {
    pub fn event(&mut self, kind: &EventKind) {
        match kind {
            EventKind::TicketOpened(ticket) => {
                self.text(&format!("{}: {}", ticket.invariant, ticket.observed));
                self.text(&ticket.expected);
            }
            EventKind::TicketJoined { invariant, observed, .. } => self.text(&format!("{invariant}: {observed}")),
            EventKind::ConversationStarted { prompt, .. } => self.text(prompt),
            // Output of commands is already included.
            EventKind::ToolAnswered { tool, text, .. } if tool != "shell" => self.text(text),
            EventKind::CommandStarted { command, .. } => self.commands.push(once(command)),
            EventKind::CommandFinished { stdout, stderr, .. } => {
                for output in [stdout, stderr].into_iter().filter(|output| !output.text.is_empty()) {
                    self.texts.push((once(&output.text), Some(self.commands.len())));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.texts.push((once(text), None));
    }

    /// Returns true if a cited piece of evidence was shown to the agent. One of its lines, one of its quoted parts, or the text after a
    /// colon is sufficient.
    #[must_use]
    pub fn has(&self, evidence: &str) -> bool {
        self.place(evidence).is_some()
    }

    /// Returns about `characters` characters of the shown text around a cited piece of evidence. Returns `None` if the evidence was not
    /// shown.
    #[must_use]
    pub fn around(&self, evidence: &str, characters: usize) -> Option<String> {
        self.place(evidence).map(|(text, at)| excerpt(text, at, characters))
    }

    fn place(&self, evidence: &str) -> Option<(&str, usize)> {
        let behind = evidence.split_once(": ").map(|(_, text)| text);
        let lines = evidence.lines().filter(|_| evidence.trim().contains('\n'));
        let mut parts = std::iter::once(evidence).chain(behind).chain(lines).chain(quoted(evidence));
        parts.find_map(|part| self.exactly(part))
    }

    /// Returns the shown text that contains the quote, and the byte position of the quote in that text.
    fn exactly(&self, quote: &str) -> Option<(&str, usize)> {
        let quote = once(quote.trim().trim_matches(['"', '\'', '`']));
        if quote.chars().count() < SHORTEST {
            return None;
        }
        // A text that the agent wrote in a command and then printed is no evidence.
        let own = self.commands.iter().position(|command| command.contains(&quote));
        let counts = |before: Option<usize>| own.is_none_or(|own| before.is_none_or(|before| before <= own));
        self.texts.iter().filter(|(_, before)| counts(*before)).find_map(|(text, _)| Some((text.as_str(), text.find(&quote)?)))
    }
}

/// Returns about `characters` characters of a text, about half of them before the byte position `at`.
fn excerpt(text: &str, at: usize, characters: usize) -> String {
    let before = text[..at].char_indices().rev().nth(characters / 2).map_or(0, |(begin, _)| begin);
    let rest = &text[before..];
    let end = rest.char_indices().nth(characters).map_or(rest.len(), |(end, _)| end);
    let (open, close) = (if before > 0 { "…" } else { "" }, if end < rest.len() { "…" } else { "" });
    format!("{open}{}{close}", &rest[..end])
}

/// Replaces each run of white space by one blank.
fn once(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the parts of a text that are enclosed in quotation marks of one kind.
fn quoted(text: &str) -> Vec<&str> {
    let between = |mark: char| text.split(mark).skip(1).step_by(2);
    ['`', '"', '\''].into_iter().flat_map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::Output;
    use chaosrun_scenario::FAULT_CLASSES;

    fn truth(faults: &[(&str, &[&str], &[&str])]) -> DiagnosisTruth {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let fault = |(at, (class, nodes, linked)): (usize, &(&str, &[&str], &[&str]))| TrueFault {
            id: format!("f{at}"),
            class: (*class).to_owned(),
            nodes: names(nodes),
            linked: names(linked),
        };
        let nodes = [("pd1", "pd"), ("tikv1", "tikv"), ("tikv2", "tikv"), ("tikv3", "tikv"), ("web", "front")];
        DiagnosisTruth {
            faults: faults.iter().enumerate().map(fault).collect(),
            roles: nodes.map(|(node, role)| (node.to_owned(), role.to_owned())).into(),
            passes: false,
        }
    }

    fn says(component: &str, class: &str, evidence: &[&str]) -> Diagnosis {
        Diagnosis {
            component: component.into(),
            fault_class: class.into(),
            evidence: evidence.iter().map(|text| (*text).to_owned()).collect(),
            ..Diagnosis::default()
        }
    }

    fn fits(diagnoses: &[Diagnosis], truth: &DiagnosisTruth) -> Vec<(Fit, Fit)> {
        let grade = grade(diagnoses, true, truth, &Shown::default()).expect("a grade");
        grade.faults.iter().map(|grade| (grade.component, grade.fault_class)).collect()
    }

    #[test]
    fn class_table_names_existing_classes() {
        for (one, other) in ALIKE {
            assert!(FAULT_CLASSES.contains(one) && FAULT_CLASSES.contains(other) && one != other, "{one} ~ {other}");
            assert_eq!((class(one, other), class(other, one)), (Fit::Near, Fit::Near));
        }
    }

    #[test]
    fn component_is_exact_near_wrong_or_missing() {
        let link = truth(&[("network_latency", &["tikv2"], &["pd1"])]);
        for (said, expected) in [
            ("tikv2", Fit::Exact),
            (" tikv2 (store 5)", Fit::Exact),
            ("link pd1 -> tikv2", Fit::Exact),
            ("tikv2, tikv3", Fit::Near),
            ("pd1, tikv1, tikv2, tikv3, web", Fit::Near),
            ("tikv3", Fit::Near),
            ("the tikv stores", Fit::Near),
            ("pd1", Fit::Near),
            ("web", Fit::Wrong),
            ("tikv22", Fit::Wrong),
            ("none", Fit::None),
            ("", Fit::None),
        ] {
            assert_eq!(component(said, &link.faults[0], &link), expected, "{said}");
        }
        let last = says("tikv2", "unknown", &[]);
        assert_eq!((names_the_truth(Some(&last), &link), names_the_truth(None, &link)), (Some(true), Some(false)));
        assert_eq!(names_the_truth(Some(&last), &truth(&[])), None);
    }

    #[test]
    fn each_fault_takes_its_best_diagnosis() {
        let two = truth(&[("process_crash", &["tikv1"], &[]), ("disk_full", &["pd1"], &[])]);
        let (crash, full) = (says("tikv1", "process_hang", &[]), says("pd1", "disk_full", &[]));
        assert_eq!(fits(&[crash.clone(), full.clone()], &two), [(Fit::Exact, Fit::Near), (Fit::Exact, Fit::Exact)]);
        // A repeated diagnosis replaces the earlier one. If there are more diagnoses than faults, the earliest ones do not count.
        assert_eq!(fits(&[says("tikv1", "overload", &[]), full.clone(), crash.clone()], &two)[0], (Fit::Exact, Fit::Near));
        let spray: Vec<Diagnosis> = ["tikv1", "pd1", "web", "tikv2"].map(|node| says(node, "disk_full", &[])).into();
        assert_eq!(fits(&spray, &two), [(Fit::Near, Fit::Wrong), (Fit::Wrong, Fit::Exact)]);
        let only = grade(&[full], true, &two, &Shown::default()).expect("a grade");
        assert_eq!((only.component, only.fault_class, only.submitted), (0.5, 0.5, 1));
    }

    #[test]
    fn no_fault_may_be_right_and_silence_counts_only_if_a_diagnosis_was_expected() {
        let (none, busy) = (says("none", "none", &[]), says("tikv2", "process_crash", &[]));
        let nothing = truth(&[]);
        assert_eq!(fits(std::slice::from_ref(&none), &nothing), [(Fit::Exact, Fit::Exact)]);
        assert_eq!(fits(std::slice::from_ref(&busy), &nothing), [(Fit::Wrong, Fit::Wrong)]);
        let mut passing = truth(&[("process_crash", &["tikv2"], &[])]);
        assert_eq!(fits(std::slice::from_ref(&none), &passing), [(Fit::None, Fit::Wrong)]);
        passing.passes = true;
        assert_eq!(fits(&[none], &passing), [(Fit::Exact, Fit::Exact)]);
        assert_eq!(fits(&[busy], &passing), [(Fit::Exact, Fit::Exact)]);
        assert_eq!(grade(&[], false, &passing, &Shown::default()), None);
        assert_eq!(grade(&[], true, &passing, &Shown::default()).expect("a grade").faults[0].component, Fit::None);
    }

    #[test]
    fn evidence_must_have_been_shown() {
        let mut shown = Shown::default();
        let output = |text: &str| Output { text: text.into(), bytes: text.len() as u64, ..Output::default() };
        let mut ran = |number: u32, command: &str, stdout: &str| {
            let started = EventKind::CommandStarted { number, command: command.into(), reasoning: String::new(), reported: false };
            let (stdout, stderr) = (output(stdout), output(""));
            let (summary, exit_code, timed_out, took_us) = (String::new(), 0, false, 1);
            let finished = EventKind::CommandFinished { number, exit_code, timed_out, stdout, stderr, summary, took_us };
            for kind in [started, finished] {
                shown.event(&kind);
            }
        };
        ran(1, "docker ps -a", "tikv1   Up 3 seconds\ntikv2   Exited (137) 5 seconds ago\n");
        ran(2, "echo 'no space left on device' > x; cat x", "no space left on device\n");
        ran(3, "cat x", "no space left on device\n");
        ran(4, "docker ps -a | grep 'Exited (137)'", "tikv2   Exited (137) 9 seconds ago\n");
        for (quote, found) in [
            ("tikv2 Exited (137) 5 seconds ago", true),
            ("docker ps: tikv2 Exited (137)", true),
            ("`docker ps -a` shows `Exited (137)`", true),
            ("it has ended:\n  tikv2   Exited (137)\n", true),
            ("tikv3 Exited (137)", false),
            ("Exited", false),
            ("no space left on device", false),
        ] {
            assert_eq!(shown.has(quote), found, "{quote}");
        }
        let said = says("tikv2", "process_crash", &["tikv2 Exited (137)", "tikv3 Exited (137)"]);
        let grade = grade(&[said], true, &truth(&[("process_crash", &["tikv2"], &[])]), &shown).expect("a grade");
        assert_eq!((grade.quotes, grade.quotes_found, &grade.not_found[..]), (2, 1, &["tikv3 Exited (137)".to_owned()][..]));
    }
}
