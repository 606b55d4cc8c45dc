//! Check whether the clock of a program can be changed, by the first bytes of the program's file. Pure.

/// Number of bytes from the start of a file that the check needs.
pub const HEAD: usize = 64 << 10;

/// Returns the reason why a program's clock cannot be changed, or `None` if it can. The reason completes the text `its clock cannot be
/// changed: `.
///
/// A script is accepted, since its interpreter is unknown here. A file that is not a program is accepted as well, because its start fails
/// anyway.
#[must_use]
pub fn refusal(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Some("it is not a 64-bit program".into());
    }
    let Some(segments) = segments(head) else { return Some("the head of its file is not to be understood".into()) };
    if segments.iter().any(|segment| segment.kind == NOTE && has_go_note(segment.bytes(head))) {
        return Some("it is a Go program, which asks the kernel for the time, not the C library".into());
    }
    if !segments.iter().any(|segment| segment.kind == INTERPRETER) {
        return Some("it is statically linked, so it loads no library".into());
    }
    None
}

const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;

struct Segment {
    kind: u32,
    offset: usize,
    size: usize,
}

impl Segment {
    fn bytes<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let end = self.offset.saturating_add(self.size).min(file.len());
        file.get(self.offset..end).unwrap_or_default()
    }
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut whole = [0; 8];
    whole[..size].copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    usize::try_from(u64::from_le_bytes(whole)).ok()
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let (table, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    let segment = |index: usize| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let kind = u32::try_from(number(file, at, 4)?).ok()?;
        Some(Segment { kind, offset: number(file, at.checked_add(8)?, 8)?, size: number(file, at.checked_add(32)?, 8)? })
    };
    (0..count).map(segment).collect()
}

/// Returns true if the note segment of an ELF file contains a Go note. Format of a note: size of the name, size of the content, kind, name,
/// content. Name and content are padded to four bytes.
fn has_go_note(mut notes: &[u8]) -> bool {
    while let (Some(name), Some(said)) = (number(notes, 0, 4), number(notes, 4, 4)) {
        let Some(rest) = notes.get(12..) else { return false };
        if rest.get(..name) == Some(b"Go\0\0") {
            return true;
        }
        let skip = name.checked_next_multiple_of(4).zip(said.checked_next_multiple_of(4));
        let Some(next) = skip.and_then(|(name, said)| rest.get(name.checked_add(said)?..)) else { return false };
        notes = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds an ELF file with the given segments, each as type and content.
    fn file(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(64, 0);
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        let mut content = Vec::new();
        for (kind, bytes) in segments {
            let at = 64 + 56 * segments.len() + content.len();
            let mut head = [0; 56];
            head[..4].copy_from_slice(&kind.to_le_bytes());
            head[8..16].copy_from_slice(&(at as u64).to_le_bytes());
            head[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            file.extend_from_slice(&head);
            content.extend_from_slice(bytes);
        }
        file.extend_from_slice(&content);
        file
    }

    fn note(name: &[u8], said: &[u8]) -> Vec<u8> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut note = [size(name), size(said), 4_u32.to_le_bytes()].concat();
        for part in [name, said] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn static_and_go_programs_are_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(refusal(&own[..HEAD.min(own.len())]), None);
        assert_eq!(refusal(b"#!/bin/sh\n"), None);
        let loader: (u32, &[u8]) = (INTERPRETER, b"/lib64/ld-linux-x86-64.so.2\0");
        assert_eq!(refusal(&file(&[loader])), None);
        assert!(refusal(&file(&[])).unwrap().contains("statically"));
        let notes = [note(b"GNU\0", b"12345"), note(b"Go\0\0", b"id")].concat();
        assert!(refusal(&file(&[loader, (NOTE, &notes)])).unwrap().contains("Go program"));
        assert_eq!(refusal(&file(&[loader, (NOTE, &note(b"GNU\0", b"12345"))])), None);
        assert!(refusal(b"\x7fELF\x01\x01").unwrap().contains("64-bit"));
        assert!(refusal(&own[..80]).unwrap().contains("understood"));
    }
}
