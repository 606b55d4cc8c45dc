//! Sections, which are parts of a file that apply only to some runs. A section named after a backend (`local:`, `docker:`) applies on that
//! backend. A section `standin:` applies if stand-ins replace the real programs, and a section `real:` applies otherwise.
//!
//! Sections that apply are merged into the map that contains them. Sections of the backend are merged first.

use super::file_kind::FileKind;
use super::model::Backend;
use chaosrun_input::Document;

pub(crate) const PROGRAMS: [&str; 2] = ["standin", "real"];

/// Merges the sections of the backend into the maps that contain them, and removes the sections of other backends.
pub(crate) fn apply_backend(doc: &mut Document, kind: FileKind, backend: Backend) {
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, Backend::names(), backend.as_str());
    }
}

/// Merges the sections `standin:` or `real:` into the maps that contain them, and removes the sections that do not apply.
pub(crate) fn apply_programs(doc: &mut Document, kind: FileKind, standin: bool) {
    let [standins, real] = PROGRAMS;
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, &PROGRAMS, if standin { standins } else { real });
    }
}

/// Returns true if any map of the file has a section with one of these names.
pub(crate) fn has_any(doc: &Document, kind: FileKind, names: &[&str]) -> bool {
    kind.sections(doc).iter().any(|pointer| names.iter().any(|name| doc.has_section(pointer, name)))
}

/// Returns true if the cluster runs with stand-ins. The cluster file must declare stand-ins. In addition, either the backend always uses
/// stand-ins, or `asked` is true because the user requested them.
pub(crate) fn has_standins(cluster: &Document, backend: Backend, asked: bool) -> bool {
    (backend.standins || asked) && has_any(cluster, FileKind::Cluster, &PROGRAMS[..1])
}
