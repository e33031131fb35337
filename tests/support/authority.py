"""A certificate authority for one test, by the ``openssl`` command."""

import ssl
import subprocess
from pathlib import Path

from tests.support.requirements import find_program


class Authority:
    """``certificate`` is the file to be trusted."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._count = 0
        self._key, self.certificate = directory / f"{name}.key", directory / f"{name}.pem"
        self._openssl(
            *("req", "-x509", *EC, "-nodes", "-keyout", self._key, "-out", self.certificate),
            *("-subj", f"/CN={name}", "-days", "2"),
        )

    def server(self, name: str = "DNS:localhost,IP:127.0.0.1", *, expired: bool = False) -> ssl.SSLContext:
        """What a server with a certificate for this name listens with."""
        self._count += 1
        stem = self._directory / f"server{self._count}-{self.certificate.stem}"
        key, request, signed, extension = (stem.with_suffix(f".{end}") for end in ("key", "csr", "pem", "ext"))
        extension.write_text(f"subjectAltName={name}\n")
        self._openssl("req", *EC, "-nodes", "-new", "-keyout", key, "-out", request, "-subj", "/CN=server")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-out", signed, "-extfile", extension, "-days", "-1" if expired else "2"),
        )
        return serving(signed, key)

    def self_signed(self) -> ssl.SSLContext:
        """One that nobody signed but itself."""
        key, signed = self._directory / "self.key", self._directory / "self.pem"
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        self._openssl("req", "-x509", *EC, "-nodes", "-keyout", key, "-out", signed, *names, "-days", "2")
        return serving(signed, key)

    def _openssl(self, *argv: str | Path) -> None:
        subprocess.run([find_program("openssl"), *map(str, argv)], check=True, capture_output=True, timeout=60)


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def serving(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
