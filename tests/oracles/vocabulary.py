"""A vocabulary's tables and the way back from bytes to ids, for tests of parsers."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.oracles.completions import split_text


class Vocabulary:
    def __init__(self, tables, longest):
        self.tables = jax.tree.map(jnp.asarray, tables)
        data, size_of = bytes(tables.vocab_bytes), tables.vocab_length
        self.bytes = [
            data[at : at + n] for at, n in zip(tables.vocab_start, size_of, strict=True)
        ]
        self.ids = {text: at for at, text in enumerate(self.bytes) if text}
        self.silent = [at for at, text in enumerate(self.bytes) if not text][:30]
        self.longest = longest

    def split(self, text, rng):
        """Ids that spell `text`, cut anyhow, with silent ids strewn in."""
        return split_text(text, self.ids, self.longest, rng, self.silent)

    def pad(self, rows):
        """(tokens, mask) of rows of ids, filled with tokens that must not be read."""
        lengths = np.array([len(row) for row in rows])
        # Powers of two: few shapes to compile.
        width = 2 ** max(6, int(lengths.max() - 1).bit_length())
        mask = np.arange(width) < lengths[:, None]
        tokens = np.full(mask.shape, self.ids[b'"'], np.int32)
        tokens[mask] = np.concatenate(rows)
        return tokens, mask
