"""What a WSGI server loads: `gunicorn backend.wsgi:app`, configured by the environment."""

from contextlib import suppress

from redis.exceptions import RedisError

from backend import logs
from backend.app import create_app
from backend.connections import compare_soon

logs.configure("serve")
app = create_app()
with suppress(RedisError):  # a courier whose Redis was away finds that out by itself
    compare_soon(app.config["CAR"].redis)  # Label Studio does not repeat what it sent while this process was away
