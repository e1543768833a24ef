"""`python -m jobs.access.keyring COMMAND`: API keys for another process, which gets JSON.

| command | answers |
|---|---|
| `create NEW_KEY` (JSON) | the `IssuedKey` |
| `list` | every `AccessKey` |
| `revoke ID` | the `AccessKey`, or null where there is none |
| `exist` | true or false |

It works on the store of MAMBASCOPE_REDIS_URL. What goes wrong there is said on standard error.
"""

import sys
from contextlib import closing

from pydantic_core import to_json
from redis.exceptions import RedisError

from jobs.access.access_keys import AccessKeys
from jobs.connect import connect
from schemas.access import NewKey
from schemas.settings import Settings


def answer(access: AccessKeys, command: str, argument: str = "") -> str:
    """What a command answers, as JSON."""
    match command:
        case "create":
            found: object = access.create(NewKey.model_validate_json(argument))
        case "list":
            found = access.listed()
        case "revoke":
            found = access.revoke(argument)
        case "exist":
            found = access.exist()
        case _:
            raise ValueError(f"there is no command {command}")
    return to_json(found).decode()


def main() -> None:
    """Answer one command."""
    settings = Settings()
    with closing(connect(settings)) as redis:
        try:
            print(answer(AccessKeys(redis, settings), *sys.argv[1:]))
        except RedisError as error:
            sys.exit(f"The job store does not answer: {error}.")


if __name__ == "__main__":
    main()
