# SPDX-License-Identifier: Apache-2.0
"""A test suite's way with Testcontainers, in a job of tests/e2e/clients.bash: testcontainers_walk.py IMAGE."""

import pathlib
import sys
import tempfile
import urllib.request

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy, PortWaitStrategy

IMAGE = sys.argv[1]
SERVE = "mkdir /www; echo $WORD >/www/index.html; echo ready; exec httpd -f -p 8000 -h /www"


def server():
    return (DockerContainer(IMAGE).with_command(["sh", "-c", SERVE]).with_exposed_ports(8000)
            .with_env("WORD", "served by the container"))


with server().waiting_for(LogMessageWaitStrategy("ready").with_startup_timeout(20)) as web:
    print("log:", web.get_logs()[0].decode().strip())
    PortWaitStrategy(8000).with_startup_timeout(20).wait_until_ready(web)
    address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(8000)}/"
    with urllib.request.urlopen(address, timeout=10) as answer:
        print("http:", answer.read().decode().strip())
    code, said = web.exec(["sh", "-c", "echo inside; exit 3"])
    print("exec:", code, said.decode().strip())
    name = web.get_wrapped_container().id

with Network() as network:
    with server().with_network(network).with_network_aliases("web").waiting_for(LogMessageWaitStrategy("ready")):
        # It stays: what has ended before its log was looked at counts as failed.
        asks = ["sh", "-c", "until wget -qO- http://web:8000/; do sleep 0.2; done; echo; echo asked; sleep 60"]
        with (DockerContainer(IMAGE).with_command(asks).with_network(network)
              .waiting_for(LogMessageWaitStrategy("asked"))) as client:
            print("network:", client.get_logs()[0].decode().split("\n")[0])

with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo made-by-a-build >/made\n", encoding="ascii")
    with DockerImage(path=folder, tag="walk:1") as image:
        with (DockerContainer(str(image)).with_command(["sh", "-c", "cat /made; echo ready; sleep 60"])
              .waiting_for(LogMessageWaitStrategy("ready"))) as made:
            print("built:", made.get_logs()[0].decode().split("\n")[0])

try:
    docker.from_env().containers.get(name)
except docker.errors.NotFound:
    print("gone")
