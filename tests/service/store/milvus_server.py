"""Run Milvus in a folder until standard input ends, at a port if one is given, and print its port.

Needs PyPI's `milvus`.
"""

import os
import signal
import sys
import threading

from milvus import MilvusServer


def end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


os.environ["no_proxy"] = "127.0.0.1"  # it asks itself over HTTP whether it has started
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exception in the main thread, also during `start`
threading.Thread(target=end_with_input, daemon=True).start()
server = MilvusServer()
server.set_base_dir(sys.argv[1])
if len(sys.argv) > 2:
    server.listen_port = int(sys.argv[2])
try:
    server.start()
    print(server.listen_port, flush=True)
    signal.pause()
finally:
    server.stop()
