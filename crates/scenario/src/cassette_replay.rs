//! Variants that replay cassettes instead of using models. The recorded variant is rebuilt from the texts in the cassette.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::cassette::{CassetteOrigin, CassetteReplay, Tapes, shelf};
use super::deserialize::typed;
use super::files;
use super::loader::Loader;
use super::model::{Cassettes, Matching, Provider, Taped, Variant};
use super::raw::{RawMatching, RawVariant};
use super::resolve;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile, SourcePlace};
use chaosrun_input::Document;

/// Returns the cassettes that the variant file `from` names with its key `cassette`.
pub(super) fn of_variant(raw: &RawVariant, from: &Path) -> Result<Tapes, String> {
    let name = raw.cassette.as_deref().unwrap_or_default();
    let places = files::places_of_folder(name, from);
    let Some(path) = places.iter().find(|place| place.exists()) else {
        let searched: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        return Err(format!("no cassette `{name}`; searched {}", searched.join(", ")));
    };
    chosen(shelf(path)?, raw.of.as_deref())
}

/// Returns the cassettes of the variant `of`. If `of` is `None`, all cassettes must belong to the same variant.
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
            if tapes.is_empty() { Err(format!("no session of `{of}`; recorded variants: {}", variants.join(", "))) } else { Ok(tapes) }
        }
        (None, [_]) => Ok(tapes),
        (None, _) => Err(format!("recorded with several variants: {}; select one with `of`", variants.join(", "))),
    }
}

pub(super) const fn matching(raw: Option<RawMatching>) -> Matching {
    match raw {
        None | Some(RawMatching::Strict) => Matching::Strict,
        Some(RawMatching::Lenient) => Matching::Lenient,
    }
}

impl Loader<'_> {
    /// Returns the recorded variant `name`, for the option `--replay`.
    pub(super) fn replayed(&mut self, replay: &CassetteReplay, name: &str, place: &SourcePlace) -> Option<Arc<Variant>> {
        self.taped(replay.tapes(name), replay.mode, place).map(Arc::new)
    }

    /// Returns the recorded variant, in which the cassettes replace the model.
    pub(super) fn taped(&mut self, tapes: Tapes, mode: Matching, place: &SourcePlace) -> Option<Variant> {
        let (first, origin) = tapes.first()?.clone();
        let other = tapes
            .iter()
            .find(|(_, other)| (&other.file, &other.templates, &other.files) != (&origin.file, &origin.templates, &origin.files));
        if let Some((other, _)) = other {
            let message = format!("`{}` and `{}` were recorded with different variants", first.display(), other.display());
            let problem = Diagnostic::error("bad_cassette", message).at(place.clone()).label("named here");
            self.problems.push(problem.help("move old cassettes to another folder, or record them again"));
            return None;
        }
        let inside = |name: &str| format!("{}/{name}", first.display());
        let file = Arc::new(SourceFile { name: inside(&format!("{}.yaml", origin.variant)), text: origin.file.clone() });
        let (doc, mut problems) = Document::read(&file);
        self.problems.append(&mut problems);
        let mut doc = doc?;
        let (raw, mut problems) = typed::<RawVariant>(&mut doc);
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
                    let problem = Diagnostic::error("bad_cassette", format!("`{}` contains no model session", first.display()));
                    self.problems.push(problem.at(place.clone()));
                }
                return None;
            }
        };
        let taped = |(path, origin): (PathBuf, CassetteOrigin)| Taped {
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

    /// Returns the variant of a variant file that names cassettes, as [`Self::taped`] does. The name and the limits in the file take
    /// precedence over the recorded ones.
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
                self.problems.push(problem.help("record cassettes with `chaosrun run SCENARIO --record FOLDER`"));
                None
            }
        }
    }
}
