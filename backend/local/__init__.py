"""What `python -m backend up` needs: everything on one machine, with a demo project. Nothing else imports this."""
