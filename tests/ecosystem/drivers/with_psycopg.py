"""psycopg 3: a transaction that is undone, COPY in, a pipeline, a cursor of the server."""
import sys
import psycopg

with psycopg.connect(sys.argv[1]) as conn, conn.cursor() as cur:
    cur.execute("create temp table driven(id int primary key, note text)")
    conn.commit()
    cur.execute("insert into driven values (0, 'undone')")
    conn.rollback()
    with cur.copy("copy driven from stdin") as copy:
        for n in range(1000):
            copy.write_row((n, f"note {n}"))
    with conn.pipeline():
        for n in range(1000, 1100):
            cur.execute("insert into driven values (%s, %s)", (n, f"note {n}"))
    conn.commit()
    with conn.cursor(name="on_the_server") as rows:
        rows.execute("select id, note from driven order by id")
        assert list(rows) == [(n, f"note {n}") for n in range(1100)]
