//! From a path to everything a run needs: the only part of `scenario` that reads files.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::asked::Asked;
use super::document::Document;
use super::files::{self, Files, NoFile};
use super::kind::Kind;
use super::matrix::{self, Matrix};
use super::model::{AutopsyRules, Backend, Cluster, LimitsOverride, Provider, RuleDoing, Scenario, Scoring, Variant};
use super::overrides::{self, Setting};
use super::raw::{RawAutopsy, RawCluster, RawScenario, RawScoring, Short};
use super::resolve::{self, DEFAULT_VARIANT, Found, Surroundings, missing_variant};
use super::sections::{self, PROGRAMS};
use super::taped::Replay;
use super::{names, typed::typed};
use crate::agent::model::declared;
use crate::diagnostic::{Diagnostic, Place, Pointer, sorted};

/// What the command line changes.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of the file's variant.
    pub variants: Vec<String>,
    /// Instead of the file's seeds.
    pub seeds: Option<Vec<u64>>,
    pub backend: Option<Backend>,
    /// Stand-ins where the cluster has them, also on a backend that could run the real programs.
    pub standin: bool,
    /// `PATH=VALUE`, as given.
    pub set: Vec<String>,
    pub repeat: Option<usize>,
    /// Only the cell with these values.
    pub cell: Option<IndexMap<String, Value>>,
    /// Recorded sessions instead of models: their variants, and their seeds unless others are given.
    pub replay: Option<Replay>,
}

/// A scenario file with everything it names, in every cell of its matrix.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub cells: Vec<Cell>,
    pub seeds: Vec<u64>,
    pub repeat: usize,
}

/// One cell of the matrix.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Path -> value, without `seed` and `agent.variant`; empty without a matrix.
    pub values: IndexMap<String, Value>,
    /// The scenario with each variant that is judged.
    pub subjects: Vec<Arc<Scenario>>,
    /// The scenario with each variant that runs beside them.
    pub controls: Vec<Arc<Scenario>>,
}

impl Loaded {
    /// How many trials it plans.
    #[must_use]
    pub fn trials(&self) -> usize {
        let each: usize = self.cells.iter().map(|cell| cell.subjects.len() + cell.controls.len()).sum();
        each.saturating_mul(self.seeds.len()).saturating_mul(self.repeat)
    }
}

/// The rules on commands where a scoring file names no others.
pub(super) const AUTOPSY: &str = "scoring/autopsy.yaml";

/// Loads a scenario and all it names.
///
/// # Errors
/// All problems of all its files, in the order of files and lines.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loader = Loader::new(overrides);
    let asked = loader.asked();
    let loaded = loader.scenario(path, &asked);
    let problems = sorted(loader.problems);
    match loaded {
        Some(loaded) if problems.is_empty() => Ok(loaded),
        _ => Err(problems),
    }
}

/// Files read and resolved so far, and what is wrong with them.
pub(super) struct Loader<'a> {
    pub(super) files: Files,
    pub(super) overrides: &'a Overrides,
    pub(super) problems: Vec<Diagnostic>,
    /// By file, backend and settings; so are those below, as far as they depend on it.
    clusters: IndexMap<String, Option<(Arc<Cluster>, Document)>>,
    scorings: IndexMap<String, Option<Arc<Scoring>>>,
    autopsies: IndexMap<String, Option<Arc<AutopsyRules>>>,
    pub(super) variants: IndexMap<String, Option<Arc<Variant>>>,
    /// By a cluster's file and the backend: whether it runs with stand-ins.
    standins: IndexMap<String, bool>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(overrides: &'a Overrides) -> Self {
        Self {
            files: Files::default(),
            overrides,
            problems: Vec::new(),
            clusters: IndexMap::new(),
            scorings: IndexMap::new(),
            autopsies: IndexMap::new(),
            variants: IndexMap::new(),
            standins: IndexMap::new(),
        }
    }

    /// What the command line asks for.
    pub(super) fn asked(&mut self) -> Asked {
        Asked::of(self.overrides, &mut self.problems)
    }

    pub(super) fn document(&mut self, path: &Path) -> Option<Document> {
        match self.files.read(path) {
            Ok(file) => {
                let (doc, mut problems) = Document::read(&file);
                self.problems.append(&mut problems);
                doc
            }
            Err(no_file) => {
                self.problems.push(describe(&path.display().to_string(), no_file));
                None
            }
        }
    }

    pub(super) fn scenario(&mut self, path: &Path, asked: &Asked) -> Option<Loaded> {
        let mut written = self.document(path)?;
        let backend = asked.backend.unwrap_or_else(|| backend_of(&written.value));
        sections::apply_backend(&mut written, Kind::Scenario, backend);
        self.refuse_cluster_in_sections(&written);
        let mut asked = asked.clone();
        asked.drop_shadowed();
        let doc = self.with_programs(&written, path, backend, &asked.fixed());
        let recorded = recorded_settings(&doc, &asked);
        asked.beneath.extend(recorded);
        let matrix = Matrix::read(&doc, &asked.fixed(), &mut self.problems);
        let recorded = self.recorded(&doc);
        let variants = recorded.as_ref().map_or(&asked.variants, |(variants, _)| variants);
        let seeds = match &recorded {
            Some((_, seeds)) if asked.seeds.is_none() => seeds.clone(),
            _ => self.wanted_seeds(&doc, &asked, matrix.seeds.as_deref()),
        };
        let before = self.problems.len();
        let mut cells = Vec::new();
        for found in matrix.cells(variants, &mut self.problems) {
            let beneath = asked.beneath.iter().map(|setting| (setting.path.text(), setting.value.clone()));
            let values: IndexMap<String, Value> = beneath.chain(found.values).collect();
            if asked.cell.as_ref().is_some_and(|only| *only != values) {
                continue;
            }
            let settings: Vec<&Setting> = found.settings.into_iter().chain(asked.fixed()).collect();
            if let Some((subjects, controls)) = self.cell(path, &written, backend, &settings, &found.variants, &asked.limits) {
                cells.push(Cell { values, subjects, controls });
            }
        }
        if cells.is_empty() && self.problems.len() == before {
            let problem = match asked.cell {
                Some(_) => Diagnostic::error("no_cell", "no cell of the matrix has these values").help("`chaosrun plan` lists all cells"),
                None => Diagnostic::error("no_cell", "this matrix leaves out all of its cells")
                    .at(doc.key_place(&Pointer::default().key("matrix")))
                    .label("nothing is left to run"),
            };
            self.problems.push(problem);
        }
        let from_file = usize::try_from(doc.value.get("repeat").and_then(Value::as_u64).unwrap_or(1)).unwrap_or(usize::MAX);
        let repeat = asked.repeat.unwrap_or(from_file).max(1);
        let loaded = Loaded { cells, seeds, repeat };
        if loaded.trials() > matrix::MOST {
            self.problems.push(too_many_trials());
        }
        Some(loaded)
    }

    /// The scenario with its sections for stand-ins or real programs: it follows its cluster, which the settings may name.
    fn with_programs(&mut self, doc: &Document, path: &Path, backend: Backend, settings: &[&Setting]) -> Document {
        let mut doc = doc.clone();
        let pointer = Pointer::default().key("cluster");
        let set = settings.iter().rfind(|setting| setting.path.pointer == pointer).map(|setting| &setting.value);
        let cluster = set.or(doc.value.get("cluster")).and_then(Value::as_str).map(str::to_owned);
        let standin = cluster.is_some_and(|name| self.is_standin(&name, path, backend));
        sections::apply_programs(&mut doc, Kind::Scenario, standin);
        doc
    }

    /// Whether the cluster of that name runs with stand-ins. One that cannot be read is reported where it is loaded.
    fn is_standin(&mut self, name: &str, from: &Path, backend: Backend) -> bool {
        let Ok(file) = self.files.find(name, from) else { return false };
        let key = format!("{} {}", file.name, backend.as_str());
        if let Some(known) = self.standins.get(&key) {
            return *known;
        }
        let standin = Document::read(&file).0.is_some_and(|doc| sections::has_standins(&doc, backend, self.overrides.standin));
        self.standins.insert(key, standin);
        standin
    }

    /// Which of the sections holds depends on the cluster, so none of them can name it.
    fn refuse_cluster_in_sections(&mut self, doc: &Document) {
        for name in PROGRAMS {
            let pointer = Pointer::default().key(name).key("cluster");
            if doc.value.get(name).is_some_and(|section| section.get("cluster").is_some()) {
                let problem = Diagnostic::error("bad_section", format!("`{name}` cannot change the cluster"));
                let problem = problem.at(doc.key_place(&pointer)).label("the cluster's file decides whether this section holds");
                self.problems.push(problem.help("name the cluster at the top, or in `local` and `docker`"));
            }
        }
    }

    /// What was recorded of this scenario, when cassettes are to answer.
    #[expect(clippy::type_complexity, reason = "variants as elsewhere, and seeds")]
    fn recorded(&mut self, doc: &Document) -> Option<(Vec<(String, Place)>, Vec<u64>)> {
        let replay = self.overrides.replay.as_ref()?;
        let path = replay.path.display().to_string();
        let place = overrides::argument("--replay", &path);
        match replay.recorded(doc.value.get("name").and_then(Value::as_str).unwrap_or_default()) {
            Ok((variants, seeds)) => Some((variants.into_iter().map(|name| (name, place.clone())).collect(), seeds)),
            Err(message) => {
                let problem = Diagnostic::error("bad_cassette", message).at(place.within(0..path.len())).label("nothing to live on");
                self.problems.push(problem.help("`chaosrun run SCENARIO --record FOLDER` writes cassettes"));
                None
            }
        }
    }

    fn wanted_seeds(&mut self, doc: &Document, asked: &Asked, axis: Option<&[Setting]>) -> Vec<u64> {
        if let Some(seeds) = &asked.seeds {
            return seeds.clone();
        }
        if let Some(axis) = axis {
            let mut found = Vec::new();
            for setting in axis {
                match setting.value.as_u64() {
                    Some(seed) => found.push(seed),
                    None => self.problems.push(
                        Diagnostic::error("wrong_type", format!("`{}` is no seed", setting.value))
                            .at(Place::new(Arc::clone(&setting.file), setting.from.clone()))
                            .label("expected a whole number"),
                    ),
                }
            }
            return found;
        }
        let fixed = asked.fixed();
        let set = fixed.iter().rfind(|setting| setting.path.pointer == Pointer::default().key("seed")).map(|setting| &setting.value);
        vec![set.or(doc.value.get("seed")).and_then(Value::as_u64).unwrap_or(1)]
    }

    /// One cell: the scenario with each of its variants.
    #[expect(clippy::type_complexity, reason = "the two lists are named where they end up")]
    fn cell(
        &mut self,
        path: &Path,
        doc: &Document,
        backend: Backend,
        settings: &[&Setting],
        variants: &[(String, Place)],
        limits: &LimitsOverride,
    ) -> Option<(Vec<Arc<Scenario>>, Vec<Arc<Scenario>>)> {
        let mut doc = self.with_programs(doc, path, backend, settings);
        overrides::apply(&mut doc, Kind::Scenario, None, settings, &mut self.problems);
        if let Some((name, place)) = variants.first() {
            let pointer = Pointer::default().key("agent").key("variant");
            // A scenario whose `agent` is no map is reported when it is typed.
            let _ = doc.set(&pointer, Value::from(name.as_str()), &place.file, &place.pointer);
        }
        let (raw, mut problems) = typed::<RawScenario>(&mut doc, Kind::Scenario);
        self.problems.append(&mut problems);
        let raw = raw?;
        let cluster = raw.cluster.as_ref().and_then(|name| {
            let place = doc.place(&Pointer::default().key("cluster"));
            self.cluster(name, path, backend, settings, &place)
        });
        let scoring_name = raw.scoring.as_deref().unwrap_or("scoring/default.yaml");
        let scoring = self.scoring(scoring_name, path, settings, &doc.place(&Pointer::default().key("scoring")));
        let own = raw.agent.variant.clone().unwrap_or_else(|| DEFAULT_VARIANT.to_owned());
        let known_variants = files::known_variants(path);
        let found: IndexMap<String, Found> =
            wanted(&raw, variants, &own).into_iter().map(|name| (name.clone(), self.variant(&name, path))).collect();
        let around = Surroundings {
            cluster: cluster.as_ref().map(|(cluster, doc)| (Arc::clone(cluster), doc)),
            scoring,
            variants: &found,
            known_variants: &known_variants,
            backend,
        };
        let (scenario, mut problems) = resolve::scenario(&doc, &raw, &around);
        self.problems.append(&mut problems);
        for (name, place) in variants.iter().skip(1) {
            if let Some(Found::Missing(searched)) = found.get(name) {
                self.problems.push(missing_variant(name, searched, &known_variants).at(place.clone()));
            }
        }
        let mut scenario = scenario?;
        scenario.declared_limits = scenario.declared_limits.least(limits);
        let with = |name: &str| match found.get(name) {
            Some(Found::Variant(variant)) => Some(Arc::new(scenario.with_variant(variant))),
            _ => None,
        };
        let subjects: Vec<Arc<Scenario>> = if variants.is_empty() {
            with(&own).into_iter().collect()
        } else {
            variants.iter().filter_map(|(name, _)| with(name)).collect()
        };
        self.refuse_unpriced(&subjects);
        self.refuse_unfit_actions(&subjects);
        let judged = |name: &str| subjects.iter().any(|subject| subject.variant.name == name);
        let controls = raw.controls.iter().filter(|name| !judged(name)).filter_map(|name| with(name)).collect();
        Some((subjects, controls))
    }

    /// A limit in dollars is none for a model that nobody knows the price of.
    fn refuse_unpriced(&mut self, scenarios: &[Arc<Scenario>]) {
        for scenario in scenarios.iter().filter(|scenario| scenario.limits.usd.is_some()) {
            let root = Pointer::default();
            let unpriced: Vec<(&str, Pointer)> = match &scenario.variant.provider {
                Provider::Model(model) => {
                    let own = declared::price(model).is_none().then(|| (model.model.as_str(), root.key("model")));
                    let summary = model.summary.as_deref().filter(|own| declared::price_of(own.price, &own.model).is_none());
                    own.into_iter().chain(summary.map(|own| (own.model.as_str(), root.key("summary").key("model")))).collect()
                }
                Provider::Command(program) => program
                    .models
                    .iter()
                    .enumerate()
                    .flat_map(|(at, served)| {
                        let names = root.key("models").index(at).key("names");
                        let unknown = served.names.iter().enumerate().filter(|(_, name)| declared::price_of(served.price, name).is_none());
                        unknown.map(move |(at, name)| (name.as_str(), names.index(at)))
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for (model, pointer) in unpriced {
                let problem = Diagnostic::error("no_price", format!("what `{model}` costs is not known, and dollars are limited"));
                let place = Place::new(Arc::clone(&scenario.variant.file), pointer);
                let help = "say `price: { input: X, output: Y }`, in dollars for a million tokens; 0 where nobody is paid";
                let problem = problem.at(place).label("not in the price table").help(help);
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }

    /// Actions are the cluster's: which there are is known only here.
    fn refuse_unfit_actions(&mut self, scenarios: &[Arc<Scenario>]) {
        for scenario in scenarios {
            let cluster = &scenario.cluster;
            let mut found = Vec::new();
            match &scenario.variant.provider {
                Provider::Model(_) | Provider::Command(_) if scenario.variant.acts() && cluster.actions.is_empty() => {
                    let problem = Diagnostic::error("no_actions", format!("cluster `{}` declares no `actions`", cluster.name));
                    let place = Place::new(Arc::clone(&scenario.variant.file), Pointer::default().key("tools"));
                    let help = "declare some in the cluster's file, or take a variant with a `shell`";
                    found.push(problem.at(place).label("`act` has nothing to offer there").help(help));
                }
                Provider::Scripted { rules } => {
                    for command in rules.iter().flat_map(|rule| &rule.commands) {
                        let RuleDoing::Act { action, params, place } = &command.what else { continue };
                        let given: Vec<&str> = params.keys().map(String::as_str).collect();
                        found.extend(
                            resolve::unfit(&cluster.actions, &cluster.name, action, &given).map(|problem| problem.at(place.clone())),
                        );
                    }
                }
                _ => {}
            }
            for problem in found {
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }

    /// The cluster of that name for a scenario at `from`, with its sections for the backend and its settings.
    fn cluster(
        &mut self,
        name: &str,
        from: &Path,
        backend: Backend,
        settings: &[&Setting],
        place: &Place,
    ) -> Option<(Arc<Cluster>, Document)> {
        match self.files.find(name, from) {
            Ok(file) => self.cluster_file(Path::new(&file.name), backend, settings),
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), place));
                None
            }
        }
    }

    /// The cluster file at `path`.
    pub(super) fn cluster_file(&mut self, path: &Path, backend: Backend, settings: &[&Setting]) -> Option<(Arc<Cluster>, Document)> {
        let key = format!("{} {} {}", path.display(), backend.as_str(), overrides::key(settings, "cluster"));
        if let Some(found) = self.clusters.get(&key) {
            return found.clone();
        }
        let found = self.read_cluster(path, backend, settings);
        self.clusters.insert(key, found.clone());
        found
    }

    fn read_cluster(&mut self, path: &Path, backend: Backend, settings: &[&Setting]) -> Option<(Arc<Cluster>, Document)> {
        let mut doc = self.document(path)?;
        let standin = sections::has_standins(&doc, backend, self.overrides.standin);
        sections::apply_backend(&mut doc, Kind::Cluster, backend);
        sections::apply_programs(&mut doc, Kind::Cluster, standin);
        overrides::apply(&mut doc, Kind::Cluster, Some("cluster"), settings, &mut self.problems);
        let (raw, mut problems) = typed::<RawCluster>(&mut doc, Kind::Cluster);
        self.problems.append(&mut problems);
        let raw = raw?;
        let mut templates = IndexMap::new();
        for (role, raw) in raw.nodes.iter().flatten() {
            for (target, source) in &raw.files {
                match self.files.find(source, path) {
                    Ok(file) => {
                        templates.insert(source.clone(), file);
                    }
                    Err(no_file) => {
                        let pointer = Pointer::default().key("nodes").key(role.as_str()).key("files").key(target.as_str());
                        self.problems.push(at_name(describe(source, no_file), &doc.place(&pointer)));
                    }
                }
            }
        }
        let (cluster, mut problems) = resolve::cluster(&doc, &raw, resolve::Form { backend, standin }, &templates);
        self.problems.append(&mut problems);
        Some((Arc::new(cluster), doc))
    }

    fn scoring(&mut self, name: &str, from: &Path, settings: &[&Setting], place: &Place) -> Option<Arc<Scoring>> {
        match self.files.find(name, from) {
            Ok(file) => self.scoring_file(Path::new(&file.name), settings),
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), place));
                None
            }
        }
    }

    /// The scoring file at `path`.
    pub(super) fn scoring_file(&mut self, path: &Path, settings: &[&Setting]) -> Option<Arc<Scoring>> {
        let key = format!("{} {}", path.display(), overrides::key(settings, "scoring"));
        if let Some(found) = self.scorings.get(&key) {
            return found.clone();
        }
        let found = self.read_scoring(path, settings);
        self.scorings.insert(key, found.clone());
        found
    }

    fn read_scoring(&mut self, path: &Path, settings: &[&Setting]) -> Option<Arc<Scoring>> {
        let mut doc = self.document(path)?;
        overrides::apply(&mut doc, Kind::Scoring, Some("scoring"), settings, &mut self.problems);
        let (raw, mut problems) = typed::<RawScoring>(&mut doc, Kind::Scoring);
        self.problems.append(&mut problems);
        let raw = raw?;
        let name = raw.autopsy.as_deref().unwrap_or(AUTOPSY);
        let autopsy = match self.files.find(name, path) {
            Ok(file) => self.autopsy_file(Path::new(&file.name)),
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), &doc.place(&Pointer::default().key("autopsy"))));
                None
            }
        };
        let (scoring, mut problems) = resolve::scoring(&doc, &raw, autopsy?);
        self.problems.append(&mut problems);
        Some(Arc::new(scoring))
    }

    /// The rules on commands in the file at `path`.
    pub(super) fn autopsy_file(&mut self, path: &Path) -> Option<Arc<AutopsyRules>> {
        let key = path.display().to_string();
        if let Some(found) = self.autopsies.get(&key) {
            return found.clone();
        }
        let found = self.document(path).and_then(|mut doc| {
            let (raw, mut problems) = typed::<RawAutopsy>(&mut doc, Kind::Autopsy);
            self.problems.append(&mut problems);
            let (rules, mut problems) = resolve::autopsy(&doc, &raw?);
            self.problems.append(&mut problems);
            Some(Arc::new(rules))
        });
        self.autopsies.insert(key, found.clone());
        found
    }

    fn variant(&mut self, name: &str, from: &Path) -> Found {
        let key = format!("--replay {name}");
        if let Some(found) = self.variants.get(&key) {
            return found.clone().map_or(Found::Broken, Found::Variant);
        }
        let replay = self.overrides.replay.as_ref();
        if let Some(replay) = replay
            && let Some(found) = self.replayed(replay, name, &overrides::argument("--replay", &replay.path.display().to_string()))
        {
            let variant = if let Found::Variant(variant) = &found { Some(Arc::clone(variant)) } else { None };
            self.variants.insert(key, variant);
            return found;
        }
        let is_path = Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let path = if is_path { name.to_owned() } else { format!("variants/{name}.yaml") };
        match self.files.find(&path, from) {
            Ok(file) => self.variant_file(Path::new(&file.name)).map_or(Found::Broken, Found::Variant),
            Err(NoFile::Missing(searched)) => Found::Missing(searched),
            Err(NoFile::Unusable(problem)) => {
                self.problems.push(*problem);
                Found::Broken
            }
        }
    }
}

/// The backend a file asks for; a wrong word is reported when the file is typed.
fn backend_of(value: &Value) -> Backend {
    if value.get("backend").and_then(Value::as_str) == Some("docker") { Backend::Docker } else { Backend::Local }
}

/// Names of all variants a scenario needs.
fn wanted(raw: &RawScenario, variants: &[(String, Place)], own: &str) -> Vec<String> {
    let mut names: Vec<String> = variants.iter().map(|(name, _)| name.clone()).collect();
    names.extend([own, "noop", "oracle"].map(str::to_owned));
    names.extend(raw.controls.iter().cloned());
    for (name, check) in &raw.check {
        match check.0.0.as_slice() {
            [Short::Full(map)] if !map.run.0.is_empty() => names.extend(map.variant.clone()),
            [Short::Full(map)] => names.push(map.variant.clone().unwrap_or_else(|| name.clone())),
            _ => names.push(name.clone()),
        }
    }
    names
}

/// Of a recorded cell, what is no matter of the matrix: a campaign had set it.
fn recorded_settings(doc: &Document, asked: &Asked) -> Vec<Setting> {
    let Some(cell) = &asked.cell else { return Vec::new() };
    // Which paths there are is told again, with its problems, when the matrix is read for good.
    let matrix = Matrix::read(doc, &asked.fixed(), &mut Vec::new());
    cell.iter().filter(|(path, _)| !matrix.varies(path)).filter_map(|(path, value)| overrides::recorded(path, value)).collect()
}

pub(super) fn too_many_trials() -> Diagnostic {
    Diagnostic::error("too_many_trials", format!("more than {} trials", matrix::MOST)).help("use fewer seeds, repeats or cells")
}

pub(super) fn at_name(problem: Diagnostic, place: &Place) -> Diagnostic {
    if problem.place.is_some() { problem } else { problem.at(place.clone()) }
}

/// A file that is not there, with the places searched and what was probably meant.
pub(super) fn describe(name: &str, no_file: NoFile) -> Diagnostic {
    let searched = match no_file {
        NoFile::Unusable(problem) => return *problem,
        NoFile::Missing(searched) => searched,
    };
    let problem = Diagnostic::error("missing_file", format!("`{name}` was not found"));
    let file = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside: Vec<String> = searched
        .iter()
        .filter_map(|place| std::fs::read_dir(Path::new(place.trim_matches('`')).parent()?).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    let problem = match names::closest(&file, beside.iter().map(String::as_str)) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label("there is no such file"),
    };
    problem.help(format!("searched: {}", searched.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Look, render};
    use crate::scenario::embedded::SAMPLES;
    use crate::scenario::model::ImageSource;

    fn sample(name: &str, overrides: &Overrides) -> Result<Loaded, String> {
        let path = format!("{}/scenarios/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        load(Path::new(&path), overrides).map_err(|problems| render(&problems, Look::default()))
    }

    #[test]
    fn every_sample_loads_in_every_form() {
        let shared = ["clusters/", "scoring/", "campaigns/"].map(|folder| format!("scenarios/{folder}"));
        let mut refused = Vec::new();
        let scenarios = SAMPLES.iter().map(|(path, _)| *path).filter(|path| path.starts_with("scenarios/"));
        for path in scenarios.filter(|path| !shared.iter().any(|folder| path.starts_with(folder))) {
            for (backend, standin) in [(Backend::Local, false), (Backend::Docker, false), (Backend::Docker, true)] {
                let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
                // From the folder, and out of the binary.
                for whole in [format!("{}/{path}", env!("CARGO_MANIFEST_DIR")), format!("embedded:{path}")] {
                    match load(Path::new(&whole), &overrides) {
                        Ok(loaded) => assert_eq!(loaded.cells.len(), 1),
                        // Only a fault that this form cannot have.
                        Err(problems) if problems.iter().all(|problem| ["fault_not_here", "no_disk"].contains(&problem.code)) => {
                            refused.push((path, backend, standin));
                        }
                        Err(problems) => panic!("{whole}:\n{}", render(&problems, Look::default())),
                    }
                }
            }
        }
        refused.dedup();
        refused.sort_by_key(|(path, backend, standin)| (*path, backend.as_str(), *standin));
        let expected = [
            // Real stores have no disk of their own.
            ("scenarios/disk_pressure.yaml", Backend::Docker, false),
            // A relay sees no packets.
            ("scenarios/packet_loss.yaml", Backend::Local, false),
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn what_the_command_line_sets_wins_over_the_file() {
        let overrides = Overrides {
            set: vec!["chaos.kill.at=2s".into(), "cluster.nodes.tikv.count=5".into(), "limits.turns=3".into()],
            variants: vec!["noop".into(), "oracle".into()],
            seeds: Some(vec![7, 8]),
            ..Overrides::default()
        };
        let loaded = sample("node_kill", &overrides).unwrap_or_else(|problems| panic!("{problems}"));
        let subjects = &loaded.cells[0].subjects;
        assert_eq!(subjects.iter().map(|one| one.variant.name.as_str()).collect::<Vec<_>>(), ["noop", "oracle"]);
        assert_eq!(subjects[0].chaos[0].when.latest(), std::time::Duration::from_secs(2));
        assert_eq!(subjects[0].cluster.roles["tikv"].nodes.len(), 5);
        assert_eq!((subjects[0].limits.turns, &loaded.seeds[..]), (3, &[7, 8][..]));
    }

    #[test]
    fn real_programs_run_only_on_a_backend_that_has_them_and_when_no_stand_ins_are_asked_for() {
        for (backend, standin, stands_in) in
            [(Backend::Local, false, true), (Backend::Local, true, true), (Backend::Docker, false, false), (Backend::Docker, true, true)]
        {
            let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
            let loaded = sample("node_kill", &overrides).unwrap_or_else(|problems| panic!("{problems}"));
            let scenario = &loaded.cells[0].subjects[0];
            let cluster = &scenario.cluster;
            let pd = &cluster.nodes[0];
            let ours = pd.command.first().is_some_and(|word| word.text == "chaosrun");
            let form = format!("{backend:?} {standin}");
            assert_eq!((cluster.standin, cluster.clock_scale.is_some(), ours), (stands_in, stands_in, stands_in), "{form}");
            let detect_within = match (backend, stands_in) {
                (Backend::Local, _) => 5,
                (Backend::Docker, true) => 15,
                (Backend::Docker, false) => 60,
            };
            assert_eq!(scenario.timing.detect_within.as_secs(), detect_within, "{form}");
            let wanted = match (backend, stands_in) {
                (Backend::Local, _) => None,
                (Backend::Docker, true) => Some(ImageSource::Build { folder: "images/server".into(), packages: Vec::new() }),
                (Backend::Docker, false) => Some(ImageSource::Pull("pingcap/pd:v8.5.7".into())),
            };
            assert_eq!(pd.image, wanted, "{form}");
        }
    }

    #[test]
    fn each_cell_follows_its_own_cluster() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("real.yaml", "nodes: { a: { command: [a] } }\n");
        write("stand.yaml", "nodes: { a: { command: [a], standin: { command: [b] } } }\n");
        write("noop.yaml", "provider: noop\n");
        write(
            "x.yaml",
            "name: x\ncluster: real.yaml\ngoal: nothing\nagent: { variant: noop.yaml }\nmatrix: { cluster: [real.yaml, stand.yaml] }\n\
             timing: { stable_for: 1s }\nstandin: { timing: { stable_for: 2s } }\nreal: { timing: { stable_for: 3s } }\n",
        );
        let loaded = load(&folder.path().join("x.yaml"), &Overrides::default());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", render(&problems, Look::default())));
        let stable: Vec<_> = loaded.cells.iter().map(|cell| cell.subjects[0].timing.stable_for.as_secs()).collect();
        assert_eq!(stable, [3, 2]);
    }

    #[test]
    fn a_setting_that_leads_nowhere_says_what_was_meant() {
        let overrides = Overrides { set: vec!["chaos.kil.at=2s".into(), "workload.rate=fast".into()], ..Overrides::default() };
        let problems = sample("node_kill", &overrides).expect_err("refused");
        assert!(problems.contains("did you mean `kill`?"), "{problems}");
        assert!(problems.contains("--set workload.rate:1:1"), "{problems}");
    }
}
