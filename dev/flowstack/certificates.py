"""Certificates for the stack's TLS: one authority, a server's and a client's certificate, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files; a certificate file holds its whole chain."""

    ca_file: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path
    stranger_ca_file: Path


def make_certificates(folder: Path) -> Certificates:
    """Write a new authority and its certificates to *folder*; the stranger's authority signs none of them."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("flow-maps@localhost", common_name="flow-maps")
    files = Certificates(
        folder / "ca.pem",
        folder / "server.pem",
        folder / "server-key.pem",
        folder / "client.pem",
        folder / "client-key.pem",
        folder / "stranger-ca.pem",
    )
    authority.cert_pem.write_to_path(str(files.ca_file))
    trustme.CA().cert_pem.write_to_path(str(files.stranger_ca_file))
    for issued, certificate, key in (
        (server, files.server_certificate, files.server_key),
        (client, files.client_certificate, files.client_key),
    ):
        for index, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(certificate), append=index > 0)
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
    return files
