# SPDX-License-Identifier: Apache-2.0
"""What the HTTP servers for tests share (Python standard library)."""

import ssl
from http.server import ThreadingHTTPServer
from socketserver import TCPServer


class LocalServer(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # Not HTTPServer's, which asks DNS for the name of the address: ten seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def speak_tls(self, cert, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        # The handshake runs in the request's thread: a client that stalls must not block the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
