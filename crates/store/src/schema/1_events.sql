-- The truth: one row an event, as it happened.
CREATE TABLE events (
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    elapsed_us INTEGER NOT NULL,
    trial TEXT,
    type TEXT NOT NULL,
    -- The event's `kind`, with its type.
    json TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT;

-- Who records a run: the only thing here that is not in the events. A run without an end whose process is gone was cut off.
CREATE TABLE runners (
    run TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    started_ticks INTEGER,
    boot TEXT NOT NULL,
    -- Counts up to make an empty transaction durable.
    synced INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Derived from run_started and run_finished.
CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    started TEXT NOT NULL,
    version TEXT NOT NULL,
    semantics INTEGER NOT NULL,
    backend TEXT NOT NULL,
    planned INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    arguments TEXT NOT NULL,
    finished TEXT,
    wall_us INTEGER,
    interrupted INTEGER
) STRICT;

-- Derived from trial_started and trial_finished. `last_seq` is open while it runs.
CREATE TABLE trials (
    trial TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER,
    number INTEGER NOT NULL,
    scenario TEXT NOT NULL,
    file TEXT NOT NULL,
    variant TEXT NOT NULL,
    -- A text: it may be above what an INTEGER holds.
    seed TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    backend TEXT NOT NULL,
    goal TEXT NOT NULL,
    role TEXT NOT NULL,
    cell TEXT NOT NULL,
    yardstick TEXT NOT NULL,
    subject TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT,
    verdict TEXT,
    score REAL,
    scorer_version INTEGER,
    reason_code TEXT,
    reason TEXT,
    detect_us INTEGER,
    repair_us INTEGER,
    hurt_us INTEGER,
    wall_us INTEGER,
    declared_us INTEGER,
    tokens INTEGER,
    usd REAL
) STRICT;

CREATE INDEX trials_by_run ON trials (run);
