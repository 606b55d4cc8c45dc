//! Resolution of a scenario file and of the files that it names.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::variant::{command_above_wall, override_limits};
use super::{Checker, item_of, unknown};
use crate::model::{
    Backend, Buckets, Chaos, Check, ClusterSpec, Goal, Limits, LimitsOverride, Page, Provider, Rule, RuleCommand, RuleDoing, RuleEnd,
    Scenario, Scoring, Timing, Variant, WorkloadUse,
};
use crate::raw::{OneOrMany, RawBuckets, RawChaos, RawCheck, RawCheckMap, RawScenario, RawTiming, Short, Text};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_event::Verdict;
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_fault::Preparation;
use chaosrun_fault::target::candidates;
use chaosrun_input::Document;

/// Result of the search for a variant by name.
#[derive(Debug, Clone)]
pub enum FoundVariant {
    Variant(Arc<Variant>),
    /// The file of the variant has problems, which are already reported.
    Broken,
    /// No file of that name exists. The list contains the searched places.
    Missing(Vec<String>),
}

/// Resolved files that a scenario names. `None` means that a file could not be loaded, which is already reported.
pub struct Surroundings<'a> {
    pub cluster: Option<(Arc<ClusterSpec>, &'a Document)>,
    pub scoring: Option<Arc<Scoring>>,
    /// Results of the search for each variant, by the name that the scenario uses.
    pub variants: &'a IndexMap<String, FoundVariant>,
    /// Names of all available variants, which are used for suggestions.
    pub known_variants: &'a [String],
    pub backend: Backend,
}

/// Key of the section `check` that contains the repair commands of the control agent `oracle`. All other keys are tests.
const SOLUTION: &str = "solution";

/// Name of the variant that a scenario uses if it names none.
pub(crate) const DEFAULT_VARIANT: &str = "playbook";

/// Resolves a scenario with the variant that it names.
pub fn scenario(doc: &Document, raw: &RawScenario, around: &Surroundings) -> (Option<Scenario>, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    for (key, there) in [("name", raw.name.is_some()), ("cluster", raw.cluster.is_some()), ("goal", raw.goal.is_some())] {
        if !there && !doc.was_written(key) {
            let problem = Diagnostic::error("missing_field", format!("`{key}` is missing")).label(format!("expected `{key}` in this file"));
            check.wrong_key(&root, problem);
        }
    }
    let name = raw.name.clone().unwrap_or_default();
    if raw.name.is_some() && (name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
        let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a scenario"));
        check.wrong(&root.key("name"), problem.label("expected letters, digits, `_` and `-`"));
    }
    let timing = timing(&mut check, &root.key("timing"), &raw.timing, None);
    let limits = declared_limits(&mut check, raw);
    let workload = raw.workload.as_ref().map(|raw| workload(&mut check, raw, around));
    let chaos: Vec<Chaos> =
        raw.chaos.iter().filter_map(|(id, raw)| chaos(&mut check, &root.key("chaos").key(id.as_str()), id, raw, around)).collect();
    // Contradictions are checked only if all targets are valid.
    if let (Some((cluster, _)), true) = (&around.cluster, check.problems.is_empty()) {
        super::chaos::contradictions(&mut check, &chaos, cluster);
    }
    let truth = truth(&mut check, raw);
    let page = page(&mut check, raw, around);
    let goal = raw.goal.unwrap_or(Goal::Nothing);
    if goal != Goal::Nothing && raw.chaos.is_empty() && raw.page.is_none() && !doc.lost("chaos") && !doc.lost("page") {
        let problem = Diagnostic::error("no_chaos", "this goal needs a fault, but `chaos` is empty").label("no fault would be injected");
        check.wrong(&root.key("goal"), problem.help("add a fault under `chaos:`, or `goal: nothing`"));
    }
    let wanted = raw.agent.variant.as_deref().unwrap_or(DEFAULT_VARIANT);
    let variant = variant(&mut check, &root.key("agent").key("variant"), wanted, around);
    check.no_duplicates(&root.key("controls"), &raw.controls);
    for (at, name) in raw.controls.iter().enumerate() {
        self::variant(&mut check, &root.key("controls").index(at), name, around);
    }
    let solution = solution(&mut check, raw);
    let checks = checks(&mut check, raw, goal, &timing, around);
    let golden = buckets(&mut check, &raw.golden, &timing);
    let scenario = (|| {
        Some(Scenario {
            name,
            description: raw.description.clone(),
            file: Arc::clone(&doc.file),
            backend: around.backend,
            cluster: around.cluster.as_ref().map(|(cluster, _)| equipped(cluster, &chaos))?,
            workload,
            goal,
            timing,
            chaos,
            truth,
            page,
            limits: limits.least(&variant.as_ref()?.limits),
            variant: variant?,
            declared_limits: limits,
            scoring: around.scoring.clone()?,
            solution,
            check: checks,
            controls: raw.controls.clone(),
            golden,
        })
    })();
    (scenario, check.problems)
}

fn declared_limits(check: &mut Checker, raw: &RawScenario) -> Limits {
    let pointer = Pointer::default().key("limits");
    let given = override_limits(check, &pointer, &raw.limits);
    let wall = given.wall.unwrap_or(Duration::from_secs(600));
    if let Some(command) = given.command.filter(|command| given.wall.is_none() && *command > wall) {
        command_above_wall(check, &pointer.key("command"), command, wall, "`limits.wall` is 10m by default");
    }
    Limits {
        wall,
        turns: given.turns.unwrap_or(50),
        tokens: given.tokens,
        usd: given.usd,
        command: given.command.unwrap_or(Duration::from_secs(120)).min(wall),
        output: given.output.unwrap_or(16 << 10),
    }
}

fn buckets(check: &mut Checker, raw: &RawBuckets, timing: &Timing) -> Buckets {
    let root = Pointer::default().key("golden");
    let mut limits = |key: &str, given: &Option<Vec<f64>>, default: Vec<f64>| {
        let Some(given) = given else { return default };
        for (at, pair) in given.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                let problem = Diagnostic::error("bad_buckets", format!("`{}` is not greater than `{}`", pair[1], pair[0]));
                check.wrong(&root.key(key).index(at + 1), problem.label("expected ascending limits, such as `[0.5, 2]`"));
            }
        }
        given.clone()
    };
    Buckets {
        detect_s: limits("detect_s", &raw.detect_s, vec![timing.detect_within.as_secs_f64()]),
        repair_s: limits("repair_s", &raw.repair_s, vec![timing.repair_within.as_secs_f64()]),
        impact_s: limits("impact_s", &raw.impact_s, Vec::new()),
        score: limits("score", &raw.score, Vec::new()),
    }
}

/// Resolves the section `timing`. If `above` is given, missing values are taken from it.
fn timing(check: &mut Checker, pointer: &Pointer, raw: &RawTiming, above: Option<&Timing>) -> Timing {
    let seconds = Duration::from_secs;
    let mut one = |key: &str, raw, above: Option<Duration>, default| check.duration(&pointer.key(key), raw, above.unwrap_or(default));
    Timing {
        steady_for: one("steady_for", raw.steady_for.as_ref(), above.map(|t| t.steady_for), seconds(1)),
        detect_within: one("detect_within", raw.detect_within.as_ref(), above.map(|t| t.detect_within), seconds(30)),
        repair_within: one("repair_within", raw.repair_within.as_ref(), above.map(|t| t.repair_within), seconds(60)),
        stable_for: one("stable_for", raw.stable_for.as_ref(), above.map(|t| t.stable_for), seconds(2)),
        ready_within: one("ready_within", raw.ready_within.as_ref(), above.map(|t| t.ready_within), seconds(60)),
    }
}

fn workload(check: &mut Checker, raw: &Short<crate::raw::RawWorkloadUse>, around: &Surroundings) -> WorkloadUse {
    let pointer = Pointer::default().key("workload");
    let (name, at) = match raw {
        Short::Word(name) => (name, pointer.clone()),
        Short::Full(raw) => (&raw.name, pointer.key("name")),
    };
    if let Some((_, cluster)) = &around.cluster {
        let known = cluster.keys("workloads");
        if !known.contains(name) {
            check.unknown(&at, "unknown_workload", "workload", name, known.iter().map(String::as_str));
        }
    }
    let Short::Full(raw) = raw else {
        return WorkloadUse { name: name.clone(), clients: 4, rate: 100.0, read_ratio: 0.5 };
    };
    if raw.clients.is_some_and(|clients| clients == 0 || clients > 1000) {
        let problem = Diagnostic::error("out_of_range", format!("`{}` is out of range", raw.clients.unwrap_or_default()));
        check.wrong(&pointer.key("clients"), problem.label("expected a number from 1 to 1000"));
    }
    WorkloadUse {
        name: name.clone(),
        clients: raw.clients.unwrap_or(4),
        rate: check.within(&pointer.key("rate"), raw.rate, 0.1..=1e6, 100.0),
        read_ratio: check.within(&pointer.key("read_ratio"), raw.read_ratio, 0.0..=1.0, 0.5),
    }
}

fn chaos(check: &mut Checker, pointer: &Pointer, id: &str, raw: &RawChaos, around: &Surroundings) -> Option<Chaos> {
    let (cluster, doc) = around.cluster.as_ref()?;
    super::chaos::entry(check, pointer, id, raw, &super::FaultScope { cluster, doc, backend: around.backend })
}

/// Returns the cluster with equipment for faults on clocks and disks. Nodes must be started with this equipment if a fault needs it.
fn equipped(cluster: &Arc<ClusterSpec>, chaos: &[Chaos]) -> Arc<ClusterSpec> {
    let mut equipped: Option<ClusterSpec> = None;
    let nodes = cluster.fault_nodes();
    for entry in chaos {
        let Some(preparation) = entry.fault.description().prepares else { continue };
        let equipped = equipped.get_or_insert_with(|| ClusterSpec::clone(cluster));
        for target in entry.fault.targets() {
            // The nodes of a `select` are known only at the injection, so any node is possible.
            let names = candidates(target, &nodes);
            for node in equipped.nodes.iter_mut().filter(|node| names.as_ref().is_none_or(|names| names.contains(&node.name))) {
                match preparation {
                    Preparation::Clock => node.clock = true,
                    Preparation::DiskLayer => node.layer = true,
                }
            }
        }
    }
    equipped.map_or_else(|| Arc::clone(cluster), Arc::new)
}

/// Resolves the repair commands of the control agent `oracle`, which are in the key `solution` of `check`.
fn solution(check: &mut Checker, raw: &RawScenario) -> Vec<Template> {
    let Some(raw) = raw.check.get(SOLUTION) else { return Vec::new() };
    let pointer = Pointer::default().key("check").key(SOLUTION);
    let mut commands = Vec::new();
    for (at, item) in raw.0.0.iter().enumerate() {
        match item {
            Short::Word(command) => {
                let pointer = item_of(check.doc, &pointer, &raw.0, at);
                commands.extend(check.template(&pointer, &Text(command.clone()), Scope::Agent, &[]));
            }
            Short::Full(_) => {
                let problem = Diagnostic::error("bad_check", "`solution` contains the commands of the oracle and is not a test");
                check.wrong_key(&pointer, problem.label("expected commands: `solution: [\"docker start ...\"]`"));
            }
        }
    }
    commands
}

fn truth(check: &mut Checker, raw: &RawScenario) -> Vec<String> {
    let Some(truth) = &raw.truth else {
        return raw.chaos.iter().filter(|(_, chaos)| !chaos.noise).map(|(id, _)| id.clone()).collect();
    };
    let pointer = Pointer::default().key("truth");
    check.no_duplicates(&pointer, truth);
    let known = check.doc.keys("chaos");
    for (at, id) in truth.iter().enumerate() {
        if !known.contains(id) {
            check.unknown(&pointer.index(at), "unknown_name", "fault id", id, known.iter().map(String::as_str));
        }
    }
    truth.clone()
}

fn page(check: &mut Checker, raw: &RawScenario, around: &Surroundings) -> Option<Page> {
    let raw = raw.page.as_ref()?;
    let pointer = Pointer::default().key("page");
    if let Some((cluster, doc)) = &around.cluster {
        let known = doc.keys("invariants");
        if let Some(invariant) = raw.invariant.as_ref().filter(|name| !known.contains(name)) {
            check.unknown(&pointer.key("invariant"), "unknown_invariant", "invariant", invariant, known.iter().map(String::as_str));
        }
        if let Some(node) = raw.node.as_ref().filter(|name| !doc.lost("nodes") && !cluster.nodes.iter().any(|node| node.name == **name)) {
            check.unknown(&pointer.key("node"), "unknown_node", "node", node, cluster.nodes.iter().map(|node| node.name.as_str()));
        }
    }
    Some(Page {
        at: check.duration(&pointer.key("at"), raw.at.as_ref(), Duration::ZERO),
        invariant: raw.invariant.clone().unwrap_or_else(|| "page".to_owned()),
        node: raw.node.clone(),
        text: raw.text.clone(),
    })
}

fn variant(check: &mut Checker, pointer: &Pointer, name: &str, around: &Surroundings) -> Option<Arc<Variant>> {
    match around.variants.get(name) {
        Some(FoundVariant::Variant(variant)) => Some(Arc::clone(variant)),
        Some(FoundVariant::Missing(searched)) => {
            check.wrong(pointer, missing_variant(name, searched, around.known_variants));
            None
        }
        Some(FoundVariant::Broken) | None => None,
    }
}

/// Creates the problem of a variant that was not found. `searched` lists the searched places, and `known` the available variants.
pub(crate) fn missing_variant(name: &str, searched: &[String], known: &[String]) -> Diagnostic {
    let problem = unknown("unknown_variant", "variant", name, known.iter().map(String::as_str));
    if problem.label.is_some() {
        return problem;
    }
    let help = problem.help.clone().unwrap_or_default();
    problem.help(format!("{help}; searched: {}", searched.join(", ")))
}

/// Resolves the tests of the scenario. The expected verdicts of the agents `noop` and `oracle` follow from the goal. The file declares all
/// other expected verdicts.
fn checks(check: &mut Checker, raw: &RawScenario, goal: Goal, timing: &Timing, around: &Surroundings) -> IndexMap<String, Check> {
    let mut found = IndexMap::new();
    let noop = if matches!(goal, Goal::Repair | Goal::Escalate) { Verdict::Fail } else { Verdict::Pass };
    for (name, expect) in [("noop", noop), ("oracle", Verdict::Pass)] {
        if let (false, Some(FoundVariant::Variant(variant))) = (raw.check.contains_key(name), around.variants.get(name)) {
            let variant = Some(Arc::clone(variant));
            found.insert(name.to_owned(), Check { variant, run: Vec::new(), expect: vec![expect], timing: timing.clone() });
        }
    }
    for (name, raw) in raw.check.iter().filter(|(name, _)| *name != SOLUTION) {
        let pointer = Pointer::default().key("check").key(name.as_str());
        if let Some(resolved) = one_check(check, &pointer, name, raw, timing, around) {
            found.insert(name.clone(), resolved);
        }
    }
    found
}

fn one_check(check: &mut Checker, pointer: &Pointer, name: &str, raw: &RawCheck, above: &Timing, around: &Surroundings) -> Option<Check> {
    let words: Vec<&str> =
        raw.0.0.iter().filter_map(|item| if let Short::Word(word) = item { Some(word.as_str()) } else { None }).collect();
    match raw.0.0.as_slice() {
        [Short::Full(map)] => check_map(check, pointer, name, map, above, around),
        items if items.len() == words.len() => {
            let expect = verdicts(check, pointer, &raw.0, &words);
            let variant = match around.variants.get(name) {
                Some(FoundVariant::Missing(searched)) => {
                    let problem = missing_variant(name, searched, around.known_variants);
                    let help = problem.help.clone().unwrap_or_default();
                    check.wrong_key(pointer, problem.help(format!("{help}; to run commands in a check, use `run: [...]`")));
                    return None;
                }
                Some(FoundVariant::Variant(variant)) => Some(Arc::clone(variant)),
                _ => return None,
            };
            Some(Check { variant, run: Vec::new(), expect, timing: above.clone() })
        }
        _ => {
            let problem = Diagnostic::error("wrong_type", "a list of verdicts cannot contain maps").label("expected verdicts only");
            check.wrong(pointer, problem);
            None
        }
    }
}

fn check_map(
    check: &mut Checker,
    pointer: &Pointer,
    name: &str,
    raw: &RawCheckMap,
    above: &Timing,
    around: &Surroundings,
) -> Option<Check> {
    let timing = timing(check, &pointer.key("timing"), &raw.timing, Some(above));
    let words: Vec<&str> = raw.expect.0.iter().map(String::as_str).collect();
    let expect = verdicts(check, &pointer.key("expect"), &raw.expect, &words);
    if raw.expect.0.is_empty() && !check.doc.lost("check") {
        let problem =
            Diagnostic::error("missing_field", format!("check `{name}` has no `expect`")).label("expected `expect: VERDICT` in this map");
        check.wrong_key(pointer, problem);
    }
    if raw.run.0.is_empty() {
        let wanted = raw.variant.as_deref().unwrap_or(name);
        let at = if raw.variant.is_some() { pointer.key("variant") } else { pointer.clone() };
        return match around.variants.get(wanted) {
            Some(FoundVariant::Missing(searched)) => {
                let problem = missing_variant(wanted, searched, around.known_variants);
                if raw.variant.is_some() {
                    check.wrong(&at, problem);
                } else {
                    check.wrong_key(&at, problem);
                }
                None
            }
            Some(FoundVariant::Variant(variant)) => Some(Check { variant: Some(Arc::clone(variant)), run: Vec::new(), expect, timing }),
            _ => None,
        };
    }
    if raw.variant.is_some() {
        let problem = Diagnostic::error("bad_check", "`variant` and `run` are set at the same time").label("expected only one of them");
        check.wrong_key(&pointer.key("variant"), problem);
    }
    let pointer = pointer.key("run");
    let run: Vec<Template> = raw
        .run
        .0
        .iter()
        .enumerate()
        .filter_map(|(at, text)| check.template(&item_of(check.doc, &pointer, &raw.run, at), text, Scope::Agent, &[]))
        .collect();
    let variant = commands_variant(check, name, &run);
    Some(Check { variant, run, expect, timing })
}

/// Creates a scripted agent that runs the commands of a test one after another, and then reports the problem as resolved.
fn commands_variant(check: &mut Checker, name: &str, run: &[Template]) -> Option<Arc<Variant>> {
    let when: Expr = check.own_expr("true", Scope::Agent)?;
    let reasoning = Template::compile("", None, Scope::Agent, &[]).ok()?;
    let commands = run
        .iter()
        .map(|run| RuleCommand { when: None, what: RuleDoing::Run(run.clone()), reasoning: reasoning.clone(), until: None })
        .collect();
    let rules = vec![Rule { when, commands, diagnosis: None, end: RuleEnd::Resolve }];
    Some(Arc::new(Variant {
        name: name.to_owned(),
        description: "commands of a check".to_owned(),
        file: Arc::clone(&check.doc.file),
        provider: Provider::Scripted { rules },
        limits: LimitsOverride::default(),
        sandbox: false,
    }))
}

fn verdicts<T>(check: &mut Checker, pointer: &Pointer, list: &OneOrMany<T>, words: &[&str]) -> Vec<Verdict> {
    const VERDICTS: [Verdict; 5] = [Verdict::Pass, Verdict::UnsafePass, Verdict::Fail, Verdict::Timeout, Verdict::Invalid];
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if let Some(verdict) = VERDICTS.iter().find(|verdict| verdict.as_str() == *word) {
            found.push(*verdict);
        } else {
            let pointer = item_of(check.doc, pointer, list, at);
            check.unknown(&pointer, "unknown_word", "verdict", word, VERDICTS.iter().map(|verdict| verdict.as_str()));
        }
    }
    found
}
