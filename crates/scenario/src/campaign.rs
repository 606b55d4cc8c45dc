//! Loading of a campaign file and of all its scenarios. The settings of the campaign are applied to each scenario.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::cli_request::{CliRequest, Overrides};
use super::deserialize::typed;
use super::file_kind::FileKind;
use super::files::{at_name, describe};
use super::library::Library;
use super::load::{Loaded, too_many_trials};
use super::loader::Loader;
use super::model::{Backend, Campaign, LimitsOverride, Scenario};
use super::overrides::Setting;
use super::raw::{RawCampaign, RawEntry, RawSeeds, Short};
use super::resolve;
use super::{path, seeds};
use crate::digest;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace, sorted};
use chaosrun_input::Document;
use chaosrun_input::unknown;

/// Loaded campaign, with all scenarios that its file names.
#[derive(Debug, Clone)]
pub struct LoadedCampaign {
    pub campaign: Arc<Campaign>,
    /// Scenarios in the order of the campaign file. A scenario that runs on several backends occurs once per backend.
    pub scenarios: Vec<Loaded>,
}

/// Loads a campaign and all files that it names.
///
/// # Errors
/// Returns all problems of all loaded files, in the order of files and lines.
pub fn load_campaign(path: &Path, overrides: &Overrides) -> Result<LoadedCampaign, Vec<Diagnostic>> {
    Library::default().load_campaign(path, overrides)
}

impl Library {
    /// Loads a campaign and all files that it names.
    ///
    /// # Errors
    /// Returns all problems of all loaded files, in the order of files and lines.
    pub fn load_campaign(&mut self, path: &Path, overrides: &Overrides) -> Result<LoadedCampaign, Vec<Diagnostic>> {
        let mut loader = Loader::new(self, overrides);
        let loaded = loader.campaign(path);
        let problems = sorted(loader.problems);
        match loaded {
            Some(loaded) if problems.is_empty() => Ok(loaded),
            _ => Err(problems),
        }
    }
}

/// Loaded scenario of a campaign, with the place in the campaign file that names the scenario.
struct Named {
    loaded: Loaded,
    place: SourcePlace,
}

impl Loader<'_> {
    /// Loads the campaign at `path`. Returns `None` if the campaign file has errors that prevent loading.
    pub(super) fn campaign(&mut self, path: &Path) -> Option<LoadedCampaign> {
        let mut doc = self.document(path)?;
        let (raw, mut problems) = typed::<RawCampaign>(&mut doc);
        self.problems.append(&mut problems);
        let raw = raw?;
        let (campaign, limits, mut problems) = resolve::campaign(&doc, &raw);
        self.problems.append(&mut problems);
        let mut named = Vec::new();
        for (at, entry) in raw.scenarios.iter().enumerate() {
            named.extend(self.entry(path, &doc, &raw, &limits, at, entry));
        }
        let trials = named.iter().map(|one| one.loaded.trials()).fold(0, usize::saturating_add);
        let most = self.most_trials();
        if trials > most {
            self.problems.push(too_many_trials(trials, most).at(doc.key_place(&Pointer::default().key("scenarios"))));
        }
        self.refuse_twice(&named);
        self.refuse_unknown_reference(&doc, &campaign, &named);
        Some(LoadedCampaign { campaign: Arc::new(campaign), scenarios: named.into_iter().map(|one| one.loaded).collect() })
    }

    /// Loads one scenario of the campaign, once for each of its backends.
    fn entry(
        &mut self,
        path: &Path,
        doc: &Document,
        raw: &RawCampaign,
        limits: &LimitsOverride,
        at: usize,
        entry: &Short<RawEntry>,
    ) -> Vec<Named> {
        let pointer = Pointer::default().key("scenarios").index(at);
        let (name, pointer, own) = match entry {
            Short::Word(name) => (name, pointer.clone(), None),
            Short::Full(own) => (&own.file, pointer.key("file"), Some((own, pointer))),
        };
        let place = doc.place(&pointer);
        let file = match self.library.files.find(name, path) {
            Ok(file) => file,
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), &place));
                return Vec::new();
            }
        };
        let kind = self.library.kind_of(Path::new(&file.name)).unwrap_or(FileKind::Scenario);
        if kind != FileKind::Scenario {
            let problem = Diagnostic::error("wrong_kind", format!("`{name}` is {}", kind.with_article())).at(place);
            self.problems.push(problem.label("expected a scenario file"));
            return Vec::new();
        }
        let mut asked = self.asked();
        self.ask(&mut asked, doc, raw, own.as_ref().map(|(own, pointer)| (*own, pointer)));
        asked.limits = limits.clone();
        let backends: Vec<Option<Backend>> = match asked.backend {
            None if !raw.backends.is_empty() => raw.backends.iter().copied().map(Some).collect(),
            one => vec![one],
        };
        let mut named = Vec::new();
        for backend in backends {
            let asked = CliRequest { backend, ..asked.clone() };
            if let Some(loaded) = self.scenario(Path::new(&file.name), &asked) {
                named.push(Named { loaded, place: place.clone() });
            }
        }
        named
    }

    /// Adds the settings of the campaign and of one of its entries to `asked`. Settings of the command line take precedence.
    fn ask(&mut self, asked: &mut CliRequest, doc: &Document, raw: &RawCampaign, own: Option<(&RawEntry, &Pointer)>) {
        let root = Pointer::default();
        if asked.variants.is_empty() {
            let (names, pointer) = match own.and_then(|(own, pointer)| Some((own.variants.as_ref()?, pointer))) {
                Some((names, pointer)) => (names, pointer.key("variants")),
                None => (&raw.variants, root.key("variants")),
            };
            asked.variants = names.iter().enumerate().map(|(at, name)| (name.clone(), doc.place(&pointer.index(at)))).collect();
        }
        if asked.seeds.is_none() {
            asked.seeds = match own.and_then(|(own, pointer)| Some((own.seeds.as_ref()?, pointer))) {
                Some((seeds, pointer)) => self.seeds(doc, &pointer.key("seeds"), seeds),
                None => raw.seeds.as_ref().and_then(|seeds| self.seeds(doc, &root.key("seeds"), seeds)),
            };
        }
        asked.repeat = asked.repeat.or(raw.repeat);
        self.set(asked, doc, &root.key("set"), &raw.set);
        if let Some((own, pointer)) = own {
            self.set(asked, doc, &pointer.key("set"), &own.set);
        }
        if let Some(controls) = &raw.controls {
            let key = root.key("controls");
            let place = doc.place(&key);
            if let Ok(path) = path::parse("controls") {
                let value = Value::from(controls.clone());
                let setting = Setting { path, value, file: place.file, from: place.pointer, whole: doc.key_place(&key) };
                // Adds the setting to `set`, not to `beneath`, because the controls that run beside a trial do not make the trial
                // different.
                asked.set.insert(0, setting);
            }
        }
    }

    fn seeds(&mut self, doc: &Document, pointer: &Pointer, raw: &RawSeeds) -> Option<Vec<u64>> {
        match seeds::listed(&raw.0) {
            Ok(seeds) => Some(seeds),
            Err(message) => {
                let problem = Diagnostic::error("bad_seeds", message).at(doc.place(pointer)).label("expected seeds");
                self.problems.push(problem.help("a number, a list of numbers, or an inclusive range such as `1..20`"));
                None
            }
        }
    }

    /// Adds the settings of a `set:` map to `asked`. If two settings have the same path, the later one is used.
    fn set(&mut self, asked: &mut CliRequest, doc: &Document, pointer: &Pointer, set: &IndexMap<String, Value>) {
        /// Paths that cannot be set by `set:`, because a campaign has separate keys for them.
        const OWN: [(&str, &str); 5] =
            [("seed", "seeds"), ("agent.variant", "variants"), ("backend", "backends"), ("repeat", "repeat"), ("controls", "controls")];
        for (text, value) in set {
            let key = pointer.key(text.as_str());
            let path = match path::parse(text) {
                Ok(path) => path,
                Err((message, _)) => {
                    self.problems.push(Diagnostic::error("bad_path", message).at(doc.key_place(&key)));
                    continue;
                }
            };
            if let Some((_, other)) = OWN.iter().find(|(own, _)| *own == path.text()) {
                let problem = Diagnostic::error("bad_setting", format!("`set` cannot change `{text}`")).at(doc.key_place(&key));
                self.problems.push(problem.label("has its own key").help(format!("use `{other}:` instead")));
                continue;
            }
            let place = doc.place(&key);
            asked.beneath.retain(|setting| setting.path.pointer != path.pointer);
            asked.beneath.push(Setting { path, value: value.clone(), file: place.file, from: place.pointer, whole: doc.key_place(&key) });
        }
    }

    /// Reports trials that the campaign contains twice, because they would be paid for and counted twice. Also reports two scenarios with
    /// the same name, because their results could not be distinguished.
    fn refuse_twice(&mut self, named: &[Named]) {
        let mut known: IndexMap<String, Vec<(usize, &[u64])>> = IndexMap::new();
        let mut yardsticks: IndexMap<String, (String, usize)> = IndexMap::new();
        for (at, one) in named.iter().enumerate() {
            let mut told = false;
            for cell in &one.loaded.cells {
                let Some(first) = cell.subjects.first().or(cell.controls.first()) else { continue };
                let yardstick = digest::yardstick(first);
                let identity = format!("{} {} {}", first.name, first.backend.as_str(), sorted_values(&cell.values));
                let (other, place) = yardsticks.entry(identity).or_insert_with(|| (yardstick.clone(), at));
                if *other != yardstick && !told {
                    told = true;
                    let message = format!("two scenarios of this campaign are named `{}`", first.name);
                    let problem = Diagnostic::error("duplicate_name", message).at(one.place.clone());
                    let problem = problem.label(also(&named[*place].place));
                    self.problems.push(problem.help("trials are compared by name: rename one of them"));
                }
                let subjects = cell.subjects.iter().map(|subject| ("subject", subject));
                for (role, scenario) in subjects.chain(cell.controls.iter().map(|control| ("control", control))) {
                    let key = format!("{yardstick} {role} {} {}", scenario.variant.name, scenario.backend.as_str());
                    let others = known.entry(key).or_default();
                    let same = |seeds: &[u64]| one.loaded.seeds.iter().find(|seed| seeds.contains(seed)).copied();
                    let twice = others.iter().find_map(|(other, seeds)| Some((*other, same(seeds)?)));
                    if let Some((other, seed)) = twice.filter(|_| !told) {
                        told = true;
                        self.problems.push(twice_named(scenario, seed, one, &named[other]));
                    }
                    others.push((at, &one.loaded.seeds));
                }
            }
        }
    }

    /// Reports a reference variant that is not among the variants of the campaign.
    fn refuse_unknown_reference(&mut self, doc: &Document, campaign: &Campaign, named: &[Named]) {
        let Some(compare) = &campaign.compare else { return };
        let mut known: Vec<&str> = Vec::new();
        let all = named.iter().flat_map(|one| &one.loaded.cells).flat_map(|cell| cell.subjects.iter().chain(&cell.controls));
        for scenario in all {
            if !known.contains(&scenario.variant.name.as_str()) {
                known.push(&scenario.variant.name);
            }
        }
        // The command line may select other variants than the reference. Broken files are reported already.
        let asked = !self.overrides.variants.is_empty() || self.overrides.replay.is_some();
        if !asked && self.problems.is_empty() && !known.contains(&compare.reference.as_str()) {
            let problem = unknown("unknown_variant", "variant", &compare.reference, known);
            self.problems.push(problem.at(doc.place(&Pointer::default().key("compare").key("reference"))));
        }
    }
}

fn twice_named(scenario: &Scenario, seed: u64, here: &Named, there: &Named) -> Diagnostic {
    let message = format!("`{}` with `{}` and seed {seed} is named twice", scenario.name, scenario.variant.name);
    let problem = Diagnostic::error("duplicate_trial", message).at(here.place.clone()).label(also(&there.place));
    problem.help("remove one of them, use other seeds, or use `set` to make them differ")
}

/// Returns a text such as `also at x.yaml:7`, which refers to a second place of the same problem.
fn also(place: &SourcePlace) -> String {
    let spot = place.spot();
    format!("also at {}:{}", spot.file, spot.line)
}

fn sorted_values(values: &IndexMap<String, Value>) -> String {
    let mut all: Vec<String> = values.iter().map(|(path, value)| format!("{path}={value};")).collect();
    all.sort_unstable();
    all.concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::Metric;
    use chaosrun_diagnostic::{RenderStyle, render};

    fn loaded(text: &str, overrides: &Overrides) -> Result<LoadedCampaign, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        fs::write(&file, text).unwrap();
        load_campaign(&file, overrides).map_err(|problems| {
            let text = render(&problems, RenderStyle::default());
            text.replace(&folder.path().display().to_string(), "FOLDER")
        })
    }

    fn good(text: &str, overrides: &Overrides) -> LoadedCampaign {
        loaded(text, overrides).unwrap_or_else(|problems| panic!("{problems}"))
    }

    const CAMPAIGN: &str = "
name: x
scenarios:
- node_kill.yaml
- { file: node_kill.yaml, set: { limits.turns: 9, cluster.tick: 50ms }, variants: [oracle], seeds: [7, 9] }
variants: [noop, playbook]
controls: [oracle]
backends: [local, docker]
seeds: 1..3
repeat: 2
set: { chaos.kill.at: 2s, cluster.tick: 80ms }
limits: { wall: 5s, turns: 100 }
budget: { usd: 1.5, wall: 1h, tokens: 2M }
compare: { reference: playbook, metric: impact_s }
retries: 1
";

    #[test]
    fn a_campaign_changes_its_scenarios_and_entries_add_changes() {
        let found = good(CAMPAIGN, &Overrides::default());
        let campaign = &found.campaign;
        assert_eq!((campaign.name.as_str(), campaign.retries, campaign.fail_fast), ("x", 1, false));
        let budget = campaign.budget;
        assert_eq!((budget.usd, budget.wall.map(|wall| wall.as_secs()), budget.tokens), (Some(1.5), Some(3_600), Some(2_000_000)));
        let compare = campaign.compare.as_ref().unwrap();
        assert_eq!((compare.reference.as_str(), compare.metric, compare.margin), ("playbook", Metric::ImpactS, 1.0));
        let told: Vec<String> = found
            .scenarios
            .iter()
            .map(|one| {
                let cell = &one.cells[0];
                let names = |all: &[Arc<Scenario>]| all.iter().map(|one| one.variant.name.clone()).collect::<Vec<_>>().join(" ");
                let first = &cell.subjects[0];
                let (tick, rate) = (first.cluster.tick.as_millis(), first.workload.as_ref().map_or(0.0, |load| load.rate));
                let at = first.chaos[0].when.latest().as_secs();
                let (wall, turns) = (first.limits.wall.as_secs(), first.limits.turns);
                let values: Vec<&str> = cell.values.keys().map(String::as_str).collect();
                format!(
                    "{} {:?} x{}: {} | {} tick {tick} rate {rate} at {at} wall {wall} turns {turns} {}",
                    first.backend.as_str(),
                    one.seeds,
                    one.repeat,
                    names(&cell.subjects),
                    names(&cell.controls),
                    values.join(" ")
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "local [1, 2, 3] x2: noop playbook | oracle tick 80 rate 500 at 2 wall 5 turns 30 chaos.kill.at cluster.tick",
                "docker [1, 2, 3] x2: noop playbook | oracle tick 80 rate 0 at 2 wall 5 turns 30 chaos.kill.at cluster.tick",
                "local [7, 9] x2: oracle |  tick 50 rate 500 at 2 wall 5 turns 9 chaos.kill.at limits.turns cluster.tick",
                "docker [7, 9] x2: oracle |  tick 50 rate 0 at 2 wall 5 turns 9 chaos.kill.at limits.turns cluster.tick",
            ]
        );
    }

    #[test]
    fn the_command_line_takes_precedence_over_the_file() {
        let text = "name: x\nscenarios: [node_kill.yaml]\nvariants: [noop]\nseeds: 1..3\nset: { chaos.kill.at: 2s, limits.turns: 7 }\n";
        let overrides = Overrides {
            variants: vec!["oracle".into()],
            seeds: Some(vec![5]),
            backend: Some(Backend::DOCKER),
            standin: true,
            set: vec!["chaos.kill.at=3s".into()],
            repeat: Some(4),
            ..Overrides::default()
        };
        let found = good(text, &overrides);
        let one = &found.scenarios[0];
        let subject = &one.cells[0].subjects[0];
        assert_eq!((subject.variant.name.as_str(), subject.backend, &one.seeds[..], one.repeat), ("oracle", Backend::DOCKER, &[5][..], 4));
        assert_eq!((subject.chaos[0].when.latest().as_secs(), subject.limits.turns), (3, 7));
        assert_eq!(one.cells[0].values.keys().collect::<Vec<_>>(), ["limits.turns"]);
    }

    #[test]
    fn a_recorded_trial_of_a_campaign_is_repeated_without_the_campaign() {
        let found = good(CAMPAIGN, &Overrides::default());
        let cell = &found.scenarios[2].cells[0];
        let overrides = Overrides { cell: Some(cell.values.clone()), ..Overrides::default() };
        let alone = crate::load(Path::new("embedded:scenarios/node_kill.yaml"), &overrides).unwrap();
        let subject = &alone.cells[0].subjects[0];
        assert_eq!((subject.cluster.tick.as_millis(), subject.chaos[0].when.latest().as_secs()), (50, 2));
    }

    #[test]
    fn a_number_of_trials_that_overflows_is_refused() {
        // Two times 2^63 trials: 2^64 is 0 in 64 bits.
        for scenarios in ["[node_kill.yaml, node_pause.yaml]\nvariants: [noop]", "[node_kill.yaml]\nvariants: [noop]\ncontrols: [oracle]"] {
            let overrides = Overrides { repeat: Some(1 << 63), max_trials: Some(usize::MAX), ..Overrides::default() };
            let problems = loaded(&format!("name: x\nscenarios: {scenarios}\nseeds: [1]\n"), &overrides).expect_err("refused");
            assert!(problems.contains("error[too_many_trials]"), "{problems}");
        }
    }

    #[test]
    fn problems_are_told_in_the_file_that_has_them() {
        let told = |text: &str| loaded(text, &Overrides::default()).expect_err("refused");
        let twice =
            "name: x\nscenarios:\n- node_kill.yaml\n- { file: node_kill.yaml, seeds: 3..4 }\nvariants: [noop, oracle]\nseeds: 1..3\n";
        let wrong = "name: a b\nscenarios:\n- node_kil.yaml\n- clusters/tikv.yaml\n- { file: node_pause.yaml, set: { chaos.pause.att: 1s, seed: 3 } }\n\
            variants: [noop, noop, orcle]\nseeds: [1, 1]\nlimits: { wall: 0s }\nbudget: { usd: -1, euros: 3 }\n\
            compare: { reference: playbok, margin: 5 }\nretries: 99\n";
        let reference = "name: x\nscenarios: [node_kill.yaml]\nvariants: [noop, oracle]\ncompare: { reference: orcle }\n";
        insta::assert_snapshot!([told(twice), told(wrong), told(reference), told("name: x\nscenarios: []\n")].join("---\n"));
    }

    #[test]
    fn the_campaign_of_the_docs_is_valid() {
        let docs = include_str!("../../../docs/campaigns.md");
        let yaml = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let found = good(yaml, &Overrides::default());
        assert_eq!(found.scenarios.iter().map(Loaded::trials).sum::<usize>(), 2 * (20 * 4 + 5 * 3));
    }

    #[test]
    fn the_shipped_campaigns_match_their_descriptions() {
        let trials = |name: &str| {
            let found = load_campaign(Path::new(&format!("embedded:scenarios/campaigns/{name}.yaml")), &Overrides::default()).unwrap();
            (found.scenarios.len(), found.scenarios.iter().map(Loaded::trials).sum::<usize>())
        };
        assert_eq!([trials("smoke"), trials("five")], [(2, 24), (5, 200)]);
    }
}
