-- What trials are judged by, each once. Derived from scoring_declared.
CREATE TABLE scorings (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- The event's `kind`.
    json TEXT NOT NULL
) STRICT;

-- As it was, and by which scoring. Nothing was written into it before.
DROP TABLE scores;
CREATE TABLE scores (
    trial TEXT NOT NULL,
    scorer_version INTEGER NOT NULL,
    -- The digest of the scoring.
    scoring TEXT NOT NULL,
    at TEXT NOT NULL,
    verdict TEXT NOT NULL,
    score REAL,
    -- The reason, the parts of the score, and what it was judged from.
    json TEXT NOT NULL,
    PRIMARY KEY (trial, scorer_version, scoring)
) STRICT;
