//! Flags of the fake model server.

use std::path::PathBuf;

/// Flags of `chaosrun node model`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Script file with the answers.
    #[arg(value_name = "SCRIPT")]
    pub script: PathBuf,
    /// Listen address, `host:port`; port 0 selects a free port. The first line printed is the address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = parse_address)]
    pub listen: String,
    /// Append one line of JSON per request to this file; API keys are removed.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

fn parse_address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port, expected `host:port`"))?;
    if host.is_empty() {
        return Err(format!("`{text}` has no host, expected `host:port`"));
    }
    port.parse::<u16>().map_err(|_| format!("`{port}` is not a port"))?;
    Ok(text.to_owned())
}
