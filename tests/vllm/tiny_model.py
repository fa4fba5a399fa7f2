"""Run by the Python that vLLM is installed for: write a tiny model with random weights into the directory named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = ["the quick brown fox jumps over the lazy dog", "user assistant system: hello, how are you today?"] * 50
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that knows every byte and a few words."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    inner.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE
    )


def config() -> LlamaConfig:
    """Return the shape: 2 layers of 2 key/value heads of 64, so 1,024 bytes of KV cache a token in bfloat16."""
    return LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


def main(directory: Path) -> None:
    """Write configuration, weights and tokenizer, readable by every user."""
    torch.manual_seed(0)
    LlamaForCausalLM(config()).to(torch.bfloat16).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    for path in directory.iterdir():
        os.chmod(path, 0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
