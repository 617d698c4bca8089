"""Run Milvus with its data in a folder, print port and process id, and stop when standard input ends.

python milvus_server.py FOLDER [PORT]; needs PyPI's `milvus`.
"""

import os
import signal
import sys
import threading

from milvus import MilvusServer


def end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


folder, *port = sys.argv[1:]
os.environ["no_proxy"] = "127.0.0.1"  # it asks itself over HTTP whether it has started
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exception in the main thread, also during `start`
threading.Thread(target=end_with_input, daemon=True).start()
server = MilvusServer()
server.set_base_dir(folder)
if port:
    server.listen_port = int(port[0])
try:
    server.start()
    print(server.listen_port, server.server_proc.pid, flush=True)
    signal.pause()
finally:
    server.stop()
