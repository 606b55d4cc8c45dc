//! A file as JSON, changed by what overrides it, still knowing where each value was written.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::yaml;
use crate::diagnostic::{Diagnostic, Place, Pointer, SourceFile, Step};

/// One file's values. Sections of a backend, cells of the matrix and `--set` change them; places follow.
#[derive(Debug, Clone)]
pub struct Document {
    pub file: Arc<SourceFile>,
    pub value: Value,
    /// Values that were written elsewhere: where they are now, the file and pointer they came from.
    moves: Vec<(Pointer, Arc<SourceFile>, Pointer)>,
    /// Items of lists that typing took out, by their first index: later ones moved up.
    removed: Vec<Pointer>,
    /// Everything that typing took out.
    gone: Vec<Pointer>,
}

impl Document {
    /// Reads a file. The problems are those of YAML alone; the document is there when its syntax was right.
    pub fn read(file: &Arc<SourceFile>) -> (Option<Self>, Vec<Diagnostic>) {
        let (value, problems) = yaml::read(file);
        (value.map(|value| Self { file: Arc::clone(file), value, moves: Vec::new(), removed: Vec::new(), gone: Vec::new() }), problems)
    }

    /// Values that no file has.
    #[must_use]
    pub fn of(file: &Arc<SourceFile>, value: Value) -> Self {
        Self { file: Arc::clone(file), value, moves: Vec::new(), removed: Vec::new(), gone: Vec::new() }
    }

    /// Where the value at `pointer` was written.
    #[must_use]
    pub fn place(&self, pointer: &Pointer) -> Place {
        let pointer = self.before_removals(pointer);
        let moved = self
            .moves
            .iter()
            .enumerate()
            .filter(|(_, (now, _, _))| pointer.0.starts_with(&now.0))
            .max_by_key(|(order, (now, _, _))| (now.0.len(), *order));
        let Some((_, (now, file, from))) = moved else { return Place::new(Arc::clone(&self.file), pointer) };
        let mut steps = from.0.clone();
        steps.extend_from_slice(&pointer.0[now.0.len()..]);
        Place::new(Arc::clone(file), Pointer(steps))
    }

    /// As [`Self::place`], on the key instead of the value.
    #[must_use]
    pub fn key_place(&self, pointer: &Pointer) -> Place {
        Place { on_key: true, ..self.place(pointer) }
    }

    /// The names of a map of the document, as they are in the file: also those that typing refused.
    pub fn keys(&self, section: &str) -> Vec<String> {
        let left = self.value.get(section).and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
        let gone = self.gone.iter().filter_map(|gone| match gone.0.as_slice() {
            [Step::Key(above), Step::Key(name)] if above == section => Some(name.clone()),
            _ => None,
        });
        left.chain(gone).collect()
    }

    /// Whether typing took something out of that section: then not all of its names are known.
    #[must_use]
    pub fn lost(&self, section: &str) -> bool {
        self.gone.iter().any(|gone| matches!(gone.0.first(), Some(Step::Key(key)) if key == section))
    }

    /// Whether the file has that key at its top, even if its value could not be used.
    #[must_use]
    pub fn was_written(&self, key: &str) -> bool {
        self.lost(key) || self.value.get(key).is_some_and(|value| !value.is_null())
    }

    /// Lays the section `chosen` of the map at `pointer` over that map, and takes it and its `rivals` out.
    pub fn apply_section(&mut self, pointer: &Pointer, rivals: &[&str], chosen: &str) {
        let Some(Value::Object(map)) = get_mut(&mut self.value, pointer) else { return };
        for rival in rivals.iter().filter(|rival| **rival != chosen) {
            map.shift_remove(*rival);
        }
        if let Some(section) = map.shift_remove(chosen) {
            let from = self.place(&pointer.key(chosen));
            self.lay(pointer, section, &from.file, &from.pointer);
        }
    }

    /// Whether the map at `pointer` has a section of that name.
    #[must_use]
    pub fn has_section(&self, pointer: &Pointer, name: &str) -> bool {
        get(&self.value, pointer).and_then(|value| value.get(name)).is_some()
    }

    /// Sets the value at `pointer`, making the maps on the way.
    ///
    /// # Errors
    /// The pointer at which a step leads through something that is no map, or past the end of a list.
    pub fn set(&mut self, pointer: &Pointer, value: Value, file: &Arc<SourceFile>, from: &Pointer) -> Result<(), Pointer> {
        let mut at = &mut self.value;
        let mut walked = Pointer::default();
        for step in &pointer.0 {
            at = match step {
                Step::Key(key) => {
                    if at.is_null() {
                        *at = Value::Object(Map::new());
                    }
                    let Some(map) = at.as_object_mut() else { return Err(walked) };
                    walked = walked.key(key.as_str());
                    map.entry(key.as_str()).or_insert(Value::Null)
                }
                Step::Index(index) => {
                    let Some(item) = at.as_array_mut().and_then(|items| items.get_mut(*index)) else { return Err(walked) };
                    walked = walked.index(*index);
                    item
                }
            };
        }
        *at = value;
        self.moves.retain(|(now, _, _)| !now.0.starts_with(&pointer.0));
        self.moves.push((pointer.clone(), Arc::clone(file), from.clone()));
        Ok(())
    }

    /// Takes a value out that could not be typed, so that the next problem can be found.
    pub(super) fn remove(&mut self, pointer: &Pointer) {
        let Some((last, above)) = pointer.0.split_last() else { return };
        let original = self.before_removals(pointer);
        self.gone.push(original.clone());
        match (get_mut(&mut self.value, &Pointer(above.to_vec())), last) {
            (Some(Value::Object(map)), Step::Key(key)) => {
                map.shift_remove(key);
            }
            (Some(Value::Array(items)), Step::Index(index)) if *index < items.len() => {
                items.remove(*index);
                self.removed.push(original);
            }
            _ => {}
        }
    }

    /// Indexes as they were before items were taken out.
    pub(super) fn before_removals(&self, pointer: &Pointer) -> Pointer {
        if self.removed.is_empty() {
            return pointer.clone();
        }
        let mut steps: Vec<Step> = Vec::with_capacity(pointer.0.len());
        for step in &pointer.0 {
            let step = match step {
                Step::Index(index) => {
                    let mut gone: Vec<usize> = self
                        .removed
                        .iter()
                        .filter(|gone| gone.0.len() == steps.len() + 1 && gone.0.starts_with(&steps))
                        .filter_map(|gone| if let Some(Step::Index(index)) = gone.0.last() { Some(*index) } else { None })
                        .collect();
                    gone.sort_unstable();
                    Step::Index(gone.into_iter().fold(*index, |index, gone| index + usize::from(gone <= index)))
                }
                Step::Key(key) => Step::Key(key.clone()),
            };
            steps.push(step);
        }
        Pointer(steps)
    }

    /// Maps are merged key by key, everything else is replaced; null takes a key away.
    fn lay(&mut self, pointer: &Pointer, over: Value, file: &Arc<SourceFile>, from: &Pointer) {
        match over {
            Value::Object(entries) if get(&self.value, pointer).is_some_and(Value::is_object) => {
                for (key, value) in entries {
                    let (pointer, from) = (pointer.key(key.as_str()), from.key(key.as_str()));
                    if value.is_null() {
                        if let Some(Value::Object(map)) = get_mut(&mut self.value, &Pointer(pointer.0[..pointer.0.len() - 1].to_vec())) {
                            map.shift_remove(&key);
                        }
                    } else {
                        self.lay(&pointer, value, file, &from);
                    }
                }
            }
            over => {
                // The way there exists: it is the map that the section was in.
                let _ = self.set(pointer, over, file, from);
            }
        }
    }
}

/// The value at `pointer`.
#[must_use]
pub fn get<'a>(value: &'a Value, pointer: &Pointer) -> Option<&'a Value> {
    pointer.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

pub(super) fn get_mut<'a>(value: &'a mut Value, pointer: &Pointer) -> Option<&'a mut Value> {
    pointer.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        let file = Arc::new(SourceFile { name: "x.yaml".into(), text: text.into() });
        Document::read(&file).0.expect("YAML")
    }

    #[test]
    fn a_section_overrides_and_keeps_its_place() {
        let mut doc =
            document("timing: { a: 1, b: 2 }\nlist: [1]\nlocal: { timing: { b: 3 }, list: null }\ndocker: { timing: { b: 4 } }\n");
        doc.apply_section(&Pointer::default(), &["local", "docker"], "local");
        assert_eq!(doc.value, serde_json::json!({ "timing": { "a": 1, "b": 3 } }));
        let timing = Pointer::default().key("timing");
        assert_eq!(doc.place(&timing.key("b")).pointer.to_string(), "local.timing.b");
        assert_eq!(doc.place(&timing.key("a")).pointer.to_string(), "timing.a");
    }

    #[test]
    fn places_survive_the_removal_of_items() {
        let mut doc = document("list: [0, 1, 2, 3, 4]\n");
        let list = Pointer::default().key("list");
        doc.remove(&list.index(1));
        doc.remove(&list.index(1));
        assert_eq!(doc.place(&list.index(0)).pointer, list.index(0));
        assert_eq!(doc.place(&list.index(1)).pointer, list.index(3));
        assert_eq!(doc.place(&list.index(2)).pointer, list.index(4));
    }
}
