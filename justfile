# Recipes for people who work on chaosrun. `just` lists them.

[private]
default:
    @just --list --unsorted

# Run the main scenario
[group('use')]
run *ARGS="scenarios/node_kill.yaml":
    cargo run --release -- {{ARGS}}

# All tests
[group('check')]
test *ARGS:
    cargo test {{ARGS}}

# Install the SDKs that tests of the fake model want
[group('check')]
sdk:
    python3 -m venv target/sdk
    target/sdk/bin/pip install -q -r tests/it/fixtures/model/requirements.txt

# Format, lints, schema drift, sample files
[group('check')]
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo run --quiet -- schema --check schemas
    cargo run --quiet -- check --files-only scenarios variants

# Everything CI does
[group('check')]
ci:
    .ci/run

# Write the JSON Schemas anew
[group('write')]
schemas:
    cargo run --quiet -- schema --write schemas

# Record the trials of tests/recordings again
[group('write')]
record:
    cargo build
    tests/recordings/record

# Measure the release build against the targets; the report goes to stdout
[group('measure')]
bench *ARGS:
    cargo build --release
    # The bench only watches: built as the tests are, it needs no second set of optimised dependencies.
    CHAOSRUN_BENCH_PROGRAM={{justfile_directory()}}/target/release/chaosrun cargo bench --profile dev --bench report -- {{ARGS}}
