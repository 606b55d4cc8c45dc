//! Options `--message-format` and `--junit`, and the reporters that they select.

use std::io::{stderr, stdout};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::exit::{Exit, Expected};
use crate::report::bar;
use crate::report::human::Human;
use crate::report::junit::JUnit;
use crate::report::ndjson::NdJson;
use chaosrun_base::style::Palette;
use chaosrun_event::reporter::Reporter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    /// Human-readable text
    Human,
    /// JSON on stdout
    Json,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    pub message_format: MessageFormat,
    /// Write a JUnit XML report to this file
    #[arg(long, value_name = "FILE", env = "CHAOSRUN_JUNIT")]
    pub junit: Option<PathBuf>,
}

impl OutputArgs {
    /// Returns the selected reporters. If `live` is true, the reporters receive events while they happen, so a terminal shows a progress
    /// bar. If `with_exit` is true, the exit code of the run is the exit code of the command, and the reporters show it.
    ///
    /// # Errors
    /// Returns an error if the JUnit file cannot be created.
    pub fn reporters(&self, live: bool, with_exit: bool) -> anyhow::Result<Vec<Box<dyn Reporter>>> {
        let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
        let palette = Palette::of_stderr();
        reporters.push(match self.message_format {
            MessageFormat::Human if live && bar::on_terminal() => Box::new(Human::with_bar(stderr(), palette).telling_exit(with_exit)),
            MessageFormat::Human => Box::new(Human::new(stderr(), palette).telling_exit(with_exit)),
            MessageFormat::Json => Box::new(NdJson::new(stdout())),
        });
        if let Some(path) = &self.junit {
            let unwritable = |error| Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", path.display()));
            reporters.push(Box::new(JUnit::create(path).map_err(unwritable)?));
        }
        Ok(reporters)
    }
}
