//! Files embedded in the program: scenarios, variants, prompts and image directories.
//!
//! `build.rs` packs each set of files into an archive. All archives lie in one section of the program file, [`SECTION`], which contains
//! nothing else. The copy of the program for nodes and sandboxes has zeros in that section ([`erase`]). No search for individual texts is
//! needed, and added files are covered automatically.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Name of the ELF section that contains the embedded files.
const SECTION: &[u8] = b".samples";

/// Includes an archive that `build.rs` created, as pairs of a path relative to the project root and the file's text.
#[macro_export]
macro_rules! archive {
    ($name:literal) => {{
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".samples"))]
        static ARCHIVE: [u8; include_bytes!(concat!(env!("OUT_DIR"), "/", $name)).len()] =
            *include_bytes!(concat!(env!("OUT_DIR"), "/", $name));
        // Read through memory, so that the compiler copies no part of it elsewhere.
        $crate::samples::unpack(std::hint::black_box(&ARCHIVE))
    }};
}
pub use crate::archive;

/// Parses an archive into pairs of path and text. Each path and each text follows its length in bytes (u32, little endian). An erased
/// archive gives an empty list.
#[must_use]
pub fn unpack(mut archive: &'static [u8]) -> Vec<(&'static str, &'static str)> {
    let mut files = Vec::new();
    while let Some((path, text)) = next(&mut archive) {
        files.push((path, text));
    }
    files
}

fn next(archive: &mut &'static [u8]) -> Option<(&'static str, &'static str)> {
    let mut part = || {
        let length = u32::from_le_bytes(*archive.split_off(..4)?.first_chunk()?) as usize;
        std::str::from_utf8(archive.split_off(..length)?).ok()
    };
    Some((part().filter(|path| !path.is_empty())?, part()?))
}

/// Overwrites all embedded files in the program `file` with zeros. The file must be readable and writable.
///
/// # Errors
/// The file is no 64-bit Linux program, cannot be written, or has no section with embedded files.
pub fn erase(file: &File) -> io::Result<()> {
    let mut erased = false;
    for (offset, size) in sections(file)? {
        file.write_all_at(&vec![0; size], offset)?;
        erased = true;
    }
    if erased { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "the program has no section of samples")) }
}

/// Returns the offset and the size in bytes of each section with embedded files, from the section table of an ELF file.
fn sections(file: &File) -> io::Result<Vec<(u64, usize)>> {
    const HEADER: usize = 64;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit program of Linux");
    let length = file.metadata()?.len();
    let read = |offset: u64, size: u64| {
        let fits = offset.checked_add(size).is_some_and(|end| end <= length);
        let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| fits).ok_or_else(malformed)?];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    };
    let head = read(0, HEADER as u64)?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(malformed());
    }
    let (table, size, count, names) = (number(&head, 40, 8), number(&head, 58, 2), number(&head, 60, 2), number(&head, 62, 2));
    if size != HEADER as u64 || names >= count {
        return Err(malformed());
    }
    let table = read(table, size * count)?;
    let sections: Vec<&[u8]> = table.chunks_exact(HEADER).collect();
    // Offset and size.
    let place = |section: &[u8]| (number(section, 24, 8), number(section, 32, 8));
    let (offset, size) =
        sections.get(usize::try_from(names).map_err(io::Error::other)?).map(|section| place(section)).ok_or_else(malformed)?;
    let names = read(offset, size)?;
    let is_named = |section: &&&[u8]| {
        let name = usize::try_from(number(section, 0, 4)).ok().and_then(|at| names.get(at..));
        name.and_then(|name| name.split(|byte| *byte == 0).next()) == Some(SECTION)
    };
    let found = sections.iter().filter(is_named).map(|section| place(section)).filter(|(_, size)| *size > 0);
    found
        .map(|(offset, size)| Ok((offset, usize::try_from(size).ok().filter(|_| offset + size <= length).ok_or_else(malformed)?)))
        .collect()
}

/// Reads a little-endian number of `size` bytes at offset `at`. The caller has checked that the bytes exist.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn truncated_archive_is_read_up_to_its_end() {
        const WHOLE: &[u8] = b"\x01\0\0\0a\x02\0\0\0hi\x01\0\0\0b\0\0\0\0";
        assert_eq!(unpack(WHOLE), [("a", "hi"), ("b", "")]);
        for cut in 0..WHOLE.len() {
            assert!(unpack(&WHOLE[..cut]).len() < 2);
        }
        assert_eq!(unpack(&[0; 100]), []);
        assert_eq!(unpack(b"\xff\xff\xff\xff\xff\xff\xff\xffabc"), []);
    }

    #[test]
    fn file_without_samples_cannot_be_erased() {
        let dir = tempfile::tempdir().unwrap();
        let erased = |bytes: &[u8]| {
            let path = dir.path().join("program");
            fs::write(&path, bytes).unwrap();
            erase(&File::options().read(true).write(true).open(&path).unwrap()).is_ok()
        };
        assert!(!erased(b"#!/bin/sh\n"));
        let mut head = fs::read("/proc/self/exe").unwrap();
        head.truncate(300);
        assert!(!erased(&head), "its table of sections is not there");
        head[40..48].fill(0);
        head[58..64].fill(0);
        assert!(!erased(&head), "it has none");
    }
}
