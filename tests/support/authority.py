"""A certificate authority of a test's own."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trustme import CA, Blob


class Authority:
    """Its files are PEM files. ``certificate`` is the one to be trusted."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        """In: an existing folder; what the files in it are called."""
        self._ca = CA(organization_name=name)
        self._path = directory / name
        self.certificate = self._written("pem", self._ca.cert_pem)

    def signed(self, *names: str, expired: bool = False) -> tuple[Path, Path]:
        """A server's certificate for these names (without one: for this machine), and its key. The next call
        replaces both files."""
        until = datetime.now(UTC) + timedelta(days=-1 if expired else 2)
        leaf = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")), not_after=until)
        chain = Blob(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        return self._written("server.pem", chain), self._written("server.key", leaf.private_key_pem)

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """What a server with such a certificate listens with."""
        return _serving(*self.signed(*names, expired=expired))

    def self_signed(self) -> ssl.SSLContext:
        """The context of a server whose certificate is signed by nobody else."""
        return _serving(self.certificate, self._written("key", self._ca.private_key_pem))

    def _written(self, ending: str, what: Blob) -> Path:
        file = self._path.with_suffix(f".{ending}")
        what.write_to_path(str(file))
        return file


def _serving(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
