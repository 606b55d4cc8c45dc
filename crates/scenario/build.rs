//! Build script that packs the samples that ship with the program: scenarios, variants and prompts.

include!("../../build/archive.rs");

fn main() -> io::Result<()> {
    archive("samples.bin", &["prompts", "scenarios", "variants"])
}
