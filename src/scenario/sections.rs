//! Sections: parts of a file that hold only in one form of a run. `local:` and `docker:` follow the backend, `standin:` and
//! `real:` whether stand-ins take the place of the real programs. They are laid over the map they stand in, in that order.

use super::document::Document;
use super::kind::Kind;
use super::model::Backend;

pub const BACKENDS: [&str; 2] = ["local", "docker"];
pub const PROGRAMS: [&str; 2] = ["standin", "real"];

/// Lays the backend's sections of a document over their maps.
pub fn apply_backend(doc: &mut Document, kind: Kind, backend: Backend) {
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, &BACKENDS, backend.as_str());
    }
}

/// Lays the sections of stand-ins, or those of the real programs, over their maps.
pub fn apply_programs(doc: &mut Document, kind: Kind, standin: bool) {
    let [standins, real] = PROGRAMS;
    for pointer in kind.sections(doc) {
        doc.apply_section(&pointer, &PROGRAMS, if standin { standins } else { real });
    }
}

/// Whether any map of the file has one of these sections.
pub fn has_any(doc: &Document, kind: Kind, names: &[&str]) -> bool {
    kind.sections(doc).iter().any(|pointer| names.iter().any(|name| doc.has_section(pointer, name)))
}

/// Whether a cluster, as it stands in its file, runs with stand-ins: when it has any, and on `local` always, since that is
/// what they are for; elsewhere when the user asked for them.
pub fn has_standins(cluster: &Document, backend: Backend, asked: bool) -> bool {
    (backend == Backend::Local || asked) && has_any(cluster, Kind::Cluster, &PROGRAMS[..1])
}
