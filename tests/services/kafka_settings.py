"""The `server.properties` of a test broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PLAINTEXT = "PLAINTEXT"
_CONTROLLER = "CONTROLLER"


@dataclass(frozen=True)
class NodePorts:
    """Where one node listens: the controller's port, and a port for each listener's name."""

    node_id: int
    controller: int
    listeners: Mapping[str, int]


@dataclass(frozen=True)
class ClusterPlan:
    """What the nodes of a cluster have in common.

    `protocols` maps a listener's name to its security protocol; `advertised` maps it to the
    address that clients are told, where that is not where it listens.
    """

    nodes: Sequence[NodePorts]
    protocols: Mapping[str, str]
    advertised: Mapping[str, str] = field(default_factory=dict)
    extra_properties: Mapping[str, str] = field(default_factory=dict)


def server_properties(plan: ClusterPlan, node: NodePorts, data: Path) -> str:
    """The text of one node's properties file."""
    properties = {
        **_identity(plan, node, data),
        **_replication(len(plan.nodes)),
        **_small_and_quick(),
        **plan.extra_properties,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _identity(plan: ClusterPlan, node: NodePorts, data: Path) -> dict[str, str]:
    addresses = {name: f"127.0.0.1:{port}" for name, port in node.listeners.items()}
    listeners = [f"{name}://{address}" for name, address in addresses.items()]
    told = [f"{name}://{address}" for name, address in {**addresses, **plan.advertised}.items()]
    protocols = [f"{name}:{protocol}" for name, protocol in plan.protocols.items()]
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": ",".join(
            f"{other.node_id}@127.0.0.1:{other.controller}" for other in plan.nodes
        ),
        "controller.listener.names": _CONTROLLER,
        "inter.broker.listener.name": PLAINTEXT,
        "listeners": ",".join([*listeners, f"{_CONTROLLER}://127.0.0.1:{node.controller}"]),
        "advertised.listeners": ",".join(told),
        "listener.security.protocol.map": ",".join([*protocols, f"{_CONTROLLER}:PLAINTEXT"]),
        "log.dirs": str(data),
    }


def _replication(nodes: int) -> dict[str, str]:
    copies, in_sync = str(min(nodes, 3)), "2" if nodes >= 3 else "1"
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _small_and_quick() -> dict[str, str]:
    return {
        # A forgotten topic is a mistake of the test, not a topic.
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "3",
        "transaction.state.log.num.partitions": "3",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # By default timed-out transactions are looked for every 10 s, and read_committed
        # readers wait as long. Time-outs themselves are the clients' own.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        # A dead broker is noticed after 3 s instead of 9 s, a dead controller after 1 s.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "controller.quorum.election.timeout.ms": "500",
        "controller.quorum.fetch.timeout.ms": "1000",
        "replica.lag.time.max.ms": "5000",
        # Small: there are two cores, and the cleaner's default buffer alone is 128 MiB.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": "8388608",
    }
