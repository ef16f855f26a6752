"""What a WSGI server loads: `gunicorn backend.wsgi:app`, configured by the environment."""

import logging

from backend.app import create_app

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
app = create_app()
