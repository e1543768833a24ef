"""`python -m service`: the API of one installation, configured by MAMBASCOPE_* variables.

Port 0 takes any free port; MAMBASCOPE_PORT_FILE names a file that is told which.
"""

import os
import sys
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from schemas.settings import Settings
from service.app import create_app
from service.logs import configure_logs
from service.server import RemoteNotAllowed, server_for


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    settings = Settings()
    port_file = os.environ.get("MAMBASCOPE_PORT_FILE")
    configure_logs(settings.log_level)
    try:
        server = server_for(create_app(settings), settings, Path(port_file) if port_file else None)
    except (RemoteNotAllowed, RedisError) as error:
        structlog.get_logger("service").error("not started", error=str(error))
        sys.exit(2)
    server.run()


if __name__ == "__main__":
    main()
