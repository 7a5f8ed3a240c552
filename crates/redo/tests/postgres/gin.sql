-- Posting trees that grow, split, lose items and whole pages; inner pages of both trees; the pending list.
CREATE TABLE sets (id int, a int[], pad text) WITH (fillfactor = 100, autovacuum_enabled = off);
CREATE INDEX sets_a ON sets USING gin (a) WITH (fastupdate = off);
INSERT INTO sets SELECT i, ARRAY[1, 2 + i % 3, 100 + i % 50, 1000 + i % 400], repeat('p', i % 60)
  FROM generate_series(1, 12000) i;
DELETE FROM sets WHERE id % 5 = 0 OR id BETWEEN 3000 AND 3400;
VACUUM sets;
INSERT INTO sets SELECT i, ARRAY[1, 3, 1000 + i % 400], 'q' FROM generate_series(20000, 23000) i;
-- Whole pages of the tree of key 1 go; the last leaf stays.
INSERT INTO sets SELECT i, ARRAY[1], NULL FROM generate_series(30000, 90000) i;
DELETE FROM sets WHERE id BETWEEN 31000 AND 85000;
VACUUM sets;
INSERT INTO sets SELECT i, ARRAY[1, i % 7], NULL FROM generate_series(100000, 110000) i;
DELETE FROM sets WHERE id % 3 = 0;
VACUUM sets;
SELECT txid_current();
VACUUM sets;
INSERT INTO sets SELECT i, ARRAY[1, i % 7], NULL FROM generate_series(200000, 206000) i;
-- A tree of entries with few to a page, so that inner pages split too.
CREATE TABLE wide_keys (id int, k text[]);
CREATE INDEX wide_keys_k ON wide_keys USING gin (k) WITH (fastupdate = off);
ALTER TABLE wide_keys ALTER k SET STORAGE PLAIN;
INSERT INTO wide_keys SELECT i, ARRAY[lpad(((i * 7919) % 400)::text, 1300, '0')] FROM generate_series(1, 800) i;
INSERT INTO wide_keys VALUES (0, NULL), (0, '{}'), (0, '{NULL}');
DELETE FROM wide_keys WHERE id % 4 = 0;
VACUUM wide_keys;
-- The pending list: begun, its tail filled row by row, a row longer than a page, cleaned by hand and by VACUUM.
CREATE TABLE pending (id int, a int[]);
CREATE INDEX pending_a ON pending USING gin (a) WITH (fastupdate = on, gin_pending_list_limit = 512);
INSERT INTO pending SELECT i, ARRAY[i % 10, i % 11, i] FROM generate_series(1, 400) i;
INSERT INTO pending SELECT 1000 + i, ARRAY(SELECT generate_series(i, i + 900)) FROM generate_series(1, 6) i;
SELECT gin_clean_pending_list('pending_a');
INSERT INTO pending SELECT i, ARRAY[i % 10, i % 11, i] FROM generate_series(2000, 9000) i;
DELETE FROM pending WHERE id % 2 = 0;
VACUUM pending;
INSERT INTO pending SELECT i, ARRAY[i % 10] FROM generate_series(10000, 10300) i;
