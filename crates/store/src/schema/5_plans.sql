-- Derived from plan_declared: all that was to be run, as JSON. None of runs of before.
ALTER TABLE runs ADD COLUMN plan TEXT;
-- Derived from run_started: what a run that stops when it is decided is to decide, as JSON.
ALTER TABLE runs ADD COLUMN until TEXT;
