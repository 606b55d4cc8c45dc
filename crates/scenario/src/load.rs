//! Loading of a scenario with everything that a run needs. The module `files` reads all files except cassettes.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::cli_request::{CliRequest, Overrides};
use super::deserialize::typed;
use super::file_kind::FileKind;
use super::files::{NoFile, at_name, describe};
use super::library::Library;
use super::loader::Loader;
use super::matrix::{self, Matrix};
use super::model::{AutopsyRules, Backend, ClusterSpec, LimitsOverride, Provider, RuleDoing, Scenario, Scoring};
use super::overrides::{self, Setting};
use super::prices;
use super::raw::{RawAutopsy, RawCluster, RawScenario, RawScoring, Short};
use super::resolve::{self, DEFAULT_VARIANT, FoundVariant, Surroundings, missing_variant};
use super::sections::{self, PROGRAMS};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace, sorted};
use chaosrun_input::Document;

/// Scenario file with all files that it names. It is resolved for every cell of its matrix.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub cells: Vec<Cell>,
    pub seeds: Vec<u64>,
    pub repeat: usize,
}

/// Cell of the matrix, with one scenario per variant.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Values of this cell by their paths. `seed` and `agent.variant` are excluded. Empty if the file has no matrix.
    pub values: IndexMap<String, Value>,
    /// Scenario of this cell with each variant that is judged. There is one entry per variant.
    pub subjects: Vec<Arc<Scenario>>,
    /// Scenario of this cell with each control. There is one entry per control.
    pub controls: Vec<Arc<Scenario>>,
}

impl Loaded {
    /// Returns the number of trials that this scenario plans, or `usize::MAX` if the number is larger.
    #[must_use]
    pub fn trials(&self) -> usize {
        let each: usize = self.cells.iter().map(|cell| cell.subjects.len() + cell.controls.len()).sum();
        each.saturating_mul(self.seeds.len()).saturating_mul(self.repeat)
    }
}

/// Path of the default file with rules on commands, for scoring files that name no other file.
pub(super) const AUTOPSY: &str = "scoring/autopsy.yaml";

/// Loads a scenario and all files that it names.
///
/// # Errors
/// Returns all problems of all loaded files, in the order of files and lines.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Vec<Diagnostic>> {
    Library::default().load(path, overrides)
}

impl Library {
    /// Loads a scenario and all files that it names.
    ///
    /// # Errors
    /// Returns all problems of all loaded files, in the order of files and lines.
    pub fn load(&mut self, path: &Path, overrides: &Overrides) -> Result<Loaded, Vec<Diagnostic>> {
        let mut loader = Loader::new(self, overrides);
        let asked = loader.asked();
        let loaded = loader.scenario(path, &asked);
        let problems = sorted(loader.problems);
        match loaded {
            Some(loaded) if problems.is_empty() => Ok(loaded),
            _ => Err(problems),
        }
    }
}

impl Loader<'_> {
    pub(super) fn scenario(&mut self, path: &Path, asked: &CliRequest) -> Option<Loaded> {
        let mut written = self.document(path)?;
        let backend = asked.backend.unwrap_or_else(|| backend_of(&written.value));
        sections::apply_backend(&mut written, FileKind::Scenario, backend);
        self.refuse_cluster_in_sections(&written);
        let mut asked = asked.clone();
        asked.drop_shadowed();
        let doc = self.with_programs(&written, path, backend, &asked.fixed());
        let recorded = recorded_settings(&doc, &asked);
        asked.beneath.extend(recorded);
        let most = self.most_trials();
        let matrix = Matrix::read(&doc, &asked.fixed(), most, &mut self.problems);
        let recorded = self.recorded(&doc);
        let variants = recorded.as_ref().map_or(&asked.variants, |(variants, _)| variants);
        let seeds = match &recorded {
            Some((_, seeds)) if asked.seeds.is_none() => seeds.clone(),
            _ => self.wanted_seeds(&doc, &asked, matrix.seeds.as_deref()),
        };
        let from_file = usize::try_from(doc.value.get("repeat").and_then(Value::as_u64).unwrap_or(1)).unwrap_or(usize::MAX);
        let repeat = asked.repeat.unwrap_or(from_file).max(1);
        let before = self.problems.len();
        let mut found = matrix.cells(variants, &mut self.problems);
        for cell in &mut found {
            let beneath = asked.beneath.iter().map(|setting| (setting.path.text(), setting.value.clone()));
            cell.values = beneath.chain(std::mem::take(&mut cell.values)).collect();
        }
        found.retain(|cell| asked.cell.as_ref().is_none_or(|only| *only == cell.values));
        // Counts the trials before any of them is resolved.
        let each: usize = found.iter().map(|cell| cell.variants.len().max(1)).sum();
        let trials = each.saturating_mul(seeds.len()).saturating_mul(repeat);
        if trials > most {
            let problem = too_many_trials(trials, most);
            let pointer = Pointer::default().key("matrix");
            let problem = problem.label(format!("{each} cells with their variants, {} seeds, {repeat} repeats", seeds.len()));
            let in_matrix = doc.value.get("matrix").is_some();
            self.problems.push(if in_matrix { problem.at(doc.key_place(&pointer)) } else { problem });
            return None;
        }
        let mut cells = Vec::new();
        for found in found {
            let settings: Vec<&Setting> = found.settings.into_iter().chain(asked.fixed()).collect();
            if let Some((subjects, controls)) = self.cell(path, &written, backend, &settings, &found.variants, &asked.limits) {
                cells.push(Cell { values: found.values, subjects, controls });
            }
        }
        if cells.is_empty() && self.problems.len() == before {
            let problem = match asked.cell {
                Some(_) => Diagnostic::error("no_cell", "no cell of the matrix has these values").help("`chaosrun plan` lists all cells"),
                None => Diagnostic::error("no_cell", "this matrix excludes all of its cells")
                    .at(doc.key_place(&Pointer::default().key("matrix")))
                    .label("no cell is left to run"),
            };
            self.problems.push(problem);
        }
        let loaded = Loaded { cells, seeds, repeat };
        if loaded.trials() > most {
            self.problems.push(too_many_trials(loaded.trials(), most));
        }
        Some(loaded)
    }

    /// Returns the maximum number of trials of one file. It is below `usize::MAX`, so that a product that is too large for `usize`
    /// always exceeds it.
    pub(super) fn most_trials(&self) -> usize {
        self.overrides.max_trials.unwrap_or(matrix::MOST).min(usize::MAX - 1)
    }

    /// Returns the scenario document after its section `standin:` or `real:` was merged. The cluster decides which section applies. The
    /// cluster is named by the settings or by the document.
    fn with_programs(&mut self, doc: &Document, path: &Path, backend: Backend, settings: &[&Setting]) -> Document {
        let mut doc = doc.clone();
        let pointer = Pointer::default().key("cluster");
        let set = settings.iter().rfind(|setting| setting.path.pointer == pointer).map(|setting| &setting.value);
        let cluster = set.or(doc.value.get("cluster")).and_then(Value::as_str).map(str::to_owned);
        let standin = cluster.is_some_and(|name| self.is_standin(&name, path, backend));
        sections::apply_programs(&mut doc, FileKind::Scenario, standin);
        doc
    }

    /// Returns true if the cluster `name` runs with stand-ins. Returns false for an unreadable cluster, which is reported when the cluster
    /// is loaded.
    fn is_standin(&mut self, name: &str, from: &Path, backend: Backend) -> bool {
        let Ok(file) = self.library.files.find(name, from) else { return false };
        let key = format!("{} {} {}", file.name, backend.as_str(), self.overrides.standin);
        if let Some(known) = self.library.standins.get(&key) {
            return *known;
        }
        let doc = self.library.document(Path::new(&file.name)).ok().and_then(|(doc, _)| doc.as_ref());
        let standin = doc.is_some_and(|doc| sections::has_standins(doc, backend, self.overrides.standin));
        self.library.standins.insert(key, standin);
        standin
    }

    /// Reports the key `cluster` in the sections `standin:` and `real:`. The cluster itself decides which of these sections applies.
    fn refuse_cluster_in_sections(&mut self, doc: &Document) {
        for name in PROGRAMS {
            let pointer = Pointer::default().key(name).key("cluster");
            if doc.value.get(name).is_some_and(|section| section.get("cluster").is_some()) {
                let problem = Diagnostic::error("bad_section", format!("`{name}` cannot change the cluster"));
                let problem = problem.at(doc.key_place(&pointer)).label("the cluster's file decides whether this section holds");
                self.problems.push(problem.help("name the cluster at the top level, or in `local` and `docker`"));
            }
        }
    }

    /// Returns the variants and seeds that the cassettes recorded for this scenario. Returns `None` if no cassettes replace the models.
    #[expect(clippy::type_complexity, reason = "variants as elsewhere, and seeds")]
    fn recorded(&mut self, doc: &Document) -> Option<(Vec<(String, SourcePlace)>, Vec<u64>)> {
        let replay = self.overrides.replay.as_ref()?;
        let path = replay.path.display().to_string();
        let place = overrides::argument("--replay", &path);
        match replay.recorded(doc.value.get("name").and_then(Value::as_str).unwrap_or_default()) {
            Ok((variants, seeds)) => Some((variants.into_iter().map(|name| (name, place.clone())).collect(), seeds)),
            Err(message) => {
                let problem = Diagnostic::error("bad_cassette", message).at(place.within(0..path.len())).label("no cassette given");
                self.problems.push(problem.help("record cassettes with `chaosrun run SCENARIO --record FOLDER`"));
                None
            }
        }
    }

    fn wanted_seeds(&mut self, doc: &Document, asked: &CliRequest, axis: Option<&[Setting]>) -> Vec<u64> {
        if let Some(seeds) = &asked.seeds {
            return seeds.clone();
        }
        if let Some(axis) = axis {
            let mut found = Vec::new();
            for setting in axis {
                match setting.value.as_u64() {
                    Some(seed) => found.push(seed),
                    None => self.problems.push(
                        Diagnostic::error("wrong_type", format!("`{}` is not a seed", setting.value))
                            .at(SourcePlace::new(Arc::clone(&setting.file), setting.from.clone()))
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

    /// Loads the scenario of one cell with each of its variants.
    #[expect(clippy::type_complexity, reason = "the pair is destructured at once")]
    fn cell(
        &mut self,
        path: &Path,
        doc: &Document,
        backend: Backend,
        settings: &[&Setting],
        variants: &[(String, SourcePlace)],
        limits: &LimitsOverride,
    ) -> Option<(Vec<Arc<Scenario>>, Vec<Arc<Scenario>>)> {
        let mut doc = self.with_programs(doc, path, backend, settings);
        overrides::apply(&mut doc, FileKind::Scenario, None, settings, &mut self.problems);
        if let Some((name, place)) = variants.first() {
            let pointer = Pointer::default().key("agent").key("variant");
            // If `agent` is not a map, deserialization reports it.
            let _ = doc.set(&pointer, Value::from(name.as_str()), &place.file, &place.pointer);
        }
        let (raw, mut problems) = typed::<RawScenario>(&mut doc);
        self.problems.append(&mut problems);
        let raw = raw?;
        let cluster = raw.cluster.as_ref().and_then(|name| {
            let place = doc.place(&Pointer::default().key("cluster"));
            self.cluster(name, path, backend, settings, &place)
        });
        let scoring_name = raw.scoring.as_deref().unwrap_or("scoring/default.yaml");
        let scoring = self.scoring(scoring_name, path, settings, &doc.place(&Pointer::default().key("scoring")));
        let own = raw.agent.variant.clone().unwrap_or_else(|| DEFAULT_VARIANT.to_owned());
        let known_variants = self.library.files.known_variants(path);
        let found: IndexMap<String, FoundVariant> =
            wanted(&raw, variants, &own).into_iter().map(|name| (name.clone(), self.variant(&name, path))).collect();
        let around = Surroundings {
            cluster: cluster.as_ref().map(|(cluster, doc)| (Arc::clone(cluster), &**doc)),
            scoring,
            variants: &found,
            known_variants: &known_variants,
            backend,
        };
        let (scenario, mut problems) = resolve::scenario(&doc, &raw, &around);
        self.problems.append(&mut problems);
        for (name, place) in variants.iter().skip(1) {
            if let Some(FoundVariant::Missing(searched)) = found.get(name) {
                self.problems.push(missing_variant(name, searched, &known_variants).at(place.clone()));
            }
        }
        let mut scenario = scenario?;
        scenario.declared_limits = scenario.declared_limits.least(limits);
        let with = |name: &str| match found.get(name) {
            Some(FoundVariant::Variant(variant)) => Some(Arc::new(scenario.with_variant(variant))),
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

    /// Reports a limit in dollars if the price of the variant's model is unknown.
    fn refuse_unpriced(&mut self, scenarios: &[Arc<Scenario>]) {
        for scenario in scenarios.iter().filter(|scenario| scenario.limits.usd.is_some()) {
            let root = Pointer::default();
            let unpriced: Vec<(&str, Pointer)> = match &scenario.variant.provider {
                Provider::Model(model) => {
                    let own = prices::price(model).is_none().then(|| (model.model.as_str(), root.key("model")));
                    let summary = model.summary.as_deref().filter(|own| prices::price_of(own.price, &own.model).is_none());
                    own.into_iter().chain(summary.map(|own| (own.model.as_str(), root.key("summary").key("model")))).collect()
                }
                Provider::Command(program) => program
                    .models
                    .iter()
                    .enumerate()
                    .flat_map(|(at, served)| {
                        let names = root.key("models").index(at).key("names");
                        let unknown = served.names.iter().enumerate().filter(|(_, name)| prices::price_of(served.price, name).is_none());
                        unknown.map(move |(at, name)| (name.as_str(), names.index(at)))
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for (model, pointer) in unpriced {
                let problem = Diagnostic::error("no_price", format!("the price of `{model}` is unknown, but a limit in US dollars is set"));
                let place = SourcePlace::new(Arc::clone(&scenario.variant.file), pointer);
                let help = "add `price: { input: X, output: Y }` in US dollars per million tokens; use 0 if the model is free";
                let problem = problem.at(place).label("not in the price table").help(help);
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }

    /// Reports calls of actions that the cluster does not declare. The check needs both the cluster and the variants.
    fn refuse_unfit_actions(&mut self, scenarios: &[Arc<Scenario>]) {
        for scenario in scenarios {
            let cluster = &scenario.cluster;
            let mut found = Vec::new();
            match &scenario.variant.provider {
                Provider::Model(_) | Provider::Command(_) if scenario.variant.acts() && cluster.actions.is_empty() => {
                    let problem = Diagnostic::error("no_actions", format!("cluster `{}` declares no `actions`", cluster.name));
                    let place = SourcePlace::new(Arc::clone(&scenario.variant.file), Pointer::default().key("tools"));
                    let help = "declare actions in the cluster file, or use a variant with a `shell`";
                    found.push(problem.at(place).label("`act` needs actions").help(help));
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

    /// Loads the cluster `name` that the scenario at `from` names. The sections for the backend and the settings are applied.
    fn cluster(
        &mut self,
        name: &str,
        from: &Path,
        backend: Backend,
        settings: &[&Setting],
        place: &SourcePlace,
    ) -> Option<(Arc<ClusterSpec>, Arc<Document>)> {
        match self.library.files.find(name, from) {
            Ok(file) => self.cluster_file(Path::new(&file.name), backend, settings),
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), place));
                None
            }
        }
    }

    /// Loads the cluster file at `path`.
    pub(super) fn cluster_file(
        &mut self,
        path: &Path,
        backend: Backend,
        settings: &[&Setting],
    ) -> Option<(Arc<ClusterSpec>, Arc<Document>)> {
        let form = format!("{} {}", backend.as_str(), self.overrides.standin);
        let key = format!("cluster {} {form} {}", path.display(), overrides::key(settings, "cluster"));
        self.shared(|library| &mut library.clusters, key, |loader| loader.read_cluster(path, backend, settings))
    }

    fn read_cluster(&mut self, path: &Path, backend: Backend, settings: &[&Setting]) -> Option<(Arc<ClusterSpec>, Arc<Document>)> {
        let mut doc = self.document(path)?;
        let standin = sections::has_standins(&doc, backend, self.overrides.standin);
        sections::apply_backend(&mut doc, FileKind::Cluster, backend);
        sections::apply_programs(&mut doc, FileKind::Cluster, standin);
        overrides::apply(&mut doc, FileKind::Cluster, Some("cluster"), settings, &mut self.problems);
        let (raw, mut problems) = typed::<RawCluster>(&mut doc);
        self.problems.append(&mut problems);
        let raw = raw?;
        let mut templates = IndexMap::new();
        for (role, raw) in raw.nodes.iter().flatten() {
            for (target, source) in &raw.files {
                match self.library.files.find(source, path) {
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
        let (cluster, mut problems) = resolve::cluster(&doc, &raw, resolve::ClusterForm { backend, standin }, &templates);
        self.problems.append(&mut problems);
        Some((Arc::new(cluster), Arc::new(doc)))
    }

    fn scoring(&mut self, name: &str, from: &Path, settings: &[&Setting], place: &SourcePlace) -> Option<Arc<Scoring>> {
        match self.library.files.find(name, from) {
            Ok(file) => self.scoring_file(Path::new(&file.name), settings),
            Err(no_file) => {
                self.problems.push(at_name(describe(name, no_file), place));
                None
            }
        }
    }

    /// Loads the scoring file at `path`.
    pub(super) fn scoring_file(&mut self, path: &Path, settings: &[&Setting]) -> Option<Arc<Scoring>> {
        let key = format!("scoring {} {}", path.display(), overrides::key(settings, "scoring"));
        self.shared(|library| &mut library.scorings, key, |loader| loader.read_scoring(path, settings))
    }

    fn read_scoring(&mut self, path: &Path, settings: &[&Setting]) -> Option<Arc<Scoring>> {
        let mut doc = self.document(path)?;
        overrides::apply(&mut doc, FileKind::Scoring, Some("scoring"), settings, &mut self.problems);
        let (raw, mut problems) = typed::<RawScoring>(&mut doc);
        self.problems.append(&mut problems);
        let raw = raw?;
        let name = raw.autopsy.as_deref().unwrap_or(AUTOPSY);
        let autopsy = match self.library.files.find(name, path) {
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

    /// Loads the rules on commands (autopsy file) at `path`.
    pub(super) fn autopsy_file(&mut self, path: &Path) -> Option<Arc<AutopsyRules>> {
        let key = format!("autopsy {}", path.display());
        self.shared(
            |library| &mut library.autopsies,
            key,
            |loader| {
                let mut doc = loader.document(path)?;
                let (raw, mut problems) = typed::<RawAutopsy>(&mut doc);
                loader.problems.append(&mut problems);
                let (rules, mut problems) = resolve::autopsy(&doc, &raw?);
                loader.problems.append(&mut problems);
                Some(Arc::new(rules))
            },
        )
    }

    fn variant(&mut self, name: &str, from: &Path) -> FoundVariant {
        if let Some(replay) = self.overrides.replay.as_ref().filter(|replay| replay.has(name)) {
            let path = replay.path.display().to_string();
            let key = format!("replay {path} {name}");
            let place = overrides::argument("--replay", &path);
            let found = self.shared(|library| &mut library.variants, key, |loader| loader.replayed(replay, name, &place));
            return found.map_or(FoundVariant::Broken, FoundVariant::Variant);
        }
        let is_path = Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let path = if is_path { name.to_owned() } else { format!("variants/{name}.yaml") };
        match self.library.files.find(&path, from) {
            Ok(file) => self.variant_file(Path::new(&file.name)).map_or(FoundVariant::Broken, FoundVariant::Variant),
            Err(NoFile::Missing(searched)) => FoundVariant::Missing(searched),
            Err(NoFile::Unusable(problem)) => {
                self.problems.push(*problem);
                FoundVariant::Broken
            }
        }
    }
}

/// Returns the backend that a file names. Returns the default backend for an invalid name, which deserialization reports.
fn backend_of(value: &Value) -> Backend {
    value.get("backend").and_then(Value::as_str).and_then(Backend::named).unwrap_or_default()
}

/// Returns the names of all variants that a scenario needs. `own` is the name of the variant in the scenario file.
fn wanted(raw: &RawScenario, variants: &[(String, SourcePlace)], own: &str) -> Vec<String> {
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

/// Returns the values of a recorded cell that are not varied by the matrix of the scenario. A campaign had set these values.
fn recorded_settings(doc: &Document, asked: &CliRequest) -> Vec<Setting> {
    let Some(cell) = &asked.cell else { return Vec::new() };
    // Ignores problems of the matrix. They are reported when the matrix is read again.
    let matrix = Matrix::read(doc, &asked.fixed(), usize::MAX, &mut Vec::new());
    cell.iter().filter(|(path, _)| !matrix.varies(path)).filter_map(|(path, value)| overrides::recorded(path, value)).collect()
}

/// Creates the problem of a file that plans more than `most` trials.
pub(super) fn too_many_trials(trials: usize, most: usize) -> Diagnostic {
    let problem = Diagnostic::error("too_many_trials", format!("{trials} trials are planned, expected at most {most}"));
    problem.help("use fewer seeds, repeats or cells, or allow more with `--max-trials`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::SAMPLES;
    use crate::model::ImageSource;
    use chaosrun_diagnostic::{RenderStyle, render};

    fn sample(name: &str, overrides: &Overrides) -> Result<Loaded, String> {
        let path = format!("{}/scenarios/{name}.yaml", concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        load(Path::new(&path), overrides).map_err(|problems| render(&problems, RenderStyle::default()))
    }

    #[test]
    fn every_sample_loads_in_every_form() {
        let shared = ["clusters/", "scoring/", "campaigns/"].map(|folder| format!("scenarios/{folder}"));
        let mut refused = Vec::new();
        let scenarios = SAMPLES.iter().map(|(path, _)| *path).filter(|path| path.starts_with("scenarios/"));
        for path in scenarios.filter(|path| !shared.iter().any(|folder| path.starts_with(folder))) {
            for (backend, standin) in [(Backend::LOCAL, false), (Backend::DOCKER, false), (Backend::DOCKER, true)] {
                let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
                // Loads each file from its folder and from the binary.
                for whole in [format!("{}/{path}", concat!(env!("CARGO_MANIFEST_DIR"), "/../..")), format!("embedded:{path}")] {
                    match load(Path::new(&whole), &overrides) {
                        Ok(loaded) => assert_eq!(loaded.cells.len(), 1),
                        // The only accepted problem is a fault that this form does not support.
                        Err(problems) if problems.iter().all(|problem| ["fault_not_here", "no_disk"].contains(&problem.code)) => {
                            refused.push((path, backend, standin));
                        }
                        Err(problems) => panic!("{whole}:\n{}", render(&problems, RenderStyle::default())),
                    }
                }
            }
        }
        refused.dedup();
        refused.sort_by_key(|(path, backend, standin)| (*path, backend.as_str(), *standin));
        let expected = [
            // Real stores have no disk of limited size.
            ("scenarios/disk_pressure.yaml", Backend::DOCKER, false),
            // A relay does not see packets.
            ("scenarios/packet_loss.yaml", Backend::LOCAL, false),
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn the_command_line_takes_precedence_over_the_file() {
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
    fn real_programs_run_only_if_the_backend_has_them_and_no_stand_ins_are_requested() {
        for (backend, standin, stands_in) in
            [(Backend::LOCAL, false, true), (Backend::LOCAL, true, true), (Backend::DOCKER, false, false), (Backend::DOCKER, true, true)]
        {
            let overrides = Overrides { backend: Some(backend), standin, ..Overrides::default() };
            let loaded = sample("node_kill", &overrides).unwrap_or_else(|problems| panic!("{problems}"));
            let scenario = &loaded.cells[0].subjects[0];
            let cluster = &scenario.cluster;
            let pd = &cluster.nodes[0];
            let ours = pd.command.first().is_some_and(|word| word.text == "chaosrun");
            let form = format!("{backend:?} {standin}");
            assert_eq!((cluster.standin, cluster.clock_scale.is_some(), ours), (stands_in, stands_in, stands_in), "{form}");
            let detect_within = match (backend.images, stands_in) {
                (false, _) => 5,
                (true, true) => 15,
                (true, false) => 60,
            };
            assert_eq!(scenario.timing.detect_within.as_secs(), detect_within, "{form}");
            let wanted = match (backend.images, stands_in) {
                (false, _) => None,
                (true, true) => Some(ImageSource::Build { folder: "images/server".into(), packages: Vec::new() }),
                (true, false) => Some(ImageSource::Pull("pingcap/pd:v8.5.7".into())),
            };
            assert_eq!(pd.image, wanted, "{form}");
        }
    }

    #[test]
    fn each_cell_uses_its_own_cluster() {
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
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", render(&problems, RenderStyle::default())));
        let stable: Vec<_> = loaded.cells.iter().map(|cell| cell.subjects[0].timing.stable_for.as_secs()).collect();
        assert_eq!(stable, [3, 2]);
    }

    #[test]
    fn trials_are_counted_before_they_are_resolved() {
        let overrides = Overrides { seeds: Some((1..=60).collect()), max_trials: Some(59), ..Overrides::default() };
        let problems = sample("node_kill", &overrides).expect_err("refused");
        assert!(problems.contains("60 trials are planned, expected at most 59"), "{problems}");
        sample("node_kill", &Overrides { max_trials: Some(1_000), ..overrides }).unwrap_or_else(|problems| panic!("{problems}"));
    }

    #[test]
    fn a_number_of_trials_that_overflows_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.yaml");
        let text = "name: x\ncluster: clusters/tikv.yaml\ngoal: nothing\nmatrix: { limits.turns: 1..4 }\n";
        std::fs::write(&file, text).expect("written");
        // The first two products are 2^64, which is 0 in 64 bits.
        for (seeds, repeat) in [(1..=1, 1 << 62), (1..=2, 1 << 61), (1..=1, usize::MAX)] {
            let unlimited = Overrides { max_trials: Some(usize::MAX), ..Overrides::default() };
            let overrides = Overrides { seeds: Some(seeds.collect()), repeat: Some(repeat), ..unlimited };
            let problems = load(&file, &overrides).expect_err("refused");
            assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["too_many_trials"], "{problems:?}");
        }
    }

    #[test]
    fn scenarios_share_the_files_that_they_name() {
        let mut library = Library::default();
        let overrides = Overrides::default();
        let mut load = |name: &str| {
            let path = format!("{}/scenarios/{name}.yaml", concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
            library.load(Path::new(&path), &overrides).unwrap().cells.remove(0).subjects.remove(0)
        };
        let (one, other) = (load("node_kill"), load("node_pause"));
        assert!(Arc::ptr_eq(&one.cluster, &other.cluster) && Arc::ptr_eq(&one.scoring, &other.scoring));
        assert!(Arc::ptr_eq(&one.variant, &other.variant));
    }

    #[test]
    fn problems_of_a_shared_file_are_reported_in_each_load() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("bad.yaml", "nodes: { a: { comand: [a] } }\n");
        write("noop.yaml", "provider: noop\n");
        for name in ["x", "y"] {
            let text = format!("name: {name}\ncluster: bad.yaml\ngoal: nothing\nagent: {{ variant: noop.yaml }}\n");
            write(&format!("{name}.yaml"), &text);
        }
        let mut library = Library::default();
        let mut load = |name: &str| library.load(&folder.path().join(name), &Overrides::default()).expect_err("refused");
        let first = load("x.yaml");
        assert!(first.iter().any(|problem| problem.code == "unknown_field"), "{first:?}");
        assert_eq!(first, load("y.yaml"));
    }

    #[test]
    fn an_unknown_path_of_a_setting_gets_a_suggestion() {
        let overrides = Overrides { set: vec!["chaos.kil.at=2s".into(), "workload.rate=fast".into()], ..Overrides::default() };
        let problems = sample("node_kill", &overrides).expect_err("refused");
        assert!(problems.contains("did you mean `kill`?"), "{problems}");
        assert!(problems.contains("--set workload.rate:1:1"), "{problems}");
    }
}
