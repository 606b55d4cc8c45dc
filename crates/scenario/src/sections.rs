//! Sections: parts of a file that apply only in one form of a run. Sections named after a backend (`local:`, `docker:`) depend on the
//! backend. The sections `standin:` and `real:` depend on whether stand-ins replace the real programs.
//!
//! Sections are merged into their parent map. Sections of the backend are merged first.

use super::file_kind::FileKind;
use super::model::Backend;
use chaosrun_input::Document;

pub(crate) const PROGRAMS: [&str; 2] = ["standin", "real"];

/// Merges the sections of the backend into their maps.
pub(crate) fn apply_backend(doc: &mut Document, kind: FileKind, backend: Backend) {
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, Backend::names(), backend.as_str());
    }
}

/// Merges the sections for stand-ins, or the sections for real programs, into their maps.
pub(crate) fn apply_programs(doc: &mut Document, kind: FileKind, standin: bool) {
    let [standins, real] = PROGRAMS;
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, &PROGRAMS, if standin { standins } else { real });
    }
}

/// Returns true if any map of the file has one of these sections.
pub(crate) fn has_any(doc: &Document, kind: FileKind, names: &[&str]) -> bool {
    kind.sections(doc).iter().any(|pointer| names.iter().any(|name| doc.has_section(pointer, name)))
}

/// Returns true if the cluster runs with stand-ins. The cluster must have stand-ins. In addition, the backend always uses stand-ins, or the
/// user requested them.
pub(crate) fn has_standins(cluster: &Document, backend: Backend, asked: bool) -> bool {
    (backend.standins || asked) && has_any(cluster, FileKind::Cluster, &PROGRAMS[..1])
}
