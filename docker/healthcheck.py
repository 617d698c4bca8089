"""Exit code 0 exactly when the service of this container answers /readyz with 200.

Plain sockets: the image holds no bytecode, so importing an HTTP client would cost more than the probe.
"""

import os
import socket
import sys

port = int(os.environ.get("SFSC_PORT", "8000"))
with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    status = connection.recv(64)
sys.exit(not status.startswith(b"HTTP/1.1 200 "))
