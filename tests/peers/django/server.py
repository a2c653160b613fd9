"""An authorization server for tests: django-oauth-toolkit on a free port of the loopback interface.

When it listens it prints one line: {"issuer", "control"}. It ends with its stdin.
"""

import json
import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application


def main():
    with Server(("127.0.0.1", 0), Quiet) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        os.environ.update(DJANGO_SETTINGS_MODULE="settings", ISSUER=issuer)
        server.set_app(get_wsgi_application())
        call_command("migrate", run_syncdb=True, verbosity=0)
        from clients import register  # models can be imported only now

        register()
        threading.Thread(target=end_with_stdin, daemon=True).start()
        print(json.dumps({"issuer": issuer, "control": f"{issuer}/control"}), flush=True)
        server.serve_forever()


class Server(WSGIServer):
    request_queue_size = 128  # connections that wait; more would wait for a second each


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
