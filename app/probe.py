"""Asks the service in this container whether it is ready: the image's HEALTHCHECK. Every role answers.

It is run as a file every few seconds, `python -I -S app/probe.py`, so it imports little, and nothing of this package.
"""

import http.client
import os
import sys

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not served


def is_ready(host: str, port: int) -> bool:
    """By a straight connection: proxies that the environment names are for other addresses."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    served = os.environ["MILEPOST_HOST"].strip("[]")
    sys.exit(not is_ready(EVERYWHERE.get(served, served), int(os.environ["MILEPOST_PORT"])))
