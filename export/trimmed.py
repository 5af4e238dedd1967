"""Step 5: the graph of an encoder without what a logit doesn't need.

The same function as the model's own, for batches of sequences of one length, made faster:

- Sequences of one length need no attention mask.
- The logit reads the first token only, so after its attention the last layer computes no other.
- A key's bias adds the same to all scores of a query, which softmax ignores: it is dropped.
- Attention weights add up to 1, so a value's bias passes through unchanged: it moves behind the
  output's product.
"""

from dataclasses import dataclass
from typing import Protocol

import onnx

from export.families import Array, Encoder, Layer, Linear, Norm
from export.graph_writer import GraphWriter

INPUTS = ("input_ids", "token_type_ids")
OUTPUT = "logit"
RECIPE = "trimmed"

# Add and LayerNormalization are vectorised on the CPU, the operator that fuses them is not.
DISABLED_OPTIMIZERS = ("BiasGeluFusion", "SkipLayerNormFusion")

# The inputs of a layer's matrix products; query, key and value share one.
SITES = ("attention", "context", "feed_forward", "hidden")
Site = tuple[int, str]


class Products(Protocol):
    """How matrix products and the table of words are computed: in fp32, or quantized."""

    def words(self, writer: GraphWriter, table: Array, ids: str) -> str:
        """Look up float32 [batch, tokens, hidden]."""

    def prepare(self, writer: GraphWriter, site: Site, value: str) -> str:
        """Return the form of `value` that the products of a site take as their input."""

    def multiply(self, writer: GraphWriter, prepared: str, linear: Linear, site: Site) -> str:
        """Return float32 `value @ weight + bias`."""


class Fp32Products:
    """Plain matrix products."""

    def words(self, writer: GraphWriter, table: Array, ids: str) -> str:
        """See `Products`."""
        return writer.add("Gather", writer.constant(table), ids)

    def prepare(self, writer: GraphWriter, site: Site, value: str) -> str:  # noqa: ARG002
        """See `Products`."""
        return value

    def multiply(
        self, writer: GraphWriter, prepared: str, linear: Linear, site: Site | None = None
    ) -> str:
        """See `Products`."""
        del site
        product = writer.add("MatMul", prepared, writer.constant(linear.weight))
        if linear.bias is None:
            return product
        return writer.add("Add", product, writer.constant(linear.bias))


def build(encoder: Encoder, products: Products) -> onnx.ModelProto:
    """Return the graph: int64 [batch, tokens] twice -> `logit`, float32 [batch]."""
    writer = GraphWriter()
    logit = _Builder(writer, products, encoder).logit()
    writer.output(logit, OUTPUT, ["batch"])
    return writer.model(INPUTS)


@dataclass(frozen=True)
class _Builder:
    writer: GraphWriter
    products: Products
    encoder: Encoder

    def logit(self) -> str:
        """Add the whole encoder."""
        hidden = self._embed()
        for number in range(len(self.encoder.layers)):
            hidden = self._feed_forward(number, self._attend(number, hidden))
        return self._head(hidden)

    def _embed(self) -> str:
        """Sum up words, positions and token types: [batch, tokens, hidden].

        Positions and types are added before they are looked up: the runtime folds that into one
        table when it loads the graph, and the file stays small.
        """
        add, encoder = self.writer.add, self.encoder
        types = self.writer.constant(encoder.token_types[:, None, :])
        sums = add("Add", types, self.writer.constant(encoder.positions[None]))
        table = add("Reshape", sums, self.writer.integers(-1, encoder.positions.shape[1]))
        length = add("Shape", "input_ids", start=1, end=2)
        zero, one = self.writer.integer(0), self.writer.integer(1)
        position = add("Range", zero, add("Squeeze", length, self.writer.integers(0)), one)
        offset = add("Mul", "token_type_ids", self.writer.integer(len(encoder.positions)))
        where = add("Gather", table, add("Add", offset, position))
        words = self.products.words(self.writer, encoder.words, "input_ids")
        return self._normalise(encoder.embedding_norm, add("Add", words, where))

    def _attend(self, number: int, hidden: str) -> str:
        """Add attention and its residual; of the last layer, for the first token alone."""
        layer = self.encoder.layers[number]
        inputs = self._prepare((number, "attention"), hidden)
        key = self._multiply((number, "attention"), inputs, Linear(layer.key.weight, None))
        value = self._multiply((number, "attention"), inputs, Linear(layer.value.weight, None))
        if number == len(self.encoder.layers) - 1:
            inputs, hidden = self._first_token(inputs), self._first_token(hidden)
        query = self._multiply((number, "attention"), inputs, layer.query)
        heads = self.encoder.heads
        context = self.writer.add(
            "Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads
        )
        prepared = self._prepare((number, "context"), context)
        attended = self._multiply((number, "context"), prepared, _with_value_bias(layer))
        return self._normalise(layer.attention_norm, self.writer.add("Add", attended, hidden))

    def _feed_forward(self, number: int, hidden: str) -> str:
        layer = self.encoder.layers[number]
        inputs = self._prepare((number, "feed_forward"), hidden)
        up = self._multiply((number, "feed_forward"), inputs, layer.up)
        activated = self._prepare((number, "hidden"), self.writer.add("Gelu", up))
        down = self._multiply((number, "hidden"), activated, layer.down)
        return self._normalise(layer.output_norm, self.writer.add("Add", down, hidden))

    def _head(self, hidden: str) -> str:
        """Add the head: [batch, 1, hidden] -> [batch]. Always fp32: it costs next to nothing."""
        encoder, fp32 = self.encoder, Fp32Products()
        pooled = self.writer.add("Tanh", fp32.multiply(self.writer, hidden, encoder.head_hidden))
        logit = fp32.multiply(self.writer, pooled, encoder.head_logit)
        return self.writer.add("Squeeze", logit, self.writer.integers(1, 2))

    def _prepare(self, site: Site, value: str) -> str:
        return self.products.prepare(self.writer, site, value)

    def _multiply(self, site: Site, prepared: str, linear: Linear) -> str:
        return self.products.multiply(self.writer, prepared, linear, site)

    def _first_token(self, value: str) -> str:
        return self.writer.add("Gather", value, self.writer.integers(0), axis=1)

    def _normalise(self, norm: Norm, value: str) -> str:
        scale, bias = self.writer.constant(norm.scale), self.writer.constant(norm.bias)
        return self.writer.add(
            "LayerNormalization", value, scale, bias, axis=-1, epsilon=norm.epsilon
        )


def _with_value_bias(layer: Layer) -> Linear:
    assert layer.output.bias is not None
    assert layer.value.bias is not None
    bias = layer.output.bias + layer.value.bias @ layer.output.weight
    return Linear(layer.output.weight, bias)
