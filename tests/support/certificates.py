"""A certificate authority of a test's own, and a server's certificate for this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.requirements import find_program


@dataclass(frozen=True)
class Certificates:
    """PEM files. ``stranger``: an authority that signed nothing here."""

    authority: Path
    stranger: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """In: an empty folder. The certificate is for localhost, 127.0.0.1 and ::1."""
    for name in ("authority", "stranger"):
        openssl(
            directory,
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem",
        )
    openssl(directory, "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
    openssl(
        directory,
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names "
        "-out server.pem",
    )
    return Certificates(
        *(directory / name for name in ("authority.pem", "stranger.pem", "server.pem", "server.key"))
    )


def openssl(directory: Path, words: str) -> None:
    subprocess.run(
        [find_program("openssl"), *words.split()], cwd=directory, check=True, capture_output=True, timeout=60
    )
