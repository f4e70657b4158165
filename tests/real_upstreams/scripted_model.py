"""Makes a model that plays an agent's turns on a real server: random weights, and a script in them. 5 MB, one layer.

`python scripted_model.py FILE.gguf` writes it for llama.cpp; run by a Python that has numpy, tokenizers and gguf.
`python scripted_model.py FOLDER` writes the same weights for vLLM and transformers, with safetensors and transformers.

The chat template ends in a start token, which is chosen by the tools that the agent offers: the model calls the one
that it knows (`Bash` of Claude Code, `exec_command` of Codex, `bash` of mini-swe-agent, `ls` twice). Behind a result it
says that it has looked, or ends mini-swe-agent as that wants to be ended. Without tools it says a fixed sentence to
"script", and else it babbles without an end. An argument of the template, `start`, chooses any: so does `babble` with
tools, and `half`, which begins to call a tool and never ends. With `keep` too, history has that start token where the
prompt had it; without, no prompt begins with the one before it: a template that drifts.

A chain of one-hot embeddings leads from the start token through the pieces of the script to the end of the turn.
"""

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|im_end|>"
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", END]
SCRIPTS = {
    "ls": [*('<tool_call>\n{"name": "ls", ', '"arguments": {"path": ', '"a é"', "}}\n</tool_ca"),
     *('ll>\n<tool_call>\n{"na', 'me": "ls", "argu', 'ments": {"path": "b"}}\n<', "/tool_call>\n ")],
    "Bash": [
     *('<tool_call>\n{"name": "Ba', 'sh", "arguments": {"comm', 'and": "echo hello >> pro', 'of.txt", '),
     *('"description": "wri', 'te the proof"}}', "\n</tool_call>")],
    "exec_command": [
     *('<tool_call>\n{"name": "exec_', 'command", "arguments": {"cmd": "ec', "ho hello >> p", 'roof.txt"'),
     *("}}\n", "</tool_call>\n")],
    "bash": [
     *('<tool_call>\n{"name": "bash"', ', "arguments": {"command": "ech', "o hello >> ", 'proof.txt"}'),
     *("}\n</tool_", "call>\n")],
    "submit": [*('<tool_call>\n{"name": "bash", "arg', 'uments": {"command": "echo '),
     *("COMPLETE_TASK_AND_SUBMIT", '_FINAL_OUTPUT"}}\n</tool', "_call>\n")],
    "done": ["<think>\nDone? ", "é😀 yes.\n</think>\n\n", "I have", " looked", ": é 😀"],
    "say": ["Hello", " from", " the", " tiny", " script", " é", "😀"],
}  # fmt: skip
ENDLESS = {
    "babble": [],
    "half_Bash": ['<tool_call>\n{"name": "B', 'ash", "arguments": {"command": "echo '],
    "half_exec_command": ['<tool_call>\n{"name": "exec', '_command", "arguments": {"cmd": "echo '],
    "half_bash": ['<tool_call>\n{"name": "ba', 'sh", "arguments": {"command": "echo '],
}
"""What they lead to is babble."""
STARTS = [f"<|go_{name}|>" for name in (*SCRIPTS, *ENDLESS)]
PIECES = [piece for script in (*SCRIPTS.values(), *ENDLESS.values()) for piece in script]
TAGS = ["<tool_call>", "</tool_call>"]
WIDTH, CHAIN, HIDDEN, CONTEXT = 256, 128, 128, 65_536
HEAD = 32
"""One small head: Claude Code's prompt has 30,000 tokens, and attention grows with their square."""
TEXTS = sorted(Path(__file__).parents[2].glob("docs/**/*.md"))
"""What the tokenizer is trained on: prompts of agents, too, are English with some code."""
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
{% if keep %}<|go_{{ start }}|>{% endif %}
{{- m.content if m.content else '' }}{% if m.tool_calls %}{% for c in m.tool_calls %}
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
{% set ns = namespace(start='babble', looked=false) %}
{%- for m in messages %}{% if m.role == 'tool' %}{% set ns.looked = true %}{% endif %}{% endfor %}
{%- for tool in tools or [] %}{% set name = (tool.function if tool.function else tool).name %}
{%- if name in ('ls', 'Bash', 'exec_command', 'bash') %}{% set ns.start = name %}{% endif %}{% endfor %}
{%- if ns.looked %}{% set ns.start = 'submit' if ns.start == 'bash' else 'done' %}
{%- elif not tools and messages[-1].content is string and 'script' in messages[-1].content %}
{%- set ns.start = 'say' %}{% endif %}
{%- if start %}{% set ns.start = 'half_' + ns.start if start == 'half' else start %}{% endif %}
{{- '<|go_' + ns.start + '|>' }}{% endif %}"""


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train([str(path) for path in TEXTS], trainer)
    tokenizer.add_special_tokens([AddedToken(start, special=True) for start in STARTS])
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in PIECES + TAGS])
    return tokenizer


def make_weights(tokenizer: Tokenizer) -> dict[str, Any]:
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
        if token in (*SPECIAL, *STARTS, *PIECES, *TAGS) or not (token.isascii() and token.isalpha()):
            head[which, CHAIN:], head[which, -1] = 0.0, -4.0  # nothing that babble says
    for at, (token, following) in enumerate(links()):
        embeddings[number(token)] = 0.0
        embeddings[number(token), at], head[number(following), at] = 8.0, 4.0
    output = np.zeros((WIDTH, HEAD))
    output[CHAIN : WIDTH - 1] = random.normal(0, 0.05, (WIDTH - 1 - CHAIN, HEAD))
    layer = {
        "attn_norm": np.ones(WIDTH), "ffn_norm": np.ones(WIDTH),
        "attn_q": random.normal(0, 0.06, (HEAD, WIDTH)),
        "attn_k": random.normal(0, 0.06, (HEAD, WIDTH)),
        "attn_v": random.normal(0, 0.06, (HEAD, WIDTH)),
        "attn_output": output, "ffn_gate": np.zeros((HIDDEN, WIDTH)), "ffn_up": np.zeros((HIDDEN, WIDTH)),
        "ffn_down": np.zeros((WIDTH, HIDDEN)),
    }  # fmt: skip
    whole = {"token_embd.weight": embeddings, "output.weight": head, "output_norm.weight": np.ones(WIDTH)}
    weights = {**whole, **{f"blk.0.{name}.weight": values for name, values in layer.items()}}
    return {name: values.astype(np.float32) for name, values in weights.items()}


def links() -> Iterator[tuple[str, str]]:
    """Each token that another one always follows, with that one."""
    for name, script in SCRIPTS.items():
        yield from pairwise([f"<|go_{name}|>", *script, END])
    for name, script in ENDLESS.items():
        yield from pairwise([f"<|go_{name}|>", *script])


def write_gguf(path: Path, tokenizer: Tokenizer) -> None:
    import gguf

    names = {which: token for token, which in tokenizer.get_vocab().items()}
    tokens = [names[which] for which in range(len(names))]
    kind = gguf.TokenType
    kinds = dict.fromkeys([*SPECIAL, *STARTS], kind.CONTROL) | dict.fromkeys(
        [*PIECES, *TAGS], kind.USER_DEFINED
    )
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("scripted")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
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


OF_LLAMA = {"hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32"}
IN_TRANSFORMERS = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "output_norm": "model.norm",
    "blk.0.attn_norm": "model.layers.0.input_layernorm",
    "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
    **{f"blk.0.attn_{name}": f"model.layers.0.self_attn.{name}_proj" for name in "qkv"},
    "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
    **{f"blk.0.ffn_{name}": f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")},
}


def write_folder(path: Path, tokenizer: Tokenizer) -> None:
    from safetensors.numpy import save_file
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token=END, chat_template=TEMPLATE
    )
    fast.save_pretrained(path)
    weights = make_weights(tokenizer)
    for name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight"):
        weights[name] = turned(weights[name])
    named = {
        f"{IN_TRANSFORMERS[name.removesuffix('.weight')]}.weight": each for name, each in weights.items()
    }
    save_file(named, path / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": tokenizer.token_to_id("<s>"), "eos_token_id": tokenizer.token_to_id(END)}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **OF_LLAMA, **ids,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": CONTEXT, "hidden_size": WIDTH,
        "intermediate_size": HIDDEN, "num_hidden_layers": 1, "head_dim": HEAD, "num_attention_heads": 1,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    (path / "generation_config.json").write_text(json.dumps(ids))


def turned(values: Any) -> Any:
    """Rotary weights as transformers has them: the halves of a head, where llama.cpp has pairs."""
    return np.ascontiguousarray(np.concatenate([values[0::2], values[1::2]]))


def main(path: Path) -> None:
    if path.suffix == ".gguf":
        write_gguf(path, make_tokenizer())
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_folder(path, make_tokenizer())


main(Path(sys.argv[1]))
