"""What a WSGI server loads: `gunicorn backend.wsgi:app`, configured by the environment."""

from backend import logs
from backend.app import create_app

logs.configure("serve")
app = create_app()
