"""A real Apache Kafka cluster on loopback ports, for tests of delivery guarantees."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic

from tests.services.kafka_jars import (
    QUICK_START,
    class_archive,
    find_jars,
    find_java,
    format_storage,
    new_storage,
)
from tests.services.kafka_settings import PLAINTEXT, ClusterPlan, NodePorts, server_properties
from tests.services.process import ServiceFailed, ServiceProcess, await_condition, free_ports

_READY_TIMEOUT_S = 240.0
_TOPIC_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 30.0


class KafkaCluster:
    """One or three combined broker-controllers; a context manager.

    Nodes are counted from 1. Ports and data stay the same over `kill` and `restart`.

    `listeners` adds listeners to `PLAINTEXT`: a name to a security protocol, such as
    `{"CLIENTS": "SASL_PLAINTEXT"}`; what such a listener needs comes in `extra_properties`
    (and in `format_arguments`, for SCRAM users). `advertised` maps a listener's name to the
    address that clients are told instead, such as a proxy's; for one node.

    Raises:
        ServiceMissing: on entering, when Java or Maven is missing.
        ServiceFailed: on entering, when the cluster does not come up.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, str] | None = None,
        extra_properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        heap_mb: int = 384,
        jvm_options: Sequence[str] = QUICK_START,
        log_level: str = "warn",
    ) -> None:
        self.nodes = nodes
        self._protocols = {PLAINTEXT: PLAINTEXT, **(listeners or {})}
        self._advertised = dict(advertised or {})
        self._extra_properties = dict(extra_properties or {})
        self._format_arguments = list(format_arguments)
        self._heap_mb = heap_mb
        self._jvm_options = list(jvm_options)
        self._log_level = log_level
        self._directory: Path | None = None
        self._archive: Path | None = None
        self._plan: ClusterPlan | None = None
        self._processes: dict[int, ServiceProcess] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Formats the storage, starts all nodes, and returns when they answer."""
        java, libs = find_java(), find_jars()
        self._directory = Path(tempfile.mkdtemp(prefix="kafka-"))
        try:
            self._plan = self._make_plan()
            self._archive = class_archive(java, libs)
            self._format(java, libs)
            for node in self._plan.nodes:
                process = self._make_process(java, libs, node.node_id)
                self._processes[node.node_id] = process
                process.start()
            self.await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all nodes and removes their data."""
        self._keep_classes()
        for process in self._processes.values():
            process.kill()
        self._processes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, without security."""
        return self.bootstrap_of(PLAINTEXT)

    def bootstrap_of(self, listener: str) -> str:
        """The addresses of all nodes at one listener."""
        return ",".join(self.address(node, listener) for node in range(1, self.nodes + 1))

    def address(self, node: int = 1, listener: str = PLAINTEXT) -> str:
        """One node's address, for a proxy to stand before it."""
        assert self._plan is not None, "the cluster was not started"
        return f"127.0.0.1:{self._plan.nodes[node - 1].listeners[listener]}"

    def pid(self, node: int = 1) -> int:
        """The process id of a node."""
        return self._processes[node].pid

    def alive(self) -> list[int]:
        """The nodes whose process runs."""
        return [node for node, process in self._processes.items() if process.alive]

    def kill(self, node: int = 1) -> None:
        """SIGKILL; returns when the process is gone."""
        self._processes[node].kill()

    def terminate(self, node: int = 1) -> None:
        """An orderly shutdown: leadership moves away first."""
        self._processes[node].terminate()

    def restart(self, node: int = 1) -> None:
        """Starts a node again (after a kill, if it runs), and returns when it answers."""
        self._processes[node].kill()
        self._processes[node].start()
        self.await_ready()

    def pause(self, node: int = 1) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._processes[node].pause()

    def resume(self, node: int = 1) -> None:
        """SIGCONT."""
        self._processes[node].resume()

    def log_tail(self, node: int = 1, lines: int = 30) -> str:
        """The last lines of a node's log."""
        return self._processes[node].log_tail(lines)

    def await_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Returns when each running node knows all running nodes as registered.

        Raises:
            ServiceFailed: with the tail of the log.
        """
        deadline = time.monotonic() + timeout_s
        expected = set(self.alive())
        for node in sorted(expected):
            process = self._processes[node]
            admin = self._admin(self.address(node))
            await_condition(
                lambda admin=admin, process=process: self._knows_all(admin, process, expected),  # type: ignore[misc]
                max(1.0, deadline - time.monotonic()),
                lambda process=process: process.describe("does not answer"),  # type: ignore[misc]
            )

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Creates a topic, and returns when each running node knows a leader of each partition."""
        self.create_topics({name: partitions}, config)

    def create_topics(
        self, partitions: Mapping[str, int], config: Mapping[str, str] | None = None
    ) -> None:
        """Creates several topics, name to partition count, with the same configuration."""
        admin = self._admin(self.bootstrap_servers)
        topics = [
            NewTopic(name, count, replication_factor=min(self.nodes, 3), config=dict(config or {}))
            for name, count in partitions.items()
        ]
        made = admin.create_topics(
            topics, operation_timeout=_TOPIC_TIMEOUT_S / 2, request_timeout=_TOPIC_TIMEOUT_S
        )
        for created in made.values():
            created.result()
        for node in self.alive():
            at_node = self._admin(self.address(node))
            await_condition(
                lambda at_node=at_node: all(  # type: ignore[misc]
                    self._has_leaders(at_node, name, count) for name, count in partitions.items()
                ),
                _TOPIC_TIMEOUT_S,
                lambda: f"topics {sorted(partitions)} have no leaders",
            )

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition now; -1 when none does."""
        metadata = self._admin(self.bootstrap_servers).list_topics(topic, timeout=_ANSWER_TIMEOUT_S)
        return int(metadata.topics[topic].partitions[partition].leader)

    def _make_plan(self) -> ClusterPlan:
        names = list(self._protocols)
        ports = free_ports(self.nodes * (len(names) + 1))
        nodes = []
        for node_id in range(1, self.nodes + 1):
            own = [ports.pop() for _ in names]
            nodes.append(NodePorts(node_id, ports.pop(), dict(zip(names, own, strict=True))))
        return ClusterPlan(nodes, self._protocols, self._advertised, self._extra_properties)

    def _node_directory(self, node: int) -> Path:
        assert self._directory is not None
        return self._directory / f"node-{node}"

    def _format(self, java: str, libs: Path) -> None:
        assert self._plan is not None
        for node in self._plan.nodes:
            directory = self._node_directory(node.node_id)
            directory.mkdir()
            text = server_properties(self._plan, node, directory / "data")
            file = directory / "server.properties"
            file.write_text(text, encoding="utf-8")
            if self._format_arguments:
                format_storage(java, libs, file, self._format_arguments)
            else:
                new_storage(java, libs, node.node_id, text, directory / "data")

    def _make_process(self, java: str, libs: Path, node: int) -> ServiceProcess:
        directory = self._node_directory(node)
        command = [
            java,
            f"-Xmx{self._heap_mb}m",
            *self._jvm_options,
            *self._class_options(node),
            f"-Dorg.slf4j.simpleLogger.defaultLogLevel={self._log_level}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-cp",
            f"{libs}/*",
            "kafka.Kafka",
            str(directory / "server.properties"),
        ]
        return ServiceProcess(f"kafka-{node}", command, directory)

    def _class_options(self, node: int) -> list[str]:
        assert self._archive is not None
        if self._archive.exists():
            return [f"-XX:SharedArchiveFile={self._archive}", "-Xlog:cds=off"]
        if node == 1 and self.nodes == 1:
            return [f"-XX:ArchiveClassesAtExit={self._node_directory(node) / 'classes.jsa'}"]
        return []

    def _keep_classes(self) -> None:
        """The first node of this machine that ends in good health leaves its classes behind."""
        if self._directory is None or self._archive is None or self._archive.exists():
            return
        node = self._processes.get(1)
        if self.nodes == 1 and node is not None and node.alive:
            node.terminate(timeout_s=60)
            made = self._node_directory(1) / "classes.jsa"
            if made.exists():
                part = self._archive.with_suffix(f".{os.getpid()}")
                shutil.move(made, part)
                part.rename(self._archive)

    @staticmethod
    def _admin(address: str) -> AdminClient:
        # The client itself would write each refused connection to standard error.
        return AdminClient({"bootstrap.servers": address, "log_level": 0})

    @staticmethod
    def _knows_all(admin: AdminClient, process: ServiceProcess, expected: set[int]) -> bool:
        if not process.alive:
            raise ServiceFailed(process.describe("ended by itself"))
        try:
            metadata: ClusterMetadata = admin.list_topics(timeout=5)
        except KafkaException:
            return False
        return expected == set(metadata.brokers)

    @staticmethod
    def _has_leaders(admin: AdminClient, topic: str, partitions: int) -> bool:
        try:
            known = admin.list_topics(topic, timeout=5).topics[topic].partitions
        except KafkaException:  # It answers too late, and is asked again.
            return False
        return len(known) == partitions and all(one.leader > 0 for one in known.values())
