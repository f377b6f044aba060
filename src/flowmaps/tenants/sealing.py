"""Keep tenant passwords unreadable in the master database."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from flowmaps.errors import ConfigurationError

_SALT = b"flow-maps tenant passwords 1"
_VERSION = b"\x01"
_NONCE_BYTES = 12


class Sealer:
    """Encrypts with AES-256-GCM under the current key; reads what the current or the previous key wrote."""

    def __init__(self, key: SecretStr, previous: SecretStr | None = None) -> None:
        self._keys = [key, *([previous] if previous else [])]

    def seal(self, text: str, context: str) -> bytes:
        """Return *text* encrypted; it opens again only for the same *context*, so that rows cannot be swapped."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + _cipher(self._keys[0]).encrypt(nonce, text.encode(), context.encode())

    def open(self, sealed: bytes, context: str) -> str:
        """Return the text in *sealed*; raise `ConfigurationError` where neither key fits."""
        version, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for key in self._keys if version == _VERSION else ():
            try:
                return _cipher(key).decrypt(nonce, body, context.encode()).decode()
            except InvalidTag:
                continue
        raise ConfigurationError(
            f"the secret key does not open the stored password of {context}; was it changed?",
            names=("FLOWMAPS_SECRET_KEY", "FLOWMAPS_SECRET_KEY_PREVIOUS"),
        )


def _cipher(key: SecretStr) -> AESGCM:
    return AESGCM(_derive(key.get_secret_value()))


@lru_cache(maxsize=8)
def _derive(secret: str) -> bytes:
    """Return 32 bytes; slow on purpose (50 ms, 16 MiB), as an operator's secret may be a phrase."""
    return hashlib.scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)
