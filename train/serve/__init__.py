"""Serving a model over HTTP: small, for trying out and for light use. FastAPI and uvicorn are imported nowhere else."""
