//! Page of a node: the clock settings for the node's programs, and counters of clock readings.
//!
//! One of the two slots of the page is active. A change writes the other slot first and then switches, so that no program reads a
//! half-written change. The page is written as a file; the kernel keeps the file and its mappings consistent.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use nix::time::{ClockId, clock_gettime};

use chaosrun_cluster::fault_control::NodeClock;

const MAGIC: u64 = 0x3154_454d_4954_4e4f;
const SIZE: u64 = 4096;
/// Offset in the page of the field `turn`, as in `shim.c`.
const TURN: u64 = 8;
const SLOTS: [u64; 2] = [64, 128];
const SLOT: usize = 40;
const READS: u64 = 192;
const SEEN: u64 = 200;

/// Value of the noted offset as long as no program has read the wall clock since the last change of settings.
const UNSEEN: i64 = i64::MIN;

/// Delay in nanoseconds until new settings take effect. All programs have the new settings by then, so no clock goes back.
const AHEAD: i64 = 2_000_000;

/// Range of accepted clock rates. A slower clock looks like a stopped clock, and a faster clock looks like a jump.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// Clock settings in one of the two slots of the page: amounts added to the clocks, in nanoseconds, and rates; see `shim.c`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Slot {
    offset: i64,
    lag: i64,
    since: i64,
    drift: f64,
    before: f64,
}

impl Slot {
    fn from_bytes(bytes: &[u8; SLOT]) -> Self {
        let field = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            field
        };
        let whole = |at| i64::from_ne_bytes(field(at));
        let real = |at| f64::from_ne_bytes(field(at));
        Self { offset: whole(0), lag: whole(1), since: whole(2), drift: real(3), before: real(4) }
    }

    fn to_bytes(self) -> [u8; SLOT] {
        let fields = [
            self.offset.to_ne_bytes(),
            self.lag.to_ne_bytes(),
            self.since.to_ne_bytes(),
            self.drift.to_ne_bytes(),
            self.before.to_ne_bytes(),
        ];
        let mut bytes = [0; SLOT];
        bytes.copy_from_slice(fields.as_flattened());
        bytes
    }

    /// Returns the settings that replace these settings at `now`, a time of the monotonic clock in nanoseconds. Clocks other than the wall
    /// clock continue from their current value.
    fn then(self, clock: Option<NodeClock>, now: i64) -> Self {
        let (offset, drift) = clock.map_or((0, 0.0), |clock| (clock.offset_us.saturating_mul(1000), clock.rate - 1.0));
        if now < self.since {
            // The previous change has not taken effect yet and is replaced.
            return Self { offset, drift, ..self };
        }
        let since = now + AHEAD;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "years of nanoseconds fit")]
        let gained = (self.drift * (since - self.since) as f64) as i64;
        Self { offset, lag: self.lag + gained, since, drift, before: self.drift }
    }
}

/// Notes about clock readings that programs have written to the page since the last change of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockReaders {
    /// Number of readings of a changed clock: of the wall clock, and of other clocks while their rate is changed.
    pub reads: u64,
    /// Offset of the wall clock from the true time at the last reading, in nanoseconds. `None` if no program has read the wall clock.
    pub offset_ns: Option<i64>,
}

/// Open page of clock settings.
#[derive(Debug)]
pub struct ClockPage {
    file: File,
}

impl ClockPage {
    /// Creates a page with true clocks, replacing an existing page. Every user may write to the page, since programs write notes to the
    /// page.
    ///
    /// # Errors
    /// Returns an error if the page cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_permissions(Permissions::from_mode(0o666))?;
        file.set_len(SIZE)?;
        file.write_all_at(&UNSEEN.to_ne_bytes(), SEEN)?;
        file.write_all_at(&MAGIC.to_ne_bytes(), 0)?;
        Ok(Self { file })
    }

    /// Opens an existing page of clock settings.
    ///
    /// # Errors
    /// Returns an error if the page does not exist or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)? })
    }

    /// Sets the clocks of the node's programs; `None` sets true clocks. Resets the notes of programs.
    ///
    /// # Errors
    /// Returns an error if the clock rate is outside the accepted range, or if the page cannot be written.
    pub fn set(&self, clock: Option<NodeClock>) -> io::Result<()> {
        if let Some(clock) = clock.filter(|clock| !RATES.contains(&clock.rate)) {
            let problem = format!("a rate of {}, expected {} to {}", clock.rate, RATES.start(), RATES.end());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let turn = u64::from_ne_bytes(self.field(TURN)?);
        let mut bytes = [0; SLOT];
        self.file.read_exact_at(&mut bytes, slot_of(turn))?;
        let slot = Slot::from_bytes(&bytes).then(clock, monotonic()?);
        let turn = turn.wrapping_add(1);
        self.file.write_all_at(&slot.to_bytes(), slot_of(turn))?;
        self.file.write_all_at(&turn.to_ne_bytes(), TURN)?;
        self.file.write_all_at(&0_u64.to_ne_bytes(), READS)?;
        self.file.write_all_at(&UNSEEN.to_ne_bytes(), SEEN)
    }

    /// Reads the notes that programs have written to the page.
    ///
    /// # Errors
    /// Returns an error if the page cannot be read.
    pub fn seen(&self) -> io::Result<ClockReaders> {
        let offset = i64::from_ne_bytes(self.field(SEEN)?);
        Ok(ClockReaders { reads: u64::from_ne_bytes(self.field(READS)?), offset_ns: (offset != UNSEEN).then_some(offset) })
    }

    fn field(&self, at: u64) -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

fn slot_of(turn: u64) -> u64 {
    SLOTS[usize::from(turn % 2 == 1)]
}

fn monotonic() -> io::Result<i64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value that `shim.c` shows to a program for the value `now` of a monotonic clock.
    fn told(slot: &Slot, now: i64) -> i64 {
        let gone = now - slot.since;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
        let drifted = (if gone > 0 { slot.drift } else { slot.before } * gone as f64) as i64;
        now + slot.lag + drifted
    }

    #[test]
    fn rate_change_makes_no_jump() {
        let mut slot = Slot::default();
        let mut now = 5_000_000_000;
        for rate in [2.0, 0.5, 1.0, 0.01, 1.0] {
            let next = slot.then(Some(NodeClock { offset_us: 7, rate }), now);
            for at in [now, now + AHEAD / 2, now + AHEAD] {
                assert!((told(&slot, at) - told(&next, at)).abs() <= 1, "{slot:?} -> {next:?} at {at}");
            }
            slot = next;
            now += 1_000_000_000;
        }
        let healed = slot.then(None, now);
        assert_eq!((healed.offset, healed.drift), (0, 0.0));
        assert!((told(&healed, now) - told(&slot, now)).abs() <= 1);
    }

    #[test]
    fn page_returns_notes_and_refuses_impossible_rates() {
        let dir = tempfile::tempdir().unwrap();
        let page = ClockPage::create(&dir.path().join("a/b")).unwrap();
        assert_eq!(page.seen().unwrap(), ClockReaders { reads: 0, offset_ns: None });
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(page.set(Some(NodeClock { offset_us: 0, rate })).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
