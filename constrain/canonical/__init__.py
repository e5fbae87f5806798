"""Text in the tokenizer's own way of writing: which token may follow which."""
