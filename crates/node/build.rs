//! Build script for the clock library (`src/clock/shim.c`), which changes the clocks of a node's programs. The chaosrun binary embeds the
//! library.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=src/clock/shim.c");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("shim.so");
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if !is_linux {
        // If the binary embeds no library, every change of a clock is refused.
        return if std::fs::write(&out, "").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let compiler = cc::Build::new().opt_level(2).debug(false).pic(true).warnings(false).get_compiler();
    let mut command = compiler.to_command();
    command.args(["-shared", "-nostdlib", "-std=gnu11", "-fvisibility=hidden", "-fno-stack-protector", "-fasynchronous-unwind-tables"]);
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "aarch64") {
        // Outlined atomics would be calls into the runtime library of the compiler.
        command.arg("-mno-outline-atomics");
    }
    command.args(["-Wl,-s", "-Wl,-z,now", "-Wl,-soname,libtz.so", "-o"]).arg(&out).arg("src/clock/shim.c");
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => failed(&format!("the C compiler failed: {status}")),
        Err(error) => failed(&format!("no C compiler: {error}")),
    }
}

fn failed(why: &str) -> ExitCode {
    println!("cargo::error={why}");
    ExitCode::FAILURE
}
