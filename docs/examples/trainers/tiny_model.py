"""A language model of some thousand random weights, and a server for it that stands for
vLLM: for a machine without a GPU, and without a network.

The server answers from the very weights that are trained beside it, so none have to be
sent to it. A real one is told of new weights by its trainer.
"""

import torch
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)  # a thread that waits for another costs more than this model
WORDS = ["</s>", "<unk>", "user:", "assistant:", "go", "north", "east", "south", "west"]
TEMPLATE = (
    "{% for each in messages %}{{ each.role }}: {{ each.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def make_tokenizer():
    """A token for each word."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        chat_template=TEMPLATE,
    )


def make_model():
    """Two layers of random weights."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


class Engine:
    """Samples from a model, as vLLM does it with `--logprobs-mode processed_logprobs`.

    Args:
        model: whose weights may change between calls.
        tokenizer: with a chat template.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.version = "step-0"
        """Which weights these are, as the log says."""
        self.log = []
        """What was sampled: version, prompt, completion, log probabilities."""

    @torch.no_grad()
    def sample(self, prompt, *, most, temperature):
        """The ids of a completion, and their log probabilities."""
        ids, logprobs = [], []
        while len(ids) < most and (not ids or ids[-1] != self.tokenizer.eos_token_id):
            logits = self.model(torch.tensor([prompt + ids])).logits[0, -1]
            likely = (logits / temperature).log_softmax(-1)
            ids.append(int(torch.multinomial(likely.exp(), 1)))
            logprobs.append(float(likely[ids[-1]]))
        self.log.append((self.version, prompt, ids, logprobs))
        return ids, logprobs

    def answer(self, asked):
        """A chat completion, with the fields that `return_token_ids` adds."""
        prompt = self.tokenizer.apply_chat_template(
            asked["messages"], add_generation_prompt=True, return_dict=False
        )
        ids, logprobs = self.sample(
            prompt,
            most=asked.get("max_tokens") or 16,
            temperature=asked.get("temperature", 1.0),
        )
        ended = ids[-1] == self.tokenizer.eos_token_id
        words = self.tokenizer.convert_ids_to_tokens(ids)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        return {
            "id": f"chatcmpl-{len(self.log)}",
            "object": "chat.completion",
            "created": 0,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": " ".join(words[:-1] if ended else words),
                    },
                    "finish_reason": "stop" if ended else "length",
                    "stop_reason": None,
                    "token_ids": ids,
                    "logprobs": {
                        "content": [
                            {"token": word, "logprob": each}
                            for word, each in zip(words, logprobs, strict=True)
                        ]
                    },
                }
            ],
            "prompt_token_ids": prompt,
            "usage": {**usage, "total_tokens": len(prompt) + len(ids)},
        }


async def serve_engine(engine, *, task_status):
    """Serve it until cancelled; starts with its base URL."""
    app = QuartTrio(__name__)

    @app.post("/v1/chat/completions")
    async def complete():
        return engine.answer(await request.get_json())

    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None

    class Status:
        def started(self, urls):
            task_status.started(f"{urls[0]}/v1")

    await serve(app, config, task_status=Status())
