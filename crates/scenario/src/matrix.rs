//! Matrix of a scenario. Its axes are crossed or zipped, and single cells can be excluded or included. The functions are pure.
//!
//! The axes `seed` and `agent.variant` create no cells. Each cell runs all seeds with all its variants, so that trials can be paired.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::overrides::Setting;
use super::{path, seeds};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace};
use chaosrun_input::Document;
use chaosrun_input::names;

/// Default of the maximum number of trials that a file may plan. A larger number is probably a typing error.
pub const MOST: usize = 100_000;

pub(crate) const SEED: &str = "seed";
pub const VARIANT: &str = "agent.variant";

const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";
const ZIP: &str = "zip";

/// Code of the problem that an axis contains the same value twice.
const DUPLICATE_VALUE: &str = "duplicate_value";

/// Settings of one step of an axis, which are applied together.
type Row = Vec<Setting>;

/// Matrix of a scenario file. Paths that the command line or a campaign sets are not varied.
#[derive(Debug, Default)]
pub struct Matrix {
    /// Axes of the matrix. The cells are all combinations of one row per axis. A row of a plain axis has one setting, and a row of zipped
    /// axes has several.
    axes: Vec<Vec<Row>>,
    /// Seeds that the matrix contains. `None` if the matrix has no seeds.
    pub seeds: Option<Vec<Setting>>,
    exclude: Vec<Row>,
    include: Vec<Row>,
    /// Paths that the matrix varies, as text.
    paths: Vec<String>,
    /// Paths in the matrix that the command line or a campaign sets, with the values set there.
    fixed: Vec<(String, Value)>,
}

/// Cell of the matrix, with the settings that create it.
#[derive(Debug)]
pub struct MatrixCell<'m> {
    /// Values of the cell by their paths. The variant is excluded.
    pub values: IndexMap<String, Value>,
    pub settings: Vec<&'m Setting>,
    /// Names of the variants that run in this cell, with their places in the file. Empty if the matrix names no variants.
    pub variants: Vec<(String, SourcePlace)>,
}

impl Matrix {
    /// Reads the matrix of a document. The paths of the settings `fixed` are not varied. More than `most` cells are reported as a problem.
    pub fn read(doc: &Document, fixed: &[&Setting], most: usize, problems: &mut Vec<Diagnostic>) -> Self {
        let mut reader = Reader { doc, fixed, most, problems, matrix: Self::default() };
        let pointer = Pointer::default().key("matrix");
        let mut selectors = Vec::new();
        for (key, value) in doc.value.get("matrix").and_then(Value::as_object).into_iter().flatten() {
            let pointer = pointer.key(key.as_str());
            match key.as_str() {
                INCLUDE | EXCLUDE => selectors.push((key.as_str(), pointer, value)),
                ZIP => reader.zips(&pointer, value),
                path => {
                    let settings = reader.axis(path, &pointer, value);
                    reader.no_duplicates(&settings);
                    reader.add(path, settings.into_iter().map(|setting| vec![setting]).collect());
                }
            }
        }
        // Selectors are read last, because they refer to the axes.
        for (key, pointer, value) in selectors {
            reader.selectors(key, &pointer, value);
        }
        reader.matrix
    }

    /// Returns true if the matrix varies the path.
    pub fn varies(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    /// Returns all cells in order. The last axis varies fastest, and the cells of `include` come last. The parameter `variants` contains
    /// the variants of the command line or a campaign, which replace the variants of the matrix.
    pub fn cells(&self, variants: &[(String, SourcePlace)], problems: &mut Vec<Diagnostic>) -> Vec<MatrixCell<'_>> {
        let own = variants.is_empty();
        let mut rows: Vec<Vec<&Setting>> = vec![Vec::new()];
        for axis in &self.axes {
            rows = rows.iter().flat_map(|row| axis.iter().map(move |more| row.iter().copied().chain(more).collect())).collect();
        }
        rows.retain(|row| !self.exclude.iter().any(|one| !one.iter().any(is_variant) && holds(one, row, None)));
        // If no axis makes cells, the cells of `include` are the only ones.
        if !self.include.is_empty() && self.axes.iter().flatten().flatten().all(is_variant) {
            rows.clear();
        }
        let crossed = rows.len();
        rows.extend(self.include.iter().map(|row| row.iter().collect()));
        let mut cells: IndexMap<String, MatrixCell> = IndexMap::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut everyone: Vec<(String, SourcePlace)> = Vec::new();
        for one in self.axes.iter().flatten().flatten().filter(|setting| is_variant(setting)).map(named) {
            if !everyone.iter().any(|(name, _)| *name == one.0) {
                everyone.push(one);
            }
        }
        for (at, row) in rows.iter().enumerate() {
            let values: IndexMap<String, Value> =
                row.iter().filter(|setting| !is_variant(setting)).map(|setting| (setting.path.text(), setting.value.clone())).collect();
            let key = key_of(&values);
            let asked = match row.iter().find(|setting| is_variant(setting)) {
                _ if !own => variants.to_vec(),
                Some(setting) => vec![named(setting)],
                None => everyone.clone(),
            };
            let mut known = asked.iter().map(|(name, _)| format!("{key} {name}")).collect::<Vec<_>>();
            if known.is_empty() {
                known.push(key.clone());
            }
            let repeated = known.iter().filter(|one| !seen.insert((*one).clone())).count();
            // Reports no duplicate if fixed paths or variants can make different cells equal. A value that occurs twice is reported at its
            // own place.
            let told = problems.iter().any(|problem| problem.code == DUPLICATE_VALUE);
            if repeated == known.len() && self.fixed.is_empty() && own && !told {
                let place = row.first().map(|setting| setting.whole.clone());
                let problem = Diagnostic::error("duplicate_cell", "this cell already exists").label("expected different values");
                problems.push(Diagnostic { place, ..problem.help("every cell must differ from all other cells") });
            }
            let cell = cells.entry(key).or_insert_with(|| MatrixCell {
                values,
                settings: row.iter().copied().filter(|setting| !is_variant(setting)).collect(),
                variants: Vec::new(),
            });
            for one in asked {
                let excluded = at < crossed && self.exclude.iter().any(|exclude| holds(exclude, row, Some(&one.0)));
                if !excluded && !cell.variants.iter().any(|(name, _)| *name == one.0) {
                    cell.variants.push(one);
                }
            }
        }
        let any = !own || !everyone.is_empty();
        cells.into_values().filter(|cell| !any || !cell.variants.is_empty()).collect()
    }
}

/// Returns true if the row contains all values of an `exclude` entry. `variant` is the variant of the row.
fn holds(wanted: &[Setting], row: &[&Setting], variant: Option<&str>) -> bool {
    wanted.iter().all(|wanted| match variant.filter(|_| is_variant(wanted)) {
        Some(variant) => wanted.value == *variant,
        None => row.iter().any(|setting| setting.path.pointer == wanted.path.pointer && setting.value == wanted.value),
    })
}

/// Reader of a matrix, which collects the problems found so far.
struct Reader<'a> {
    doc: &'a Document,
    fixed: &'a [&'a Setting],
    most: usize,
    problems: &'a mut Vec<Diagnostic>,
    matrix: Matrix,
}

impl Reader<'_> {
    fn wrong(&mut self, place: SourcePlace, problem: Diagnostic) {
        self.problems.push(problem.at(place));
    }

    /// Adds a plain axis or zipped axes. Reports a problem if the matrix would have too many cells.
    fn add(&mut self, path: &str, rows: Vec<Row>) {
        if rows.is_empty() || rows.first().is_some_and(Vec::is_empty) {
            return;
        }
        if path == SEED {
            self.matrix.seeds = Some(rows.into_iter().flatten().collect());
            return;
        }
        let cells: usize = self.matrix.axes.iter().map(Vec::len).fold(rows.len(), usize::saturating_mul);
        if cells > self.most {
            let place = rows[0][0].whole.clone();
            let message = format!("{cells} cells up to this axis, expected at most {}", self.most);
            let problem = Diagnostic::error("too_many_trials", message).label("this axis exceeds the limit");
            return self.wrong(place, problem.help("use fewer values, or allow more with `--max-trials`"));
        }
        self.matrix.axes.push(rows);
    }

    /// Returns the settings of an axis. Returns an empty list if the axis is invalid, or if its path is fixed by the command line or a
    /// campaign.
    fn axis(&mut self, path: &str, pointer: &Pointer, value: &Value) -> Vec<Setting> {
        let values = match seeds::axis(value) {
            Ok(values) => values,
            Err(message) => {
                let problem = Diagnostic::error("empty_matrix", message).label("expected values to try");
                let place = if value.is_null() { self.doc.key_place(pointer) } else { self.doc.place(pointer) };
                self.wrong(place, problem.help("a list of values, or an inclusive range such as `1..20`"));
                return Vec::new();
            }
        };
        let listed = value.is_array();
        let each = values.into_iter().enumerate();
        each.filter_map(|(at, value)| {
            let from = if listed { pointer.index(at) } else { pointer.clone() };
            self.setting(path, pointer, &from, value)
        })
        .collect()
    }

    /// Reports equal values of an axis, because they would plan the same trials twice.
    fn no_duplicates(&mut self, settings: &[Setting]) {
        let mut seen = HashSet::new();
        for setting in settings {
            if !seen.insert(setting.value.to_string()) {
                let place = SourcePlace::new(Arc::clone(&setting.file), setting.from.clone());
                let problem = Diagnostic::error(DUPLICATE_VALUE, format!("`{}` is listed twice in this axis", words(&setting.value)));
                self.wrong(place, problem.label("already named before").help("keep one of them; `repeat` runs each trial several times"));
            }
        }
    }

    /// Returns the setting of one value of an axis. Returns `None` if the path is invalid, or is fixed by the command line or a campaign.
    fn setting(&mut self, text: &str, key: &Pointer, from: &Pointer, value: Value) -> Option<Setting> {
        let path = match path::parse(text) {
            Ok(path) => path,
            Err((message, _)) => {
                let problem = Diagnostic::error("bad_path", message);
                if !self.problems.iter().any(|known| known.message == problem.message) {
                    self.wrong(self.doc.key_place(key), problem);
                }
                return None;
            }
        };
        self.matrix.paths.push(path.text());
        self.matrix.paths.dedup();
        if let Some(fixed) = self.fixed.iter().rfind(|fixed| fixed.path.pointer == path.pointer) {
            let known = (path.text(), fixed.value.clone());
            if !self.matrix.fixed.contains(&known) {
                self.matrix.fixed.push(known);
            }
            return None;
        }
        let place = self.doc.place(from);
        Some(Setting { path, value, file: place.file, from: place.pointer, whole: self.doc.key_place(key) })
    }

    /// Returns the items of a list that are maps, and reports all other items.
    fn maps<'v>(&mut self, pointer: &Pointer, value: &'v Value, example: &str) -> Vec<(Pointer, &'v Map<String, Value>)> {
        let what = pointer.last_key().unwrap_or_default().to_owned();
        let Value::Array(items) = value else {
            let problem = Diagnostic::error("wrong_type", format!("`{what}`: expected a list of maps")).label("expected a list");
            self.wrong(self.doc.key_place(pointer), problem.help(format!("for example `{what}: [{{ {example} }}]`")));
            return Vec::new();
        };
        let mut maps = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let pointer = pointer.index(at);
            match item.as_object().filter(|map| !map.is_empty()) {
                Some(map) => maps.push((pointer, map)),
                None => {
                    let problem = Diagnostic::error("wrong_type", format!("`{what}`: expected a map of paths")).label("expected a map");
                    self.wrong(self.doc.place(&pointer), problem.help(format!("for example `{{ {example} }}`")));
                }
            }
        }
        maps
    }

    /// Reads `zip: [{ pathA: [..], pathB: [..] }]`. The first values of all paths form the first row, the second values form the second
    /// row, and so on.
    fn zips(&mut self, pointer: &Pointer, value: &Value) {
        for (pointer, map) in self.maps(pointer, value, "workload.rate: [100, 500], workload.clients: [2, 8]") {
            let mut rows: Vec<Row> = Vec::new();
            let mut first: Option<(&str, usize)> = None;
            for (path, value) in map {
                let key = pointer.key(path.as_str());
                if self.is_seed(path, &key, ZIP) {
                    continue;
                }
                let before = self.problems.len();
                let settings = self.axis(path, &key, value);
                // The length of the axis counts even if its values are fixed.
                let length = seeds::axis(value).map_or(0, |values| values.len());
                if self.problems.len() > before {
                    continue;
                }
                let (other, wanted) = *first.get_or_insert((path, length));
                if length != wanted {
                    let message = format!("`{path}` has {length} values, `{other}` has {wanted}");
                    let problem = Diagnostic::error("unequal_zip", message).label(format!("expected {wanted} values"));
                    self.wrong(self.doc.key_place(&key), problem.help("zipped axes are combined value by value"));
                    continue;
                }
                rows.resize_with(wanted, Vec::new);
                for (row, setting) in rows.iter_mut().zip(settings) {
                    row.push(setting);
                }
            }
            self.add(ZIP, rows);
        }
    }

    /// Reads the entries of `include` or `exclude`.
    fn selectors(&mut self, what: &str, pointer: &Pointer, value: &Value) {
        for (pointer, map) in self.maps(pointer, value, "workload.rate: 500, chaos.kill.at: 2s") {
            let mut row = Row::new();
            let mut sound = true;
            for (path, value) in map {
                let key = pointer.key(path.as_str());
                if self.is_seed(path, &key, what) || what == EXCLUDE && !self.is_value(path, &key, value) {
                    sound = false;
                    continue;
                }
                match self.setting(path, &key, &key, value.clone()) {
                    Some(setting) => row.push(setting),
                    // A path that is fixed from outside has the same value in all cells.
                    None if what == EXCLUDE => sound &= self.matrix.fixed.iter().any(|(known, fixed)| known == path && fixed == value),
                    None => {}
                }
            }
            match (what, sound && !row.is_empty()) {
                (_, false) => {}
                (INCLUDE, _) => self.matrix.include.push(row),
                _ => self.matrix.exclude.push(row),
            }
        }
    }

    /// Returns true if the path is `seed`, and reports this as a problem. Each cell must have all seeds, because a missing seed would leave
    /// trials without a partner.
    fn is_seed(&mut self, path: &str, key: &Pointer, what: &str) -> bool {
        if path == SEED {
            let problem = Diagnostic::error("bad_matrix", format!("`seed` is not allowed in `{what}`")).label("each cell runs all seeds");
            self.wrong(self.doc.key_place(key), problem.help("`--skip` leaves out single trials: `--skip 'seed == 3'`"));
        }
        path == SEED
    }

    /// Returns true if an axis of this path contains the value. Otherwise reports a problem, because an exclusion that matches no cell is
    /// probably a typing error.
    fn is_value(&mut self, path: &str, key: &Pointer, value: &Value) -> bool {
        let fixed = self.matrix.fixed.iter().any(|(known, _)| known == path);
        if fixed {
            return true;
        }
        if !self.matrix.varies(path) {
            let known: Vec<String> = self.matrix.paths.clone();
            let problem = Diagnostic::error("bad_matrix", format!("`{path}` is not an axis of this matrix"));
            let problem = match names::closest(path, known.iter().map(String::as_str)) {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem.label("nothing to exclude"),
            };
            let help = format!("known here: {}", names::listed(known.iter().map(String::as_str)));
            self.wrong(self.doc.key_place(key), if known.is_empty() { problem } else { problem.help(help) });
            return false;
        }
        let settings = self.matrix.axes.iter().flatten().flatten().filter(|setting| setting.path.text() == path);
        let values: Vec<&Value> = settings.map(|setting| &setting.value).collect();
        if values.is_empty() || values.contains(&value) {
            return true;
        }
        let mut listed: Vec<String> = values.iter().map(|value| words(value)).collect();
        listed.dedup();
        let problem = Diagnostic::error("bad_matrix", format!("the axis `{path}` has no such value")).label("nothing to exclude");
        self.wrong(self.doc.place(key), problem.help(format!("its values: {}", names::listed(listed.iter().map(String::as_str)))));
        false
    }
}

fn is_variant(setting: &Setting) -> bool {
    setting.path.text() == VARIANT
}

/// Returns the name of the variant in a setting, with its place. The name is empty if the value is not text, which deserialization reports.
fn named(setting: &Setting) -> (String, SourcePlace) {
    (words(&setting.value), SourcePlace::new(Arc::clone(&setting.file), setting.from.clone()))
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns a text that is equal for equal sets of values, regardless of their order.
fn key_of(values: &IndexMap<String, Value>) -> String {
    let mut all: Vec<String> = values.iter().map(|(path, value)| format!("{path}={value};")).collect();
    all.sort_unstable();
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overrides::settings;
    use chaosrun_diagnostic::SourceFile;

    /// Returns the cells and the problems of a matrix as text. Each cell is `path=value path=value: variant variant`. Each problem is its
    /// code and the text at its place.
    fn cells(yaml: &str, set: &[&str], variants: &[&str]) -> (Vec<String>, Vec<(&'static str, String)>) {
        let file = Arc::new(SourceFile { name: "x.yaml".into(), text: format!("matrix: {yaml}\n") });
        let (doc, mut problems) = Document::read(&file);
        let (set, _) = settings(&set.iter().map(ToString::to_string).collect::<Vec<_>>());
        let matrix = Matrix::read(&doc.expect("YAML"), &set.iter().collect::<Vec<_>>(), MOST, &mut problems);
        let place = SourcePlace::new(Arc::clone(&file), Pointer::default());
        let variants: Vec<(String, SourcePlace)> = variants.iter().map(|name| ((*name).to_owned(), place.clone())).collect();
        let found = matrix.cells(&variants, &mut problems);
        let cells = found.iter().map(|cell| {
            let values: Vec<String> = cell.values.iter().map(|(path, value)| format!("{path}={}", words(value))).collect();
            let names: Vec<&str> = cell.variants.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}: {}", values.join(" "), names.join(" "))
        });
        let told = problems.iter().map(|problem| {
            let spot = problem.place.as_ref().expect("a place").spot();
            (problem.code, spot.text.chars().skip(spot.column - 1).take_while(|c| !",:]}".contains(*c)).collect())
        });
        (cells.collect(), told.collect())
    }

    fn good(yaml: &str, set: &[&str], variants: &[&str]) -> Vec<String> {
        let (cells, problems) = cells(yaml, set, variants);
        assert_eq!(problems, []);
        cells
    }

    #[test]
    fn axes_are_crossed_and_zipped_and_the_last_varies_fastest() {
        assert_eq!(good("{ a: 1..2, seed: 1..9, b: [x, y] }", &[], &[]), ["a=1 b=x: ", "a=1 b=y: ", "a=2 b=x: ", "a=2 b=y: "]);
        let zipped = good("{ zip: [{ a: [1, 2], b.c: [x, y] }], d: 3..4 }", &[], &[]);
        assert_eq!(zipped, ["a=1 b.c=x d=3: ", "a=1 b.c=x d=4: ", "a=2 b.c=y d=3: ", "a=2 b.c=y d=4: "]);
        assert_eq!(
            good("{ zip: [{ agent.variant: [u, v], limits.turns: [1, 2] }] }", &[], &[]),
            ["limits.turns=1: u", "limits.turns=2: v"]
        );
        assert_eq!(good("{ agent.variant: [u, v], a: [1] }", &[], &[]), ["a=1: u v"]);
        assert_eq!(good("{}", &[], &["u"]), [": u"]);
    }

    #[test]
    fn cells_are_excluded_and_included() {
        let matrix = "{ a: 1..2, b: 1..2, exclude: [{ a: 1, b: 2 }], include: [{ a: 3, c: x }, { d: 1 }] }";
        assert_eq!(good(matrix, &[], &["u"]), ["a=1 b=1: u", "a=2 b=1: u", "a=2 b=2: u", "a=3 c=x: u", "d=1: u"]);
        let variants =
            "{ agent.variant: [u, v], a: 1..2, exclude: [{ a: 1, agent.variant: v }], include: [{ a: 3 }, { a: 4, agent.variant: w }] }";
        assert_eq!(good(variants, &[], &[]), ["a=1: u", "a=2: u v", "a=3: u v", "a=4: w"]);
        // Variants from outside replace the variants of all cells.
        assert_eq!(good(variants, &[], &["v"]), ["a=2: v", "a=3: v", "a=4: v"]);
        assert_eq!(good("{ include: [{ a: 1 }, { b: 2 }] }", &[], &[]), ["a=1: ", "b=2: "]);
    }

    #[test]
    fn paths_set_from_outside_are_no_longer_varied() {
        let matrix = "{ a: 1..2, b: 1..2, exclude: [{ a: 1, b: 2 }], include: [{ a: 3, c: x }] }";
        assert_eq!(good(matrix, &["a=1"], &[]), ["b=1: ", "c=x: "]);
        assert_eq!(good(matrix, &["a=7"], &[]), ["b=1: ", "b=2: ", "c=x: "]);
        assert_eq!(good("{ zip: [{ a: [1, 1], b: [1, 2] }] }", &["b=5"], &[]), ["a=1: "]);
    }

    #[test]
    fn problems_are_reported_at_their_places() {
        let wrong = |yaml: &str| cells(yaml, &[], &[]).1;
        assert_eq!(wrong("{ zip: [{ a: [1, 2], b: [1] }] }"), [("unequal_zip", "b".to_owned())]);
        assert_eq!(wrong("{ zip: { a: [1] } }"), [("wrong_type", "zip".to_owned())]);
        assert_eq!(
            wrong("{ a: 1..2, exclude: [{ aa: 1 }, { a: 3 }, 4] }"),
            [("wrong_type", "4".to_owned()), ("bad_matrix", "aa".to_owned()), ("bad_matrix", "3 ".to_owned())]
        );
        assert_eq!(
            wrong("{ a: [1], include: [{ seed: 3 }, { a: 1 }] }"),
            [("bad_matrix", "seed".to_owned()), ("duplicate_cell", "a".to_owned())]
        );
        assert_eq!(wrong("{ a: [1, 2, 1], b..c: [1] }"), [("duplicate_value", "1".to_owned()), ("bad_path", "b..c".to_owned())]);
        assert_eq!(wrong("{ a: 1..99999, b: 1..99999 }"), [("too_many_trials", "b".to_owned())]);
    }
}
