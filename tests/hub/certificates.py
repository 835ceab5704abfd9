"""Self-signed certificates, made by the openssl command when a test asks for them."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_HOSTS = "IP:127.0.0.1,IP:127.0.0.2,DNS:localhost"
# What strict verification, the default since Python 3.13, wants of a certificate that vouches for itself.
_EXTENSIONS = """basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key.

    Attributes:
        path: The certificate in PEM: what SSL_CERT_FILE takes to trust it.
        key: The private key in PEM.
    """

    path: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """For `LoopbackHub(tls=…)`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this certificate and no other."""
        context = ssl.create_default_context(cafile=self.path)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


def available() -> bool:
    """Whether there is an openssl command."""
    return shutil.which("openssl") is not None


def make(folder: Path, *, hosts: str = _HOSTS, days: int = 30) -> Certificate:
    """A new certificate below `folder`.

    Args:
        folder: Where the files go.
        hosts: The names and addresses that it is good for, as openssl writes them; the loopback's by default.
        days: From now until it expires; -1 has expired already.
    """
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    request, extensions = folder / "request.pem", folder / "extensions"
    extensions.write_text(_EXTENSIONS + f"subjectAltName = {hosts}\n")
    # In two steps: `req -x509` takes no negative days.
    _openssl(
        "req",
        "-new",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-keyout",
        made.key,
        "-out",
        request,
        "-subj",
        "/CN=loopback hub",
    )
    _openssl(
        "x509",
        "-req",
        "-in",
        request,
        "-signkey",
        made.key,
        "-days",
        days,
        "-extfile",
        extensions,
        "-out",
        made.path,
    )
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
