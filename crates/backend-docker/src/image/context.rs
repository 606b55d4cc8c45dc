//! Build context as a tar archive for an engine. The same content always gives the same bytes.

use std::io;

use bytes::Bytes;

use super::folder::BuildFolder;
use super::program::ProgramFiles;

/// Builds the tar archive as a list of pieces. Images with the same program share its large pieces.
pub(super) fn archive(folder: &BuildFolder, program: Option<&ProgramFiles>) -> io::Result<Vec<Bytes>> {
    let mut pieces = Vec::new();
    for (path, bytes) in program.iter().flat_map(|program| &program.files) {
        let mut head = tar::Builder::new(Vec::new());
        append(&mut head, &format!("program/{path}"), bytes.len(), true, io::empty())?;
        // The piece contains only the header, without the two empty blocks that end an archive.
        pieces.push(Bytes::from(std::mem::take(head.get_mut())));
        pieces.push(bytes.clone());
        pieces.push(Bytes::from(vec![0; bytes.len().next_multiple_of(512) - bytes.len()]));
    }
    let mut rest = tar::Builder::new(Vec::new());
    for (path, content) in &folder.files {
        append(&mut rest, path, content.bytes.len(), content.executable, content.bytes.as_slice())?;
    }
    pieces.push(Bytes::from(rest.into_inner()?));
    Ok(pieces)
}

fn append(to: &mut tar::Builder<Vec<u8>>, path: &str, size: usize, executable: bool, content: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    to.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::super::folder::Content;
    use super::*;

    #[test]
    fn an_archive_holds_the_folder_and_the_program() {
        let content = |text: &str, executable| Content { bytes: text.as_bytes().to_vec(), executable };
        let long = format!("{}/x", "long".repeat(40));
        let files = BTreeMap::from([("Dockerfile".to_owned(), content("FROM x", false)), (long.clone(), content("y", true))]);
        let folder =
            BuildFolder { name: "images/x".into(), place: "images/x".into(), origin: String::new(), files, dockerfile: String::new() };
        let program = ProgramFiles { files: BTreeMap::from([("server".to_owned(), Bytes::from(vec![7; 1000]))]) };
        let pieces = archive(&folder, Some(&program)).unwrap();
        let bytes = pieces.concat();
        assert_eq!(bytes.len() % 512, 0);
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().display().to_string(), entry.header().mode().unwrap(), content));
        }
        let expected = [
            ("program/server".to_owned(), 0o755, vec![7; 1000]),
            ("Dockerfile".to_owned(), 0o644, b"FROM x".to_vec()),
            (long, 0o755, b"y".to_vec()),
        ];
        assert_eq!(found, expected);
    }
}
