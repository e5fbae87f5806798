"""The tokens of a model: their bytes, the trie of them, and which texts they can write."""

from constrain.vocabulary.vocabulary import Vocabulary as Vocabulary
