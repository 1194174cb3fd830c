"""A certificate authority of the tests' own, and a server that speaks TLS.

certificates    module  a folder with ca.pem, server.pem/.key (for localhost) and client.pem/.key
tls_server      module  (server, its TLS port): it wants a client's certificate; its other port is plain
tls_settings    what a client needs to know of it
"""

import contextlib
import shutil
import socket
import subprocess

import pytest

from common.embedded import EmbeddedServer
from common.errors import RedisUnavailable
from common.server_binary import installed_servers
from common.settings import Settings

__all__ = ["certificates", "free_port", "tls_server", "tls_settings"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's certificate for localhost and a client's: PEM files in one folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    # Python 3.13 is strict about what an authority and its certificates must say of themselves.
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *curve, *usage, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test authority")
    for name, alternative in (("server", "DNS:localhost"), ("client", "DNS:client")):
        (folder / "extension").write_text(
            f"subjectAltName={alternative}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl("req", *curve[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "extension",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def tls_server(certificates):
    """A server that speaks plain and TLS; yield it and its TLS port. It wants a client's certificate."""
    for binary in installed_servers():
        port = free_port()
        config = {
            "tls-port": str(port),
            "tls-ca-cert-file": str(certificates / "ca.pem"),
            "tls-cert-file": str(certificates / "server.pem"),
            "tls-key-file": str(certificates / "server.key"),
            "tls-auth-clients": "yes",
        }
        with contextlib.suppress(RedisUnavailable), EmbeddedServer(binary=binary.path, config=config) as server:
            yield server, port
            return
    pytest.skip("no server here is built with TLS")


def tls_settings(certificates, port, **changes):
    given = {
        "redis_url": f"rediss://localhost:{port}/1",
        "redis_tls_ca": certificates / "ca.pem",
        "redis_tls_cert": certificates / "client.pem",
        "redis_tls_key": certificates / "client.key",
        "redis_connect_timeout": 2,
    }
    return Settings(**(given | changes))
