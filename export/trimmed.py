"""Step 5: the graph of an encoder without what a logit doesn't need.

The same function as the model's own, for batches of sequences of one length, made faster:

- Sequences of one length need no attention mask.
- The logit reads the first token only, so after its attention the last layer computes no other.
- A key's bias adds the same to all scores of a query, which softmax ignores: it is dropped.
- Attention weights add up to 1, so a value's bias passes through unchanged: it moves behind the
  output's product.
"""

from dataclasses import dataclass

import onnx

from export.families import Encoder, Layer, Linear, Norm
from export.graph_writer import GraphWriter

INPUTS = ("input_ids", "token_type_ids")
OUTPUT = "logit"
RECIPE = "trimmed"

# Add and LayerNormalization are vectorised on the CPU, the operator that fuses them is not.
DISABLED_OPTIMIZERS = ("BiasGeluFusion", "SkipLayerNormFusion")


def build(encoder: Encoder) -> onnx.ModelProto:
    """Return the graph: int64 [batch, tokens] twice -> `logit`, float32 [batch]."""
    writer = GraphWriter()
    writer.output(_Builder(writer, encoder).logit(), OUTPUT, ["batch"])
    return writer.model(INPUTS)


@dataclass(frozen=True)
class _Builder:
    writer: GraphWriter
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
        words = add("Gather", self.writer.constant(encoder.words), "input_ids")
        embedded = self._normalise(encoder.embedding_norm, add("Add", words, where))
        return embedded if encoder.projection is None else self._apply(encoder.projection, embedded)

    def _attend(self, number: int, hidden: str) -> str:
        """Add attention and its residual; of the last layer, for the first token alone."""
        layer = self.encoder.layers[number]
        key = self._apply(Linear(layer.key.weight, None), hidden)
        value = self._apply(Linear(layer.value.weight, None), hidden)
        if number == len(self.encoder.layers) - 1:
            hidden = self._first_token(hidden)
        query = self._apply(layer.query, hidden)
        heads = self.encoder.heads
        context = self.writer.add(
            "Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads
        )
        attended = self._apply(_with_value_bias(layer), context)
        return self._normalise(layer.attention_norm, self.writer.add("Add", attended, hidden))

    def _feed_forward(self, number: int, hidden: str) -> str:
        layer = self.encoder.layers[number]
        activated = self.writer.add("Gelu", self._apply(layer.up, hidden))
        down = self._apply(layer.down, activated)
        return self._normalise(layer.output_norm, self.writer.add("Add", down, hidden))

    def _head(self, hidden: str) -> str:
        """Add the head: [batch, 1, hidden] -> [batch]."""
        encoder = self.encoder
        pooled = self.writer.add(encoder.head_activation, self._apply(encoder.head_hidden, hidden))
        logit = self._apply(encoder.head_logit, pooled)
        return self.writer.add("Squeeze", logit, self.writer.integers(1, 2))

    def _apply(self, linear: Linear, value: str) -> str:
        product = self.writer.add("MatMul", value, self.writer.constant(linear.weight))
        if linear.bias is None:
            return product
        return self.writer.add("Add", product, self.writer.constant(linear.bias))

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
