//! Write-ahead log of a Raft host: one log for all groups, with one frame and one fdatasync per batch.
//!
//! A segment `log-<n>` is a sequence of frames `magic u32 | length u32 | checksum u64 | records`, little-endian. The checksum (of length
//! and records) is the first 8 bytes of their BLAKE3 hash. A record is `kind u8 | group u64 | length u32 | body`. Every frame is synced
//! before the next is written, so only the last can be torn. It is cut off at recovery, while damage before a complete frame is refused.
//! One segment is active; a compaction writes the next one and renames it into place.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use protobuf::Message as _;
use raft::eraftpb::{Entry, HardState};

use super::store::{FIRST_INDEX, FIRST_TERM};

const MAGIC: u32 = 0x314c_5243;
const HEAD: usize = 16;
/// Version of the log format. The first record of a segment contains the version and the host id.
const VERSION: u8 = 1;
const ENTRY: u8 = 1;
const HARD: u8 = 2;
const BASE: u8 = 3;
const HOST: u8 = 4;

/// Reason why a batch was not appended to the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The batch is not written because the disk is full. A later attempt may succeed.
    #[error("no space left")]
    Full,
    /// The write failed, and the contents of the disk are uncertain.
    #[error("{0}")]
    Broken(#[source] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RecoverError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("`{}` is damaged at byte {offset}: {why}", path.display())]
    Damaged { path: PathBuf, offset: usize, why: &'static str },
    #[error("`{}` belongs to host {found}, not to host {expected}", path.display())]
    Foreign { path: PathBuf, found: u64, expected: u64 },
}

/// Data of a group recovered from the log: hard state, entries, and the index and term before the first entry.
#[derive(Debug, Clone)]
pub(super) struct Recovered {
    pub(super) hard: HardState,
    pub(super) base: (u64, u64),
    pub(super) entries: VecDeque<Entry>,
}

impl Default for Recovered {
    fn default() -> Self {
        let hard = HardState { term: FIRST_TERM, commit: FIRST_INDEX, ..HardState::default() };
        Self { hard, base: (FIRST_INDEX, FIRST_TERM), entries: VecDeque::new() }
    }
}

/// Records that are written to the log as one frame.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<u8>);

impl Batch {
    pub(super) fn entry(&mut self, group: u64, entry: &Entry) {
        self.record(ENTRY, group, &entry.write_to_bytes().unwrap_or_default());
    }

    pub(super) fn hard(&mut self, group: u64, hard: &HardState) {
        self.record(HARD, group, &hard.write_to_bytes().unwrap_or_default());
    }

    /// Adds a record: the log of the group continues after `index`.
    pub(super) fn base(&mut self, group: u64, index: u64, term: u64) {
        let mut body = index.to_le_bytes().to_vec();
        body.extend(term.to_le_bytes());
        self.record(BASE, group, &body);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn record(&mut self, kind: u8, group: u64, body: &[u8]) {
        self.0.push(kind);
        self.0.extend(group.to_le_bytes());
        self.0.extend(length(body).to_le_bytes());
        self.0.extend(body);
    }

    fn frame(&self) -> Vec<u8> {
        let length = length(&self.0);
        let mut frame = Vec::with_capacity(HEAD + self.0.len());
        frame.extend(MAGIC.to_le_bytes());
        frame.extend(length.to_le_bytes());
        frame.extend(checksum(length, &self.0).to_le_bytes());
        frame.extend(&self.0);
        frame
    }
}

/// Returns the length of a record body. Message size limits keep the length far below 4 GiB.
fn length(body: &[u8]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

fn checksum(length: u32, records: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(records);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

pub(super) struct Wal {
    dir: PathBuf,
    host: u64,
    number: u64,
    file: File,
    /// Offset in the segment file at which the next frame is written.
    end: u64,
    /// Free bytes of a simulated disk in tests; `None` means no limit.
    #[cfg(test)]
    pub(super) room: Option<u64>,
}

impl Wal {
    /// Opens the newest segment in `dir` or creates the first one. Returns the log and the recovered data by group id.
    pub(super) fn open(dir: &Path, host: u64) -> Result<(Self, BTreeMap<u64, Recovered>), RecoverError> {
        let mut segments = Vec::new();
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(number) = name.strip_prefix("log-").and_then(|number| number.parse::<u64>().ok()) {
                segments.push((number, path));
            } else if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path)?;
            }
        }
        segments.sort();
        let Some((number, path)) = segments.pop() else {
            let (file, end) = create(dir, 1, host, &Batch::default())?;
            return Ok((Self::at(dir, host, 1, file, end), BTreeMap::new()));
        };
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let bytes = fs::read(&path)?;
        let (groups, end) = replay(&bytes, &path, host)?;
        if end < bytes.len() {
            file.set_len(end as u64)?;
        }
        // The data read may never have been synced, and later data depends on it.
        file.sync_all()?;
        // Older segments exist if the process died between renaming the new segment and removing the old one.
        for (_, older) in segments {
            fs::remove_file(older)?;
        }
        Ok((Self::at(dir, host, number, file, end as u64), groups))
    }

    fn at(dir: &Path, host: u64, number: u64, file: File, end: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            host,
            number,
            file,
            end,
            #[cfg(test)]
            room: None,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes a batch as one frame and syncs the file. After the error `Full`, no part of the batch is on disk.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<usize, AppendError> {
        let frame = batch.frame();
        match self.write(&frame) {
            Ok(()) => {
                self.end += frame.len() as u64;
                Ok(frame.len())
            }
            Err(error) if is_full(&error) => {
                // Removes a partly written frame. Otherwise its rest would follow a shorter frame that is written later.
                self.file.set_len(self.end).map_err(AppendError::Broken)?;
                Err(AppendError::Full)
            }
            Err(error) => Err(AppendError::Broken(error)),
        }
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(room) = &mut self.room {
            let fits = frame.len().min(usize::try_from(*room).unwrap());
            *room -= fits as u64;
            self.file.write_all_at(&frame[..fits], self.end)?;
            if fits < frame.len() {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
        }
        self.file.write_all_at(frame, self.end)?;
        self.file.sync_data()
    }

    /// Replaces the log by a new segment that contains only the batch `carry`.
    pub(super) fn rotate(&mut self, carry: &Batch) -> io::Result<()> {
        let number = self.number + 1;
        let (file, end) = create(&self.dir, number, self.host, carry)?;
        let old = segment(&self.dir, self.number);
        (self.number, self.file, self.end) = (number, file, end);
        fs::remove_file(old)
    }
}

/// Returns true if a write failed because the disk was full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:08}"))
}

fn create(dir: &Path, number: u64, host: u64, carry: &Batch) -> io::Result<(File, u64)> {
    let mut batch = Batch::default();
    batch.record(HOST, host, &[VERSION]);
    batch.0.extend(&carry.0);
    let path = segment(dir, number);
    let file = write_whole(&path, &batch.frame())?;
    let end = file.metadata()?.len();
    Ok((file, end))
}

/// Writes a file such that after a crash it exists completely or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("tmp");
    let outcome = (|| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(file)
    })();
    if outcome.is_err() {
        // Frees the space, which matters most after a full disk.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// Reads a whole segment. Returns the recovered data by group id, and the end offset of the last complete frame.
fn replay(bytes: &[u8], path: &Path, host: u64) -> Result<(BTreeMap<u64, Recovered>, usize), RecoverError> {
    let damaged = |offset, why| RecoverError::Damaged { path: path.to_owned(), offset, why };
    let mut groups = BTreeMap::new();
    let mut at = 0;
    while let Some(records) = frame_at(bytes, at) {
        let mut rest = records;
        while !rest.is_empty() {
            let (kind, group, body) = take_record(&mut rest).ok_or_else(|| damaged(at, "a record is cut short"))?;
            if kind == HOST {
                if body != [VERSION] {
                    return Err(damaged(at, "unknown version of the format"));
                }
                if group != host {
                    return Err(RecoverError::Foreign { path: path.to_owned(), found: group, expected: host });
                }
            } else {
                take_in(groups.entry(group).or_default(), kind, body).map_err(|why| damaged(at, why))?;
            }
        }
        at += HEAD + records.len();
    }
    if at == 0 {
        return Err(damaged(0, "the first frame, written whole by a rename, is not readable"));
    }
    // A crash can only tear the last frame. A complete frame behind the gap means that the disk has lost data.
    if (at + 1..bytes.len()).any(|later| frame_at(bytes, later).is_some()) {
        return Err(damaged(at, "a broken frame with whole ones behind it"));
    }
    Ok((groups, at))
}

/// Returns the records of the frame at offset `at`, or `None` if the frame is not complete.
fn frame_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + HEAD)?;
    let (magic, head) = head.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) != MAGIC {
        return None;
    }
    let (length, head) = head.split_first_chunk::<4>()?;
    let (sum, _) = head.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length);
    let records = bytes.get(at + HEAD..)?.get(..usize::try_from(length).ok()?)?;
    (checksum(length, records) == u64::from_le_bytes(*sum)).then_some(records)
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<(u8, u64, &'a [u8])> {
    let (kind, tail) = rest.split_first()?;
    let (group, tail) = tail.split_first_chunk::<8>()?;
    let (length, tail) = tail.split_first_chunk::<4>()?;
    let (body, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = tail;
    Some((*kind, u64::from_le_bytes(*group), body))
}

fn take_in(group: &mut Recovered, kind: u8, body: &[u8]) -> Result<(), &'static str> {
    match kind {
        ENTRY => {
            let entry = Entry::parse_from_bytes(body).map_err(|_| "an entry that cannot be decoded")?;
            if entry.get_index() <= group.base.0 {
                return Ok(());
            }
            let place = usize::try_from(entry.get_index() - group.base.0 - 1).map_err(|_| "an index out of range")?;
            if place > group.entries.len() {
                return Err("a gap between entries");
            }
            group.entries.truncate(place);
            group.entries.push_back(entry);
        }
        HARD => {
            let hard = HardState::parse_from_bytes(body).map_err(|_| "a hard state that cannot be decoded")?;
            let voted = group.hard.vote != 0 && hard.vote != group.hard.vote;
            // Continuing could lead to a second vote in one term, and thus to two leaders.
            if hard.term < group.hard.term || (hard.term == group.hard.term && voted) {
                return Err("a term or a vote that was taken back");
            }
            group.hard = hard;
        }
        BASE => {
            let (index, term) = body.split_first_chunk::<8>().ok_or("a base that is cut short")?;
            let (term, _) = term.split_first_chunk::<8>().ok_or("a base that is cut short")?;
            group.base = (u64::from_le_bytes(*index), u64::from_le_bytes(*term));
            group.entries.clear();
        }
        _ => return Err("a record of unknown kind"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![7; 40].into(), ..Entry::default() }
    }

    fn batch(entries: &[(u64, u64)]) -> Batch {
        let mut batch = Batch::default();
        for (index, term) in entries {
            batch.entry(4, &entry(*index, *term));
        }
        batch
    }

    /// Reopens the log in `dir`. Returns index and term of each recovered entry.
    fn reopen(dir: &Path) -> Result<Vec<(u64, u64)>, RecoverError> {
        let (_, groups) = Wal::open(dir, 1)?;
        Ok(groups.get(&4).map(|group| group.entries.iter().map(|e| (e.index, e.term)).collect()).unwrap_or_default())
    }

    #[test]
    fn appended_entries_are_recovered_with_conflicts_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, groups) = Wal::open(dir.path(), 1).unwrap();
        assert!(groups.is_empty());
        wal.append(&batch(&[(6, 6), (7, 6), (8, 6)])).unwrap();
        wal.append(&batch(&[(7, 7)])).unwrap();
        assert_eq!(reopen(dir.path()).unwrap(), [(6, 6), (7, 7)]);
        let mut carry = Batch::default();
        carry.base(4, 6, 6);
        carry.entry(4, &entry(7, 7));
        wal.rotate(&carry).unwrap();
        wal.append(&batch(&[(8, 7)])).unwrap();
        assert_eq!(reopen(dir.path()).unwrap(), [(7, 7), (8, 7)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the old segment is gone");
        assert!(matches!(Wal::open(dir.path(), 2), Err(RecoverError::Foreign { found: 1, expected: 2, .. })));
    }

    #[test]
    fn torn_tail_is_cut_and_damage_before_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), 1).unwrap();
        wal.append(&batch(&[(6, 6)])).unwrap();
        let whole = wal.bytes();
        wal.append(&batch(&[(7, 6), (8, 6)])).unwrap();
        let path = segment(dir.path(), 1);
        let bytes = fs::read(&path).unwrap();
        for length in usize::try_from(whole).unwrap()..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(reopen(dir.path()).unwrap(), [(6, 6)], "torn at {length}");
            assert_eq!(fs::metadata(&path).unwrap().len(), whole);
        }
        for flipped in [usize::try_from(whole).unwrap() - 3, 2] {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(reopen(dir.path()), Err(RecoverError::Damaged { .. })), "flipped at {flipped}");
        }
    }

    #[test]
    fn withdrawn_vote_is_refused() {
        let hard = |term, vote| HardState { term, vote, ..HardState::default() };
        for (then, allowed) in [(hard(7, 5), true), (hard(8, 6), true), (hard(7, 6), false), (hard(6, 5), false)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut wal, _) = Wal::open(dir.path(), 1).unwrap();
            for hard in [hard(7, 0), hard(7, 5), then] {
                let mut batch = Batch::default();
                batch.hard(4, &hard);
                wal.append(&batch).unwrap();
            }
            assert_eq!(reopen(dir.path()).is_ok(), allowed);
        }
    }

    #[test]
    fn full_disk_accepts_all_or_nothing_of_a_batch() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _) = Wal::open(dir.path(), 1).unwrap();
        wal.append(&batch(&[(6, 6)])).unwrap();
        let before = wal.bytes();
        wal.room = Some(30);
        assert!(matches!(wal.append(&batch(&[(7, 6)])), Err(AppendError::Full)));
        assert_eq!((wal.bytes(), fs::metadata(segment(dir.path(), 1)).unwrap().len()), (before, before));
        wal.room = None;
        wal.append(&batch(&[(7, 6)])).unwrap();
        assert_eq!(reopen(dir.path()).unwrap(), [(6, 6), (7, 6)]);
    }
}
