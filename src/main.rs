//! Entry point: parses the command line, calls the library, and maps the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    chaosrun::cli::main()
}
