-- Generic records, as contrib's bloom index makes them: insertion, removal of tuples and of whole pages, reuse.
CREATE EXTENSION bloom;
CREATE TABLE blooming (id int, a int, b int);
CREATE INDEX blooming_ab ON blooming USING bloom (a, b) WITH (length = 64);
INSERT INTO blooming SELECT i, i % 100, i % 37 FROM generate_series(1, 6000) i;
DELETE FROM blooming WHERE id % 3 = 0 OR id BETWEEN 1000 AND 4000;
VACUUM blooming;
INSERT INTO blooming SELECT i, i % 100, i % 37 FROM generate_series(7000, 11000) i;
REINDEX INDEX blooming_ab;
INSERT INTO blooming SELECT i, i % 100, i % 37 FROM generate_series(12000, 12500) i;
