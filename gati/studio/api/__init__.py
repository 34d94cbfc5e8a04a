"""The studio's API: Greenflash's endpoints under `/api/v1`, and `POST /api/events` of a GATI backend."""
