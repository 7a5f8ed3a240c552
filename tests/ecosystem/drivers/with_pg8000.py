"""pg8000: native Python, parameters by name, a transaction that is undone."""
import ssl
import sys
from urllib.parse import urlsplit
import pg8000.native

at = urlsplit(sys.argv[1])
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
conn = pg8000.native.Connection(
    at.username, password=at.password, host=at.hostname, port=at.port, database=at.path[1:], ssl_context=tls)
conn.run("create temp table driven(id int primary key, note text)")
conn.run("begin")
conn.run("insert into driven values (0, 'undone')")
conn.run("rollback")
for n in range(200):
    conn.run("insert into driven values (:id, :note)", id=n, note=f"note {n}")
assert conn.run("select id, note from driven order by id") == [[n, f"note {n}"] for n in range(200)]
conn.close()
