"""What a WSGI server loads: `backend.wsgi:app`, configured by the environment. `serve` loads it into waitress."""

from backend import logs
from backend.app import create_app

logs.configure("serve")
app = create_app()
