"""Exit code 0 exactly when the service of this container answers /readyz with 200.

Plain sockets: the image holds no bytecode, so importing an HTTP client would cost more than the probe.
"""

import os
import socket
import sys

given = os.environ.get("SFSC_PORT", "")
port = int(given) if given.isdigit() else 8000  # Kubernetes sets tcp://IP:PORT for a Service called sfsc
with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
    if os.environ.get("SFSC_TLS_CERT"):
        import ssl

        # The certificate names the service's public address, not this one.
        connection = ssl._create_unverified_context().wrap_socket(connection)
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    status = connection.recv(64)
sys.exit(not status.startswith(b"HTTP/1.1 200 "))
