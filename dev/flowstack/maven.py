"""Fetch the Java services from Maven Central by their coordinates, and keep them outside the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from flowmaps.errors import ConfigurationError
from flowstack.packages import program

KAFKA = "4.1.0"
LOG4J = "2.24.3"
REGISTRY = "2.6.13.Final"
KEYCLOAK = "26.4.0"
_FETCH_SECONDS = 1200
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>flowmaps</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J}</version></dependency>
  </dependencies>
</project>
"""


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flow-maps"


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars."""

    def fetch(folder: Path) -> None:
        (folder / "pom.xml").write_text(_POM)
        _maven(folder, f"{_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'lib'}")

    return cached(f"kafka-{KAFKA}", fetch) / "lib"


def registry_folder() -> Path:
    """Return the folder of the schema registry's application."""

    def fetch(folder: Path) -> None:
        archive = _artifact(folder, f"io.apicurio:apicurio-registry-app:{REGISTRY}:tar.gz:all")
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "app", filter="data")
        archive.unlink()

    return cached(f"apicurio-{REGISTRY}", fetch) / "app"


def keycloak_folder() -> Path:
    """Return Keycloak's home, built for how `flowstack.keycloak` starts it, which saves half a start."""

    def fetch(folder: Path) -> None:
        archive = _artifact(folder, f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:zip")
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)  # noqa: S202  an artifact that Maven verified
        archive.unlink()
        program = folder / f"keycloak-{KEYCLOAK}" / "bin" / "kc.sh"
        program.chmod(0o755)
        command = [program, "build", "--db=dev-file", "--health-enabled=false"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
        if done.returncode:
            raise ConfigurationError(f"Keycloak could not be built:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")

    return cached(f"keycloak-{KEYCLOAK}-built", fetch) / f"keycloak-{KEYCLOAK}"


def cached(name: str, fetch: Callable[[Path], None]) -> Path:
    """Return the folder *name* of the cache, filled by *fetch* once; it appears whole or not at all."""
    target = cache_folder() / name
    if not target.is_dir():
        print(f"fetching {name}", file=sys.stderr)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            fetch(folder)
            if not target.is_dir():
                shutil.move(folder, target)
    return target


def _artifact(folder: Path, coordinates: str) -> Path:
    _maven(folder, f"{_PLUGIN}:copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={folder}")
    return next(path for path in folder.iterdir() if path.name.endswith((".tar.gz", ".zip")))


def _maven(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [program("mvn"), "--batch-mode", "--quiet", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_FETCH_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(f"maven could not fetch {arguments}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
