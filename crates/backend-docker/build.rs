//! Packs the folders of images that ship with the program.

include!("../../build/archive.rs");

fn main() -> io::Result<()> {
    archive("images.bin", &["images"])
}
