//! Build script that packs the image folders that ship with the program into one archive.

include!("../../build/archive.rs");

fn main() -> io::Result<()> {
    archive("images.bin", &["images"])
}
