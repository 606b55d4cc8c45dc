//! Flags and configuration file of a TiKV store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::log::LogLevel;
use crate::raft;
use crate::wire::Label;

/// Flags of `chaosrun node tikv`: those of `tikv-server`, and the static layout that PD decides in the original. If a flag is repeated, the
/// last value counts.
#[derive(Debug, Clone, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Listen address for clients, `host:port`.
    #[arg(short = 'A', long, default_value = "127.0.0.1:20160")]
    pub addr: String,
    /// Address for clients and other stores [default: `--addr`].
    #[arg(long)]
    pub advertise_addr: Option<String>,
    /// Listen address for `/metrics`, `/status` and `/region/ID`.
    #[arg(long, default_value = "127.0.0.1:20180")]
    pub status_addr: String,
    /// Advertised status address [default: `--status-addr`].
    #[arg(long)]
    pub advertise_status_addr: Option<String>,
    /// Listen address for Raft messages from other stores.
    #[arg(long, default_value = "127.0.0.1:20170")]
    pub peer_addr: String,
    /// Data directory of the store.
    #[arg(short = 's', long)]
    pub data_dir: PathBuf,
    /// Addresses of the PD members, `host:port`; can be empty.
    #[arg(long, alias = "pd", value_delimiter = ',')]
    pub pd_endpoints: Vec<String>,
    /// ID of the store.
    #[arg(long)]
    pub store_id: u64,
    /// Label of this store, `key=value`, reported to PD.
    #[arg(long, value_delimiter = ',', value_parser = parse_label)]
    pub labels: Vec<Label>,
    /// Advertised Raft addresses of all stores including this one, `ID=host:port`; must be the same on all stores.
    #[arg(long, value_delimiter = ',', value_parser = parse_store)]
    pub initial_stores: Vec<(u64, String)>,
    /// Number of regions, 1 to 256; must be the same on all stores and must never change.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub regions: u16,
    /// Capacity of the data directory, for example `512MiB`; writes that exceed it are refused [default: size of the file system].
    #[arg(long, value_parser = parse_size)]
    pub capacity: Option<u64>,
    /// Factor for all periods of TiKV (store heartbeat 10 s, region heartbeat 60 s and others). The Raft tick of 1 s is also
    /// halved. An election therefore takes 5 s to 10 s, multiplied by this factor.
    #[arg(long, default_value_t = 0.05)]
    pub scale: f64,
    /// Configuration file (TOML).
    #[arg(short = 'C', long)]
    pub config: Option<PathBuf>,
    /// Minimum log level.
    #[arg(short = 'L', long)]
    pub log_level: Option<String>,
    /// Log file; new lines are appended [default: stderr].
    #[arg(short = 'f', long)]
    pub log_file: Option<PathBuf>,
}

fn parse_label(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Label { key: key.to_owned(), value: value.to_owned() }),
        _ => Err(format!("`{text}` is not of the form `key=value`")),
    }
}

fn parse_store(text: &str) -> Result<(u64, String), String> {
    let parsed = text.split_once('=').and_then(|(id, address)| Some((id.parse().ok()?, address.to_owned())));
    parsed
        .filter(|(id, address)| *id > 0 && address.contains(':'))
        .ok_or_else(|| format!("`{text}` is not of the form `ID=host:port` with an id above 0"))
}

/// Parses a size in bytes such as `512MiB`, `512MB` or `536870912`. Units are binary in both spellings, as in TiKV.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        "T" | "TB" | "TiB" => 40,
        _ => return Err(format!("`{unit}` is not a unit of size; expected B, KiB, MiB, GiB or TiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a size like `512MiB`"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// Settings of a TiKV store, combined from flags and configuration file.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    pub store_id: u64,
    pub addr: String,
    pub advertise_addr: String,
    pub status_addr: String,
    pub advertise_status_addr: String,
    pub peer_addr: String,
    pub data_dir: PathBuf,
    pub pd_endpoints: Vec<String>,
    pub labels: Vec<Label>,
    pub stores: BTreeMap<u64, String>,
    pub regions: u16,
    pub capacity: Option<u64>,
    pub clock: StorePeriods,
    pub log_level: LogLevel,
    pub log_file: Option<PathBuf>,
}

impl StoreSettings {
    /// Creates the settings from flags and the configuration file.
    ///
    /// # Errors
    /// Returns an error with a readable message if a flag or the configuration file is invalid.
    pub fn new(args: Args) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read_config(path)?,
            None => BTreeMap::new(),
        };
        let level = args.log_level.as_deref().or(file.get("log.level").map(String::as_str)).unwrap_or("info");
        let log_level =
            LogLevel::parse(level).with_context(|| format!("invalid log level `{level}`; expected debug, info, warn, error or fatal"))?;
        let capacity = match (args.capacity, file.get("raftstore.capacity")) {
            (None, Some(text)) => Some(parse_size(text).map_err(anyhow::Error::msg).context("raftstore.capacity")?),
            (flag, _) => flag,
        };
        ensure!(args.scale > 0.0 && args.scale <= 10.0, "scale {} is not above 0 and at most 10", args.scale);
        let count = args.initial_stores.len();
        let stores: BTreeMap<u64, String> = args.initial_stores.into_iter().collect();
        ensure!(stores.len() == count, "a store is named twice in --initial-stores");
        ensure!(stores.contains_key(&args.store_id), "store {} is not in --initial-stores", args.store_id);
        Ok(Self {
            store_id: args.store_id,
            advertise_addr: args.advertise_addr.unwrap_or_else(|| args.addr.clone()),
            addr: args.addr,
            advertise_status_addr: args.advertise_status_addr.unwrap_or_else(|| args.status_addr.clone()),
            status_addr: args.status_addr,
            peer_addr: args.peer_addr,
            data_dir: args.data_dir,
            pd_endpoints: args.pd_endpoints.into_iter().filter(|endpoint| !endpoint.is_empty()).collect(),
            labels: args.labels,
            stores,
            regions: args.regions,
            capacity,
            clock: StorePeriods { scale: args.scale },
            log_level,
            log_file: args.log_file,
        })
    }
}

/// Periods of TiKV, multiplied by one factor.
#[derive(Debug, Clone, Copy)]
pub struct StorePeriods {
    pub scale: f64,
}

impl StorePeriods {
    #[must_use]
    pub fn scaled(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.scale)
    }

    /// Returns the Raft timing. The tick is half of the scaled tick, so an election takes a quarter to half a second at a scale of 0.05.
    #[must_use]
    pub fn raft(self) -> raft::RaftTiming {
        raft::RaftTiming::scaled(self.scale / 2.0)
    }

    #[must_use]
    pub fn store_heartbeat(self) -> Duration {
        self.scaled(10.0)
    }

    #[must_use]
    pub fn region_heartbeat(self) -> Duration {
        self.scaled(60.0)
    }

    /// Returns the time without a message after which a peer is reported to PD as down.
    #[must_use]
    pub fn max_peer_down(self) -> Duration {
        self.scaled(600.0)
    }
}

/// Reads the subset of TOML that a store's configuration uses: sections, and `key = value` on one line. Returns the values by dotted key.
/// Unknown keys are accepted, since the file may belong to a real TiKV store.
fn read_config(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("invalid configuration file `{}`", path.display()))?;
    parse_config(&text).with_context(|| format!("invalid configuration file `{}`", path.display()))
}

fn parse_config(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = number + 1;
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split('#').next().unwrap_or_default().trim().strip_suffix(']').unwrap_or_default().trim();
            ensure!(is_key(name), "line {number}: expected `[section]`, found `{line}`");
            section = format!("{name}.");
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { bail!("line {number}: expected `key = value`, found `{line}`") };
        let key = key.trim().trim_matches('"');
        ensure!(is_key(key), "line {number}: `{key}` is not a key");
        let value = parse_value(value.trim()).with_context(|| format!("line {number}: the value of `{key}`"))?;
        let name = format!("{section}{key}");
        ensure!(found.insert(name.clone(), value).is_none(), "line {number}: duplicate key `{name}`");
    }
    Ok(found)
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
}

fn parse_value(text: &str) -> anyhow::Result<String> {
    if let Some(quote) = text.chars().next().filter(|c| *c == '"' || *c == '\'') {
        let (inside, rest) = text[1..].split_once(quote).context("has no closing quote")?;
        ensure!(rest.trim().is_empty() || rest.trim().starts_with('#'), "is followed by `{}`", rest.trim());
        return Ok(inside.to_owned());
    }
    let bare = text.split('#').next().unwrap_or_default().trim();
    let list = bare.starts_with('[') && bare.ends_with(']');
    ensure!(
        list || matches!(bare, "true" | "false") || bare.replace('_', "").parse::<f64>().is_ok(),
        "`{bare}` is neither a quoted string, a number, true, false nor a list"
    );
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1GB"), Ok(1 << 30));
        assert_eq!(parse_size("17"), Ok(17));
        for wrong in ["", "MiB", "1.5GiB", "3 bananas", "99999999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn config_is_read_and_a_broken_one_is_refused_with_its_line() {
        let good =
            "# top\n[log]\nlevel = \"warn\" # why\n[raftstore]\ncapacity = '1GiB'\n\n[rocksdb.defaultcf]\nx-y = 1_000\nlist = [1, 2]\n";
        let found = parse_config(good).unwrap();
        assert_eq!((found["log.level"].as_str(), found["raftstore.capacity"].as_str()), ("warn", "1GiB"));
        for (bad, expected) in [
            ("[log\n", "line 1: expected `[section]`"),
            ("\nlevel\n", "line 2: expected `key = value`"),
            ("[log]\nlevel = info\n", "line 2: the value of `level`: `info` is neither"),
            ("a = \"x\n", "has no closing quote"),
            ("a = 1\na = 2\n", "line 2: duplicate key `a`"),
        ] {
            let error = format!("{:#}", parse_config(bad).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
