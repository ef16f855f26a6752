"""The service: Label Studio in, Redis through, Label Studio out. Only `backend.worker` imports torch."""
