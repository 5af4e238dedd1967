"""Certificates and tokens that a test makes for itself."""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """Files of one authority, and of a server and a client that it vouches for."""

    authority: Path
    server: Path
    client: Path

    @classmethod
    def make(cls, folder: Path, name: str = "authority") -> "Certificates":
        """Make them; `server` and `client` hold key and chain in one PEM file."""
        authority = trustme.CA()
        files = cls(
            folder / f"{name}.pem", folder / f"{name}-server.pem", folder / f"{name}-client.pem"
        )
        authority.cert_pem.write_to_path(str(files.authority))
        for path, identity in ((files.server, HOST), (files.client, "worker@example.org")):
            issued = authority.issue_cert(identity)
            chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
            path.write_bytes(_as_pkcs8(issued.private_key_pem.bytes()) + chain)
        return files


class TokenIssuer:
    """Signs bearer tokens, and publishes the key that they are checked with."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.keys = folder / "jwks.json"
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256",
            "n": _url64(numbers.n.to_bytes(256, "big")),
            "e": _url64(numbers.e.to_bytes(3, "big")),
        }  # fmt: skip
        self.keys.write_text(json.dumps({"keys": [key]}))

    def token(self, *, lives_s: int = 3600, audience: str = "kafka") -> str:
        """A token of the subject `worker`."""
        now = int(time.time())
        claims = {"sub": "worker", "iss": "tests", "aud": audience, "iat": now - 10}
        head = _url64(json.dumps({"alg": "RS256", "kid": "one", "typ": "JWT"}).encode())
        body = _url64(json.dumps({**claims, "exp": now + lives_s, "scope": "kafka"}).encode())
        signed = self._key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{head}.{body}.{_url64(signed)}"


def _as_pkcs8(key: bytes) -> bytes:
    """The one form of a key that Kafka reads."""
    return load_pem_private_key(key, password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
