"""Kafka in KRaft mode: one node, with plain, TLS and SASL listeners."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flowmaps.errors import ConfigurationError
from flowstack.certificates import Certificates
from flowstack.maven import kafka_jars
from flowstack.packages import program
from flowstack.processes import Server, free_port

SASL_USER, SASL_PASSWORD = "flowmaps", "sasl-secret"
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listeners=PLAIN://127.0.0.1:{plain},TLS://127.0.0.1:{tls},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain},TLS://127.0.0.1:{tls},SASL://127.0.0.1:{sasl}
listener.security.protocol.map=PLAIN:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,CONTROLLER:PLAINTEXT
log.dirs={folder}/logs
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
message.max.bytes=8388608
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
ssl.keystore.type=PEM
ssl.keystore.key={key}
ssl.keystore.certificate.chain={chain}
ssl.truststore.type=PEM
ssl.truststore.certificates={authority}
listener.name.tls.ssl.client.auth=required
listener.name.sasl.ssl.client.auth=none
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
 user_{user}="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


class Kafka:
    """A broker; *servers* is its plain address."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder / "kafka"
        self._certificates = certificates
        self.plain, self.tls, self.sasl, controller = (free_port() for _ in range(4))
        self._folder.mkdir(parents=True)
        properties = self._folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                plain=self.plain,
                tls=self.tls,
                sasl=self.sasl,
                controller=controller,
                folder=self._folder,
                key=_one_line(_pkcs8(certificates.server_key)),
                chain=_one_line(certificates.server_certificate.read_text()),
                authority=_one_line(certificates.ca_file.read_text()),
                user=SASL_USER,
                password=SASL_PASSWORD,
            )
        )
        java = [program("java"), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka_jars()}/*"]
        scram = f"SCRAM-SHA-256=[name={SASL_USER},password={SASL_PASSWORD}]"
        formatting = [
            *java, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(properties),
            "--add-scram", scram,
        ]  # fmt: skip
        done = subprocess.run(formatting, capture_output=True, text=True, cwd=self._folder, check=False)
        if done.returncode:
            raise ConfigurationError(f"formatting Kafka's storage failed:\n{done.stdout}{done.stderr}")
        self._server = Server(
            "kafka", [*java, "kafka.Kafka", str(properties)], folder=self._folder, ready=self._is_ready, seconds=90
        )

    def _is_ready(self) -> bool:
        try:
            metadata = AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        return bool(metadata.brokers)

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.plain}"

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers})

    @property
    def tls_settings(self) -> dict[str, str]:
        """The settings of a client with a certificate."""
        return {
            "FLOWMAPS_KAFKA_SERVERS": f"127.0.0.1:{self.tls}",
            "FLOWMAPS_KAFKA_SECURITY_PROTOCOL": "SSL",
            "FLOWMAPS_KAFKA_CA_FILE": str(self._certificates.ca_file),
            "FLOWMAPS_KAFKA_CERTIFICATE_FILE": str(self._certificates.client_certificate),
            "FLOWMAPS_KAFKA_KEY_FILE": str(self._certificates.client_key),
        }

    def sasl_settings(self, mechanism: str) -> dict[str, str]:
        """The settings of a client with a password."""
        return {
            "FLOWMAPS_KAFKA_SERVERS": f"127.0.0.1:{self.sasl}",
            "FLOWMAPS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "FLOWMAPS_KAFKA_CA_FILE": str(self._certificates.ca_file),
            "FLOWMAPS_KAFKA_SASL_MECHANISM": mechanism,
            "FLOWMAPS_KAFKA_SASL_USERNAME": SASL_USER,
            "FLOWMAPS_KAFKA_SASL_PASSWORD": SASL_PASSWORD,
        }

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()


def _one_line(pem: str) -> str:
    """Return PEM text as one line, which is how a properties file holds it."""
    return pem.strip().replace("\n", "\\n")


def _pkcs8(key: Path) -> str:
    """Return the private key in the one form that Kafka reads."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _cluster_id() -> str:
    """Return a random id that the command line does not take for an option, as one in 64 would be."""
    import base64

    while (name := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return name
