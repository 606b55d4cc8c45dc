-- What all scores by one scoring say in the same words, each once: by its digest.
CREATE TABLE forms (
    digest TEXT PRIMARY KEY,
    -- The scoring's name, and its parts as they are declared.
    json TEXT NOT NULL
) STRICT;

-- What stands in `json` is what differs from the form. None: all stands there.
ALTER TABLE scores ADD COLUMN form TEXT;
