"""A certificate authority of a test's own, and a server's certificate for this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import certifi

from tests.support.requirements import find_program

END = "-----END CERTIFICATE-----\n"


def one_authority(directory: Path) -> Path:
    """A file with one of the authorities that the world trusts. To load them all takes 0.02 s of CPU, and an HTTP
    client does it even if it will speak no TLS."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition(END)
    file = directory / "one-authority.pem"
    file.write_text(first + end, encoding="utf-8")
    return file


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
