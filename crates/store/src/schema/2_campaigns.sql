-- Trials belong to a campaign when their run does.
ALTER TABLE runs ADD COLUMN campaign TEXT;
CREATE INDEX runs_by_campaign ON runs (campaign);

-- From 1: an invalid trial may be tried again.
ALTER TABLE trials ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE trials ADD COLUMN diagnose_us INTEGER;
-- What has been run already is looked for by what it is.
CREATE INDEX trials_by_digests ON trials (yardstick, subject);

-- What other scorers than the one of then say of a trial. Not derived from events: `rescore` makes it.
CREATE TABLE scores (
    trial TEXT NOT NULL,
    scorer_version INTEGER NOT NULL,
    at TEXT NOT NULL,
    verdict TEXT NOT NULL,
    score REAL,
    -- The reason's code and the parts of the score.
    json TEXT NOT NULL,
    PRIMARY KEY (trial, scorer_version)
) STRICT;
