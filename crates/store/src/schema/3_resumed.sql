-- Derived from trial_kept: trials of earlier runs that count for a later one as its own.
CREATE TABLE kept (
    run TEXT NOT NULL,
    trial TEXT NOT NULL,
    -- Its place in the plan of that run.
    number INTEGER NOT NULL,
    PRIMARY KEY (run, trial)
) STRICT, WITHOUT ROWID;

-- A further attempt has begun in the same run: this one no longer counts.
ALTER TABLE trials ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;

DROP INDEX trials_by_run;
CREATE INDEX trials_by_number ON trials (run, number);
-- What a run comes to is counted from the index alone.
CREATE INDEX trials_by_outcome ON trials (run, superseded, role, verdict);
