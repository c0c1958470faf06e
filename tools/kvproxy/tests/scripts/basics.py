"""redis-py's basics: basics.py PORT python|hiredis"""

import sys
import redis
from redis import connection

port, parser = int(sys.argv[1]), sys.argv[2]
try:  # since redis-py 5
    from redis._parsers import _HiredisParser as Hiredis, _RESP2Parser as Python
except ImportError:
    Hiredis, Python = connection.HiredisParser, connection.PythonParser
pool = redis.ConnectionPool(host="127.0.0.1", port=port, parser_class={"python": Python, "hiredis": Hiredis}[parser], client_name="basics")
client = redis.Redis(connection_pool=pool)

assert client.ping()
assert client.set("py:a", b"\x00\xff\r\n")
assert client.get("py:a") == b"\x00\xff\r\n"
assert client.mset({"py:b": "1", "py:c": "2"})
assert client.mget("py:b", "py:none", "py:c") == [b"1", None, b"2"]
assert client.strlen("py:a") == 4
assert client.exists("py:a", "py:none") == 1
assert client.client_getname() in ("basics", b"basics")
assert client.info()["mode"] == "cluster"
assert client.config_get("databases") == {"databases": "1"}
pipeline = client.pipeline(transaction=False)
for n in range(500):
    pipeline.set(f"py:{n}", n)
for n in range(500):
    pipeline.get(f"py:{n}")
answers = pipeline.execute()
assert answers[:500] == [True] * 500
assert answers[500:] == [str(n).encode() for n in range(500)]
assert client.delete("py:a", "py:b", "py:none") == 2
assert client.unlink("py:c") == 1
try:
    client.incr("py:a")
    sys.exit("INCR does not exist")
except redis.ResponseError as error:
    assert "unknown command" in str(error), error
print("all is well")
