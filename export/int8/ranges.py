"""Measures what flows into each matrix product, channel by channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.batches import plan_batches
from engine.graph import OnnxGraph
from engine.pairs import EncodedPair
from export.families import Array, Encoder
from export.graph_writer import GraphWriter
from export.scoring import Workbench, stack
from export.trimmed import Fp32Products, Site, build


@dataclass(frozen=True)
class ChannelRange:
    """The lowest and highest value of each channel, float32 [channels] both."""

    low: Array
    high: Array

    @property
    def magnitude(self) -> Array:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


Ranges = Mapping[Site, ChannelRange]


class _ObservedProducts(Fp32Products):
    """Plain products that also give each input's range as two outputs of the graph."""

    def prepare(self, writer: GraphWriter, site: Site, value: str) -> str:
        axes = writer.integers(0, 1)
        for operator in ("ReduceMin", "ReduceMax"):
            output = writer.add(operator, value, axes, keepdims=0)
            writer.output(output, _output_name(operator, site), ["channels"])
        return value


def measure(encoder: Encoder, pairs: Sequence[EncodedPair], bench: Workbench) -> Ranges:
    """Run the fp32 graph over pairs and return the range of every site's input."""
    graph = bench.open(build(encoder, _ObservedProducts()))
    names = [output.name for output in graph.session.get_outputs() if "/" in output.name]
    found: dict[str, Array] = {}
    for batch in plan_batches([len(pair.ids) for pair in pairs]):
        values = _run(graph, names, [pairs[position] for position in batch])
        for name, value in zip(names, values, strict=True):
            merge = np.minimum if name.startswith("ReduceMin") else np.maximum
            found[name] = merge(found.get(name, value), value)
    return {
        site: ChannelRange(found[_output_name("ReduceMin", site)], found[name])
        for name in names
        if name.startswith("ReduceMax") and (site := _site_of(name))
    }


def _run(graph: OnnxGraph, names: list[str], pairs: Sequence[EncodedPair]) -> list[Array]:
    ids, starts = stack(pairs)
    types = np.arange(ids.shape[1]) >= starts[:, None] if graph.token_types else np.zeros_like(ids)
    feeds = {"input_ids": ids, "token_type_ids": types.astype(np.int64)}
    values: list[Array] = graph.session.run(names, feeds)
    return values


def _output_name(operator: str, site: Site) -> str:
    return f"{operator}/{site[0]}/{site[1]}"


def _site_of(output: str) -> Site:
    _, layer, name = output.split("/")
    return int(layer), name
