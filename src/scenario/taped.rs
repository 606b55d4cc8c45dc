//! Variants that live on cassettes: the model that was recorded, made again of what the cassette holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::document::Document;
use super::files;
use super::kind::Kind;
use super::load::Loader;
use super::model::{Cassettes, Matching, Provider, Taped, Variant};
use super::raw::{RawMatching, RawVariant};
use super::resolve::{self, Found};
use super::typed::typed;
use crate::agent::model::cassette::{Origin, shelf};
use crate::diagnostic::{Diagnostic, Place, Pointer, SourceFile};

/// Cassettes that answer instead of the models that a command line would ask.
#[derive(Debug, Clone)]
pub struct Replay {
    /// A cassette, or a folder of them.
    pub path: PathBuf,
    pub mode: Matching,
}

type Tapes = Vec<(PathBuf, Origin)>;

impl Replay {
    /// The variants that were recorded and the seeds of a scenario, each in their order.
    ///
    /// # Errors
    /// When there is no cassette, or it cannot be read.
    pub(super) fn recorded(&self, scenario: &str) -> Result<(Vec<String>, Vec<u64>), String> {
        let tapes = shelf(&self.path)?;
        let mut variants: Vec<String> = Vec::new();
        let mut seeds: Vec<u64> = Vec::new();
        for (_, origin) in tapes.into_iter().filter(|(_, origin)| origin.scenario == scenario) {
            if !variants.contains(&origin.variant) {
                variants.push(origin.variant);
            }
            if !seeds.contains(&origin.seed) {
                seeds.push(origin.seed);
            }
        }
        seeds.sort_unstable();
        if variants.is_empty() {
            return Err(format!("`{}` holds no session of the scenario `{scenario}`", self.path.display()));
        }
        Ok((variants, seeds))
    }
}

/// The cassettes that a variant at `from` names.
pub(super) fn of_variant(raw: &RawVariant, from: &Path) -> Result<Tapes, String> {
    let name = raw.cassette.as_deref().unwrap_or_default();
    let places = files::places_of_folder(name, from);
    let Some(path) = places.iter().find(|place| place.exists()) else {
        let searched: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        return Err(format!("no cassette `{name}`; searched {}", searched.join(", ")));
    };
    chosen(shelf(path)?, raw.of.as_deref())
}

/// Those of one variant.
fn chosen(mut tapes: Tapes, of: Option<&str>) -> Result<Tapes, String> {
    let mut variants: Vec<String> = Vec::new();
    for (_, origin) in &tapes {
        if !variants.contains(&origin.variant) {
            variants.push(origin.variant.clone());
        }
    }
    match (of, &variants[..]) {
        (Some(of), _) => {
            tapes.retain(|(_, origin)| origin.variant == of);
            if tapes.is_empty() { Err(format!("nothing was recorded of `{of}`; there are {}", variants.join(", "))) } else { Ok(tapes) }
        }
        (None, [_]) => Ok(tapes),
        (None, _) => Err(format!("recorded of several variants: {}; say which by `of`", variants.join(", "))),
    }
}

pub(super) const fn matching(raw: Option<RawMatching>) -> Matching {
    match raw {
        None | Some(RawMatching::Strict) => Matching::Strict,
        Some(RawMatching::Lenient) => Matching::Lenient,
    }
}

impl Loader<'_> {
    /// What `--replay` has under the name of a variant; none when it says nothing of that.
    pub(super) fn replayed(&mut self, replay: &Replay, name: &str, place: &Place) -> Option<Found> {
        let tapes: Tapes = match shelf(&replay.path) {
            Ok(tapes) => tapes.into_iter().filter(|(_, origin)| origin.variant == name).collect(),
            // Told where the variants are chosen.
            Err(_) => return None,
        };
        if tapes.is_empty() {
            return None;
        }
        Some(self.taped(tapes, replay.mode, place).map_or(Found::Broken, |variant| Found::Variant(Arc::new(variant))))
    }

    /// The variant that was recorded, with cassettes in its model's place.
    pub(super) fn taped(&mut self, tapes: Tapes, mode: Matching, place: &Place) -> Option<Variant> {
        let (first, origin) = tapes.first()?.clone();
        let other = tapes
            .iter()
            .find(|(_, other)| (&other.file, &other.templates, &other.files) != (&origin.file, &origin.templates, &origin.files));
        if let Some((other, _)) = other {
            let message = format!("`{}` and `{}` were recorded of variants that differ", first.display(), other.display());
            let problem = Diagnostic::error("bad_cassette", message).at(place.clone()).label("named here");
            self.problems.push(problem.help("keep cassettes of before a change in another folder, or record them again"));
            return None;
        }
        let inside = |name: &str| format!("{}/{name}", first.display());
        let file = Arc::new(SourceFile { name: inside(&format!("{}.yaml", origin.variant)), text: origin.file.clone() });
        let (doc, mut problems) = Document::read(&file);
        self.problems.append(&mut problems);
        let mut doc = doc?;
        let (raw, mut problems) = typed::<RawVariant>(&mut doc, Kind::Variant);
        self.problems.append(&mut problems);
        let raw = raw?;
        let mut templates = IndexMap::new();
        for (key, name) in resolve::prompts(&raw) {
            let text = origin.templates.get(key).cloned().unwrap_or_default();
            templates.insert(name.to_owned(), Arc::new(SourceFile { name: inside(name), text }));
        }
        for (name, source) in &raw.files {
            let text = origin.files.get(name).cloned().unwrap_or_default();
            templates.insert(source.clone(), Arc::new(SourceFile { name: inside(name), text }));
        }
        let (mut variant, mut problems) = resolve::variant(&doc, &raw, &templates);
        let sound = problems.is_empty();
        self.problems.append(&mut problems);
        let cassettes = match &mut variant.provider {
            Provider::Model(model) => &mut model.cassettes,
            Provider::Command(program) => &mut program.cassettes,
            _ => {
                if sound {
                    let problem = Diagnostic::error("bad_cassette", format!("`{}` was recorded of no model", first.display()));
                    self.problems.push(problem.at(place.clone()));
                }
                return None;
            }
        };
        let taped = |(path, origin): (PathBuf, Origin)| Taped {
            path,
            scenario: origin.scenario,
            cell: origin.cell,
            seed: origin.seed,
            repeat: origin.repeat,
        };
        *cassettes = Some(Cassettes { mode, tapes: tapes.into_iter().map(taped).collect() });
        variant.name = origin.variant;
        Some(variant)
    }

    /// As [`Self::taped`], for a variant's file: its name and its limits go before what was recorded.
    pub(super) fn taped_file(&mut self, own: Variant, raw: &RawVariant, doc: &Document, path: &Path) -> Option<Variant> {
        let place = doc.place(&Pointer::default().key("cassette"));
        match of_variant(raw, path) {
            Ok(tapes) => {
                let recorded = self.taped(tapes, matching(raw.mode), &place)?;
                let limits = own.limits.or(&recorded.limits);
                Some(Variant { provider: recorded.provider, limits, sandbox: true, ..own })
            }
            Err(message) => {
                let problem = Diagnostic::error("bad_cassette", message).at(place).label("named here");
                self.problems.push(problem.help("`chaosrun run SCENARIO --record FOLDER` writes cassettes"));
                None
            }
        }
    }
}
