-- Tables whose indexes are of every type; small pages of work, so that splits and deletions come often.
CREATE EXTENSION IF NOT EXISTS bloom;
CREATE TABLE churn (
    id bigserial PRIMARY KEY,
    num int,
    name text,
    tags int[],
    words tsvector,
    doc jsonb,
    place point,
    span int4range,
    area box,
    addr inet,
    made timestamptz DEFAULT now(),
    pad text
) WITH (fillfactor = 80);
CREATE INDEX churn_num ON churn (num) WITH (fillfactor = 50);
CREATE INDEX churn_pair ON churn (name, num);
CREATE INDEX churn_hash ON churn USING hash (num) WITH (fillfactor = 20);
CREATE INDEX churn_tags ON churn USING gin (tags) WITH (fastupdate = off);
CREATE INDEX churn_words ON churn USING gin (words) WITH (gin_pending_list_limit = 64);
CREATE INDEX churn_span ON churn USING gist (span) WITH (fillfactor = 30);
CREATE INDEX churn_area ON churn USING gist (area);
CREATE INDEX churn_place ON churn USING spgist (place);
CREATE INDEX churn_kd ON churn USING spgist (place kd_point_ops);
CREATE INDEX churn_name ON churn USING spgist (name);
CREATE INDEX churn_addr ON churn USING spgist (addr);
CREATE INDEX churn_brin ON churn USING brin (num, made) WITH (pages_per_range = 2, autosummarize = on);
CREATE INDEX churn_multi ON churn USING brin (num int4_minmax_multi_ops, name text_bloom_ops) WITH (pages_per_range = 1);
CREATE INDEX churn_bloom ON churn USING bloom (num, name);
CREATE TABLE churn_small (id int PRIMARY KEY, k int, name text, place point);
CREATE INDEX churn_small_hash ON churn_small USING hash (k);
CREATE INDEX churn_small_place ON churn_small USING gist (place);
CREATE SEQUENCE churn_numbers CACHE 5;
CREATE FUNCTION churn_rows(seed int, many int) RETURNS SETOF churn LANGUAGE sql AS $$
    SELECT nextval('churn_id_seq'), n % 500, md5((n % 3000)::text) || repeat('x', n % 40),
        ARRAY[n % 7, n % 97, n % 1009, n], to_tsvector('simple', md5((n % 800)::text) || ' w' || n % 13 || ' v' || n),
        jsonb_build_object('a', n % 50, 'b', md5(n::text)), point(n % 211, n % 307 + n::float8 / 1e6),
        int4range(n % 1000, n % 1000 + 1 + n % 30), box(point(n % 100, n % 90), point(n % 100 + 5, n % 90 + 3)),
        ('10.' || n % 256 || '.' || n / 256 % 256 || '.' || n % 17)::inet, now(), repeat('p', n % 120)
    FROM (SELECT abs(hashint4(seed + i)) % 1000000 AS n FROM generate_series(1, many) i) numbers
$$;
INSERT INTO churn SELECT * FROM churn_rows(1, 4000);
INSERT INTO churn_small SELECT i, i % 7, md5(i::text), point(i, i) FROM generate_series(1, 3000) i;
