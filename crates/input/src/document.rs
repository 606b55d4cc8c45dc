//! File as a JSON value with all overrides applied. The document records the place where each value was written.

use std::sync::Arc;

use serde_json::{Map, Value};

use chaosrun_diagnostic::yaml;
use chaosrun_diagnostic::{Diagnostic, PathStep, Pointer, SourceFile, SourcePlace};

/// Values of one file. Backend sections, matrix cells and `--set` change these values. The document records the origin of each changed
/// value.
#[derive(Debug, Clone)]
pub struct Document {
    pub file: Arc<SourceFile>,
    pub value: Value,
    /// Origins of values that come from another place. Each entry contains the current pointer, the file of the origin and the pointer in
    /// that file.
    moves: Vec<(Pointer, Arc<SourceFile>, Pointer)>,
    /// Pointers of list items that deserialization removed, as they were in the file. Later items of the same lists moved up.
    removed: Vec<Pointer>,
    /// Pointers of all values that deserialization removed, as they were in the file.
    gone: Vec<Pointer>,
}

impl Document {
    /// Reads a file. Returns a document if the syntax of the file is valid. Reports only problems of the YAML syntax.
    pub fn read(file: &Arc<SourceFile>) -> (Option<Self>, Vec<Diagnostic>) {
        let (value, problems) = yaml::read(file);
        (value.map(|value| Self { file: Arc::clone(file), value, moves: Vec::new(), removed: Vec::new(), gone: Vec::new() }), problems)
    }

    /// Creates a document for values that are not written in any file. `file` only serves as the place in error messages.
    #[must_use]
    pub fn of(file: &Arc<SourceFile>, value: Value) -> Self {
        Self { file: Arc::clone(file), value, moves: Vec::new(), removed: Vec::new(), gone: Vec::new() }
    }

    /// Returns the place where the value at `pointer` was written.
    #[must_use]
    pub fn place(&self, pointer: &Pointer) -> SourcePlace {
        let pointer = self.before_removals(pointer);
        let moved = self
            .moves
            .iter()
            .enumerate()
            .filter(|(_, (now, _, _))| pointer.0.starts_with(&now.0))
            .max_by_key(|(order, (now, _, _))| (now.0.len(), *order));
        let Some((_, (now, file, from))) = moved else { return SourcePlace::new(Arc::clone(&self.file), pointer) };
        let mut steps = from.0.clone();
        steps.extend_from_slice(&pointer.0[now.0.len()..]);
        SourcePlace::new(Arc::clone(file), Pointer(steps))
    }

    /// Returns the place where the key of the value at `pointer` was written. See [`Self::place`].
    #[must_use]
    pub fn key_place(&self, pointer: &Pointer) -> SourcePlace {
        SourcePlace { on_key: true, ..self.place(pointer) }
    }

    /// Returns the keys of the top-level map `section`, including keys that deserialization removed.
    pub fn keys(&self, section: &str) -> Vec<String> {
        let left = self.value.get(section).and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
        let gone = self.gone.iter().filter_map(|gone| match gone.0.as_slice() {
            [PathStep::Key(above), PathStep::Key(name)] if above == section => Some(name.clone()),
            _ => None,
        });
        left.chain(gone).collect()
    }

    /// Returns true if deserialization removed a value from the top-level map `section`. In that case, some names of the section are
    /// unknown.
    #[must_use]
    pub fn lost(&self, section: &str) -> bool {
        self.gone.iter().any(|gone| matches!(gone.0.first(), Some(PathStep::Key(key)) if key == section))
    }

    /// Returns true if the file has the top-level key `key`, even if the value of the key is invalid.
    #[must_use]
    pub fn was_written(&self, key: &str) -> bool {
        self.lost(key) || self.value.get(key).is_some_and(|value| !value.is_null())
    }

    /// Merges the section `chosen` of the map at `pointer` into that map. Removes the section itself and the sections `rivals`.
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

    /// Returns true if the map at `pointer` has a section `name`.
    #[must_use]
    pub fn has_section(&self, pointer: &Pointer, name: &str) -> bool {
        get(&self.value, pointer).and_then(|value| value.get(name)).is_some()
    }

    /// Sets the value at `pointer`. Missing maps on the path are created.
    ///
    /// # Errors
    /// Returns the pointer of the value that blocks the path. This value is not a map, or is a list without an item at the given index.
    pub fn set(&mut self, pointer: &Pointer, value: Value, file: &Arc<SourceFile>, from: &Pointer) -> Result<(), Pointer> {
        let mut at = &mut self.value;
        let mut walked = Pointer::default();
        for step in &pointer.0 {
            at = match step {
                PathStep::Key(key) => {
                    if at.is_null() {
                        *at = Value::Object(Map::new());
                    }
                    let Some(map) = at.as_object_mut() else { return Err(walked) };
                    walked = walked.key(key.as_str());
                    map.entry(key.as_str()).or_insert(Value::Null)
                }
                PathStep::Index(index) => {
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

    /// Removes a value that could not be deserialized, so that a further attempt can find the next problem.
    pub fn remove(&mut self, pointer: &Pointer) {
        let Some((last, above)) = pointer.0.split_last() else { return };
        let original = self.before_removals(pointer);
        self.gone.push(original.clone());
        match (get_mut(&mut self.value, &Pointer(above.to_vec())), last) {
            (Some(Value::Object(map)), PathStep::Key(key)) => {
                map.shift_remove(key);
            }
            (Some(Value::Array(items)), PathStep::Index(index)) if *index < items.len() => {
                items.remove(*index);
                self.removed.push(original);
            }
            _ => {}
        }
    }

    /// Converts a current pointer to the pointer in the file. Both differ if deserialization removed earlier items of a list.
    pub fn before_removals(&self, pointer: &Pointer) -> Pointer {
        if self.removed.is_empty() {
            return pointer.clone();
        }
        let mut steps: Vec<PathStep> = Vec::with_capacity(pointer.0.len());
        for step in &pointer.0 {
            let step = match step {
                PathStep::Index(index) => {
                    let mut gone: Vec<usize> = self
                        .removed
                        .iter()
                        .filter(|gone| gone.0.len() == steps.len() + 1 && gone.0.starts_with(&steps))
                        .filter_map(|gone| if let Some(PathStep::Index(index)) = gone.0.last() { Some(*index) } else { None })
                        .collect();
                    gone.sort_unstable();
                    PathStep::Index(gone.into_iter().fold(*index, |index, gone| index + usize::from(gone <= index)))
                }
                PathStep::Key(key) => PathStep::Key(key.clone()),
            };
            steps.push(step);
        }
        Pointer(steps)
    }

    /// Replaces the value at `pointer` by `over`. Two maps are merged key by key. A null value in `over` removes the key.
    fn lay(&mut self, pointer: &Pointer, over: Value, file: &Arc<SourceFile>, from: &Pointer) {
        match over {
            Value::Object(entries) if get(&self.value, pointer).is_some_and(Value::is_object) => {
                for (key, value) in entries {
                    let (pointer, from) = (pointer.key(key.as_str()), from.key(key.as_str()));
                    // A null removes the key. Elsewhere it stays, so that a key that does not exist is reported.
                    let is_removal = value.is_null() && get(&self.value, &pointer).is_some();
                    if is_removal {
                        if let Some(Value::Object(map)) = get_mut(&mut self.value, &Pointer(pointer.0[..pointer.0.len() - 1].to_vec())) {
                            map.shift_remove(&key);
                        }
                    } else {
                        self.lay(&pointer, value, file, &from);
                    }
                }
            }
            over => {
                // The path exists: it is the map that contained the section.
                let _ = self.set(pointer, over, file, from);
            }
        }
    }
}

/// Returns the value at `pointer`. Returns `None` if the path does not exist.
#[must_use]
pub fn get<'a>(value: &'a Value, pointer: &Pointer) -> Option<&'a Value> {
    pointer.0.iter().try_fold(value, |value, step| match step {
        PathStep::Key(key) => value.get(key),
        PathStep::Index(index) => value.get(index),
    })
}

pub fn get_mut<'a>(value: &'a mut Value, pointer: &Pointer) -> Option<&'a mut Value> {
    pointer.0.iter().try_fold(value, |value, step| match step {
        PathStep::Key(key) => value.get_mut(key),
        PathStep::Index(index) => value.get_mut(index),
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
