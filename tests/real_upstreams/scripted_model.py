"""Makes a model that plays an agent's turns on llama.cpp: random weights, and a script in them. 5 MB, one layer.

Run by the Python that has numpy, tokenizers and gguf: `python scripted_model.py FILE.gguf`.

The chat template ends in a start token, which is chosen by what the agent asks: with the tool `ls` the model calls it
twice, behind the result of a tool it says that it has looked, to "script" it says a fixed sentence, else it babbles.
A chain of one-hot embeddings leads from the start token through the pieces of the script to the end of the turn.
"""

import json
import sys
from itertools import pairwise

import gguf
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END, BABBLE = "<|im_end|>", "<|go_babble|>"
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", END]
SCRIPTS = {
    "<|go_ls|>": [
        *('<tool_call>\n{"name": "ls", ', '"arguments": {"path": ', '"a é"', "}}\n</tool_ca"),
        *('ll>\n<tool_call>\n{"na', 'me": "ls", "argu', 'ments": {"path": "b"}}\n<', "/tool_call>\n "),
    ],
    "<|go_done|>": ["<think>\nDone? ", "é😀 yes.\n</think>\n\n", "I have", " looked", ": é 😀"],
    "<|go_say|>": ["Hello", " from", " the", " tiny", " script", " é", "😀"],
}
STARTS = [*SCRIPTS, BABBLE]
PIECES = [piece for script in SCRIPTS.values() for piece in script]
TAGS = ["<tool_call>", "</tool_call>"]
WIDTH, CHAIN, HEADS, HIDDEN, CONTEXT = 256, 128, 4, 128, 65_536
HEAD = WIDTH // HEADS
TEXT = "The quick brown fox jumps over the lazy dog, and says hello to the user in 42 words of plain English."
TEMPLATE = r"""{%- if tools %}<|im_start|>system
# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
For each function call, return a json object within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}{% if m.role == 'user' or m.role == 'system' %}<|im_start|>{{ m.role }}
{{ m.content if m.content is string else m.content|tojson }}<|im_end|>
{% elif m.role == 'assistant' %}<|im_start|>assistant
{{ m.content if m.content else '' }}{% if m.tool_calls %}{% for c in m.tool_calls %}
{% set f = c.function if c.function else c %}
<tool_call>
{"name": "{{ f.name }}", "arguments": {{ f.arguments if f.arguments is string else f.arguments|tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% elif m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content if m.content is string else m.content|tojson }}
</tool_response><|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% set last = messages[-1] %}
{%- if last.role == 'tool' %}<|go_done|>
{%- elif tools and (tools[0].function if tools[0].function else tools[0]).name == 'ls' %}<|go_ls|>
{%- elif last.content is string and 'script' in last.content %}<|go_say|>
{%- else %}<|go_babble|>{% endif %}{% endif %}"""


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([AddedToken(start, special=True) for start in STARTS])
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in PIECES + TAGS])
    return tokenizer


def make_weights(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """By their names in llama.cpp."""
    random = np.random.default_rng(0)
    size, number = tokenizer.get_vocab_size(), tokenizer.token_to_id
    embeddings, head = np.zeros((size, WIDTH)), np.zeros((size, WIDTH))
    embeddings[:, CHAIN:], head[:, CHAIN:] = (
        random.normal(0, 1, (size, CHAIN)),
        random.normal(0, 0.25, (size, CHAIN)),
    )
    embeddings[:, -1], head[:, -1] = 3.0, 0.0
    for token, which in tokenizer.get_vocab().items():
        if token in (*SPECIAL, *STARTS, *PIECES, *TAGS) or not (token.isascii() and token.isprintable()):
            head[which, CHAIN:], head[which, -1] = 0.0, -4.0  # nothing that babble says
    links = {}
    for start, script in SCRIPTS.items():
        sequence = [start, *script, END]
        links.update(pairwise(sequence))
    for at, (token, following) in enumerate(links.items()):
        embeddings[number(token)] = 0.0
        embeddings[number(token), at], head[number(following), at] = 8.0, 4.0
    output = np.zeros((WIDTH, WIDTH))
    output[CHAIN : WIDTH - 1] = random.normal(0, 0.02, (WIDTH - 1 - CHAIN, WIDTH))
    layer = {
        "attn_norm": np.ones(WIDTH),
        "ffn_norm": np.ones(WIDTH),
        "attn_q": random.normal(0, 0.06, (WIDTH, WIDTH)),
        "attn_k": random.normal(0, 0.06, (HEAD, WIDTH)),
        "attn_v": random.normal(0, 0.06, (HEAD, WIDTH)),
        "attn_output": output,
        "ffn_gate": np.zeros((HIDDEN, WIDTH)),
        "ffn_up": np.zeros((HIDDEN, WIDTH)),
        "ffn_down": np.zeros((WIDTH, HIDDEN)),
    }
    whole = {"token_embd.weight": embeddings, "output.weight": head, "output_norm.weight": np.ones(WIDTH)}
    weights = {**whole, **{f"blk.0.{name}.weight": values for name, values in layer.items()}}
    return {name: values.astype(np.float32) for name, values in weights.items()}


def write(path: str, tokenizer: Tokenizer) -> None:
    names = {which: token for token, which in tokenizer.get_vocab().items()}
    tokens = [names[which] for which in range(len(names))]
    kind = gguf.TokenType
    kinds = dict.fromkeys([*SPECIAL, *STARTS], kind.CONTROL) | dict.fromkeys(
        [*PIECES, *TAGS], kind.USER_DEFINED
    )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("scripted")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, kind.NORMAL) for token in tokens])
    writer.add_token_merges(merges_of(tokenizer))
    writer.add_bos_token_id(tokenizer.token_to_id("<s>"))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_unk_token_id(tokenizer.token_to_id("<unk>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, values in make_weights(tokenizer).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merges_of(tokenizer: Tokenizer) -> list[str]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


write(sys.argv[1], make_tokenizer())
