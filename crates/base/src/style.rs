//! Colours of the program's output, and the conditions under which they are used.

use std::env;
use std::io::{IsTerminal, stderr, stdout};

use clap::builder::styling::{AnsiColor, Color, Style};

/// Role of a piece of text, which determines its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Name that readers search for, such as a heading or a scenario.
    Strong,
    /// Secondary text, such as labels and places.
    Faint,
    Id,
    Pass,
    Unsafe,
    Fail,
    Invalid,
    Warning,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Id => coloured(AnsiColor::Cyan),
            Self::Pass => coloured(AnsiColor::Green).bold(),
            Self::Unsafe | Self::Warning => coloured(AnsiColor::Yellow).bold(),
            Self::Fail => coloured(AnsiColor::Red).bold(),
            Self::Invalid => coloured(AnsiColor::Magenta).bold(),
        }
    }
}

const fn coloured(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// Choice between coloured and plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    pub const PLAIN: Self = Self { colours: false };
    pub const COLOURS: Self = Self { colours: true };

    #[must_use]
    pub fn of_stdout() -> Self {
        Self { colours: wanted(stdout().is_terminal()) }
    }

    #[must_use]
    pub fn of_stderr() -> Self {
        Self { colours: wanted(stderr().is_terminal()) }
    }

    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colours || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }
}

/// Returns true if output is coloured according to the conventions of no-color.org and bixense.com/clicolors.
fn wanted(terminal: bool) -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && (forced || (terminal && !dumb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_unchanged() {
        assert_eq!(Palette::PLAIN.paint(Tone::Fail, "FAIL"), "FAIL");
        assert_eq!(Palette::COLOURS.paint(Tone::Plain, "x"), "x");
        assert_eq!(Palette::COLOURS.paint(Tone::Fail, "FAIL"), "\u{1b}[1m\u{1b}[31mFAIL\u{1b}[0m");
    }
}
