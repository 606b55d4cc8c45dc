-- Client error-microseconds.
ALTER TABLE trials RENAME COLUMN hurt_us TO impact_us;
