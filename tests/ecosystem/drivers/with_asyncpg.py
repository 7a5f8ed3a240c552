"""asyncpg: binary COPY, prepared statements, a transaction that is undone."""
import asyncio
import sys
import asyncpg


async def main():
    conn = await asyncpg.connect(sys.argv[1])
    await conn.execute("create temp table driven(id int primary key, note text)")
    undo = conn.transaction()
    await undo.start()
    await conn.execute("insert into driven values ($1, $2)", 0, "undone")
    await undo.rollback()
    wanted = [(n, f"note {n}") for n in range(1000)]
    await conn.copy_records_to_table("driven", records=wanted)
    rows = await conn.fetch("select id, note from driven where id >= $1 order by id", 0)
    assert [tuple(row) for row in rows] == wanted
    await conn.close()


asyncio.run(main())
