"""GRPO steps of Hugging Face TRL: its trainer's own loop, stopped before each step.

pip install torch==2.13.0 && pip install trl==1.16.0
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import importlib.metadata
import tempfile

import datasets
import torch
from protocol import Channel, prompt_tokens
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

SPECIAL = ["<pad>", "<eos>", "<unk>"]
STEPS = 500  # of prompts; the loop starts over after them


def make_tokenizer(vocab):
    """A word a token: w17 is token 17."""
    words = SPECIAL + [f"w{i}" for i in range(len(SPECIAL), vocab)]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
    )


def save_policy(folder, workload):
    """Random weights as a folder: with beta TRL loads its reference from one."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=workload["vocab"],
        hidden_size=workload["width"],
        intermediate_size=workload["mlp"],
        num_hidden_layers=workload["layers"],
        num_attention_heads=workload["heads"],
        num_key_value_heads=workload["kv_heads"],
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    make_tokenizer(workload["vocab"]).save_pretrained(folder)


def share_of_even(completions, **_):
    numbers = [[int(word[1:]) for word in text.split()] for text in completions]
    return [sum(n % 2 == 0 for n in row) / max(len(row), 1) for row in numbers]


class StepByStep(TrainerCallback):
    """Generation, scoring and update all lie between begin and end of a step."""

    def __init__(self, channel):
        self.channel = channel
        self.metrics = {}

    def on_step_begin(self, *_, **__):
        self.channel.wait()

    def on_step_end(self, *_, **__):
        last = {name: values[-1] for name, values in self.metrics.items() if values}
        self.channel.done(
            reward=last["reward"],
            reward_std=last["reward_std"],
            length=last["completions/mean_length"],
            kl=last["kl"],
        )


def main():
    channel = Channel()
    workload = channel.workload
    rows = [row for step in range(STEPS) for row in prompt_tokens(workload, step)]
    texts = [" ".join(f"w{token}" for token in row) for row in rows]
    versions = {
        name: importlib.metadata.version(name)
        for name in ("trl", "torch", "transformers", "accelerate")
    }
    with tempfile.TemporaryDirectory() as folder:
        save_policy(folder, workload)
        settings = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=workload["prompts"] * workload["group"],
            num_generations=workload["group"],
            max_completion_length=workload["new_tokens"],
            beta=workload["beta"],
            num_iterations=1,
            max_steps=10**6,
            learning_rate=workload["lr"],
            lr_scheduler_type="constant",
            loss_type="grpo",
            temperature=1.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            model_init_kwargs={"dtype": "float32"},
            # no end of text is drawn: every completion has its full length
            generation_kwargs={"suppress_tokens": list(range(len(SPECIAL)))},
            shuffle_dataset=False,
            report_to=[],
            save_strategy="no",
            logging_steps=10**6,
            disable_tqdm=True,
        )
        callback = StepByStep(channel)
        trainer = GRPOTrainer(
            model=folder,
            reward_funcs=share_of_even,
            args=settings,
            train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
            processing_class=make_tokenizer(workload["vocab"]),
            callbacks=[callback],
        )
        callback.metrics = trainer._metrics["train"]
        channel.ready(**versions, threads=torch.get_num_threads())
        trainer.train()


if __name__ == "__main__":
    main()
