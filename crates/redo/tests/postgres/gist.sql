-- Points, boxes, ranges, addresses and texts; trees that grow by insertion, lose whole pages, and are built with
-- buffers or sorted.
CREATE TABLE spots (id int, p point, b box, r int4range, a inet, t tsvector);
CREATE INDEX spots_p ON spots USING gist (p);
CREATE INDEX spots_b ON spots USING gist (b) WITH (fillfactor = 50);
CREATE INDEX spots_ra ON spots USING gist (r, a inet_ops);
CREATE INDEX spots_t ON spots USING gist (t tsvector_ops (siglen = 300)) INCLUDE (id);
CREATE FUNCTION fill_spots(first int, last int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO spots SELECT i, point(x, y), box(point(x, y), point(x + i % 7, y + i % 5)), int4range(x, x + 1 + i % 50),
      ('10.' || x % 256 || '.' || y % 256 || '.' || i % 256)::inet,
      to_tsvector('simple', 'w' || x || ' v' || y || ' u' || i)
    FROM (SELECT i, (i * 7919) % 1009 AS x, (i * 7727) % 997 AS y FROM generate_series(first, last) i) s $$;
SELECT fill_spots(1, 4000);
-- Dead items that scans have noticed make room for new ones.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
DELETE FROM spots WHERE id % 3 = 0;
SELECT count(*) FROM spots WHERE p <@ box '((0,0),(1100,1100))';
SELECT count(*) FROM spots WHERE b && box '((0,0),(1100,1100))';
SELECT count(*) FROM spots WHERE r && int4range(0, 2000);
SELECT fill_spots(4001, 6000);
VACUUM spots;
UPDATE spots SET p = p + point(0.5, 0.5) WHERE id % 5 = 0;
-- Whole areas go, and with them pages; the next vacuum makes them free, and they are used again.
DELETE FROM spots WHERE p[0] < 700;
VACUUM spots;
SELECT txid_current();
VACUUM spots;
SELECT fill_spots(6001, 8000);
DELETE FROM spots;
VACUUM spots;
SELECT txid_current();
VACUUM spots;
SELECT fill_spots(1, 1500);
CREATE INDEX spots_buffered ON spots USING gist (p) WITH (buffering = on);
CREATE INDEX spots_unsorted ON spots USING gist (b) WITH (buffering = off);
CREATE INDEX spots_sorted ON spots USING gist (p);
SELECT fill_spots(1501, 2500);
-- Few large items on a page: inner pages split, and with them the root again and again.
CREATE TABLE wide_spots (t tsvector);
CREATE INDEX wide_spots_t ON wide_spots USING gist (t tsvector_ops (siglen = 2024));
INSERT INTO wide_spots SELECT to_tsvector('simple', string_agg('w' || (i * 31 + j * 17) % 2000, ' '))
  FROM generate_series(1, 600) i, generate_series(1, 60) j GROUP BY i;
DELETE FROM wide_spots WHERE ctid < '(9,0)';
VACUUM wide_spots;
