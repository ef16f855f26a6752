"""What a WSGI server loads: `backend.wsgi:app`, configured by the environment. `serve` loads it into waitress."""

from contextlib import suppress

from redis.exceptions import RedisError

from backend import logs
from backend.app import create_app
from backend.connections import compare_soon

logs.configure("serve")
app = create_app()
with suppress(RedisError):  # a courier whose Redis was away finds that out by itself
    # Label Studio does not repeat what it sent while this process was away. It is asked when we can be reached again.
    compare_soon(app.config["CAR"].redis, seconds=2)
