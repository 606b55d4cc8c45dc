//! Lists the tests that `cargo test` has skipped. Cargo runs this program last.
#![expect(clippy::print_stderr, reason = "the list is for a person")]

use test_requirements::Skipped;

fn main() {
    // nextest asks every test program for its tests, and runs each test with a parent of its own.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    eprintln!("\n{}", Skipped::of_this_run().text(true));
}
