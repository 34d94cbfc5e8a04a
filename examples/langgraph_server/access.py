"""Who may use the server. A real one checks a session or a signed token here."""

from langgraph_sdk import Auth

auth = Auth()

USERS = {"token-of-ada": "ada", "token-of-alan": "alan"}


@auth.authenticate
async def authenticate(authorization: str | None) -> str:
    user = USERS.get((authorization or "").removeprefix("Bearer "))
    if user is None:
        raise Auth.exceptions.HTTPException(status_code=401, detail="unknown token")
    return user
