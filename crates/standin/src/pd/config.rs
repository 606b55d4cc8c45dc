//! Flags and configuration file of a PD member. A flag takes precedence over the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::identity::Url;
use crate::log::LogLevel;

/// Flags of `chaosrun node pd`, named as in pd-server.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of this member
    #[arg(long)]
    name: Option<String>,
    /// Data directory of the member
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Listen address for clients, http://host:port
    #[arg(long)]
    client_urls: Option<String>,
    /// Advertised address for clients [default: the listen address]
    #[arg(long)]
    advertise_client_urls: Option<String>,
    /// Listen address for other members, http://host:port
    #[arg(long)]
    peer_urls: Option<String>,
    /// Advertised address for other members [default: the listen address]
    #[arg(long)]
    advertise_peer_urls: Option<String>,
    /// Addresses of all members, pd1=http://host:port,pd2=...
    #[arg(long)]
    initial_cluster: Option<String>,
    /// Factor for all periods; with 0.05 a store becomes Disconnected after 1 s instead of 20 s
    #[arg(long, default_value_t = 0.05)]
    scale: f64,
    /// Log file [default: stderr]
    #[arg(long)]
    pub(super) log_file: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Supported keys of pd-server's configuration file. Other keys are ignored without a warning.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    name: Option<String>,
    data_dir: Option<PathBuf>,
    client_urls: Option<String>,
    advertise_client_urls: Option<String>,
    peer_urls: Option<String>,
    advertise_peer_urls: Option<String>,
    initial_cluster: Option<String>,
    log: LogSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogSection {
    level: Option<String>,
    file: LogFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogFile {
    filename: Option<PathBuf>,
}

/// Settings of a PD member, combined from flags and configuration file.
#[derive(Debug, Clone)]
pub struct PdSettings {
    pub name: String,
    pub data_dir: PathBuf,
    pub client_urls: Url,
    pub advertise_client_urls: Url,
    pub peer_urls: Url,
    pub advertise_peer_urls: Url,
    pub initial_cluster: String,
    pub scale: f64,
    pub log_level: LogLevel,
    pub log_file: Option<PathBuf>,
}

fn url(flag: &str, text: Option<String>, default: &str) -> anyhow::Result<Url> {
    let text = text.unwrap_or_else(|| default.to_owned());
    text.parse().map_err(anyhow::Error::msg).with_context(|| format!("invalid {flag}"))
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("`{}`: {}", path.display(), error.to_string().trim_end().replace('\n', " ")))
}

impl PdSettings {
    /// Creates the settings from flags and the configuration file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or if a value in the flags or the file is invalid.
    pub fn new(args: Args) -> anyhow::Result<Self> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let name = args.name.or(file.name).unwrap_or_else(|| "pd".to_owned());
        if name.is_empty() {
            bail!("the name is empty");
        }
        let client_urls = url("client-urls", args.client_urls.or(file.client_urls), "http://127.0.0.1:2379")?;
        let peer_urls = url("peer-urls", args.peer_urls.or(file.peer_urls), "http://127.0.0.1:2380")?;
        let advertised_client = args.advertise_client_urls.or(file.advertise_client_urls);
        let advertised_peer = args.advertise_peer_urls.or(file.advertise_peer_urls);
        let advertise_client_urls = url("advertise-client-urls", advertised_client, &client_urls.to_string())?;
        let advertise_peer_urls = url("advertise-peer-urls", advertised_peer, &peer_urls.to_string())?;
        let log_level = match file.log.level {
            Some(level) => LogLevel::parse(&level).with_context(|| format!("unknown log level `{level}`"))?,
            None => LogLevel::Info,
        };
        Ok(Self {
            data_dir: args.data_dir.or(file.data_dir).unwrap_or_else(|| PathBuf::from(format!("default.{name}"))),
            initial_cluster: args.initial_cluster.or(file.initial_cluster).unwrap_or_else(|| format!("{name}={advertise_peer_urls}")),
            name,
            client_urls,
            advertise_client_urls,
            peer_urls,
            advertise_peer_urls,
            scale: args.scale,
            log_level,
            log_file: args.log_file.or(file.log.file.filename),
        })
    }

    /// Returns the path of the log file; empty if the log goes to standard error.
    #[must_use]
    pub fn log_file_name(&self) -> String {
        self.log_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn settings(flags: &[&str]) -> anyhow::Result<PdSettings> {
        PdSettings::new(Cli::try_parse_from(std::iter::once(&"pd").chain(flags)).unwrap().args)
    }

    #[test]
    fn flag_overrides_the_file_and_a_bad_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pd.toml");
        let file = path.to_str().unwrap();
        std::fs::write(
            &path,
            "name = \"pd9\"\ninitial-cluster = \"pd1=http://h:1\"\nunknown = 3\n[log]\nlevel = \"warn\"\n[schedule]\nx = 1\n",
        )
        .unwrap();
        let found = settings(&["--config", file, "--name", "pd1", "--client-urls", "http://h:5"]).unwrap();
        assert_eq!((found.name.as_str(), found.initial_cluster.as_str(), found.log_level), ("pd1", "pd1=http://h:1", LogLevel::Warn));
        assert_eq!(found.advertise_client_urls.to_string(), "http://h:5");

        std::fs::write(&path, "name = 3").unwrap();
        let error = format!("{:#}", settings(&["--config", file]).unwrap_err());
        assert!(error.contains("invalid type: integer `3`, expected a string") && !error.contains('\n'), "{error}");
        std::fs::write(&path, "name = \n").unwrap();
        assert!(settings(&["--config", file]).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(settings(&["--config", file]).unwrap_err().to_string().starts_with("cannot read"));
        assert_eq!(
            format!("{:#}", settings(&["--peer-urls", "x"]).unwrap_err()),
            "invalid peer-urls: found `x`, expected `http://host:port`"
        );
    }
}
