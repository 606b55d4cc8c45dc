-- What models have said of diagnoses: advice, and no part of a verdict or a score. Not derived from events.
CREATE TABLE judgements (
    trial TEXT NOT NULL,
    -- The digest of the judge.
    judge TEXT NOT NULL,
    -- The digest of what it was told.
    prompt TEXT NOT NULL,
    at TEXT NOT NULL,
    -- The judge's name and model, and what it said.
    json TEXT NOT NULL,
    PRIMARY KEY (trial, judge)
) STRICT, WITHOUT ROWID;

-- The same question is asked once.
CREATE INDEX judgements_asked ON judgements (judge, prompt);
