//! Program of chaosrun within an image: a copy reduced to the parts that a loader needs, and the C library that the copy needs.
//!
//! A dynamically linked program needs a C library at least as new as the one it was linked with. The C library of an image may be older.
//! Therefore the libraries of this machine and a script, `fit`, are copied together with the program. The Dockerfile runs the script once.
//! The script does nothing if the program already runs in the image. Otherwise the script installs the complete C library of this machine,
//! since the parts of a C library only work together. Programs that were linked with an older C library also work with a newer one. In both
//! cases the program is started by its own path, so that no loader appears in the list of processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;

use crate::error::EngineError;

/// Path of the program in containers of the images of `images/`.
pub const PROGRAM: &str = "/usr/local/bin/server";

/// File names of glibc, without its loader. Missing files are ignored, since versions of glibc differ.
const GLIBC: &[&str] = &[
    "libBrokenLocale.so.1",
    "libanl.so.1",
    "libc.so.6",
    "libc_malloc_debug.so.0",
    "libdl.so.2",
    "libm.so.6",
    "libmvec.so.1",
    "libnsl.so.1",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libthread_db.so.1",
    "libutil.so.1",
];

/// Contents of the folder `program/` of a build context, by path within the folder. All files are executable.
#[derive(Debug, Clone)]
pub(super) struct ProgramFiles {
    pub files: BTreeMap<String, Bytes>,
}

impl ProgramFiles {
    /// Reads the file `program` and its libraries. The program must run on processors of `arch`, as the engine names the architecture.
    pub(super) fn gather(program: &Path, arch: &str) -> Result<Self, EngineError> {
        let failed = |path: &Path, source| EngineError::Io { what: format!("`{}` cannot be read", path.display()), source };
        let bytes = fs::read(program).map_err(|source| failed(program, source))?;
        let elf = Elf::parse(&bytes).map_err(EngineError::Program)?;
        if !elf.runs_on(arch) {
            return Err(EngineError::Program(format!("it is for another processor than the engine's, {arch}")));
        }
        let mut files = BTreeMap::new();
        let mut loader = None;
        if let Some(interpreter) = elf.interpreter(&bytes) {
            let maps = fs::read_to_string("/proc/self/maps").map_err(|source| failed(Path::new("/proc/self/maps"), source))?;
            for path in libraries(&maps) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
                files.insert(format!("lib/{name}"), Bytes::from(bytes));
            }
            // The file is stored under the name that programs request. The original file name may differ.
            let path = Path::new(&interpreter);
            let bytes = fs::read(path).map_err(|source| failed(path, source))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(format!("lib/{name}"), Bytes::from(bytes));
            loader = Some((interpreter, name));
        }
        files.insert("lib/fit".into(), Bytes::from(fit(loader.as_ref().map(|(path, name)| (path.as_str(), name.as_str())))));
        files.insert("server".into(), Bytes::from(elf.slim(&bytes)));
        Ok(Self { files })
    }
}

/// Folder of the [`carried`] program in a container. The path of the loader in this folder must not be longer than the original path of the
/// loader in the program.
pub const FOLDER: &str = "/var/lib/upkeep";

/// Returns a tar archive, to be unpacked at `/`, with the program for a container whose image does not contain it. The program runs in any
/// image, even without a C library, if libraries are searched in [`FOLDER`]. Blocks.
pub fn carried(program: &Path, arch: &str) -> Result<Vec<u8>, EngineError> {
    let mut files = ProgramFiles::gather(program, arch)?.files;
    files.remove("lib/fit");
    let server = files.remove("server").unwrap_or_default();
    let elf = Elf::parse(&server).map_err(EngineError::Program)?;
    let mut server = server.to_vec();
    let packed = |source| EngineError::Io { what: format!("`{}` cannot be packed", program.display()), source };
    if let Some(interpreter) = elf.interpreter(&server) {
        let name = Path::new(&interpreter).file_name().unwrap_or_default().to_string_lossy();
        let loader = files.remove(&format!("lib/{name}")).unwrap_or_default();
        // The loader is also a library, which other libraries request by this name.
        files.insert(format!("lib/{name}"), loader.clone());
        files.insert("lib/ld.so".into(), loader);
        elf.interpret_by(&mut server, &format!("{FOLDER}/ld.so")).map_err(EngineError::Program)?;
    }
    let folder = FOLDER.trim_start_matches('/');
    let mut archive = tar::Builder::new(Vec::new());
    let files = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("lib/")?, &**bytes)));
    for (name, bytes) in files.chain([("upkeep", &*server)]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, format!("{folder}/{name}"), bytes).map_err(packed)?;
    }
    archive.into_inner().map_err(packed)
}

/// Returns the paths of the shared libraries of this process according to the memory map `maps`, and of the other files of the same C
/// library.
///
/// The copied program is a copy of the program of this process, or was built beside it, so both need the same libraries.
fn libraries(maps: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<&Path> = Vec::new();
    for path in maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..]))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let library = name.starts_with("lib") && name.contains(".so");
        if library && !found.contains(&path) {
            found.push(path);
        }
    }
    let home = found.iter().find(|path| path.ends_with("libc.so.6")).and_then(|path| path.parent());
    let rest = home.into_iter().flat_map(|home| GLIBC.iter().map(|name| home.join(name))).filter(|path| path.is_file());
    let mut all: Vec<std::path::PathBuf> = rest.collect();
    for path in found {
        if !all.iter().any(|known| known == path) {
            all.push(path.to_owned());
        }
    }
    all
}

/// Returns the text of the script `fit`. A Dockerfile runs the script with a command that tests the program. `loader` contains the path at
/// which the program requires the loader, and the file name of the copied loader.
fn fit(loader: Option<(&str, &str)>) -> String {
    let check = "lib=$(dirname \"$0\")\nif \"$@\" >/dev/null 2>&1; then\n    rm -r \"$lib\"\n    exit 0\nfi\n";
    let Some((path, name)) = loader else {
        return format!("set -e\n{check}exec \"$@\"\n");
    };
    format!(
        "set -e\n{check}\
         # Every command below runs with the new C library itself: half of an old one and half of a new one is none.\n\
         new() {{ \"$lib/{name}\" --library-path \"$lib\" \"$@\"; }}\n\
         home=\n\
         for dir in /lib/*-linux-gnu /usr/lib/*-linux-gnu /lib64 /usr/lib64 /lib; do\n\
         \x20   if [ -z \"$home\" ] && [ -e \"$dir/libc.so.6\" ]; then home=$dir; fi\n\
         done\n\
         if [ -z \"$home\" ]; then echo \"this image has no GNU C library\" >&2; exit 1; fi\n\
         new /bin/cp --remove-destination \"$lib\"/lib*.so* \"$lib/{name}\" \"$home/\"\n\
         new /bin/cp --remove-destination \"$lib/{name}\" {path}\n\
         \"$@\" >/dev/null\n\
         rm -r \"$lib\"\n"
    )
}

/// Parsed header of a 64-bit little-endian ELF file.
struct Elf {
    machine: u16,
    /// Type, offset and size of each segment of the file.
    segments: Vec<(u32, usize, usize)>,
}

const HEADER: usize = 64;
const INTERPRETER: u32 = 3;
/// Length in bytes of the mark at the end of the program copy for nodes.
const TRAILER: usize = 16;

impl Elf {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let foreign = || "it is not a 64-bit linux program".to_owned();
        let number = |at: usize, size: usize| -> Option<usize> {
            let field = bytes.get(at..at.checked_add(size)?)?;
            let mut whole = [0; 8];
            whole[..size].copy_from_slice(field);
            usize::try_from(u64::from_le_bytes(whole)).ok()
        };
        // This condition checks the magic number, 64 bits and little-endian byte order.
        if bytes.len() < HEADER || !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(foreign());
        }
        let head = || {
            let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
            let mut segments = Vec::new();
            for index in 0..count {
                let at = table.checked_add(index.checked_mul(size)?)?;
                segments.push((u32::try_from(number(at, 4)?).ok()?, number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?));
            }
            Some(Self { machine: u16::try_from(number(18, 2)?).ok()?, segments })
        };
        head().ok_or_else(foreign)
    }

    /// Returns true if the program runs on `arch`, in the notation of `uname -m` or of Go. Returns true for an unknown architecture, which
    /// is left to the engine.
    fn runs_on(&self, arch: &str) -> bool {
        match arch {
            "x86_64" | "amd64" => self.machine == 62,
            "aarch64" | "arm64" => self.machine == 183,
            _ => true,
        }
    }

    /// Returns the path of the loader that the program requires; `None` for a static program.
    fn interpreter(&self, bytes: &[u8]) -> Option<String> {
        let (_, offset, size) = self.segments.iter().find(|(kind, ..)| *kind == INTERPRETER)?;
        let text = bytes.get(*offset..offset.checked_add(*size)?)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }

    /// Changes the program `bytes` so that the kernel starts it with the loader at `path`.
    fn interpret_by(&self, bytes: &mut [u8], path: &str) -> Result<(), String> {
        let segment = self.segments.iter().find(|(kind, ..)| *kind == INTERPRETER);
        let field = segment.and_then(|(_, offset, size)| bytes.get_mut(*offset..offset.checked_add(*size)?));
        // The path must end with a zero byte, so the field must be longer than the path.
        match field.filter(|field| field.len() > path.len()) {
            Some(field) => {
                field.fill(0);
                field[..path.len()].copy_from_slice(path.as_bytes());
                Ok(())
            }
            None => Err(format!("its loader cannot be at `{path}`")),
        }
    }

    /// Returns the program without the symbols and debug sections after the last segment. These sections are most of a debug build, and
    /// their names reveal the program.
    fn slim(&self, bytes: &[u8]) -> Vec<u8> {
        let end = self.segments.iter().filter_map(|(_, offset, size)| offset.checked_add(*size)).max().unwrap_or(bytes.len());
        if end < HEADER || end + TRAILER >= bytes.len() {
            return bytes.to_vec();
        }
        let mut slim = bytes[..end].to_vec();
        // These lines clear the fields of the section table: its offset, its number of entries, and the index of the entry with names.
        slim[40..48].fill(0);
        slim[58..64].fill(0);
        slim.extend_from_slice(&bytes[bytes.len() - TRAILER..]);
        slim
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn slim_program_still_runs_and_keeps_its_trailer() {
        let own = fs::read("/proc/self/exe").unwrap();
        let mut marked = own.clone();
        marked.extend_from_slice(b"0123456789abcdef");
        let slim = Elf::parse(&marked).unwrap().slim(&marked);
        assert!(slim.len() < own.len());
        assert!(slim.ends_with(b"0123456789abcdef"));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slim");
        fs::write(&path, &slim).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&path).args(["--list", "--exact", "no-such-test"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn carried_program_has_its_own_loader() {
        let archive = carried(Path::new("/proc/self/exe"), std::env::consts::ARCH).unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut names = Vec::new();
        let mut server = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            if names.last().is_some_and(|name| name.ends_with("/upkeep")) {
                std::io::Read::read_to_end(&mut entry, &mut server).unwrap();
            }
        }
        assert!(names.iter().all(|name| name.starts_with("var/lib/upkeep/")), "{names:?}");
        if cfg!(target_env = "gnu") {
            assert!(names.contains(&"var/lib/upkeep/ld.so".into()) && names.contains(&"var/lib/upkeep/libc.so.6".into()), "{names:?}");
            assert_eq!(Elf::parse(&server).unwrap().interpreter(&server).as_deref(), Some("/var/lib/upkeep/ld.so"));
            let elf = Elf::parse(&server).unwrap();
            assert!(elf.interpret_by(&mut server, &"/long".repeat(20)).is_err());
        }
    }

    #[test]
    fn program_comes_with_the_whole_c_library() {
        let program = ProgramFiles::gather(Path::new("/proc/self/exe"), std::env::consts::ARCH).unwrap();
        let names: Vec<&str> = program.files.keys().map(String::as_str).collect();
        assert!(names.contains(&"server") && names.contains(&"lib/fit"), "{names:?}");
        if cfg!(target_env = "gnu") {
            assert!(names.contains(&"lib/libc.so.6") && names.contains(&"lib/libm.so.6"), "{names:?}");
            assert!(names.iter().any(|name| name.starts_with("lib/ld-linux")), "{names:?}");
        }
    }

    #[test]
    fn unusable_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n".repeat(20)).unwrap();
        let told = |path: &Path, arch: &str| ProgramFiles::gather(path, arch).unwrap_err().to_string();
        assert_eq!(told(&script, "x86_64"), "this program cannot run in an image: it is not a 64-bit linux program");
        let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
        assert!(told(Path::new("/proc/self/exe"), other).ends_with(&format!("than the engine's, {other}")));
        assert!(Elf::parse(b"\x7fELF\x02\x01").is_err());
        let mut cut = fs::read("/proc/self/exe").unwrap();
        cut.truncate(70);
        assert!(Elf::parse(&cut).is_err());
    }
}
